"""Metrics keep Prometheus' rules, and documents, dashboard and alerts speak of those that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from metrics_harness import Scraped, scraper
from service_harness import FakeNode
from support.pages import ROOT, marked, page_text

from horologe.node.metrics_catalog import CATALOG, CLUSTER, NODE, PROCESS, SEEN, Described

DASHBOARD, ALERTS = ROOT / "ops" / "grafana-dashboard.json", ROOT / "ops" / "alerts.yaml"
UNITS = ("seconds", "bytes")
NOT_BASE_UNITS = re.compile(
    r"_(milliseconds?|microseconds?|nanoseconds?|ms|us|ns|minutes?|hours?|days?|kilobytes|megabytes|kb|mb|percent|celsius)(_|$)"
)
SHORT_FORMS = {
    "req",
    "reqs",
    "num",
    "cnt",
    "exec",
    "execs",
    "avg",
    "msg",
    "ns",
    "conn",
    "err",
    "errs",
    "secs",
    "sec",
    "dur",
}
RESERVED_ENDINGS = ("_count", "_sum", "_bucket", "_created")
LABELS_MAX = 3


@pytest.fixture
async def page(node: FakeNode) -> Scraped:
    """As a node gives it that has served a call and a stream."""
    node.context.metrics.open_streams.labels("WatchService.WatchEvents").inc()
    async with scraper(node) as prometheus:
        await prometheus.get("/readyz")
        await prometheus.scrape()
        return await prometheus.scrape()


def family_name(metric: Described) -> str:
    return metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name


async def test_the_page_has_what_the_catalog_says(page: Scraped) -> None:
    own = {name: family for name, family in page.families.items() if name.startswith("horologe_")}
    assert set(own) == {family_name(metric) for metric in CATALOG.values()}
    assert set(page.families) - set(own) == {name.removesuffix("_total") for name in PROCESS}
    for metric in CATALOG.values():
        family = own[family_name(metric)]
        assert (family.type, family.documentation) == (metric.kind, metric.help), metric.name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), metric.name


def complaints(metric: Described) -> Iterator[str]:
    """As promtool and Prometheus' guide for names have them."""
    if not re.fullmatch(r"horologe_[a-z][a-z0-9_]*[a-z0-9]", metric.name) or "__" in metric.name:
        yield "is not in snake case, or without its prefix"
    if (metric.kind == "counter") != metric.name.endswith("_total"):
        yield "_total is for counters, and for them only"
    if metric.kind != "histogram" and metric.name.endswith(RESERVED_ENDINGS):
        yield "ends as parts of histograms do"
    if NOT_BASE_UNITS.search(metric.name):
        yield "is not in base units"
    words = metric.name.removesuffix("_total").split("_")
    if any(unit in words[:-1] for unit in UNITS):
        yield "has its unit not at the end"
    if SHORT_FORMS & set(words) or SHORT_FORMS & set(metric.labels):
        yield "has abbreviations"
    if metric.kind in words:
        yield "has its kind in its name"
    if not (metric.help.endswith(".") and len(metric.help) > 10):
        yield "has no sentence that says what it is"
    if len(metric.labels) > LABELS_MAX or any(not re.fullmatch(r"[a-z][a-z_]*", label) for label in metric.labels):
        yield "has labels that are too many, or not well named"


@pytest.mark.parametrize("metric", CATALOG.values(), ids=lambda metric: metric.name)
def test_names_keep_the_rules(metric: Described) -> None:
    assert not list(complaints(metric))


@pytest.mark.parametrize(
    "wrong",
    [
        Described("horologe_jobs_total", "gauge", "Jobs of the cluster."),
        Described("horologe_calls", "counter", "Calls of the API."),
        Described("horologe_delay_ms", "gauge", "Milliseconds of delay."),
        Described("horologe_seconds_of_delay", "gauge", "Seconds of delay."),
        Described("horologe_num_jobs", "gauge", "Jobs of the cluster."),
        Described("horologe_jobs_count", "gauge", "Jobs of the cluster."),
        Described("horologe_jobs", "gauge", ""),
        Described("Horologe_jobs", "gauge", "Jobs of the cluster."),
        Described("horologe_job_gauge", "gauge", "Jobs of the cluster."),
        Described("horologe_jobs", "gauge", "Jobs of the cluster.", ("a", "b", "c", "d")),
    ],
    ids=lambda metric: metric.name,
)
def test_the_rules_are_rules(wrong: Described) -> None:
    assert list(complaints(wrong))


