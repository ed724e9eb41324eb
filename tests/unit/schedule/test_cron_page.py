"""The tables of docs/cron.md are true."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from horologe.node.cron import CronRule, check_rule, next_due_ms
from horologe.node.cron_sentence import describe_cron
from horologe.node.cron_words import Dialect, GapPolicy, OverlapPolicy
from horologe.node.zones import instant_from_ms, load_zone, ms_from_instant

PAGE = (Path(__file__).parents[3] / "docs" / "cron.md").read_text()
NEW_YEAR_MS = ms_from_instant(datetime(2027, 1, 1, tzinfo=UTC))
BERLIN = "Europe/Berlin"


def rows(name: str) -> list[list[str]]:
    """The cells of a table of the page, without its head."""
    table = PAGE.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(("expression", "dialect", "meaning"), rows("sentences"))
def test_sentences(expression: str, dialect: str, meaning: str) -> None:
    rule = CronRule(expression, dialect=Dialect(dialect))
    if not expression.startswith("@every"):
        check_rule(rule, NEW_YEAR_MS)
    assert describe_cron(rule).removesuffix(" (UTC)") == meaning


@pytest.mark.parametrize(("expression", "dialect", "days"), rows("days"))
def test_days(expression: str, dialect: str, days: str) -> None:
    after_ms: int | None = NEW_YEAR_MS
    for day in days.split(", "):
        assert after_ms is not None
        after_ms = next_due_ms(CronRule(expression, dialect=Dialect(dialect)), after_ms)
        assert after_ms is not None
        assert f"{instant_from_ms(after_ms):%m-%d}" == day


@pytest.mark.parametrize(("expression", "policy", "due"), rows("daylight"))
def test_daylight_saving(expression: str, policy: str, due: str) -> None:
    name, _, value = policy.partition("=")
    rule = CronRule(expression, BERLIN)
    rule = rule._replace(gap=GapPolicy(value)) if name == "dst_gap" else rule._replace(overlap=OverlapPolicy(value))
    midnight = "2027-03-28T00:00+01:00" if due.startswith("03") else "2027-10-31T00:00+02:00"
    after_ms: int | None = ms_from_instant(datetime.fromisoformat(midnight))
    for time in due.split(", "):
        assert after_ms is not None
        after_ms = next_due_ms(rule, after_ms)
        assert after_ms is not None
        local = instant_from_ms(after_ms).astimezone(load_zone(BERLIN))
        assert local.isoformat(timespec="minutes") == f"2027-{time}"


@pytest.mark.parametrize("dialect", Dialect)
def test_every_dialect_is_described(dialect: Dialect) -> None:
    assert f"| `{dialect}`" in PAGE