# What speaks of them


def table() -> str:
    lines = []
    for title, metrics in (
        ("Of the cluster", CLUSTER),
        ("What the node has seen since it was started", SEEN),
        ("Of the node", NODE),
    ):
        lines += [f"### {title}", "", "| Metric | Kind | Labels | |", "|---|---|---|---|"]
        for metric in metrics:
            labels = ", ".join(f"`{label}`" for label in metric.labels)
            lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
        lines.append("")
    return "\n".join(lines)


def test_every_metric_is_documented_and_no_other(rewrite: bool) -> None:
    text = page_text("docs/metrics.md")
    expected = f"<!-- metrics -->\n\n{table()}\n<!-- /metrics -->"
    if rewrite:
        text = re.sub(r"<!-- metrics -->.*<!-- /metrics -->", lambda _: expected, text, flags=re.DOTALL)
        (ROOT / "docs" / "metrics.md").write_text(text)
    assert expected in text
    assert all(f"`{name}`" in text for name in PROCESS)


def unknown_metrics(expression: str) -> set[str]:
    """Names in an expression that no node has."""
    known = set(PROCESS)
    for metric in CATALOG.values():
        known |= (
            {metric.name}
            if metric.kind != "histogram"
            else {f"{metric.name}_{end}" for end in ("bucket", "sum", "count")}
        )
    return set(re.findall(r"\b(?:horologe|process)_\w+", expression)) - known


def unknown_labels(expression: str) -> set[str]:
    """Labels in an expression that its metrics do not have."""
    used = set(re.findall(r"(?:by|without)\s*\(([^)]*)\)", expression))
    names = {name.strip() for group in used for name in group.split(",")}
    names |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression))
    known = {"instance", "job", "le"}
    for metric in CATALOG.values():
        if re.search(rf"\b{metric.name}", expression):
            known |= set(metric.labels)
    return names - known


def expressions_of_the_dashboard() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def test_the_dashboard_shows_what_there_is() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert (dashboard["uid"], dashboard["title"]) == ("horologe", "Horologe")
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers)) > 20
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(places) == len(set(places))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in dashboard["panels"])
    for expression in expressions_of_the_dashboard():
        assert expression.count("(") == expression.count(")"), expression
        assert not unknown_metrics(expression) and not unknown_labels(expression), expression
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text())) - variables == {"__rate_interval", "__all"}


def test_alerts_ask_for_what_there_is_and_lead_to_what_to_do() -> None:
    page = page_text("docs/alerts.md")
    names = [alert["alert"] for alert in alerts()]
    assert names == re.findall(r"^## (\w+)$", page, flags=re.MULTILINE)
    for alert in alerts():
        assert set(alert) <= {"alert", "expr", "for", "labels", "annotations"}
        assert not unknown_metrics(alert["expr"]) and not unknown_labels(alert["expr"]), alert["alert"]
        assert re.search(r"\b(?:horologe)_\w+", alert["expr"])
        assert alert["expr"].count("(") == alert["expr"].count(")")
        assert re.fullmatch(r"\d+[smh]", alert.get("for", "0s"))
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert alert["annotations"]["summary"].endswith(".")
        assert alert["annotations"]["runbook"] == f"docs/alerts.md#{alert['alert'].lower()}"
        text = page.partition(f"## {alert['alert']}\n")[2].partition("\n## ")[0]
        assert len(text.strip()) > 40, alert["alert"]


def test_what_is_not_there_is_seen() -> None:
    assert unknown_metrics("rate(horologe_start_delay_seconds[5m])") == {"horologe_start_delay_seconds"}
    assert unknown_metrics("horologe_made_up > 0") == {"horologe_made_up"}
    assert unknown_labels('max by (queue) (horologe_raft_term{state="x"})') == {"queue", "state"}


def test_the_table_is_marked() -> None:
    assert "horologe_raft_term" in marked("docs/metrics.md", "metrics")
