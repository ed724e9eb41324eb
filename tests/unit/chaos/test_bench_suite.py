"""The standard measurements without measuring: which commands there are, what the page tells of them, and how reports compare."""

from __future__ import annotations

import json
import re
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from horologe.chaos import bench_page, bench_reference, bench_suite
from horologe.chaos.bench_evidence import Distribution
from horologe.chaos.bench_figures import Kind, compare, figures_of, load
from horologe.chaos.bench_reference import Reference
from horologe.chaos.bench_report import Minute, Report
from horologe.chaos.bench_suite import Outcome, Plan, keeps_up, rows, run_all, run_once
from horologe.client.cli.main import build

STREAMS = {
    "node_kib_per_stream": 40.0, "bare_server_kib_per_stream": 25.0, "worker_kib_per_stream": 35.0,
    "bare_client_kib_per_stream": 30.0, "heartbeat_acknowledged_p99_ms": 12.0, "streams_broken_while_held": 0,
    "reconnects_of_others": 0,
}  # fmt: skip


def report(per_second: float = 100.0, rounds: float = 1_000.0) -> dict[str, Any]:
    """A report with every kind of figure."""
    delays = Distribution(5.0, 20.0, 30.0, 40.0)
    made = Report("steady", {}, throughput_per_second=per_second, start_delay_ms=delays, call_ms=delays)
    made.nodes_cores, made.nodes_cpu_us_per_execution, made.entries_per_execution = 0.5, 200.0, 0.08
    made.cpu_cores_per_node, made.rss_bytes = {"n1": 0.3, "n2": 0.2}, {"n1": 300 << 20, "n2": 200 << 20}
    made.drained_seconds, made.restart_seconds, made.more = 3.0, [1.0, 4.0, 2.0], STREAMS
    made.minutes = [Minute(0.5, {"n1": (100 + 10 * number) << 20}, {"n1": 64 << 20}, delays) for number in range(6)]
    made.reference = Reference(rounds, rounds, 1.0)
    return made.to_record()


def core_report() -> dict[str, Any]:
    costs = [{"jobs": jobs, "microseconds_per_fire": cost} for jobs, cost in ((1_000, 50.0), (1_000_000, 55.0))]
    return {"profile": "core", "costs": costs, "flatness": 0.1, "is_sound": True}


def record_of(row: bench_suite.Row) -> dict[str, Any]:
    return core_report() if row.label == "core" else report()


def outcomes(plan: Plan) -> list[Outcome]:
    return [Outcome(row, (record_of(row),) * (1 if row.runs else 3)) for row in rows(plan, 10_000, 14_000)]


@pytest.mark.parametrize("short", [False, True])
def test_each_command_of_the_table_can_be_typed(short: bool) -> None:
    plan = Plan(short=short)
    for arguments in (*(row.arguments for row in rows(plan, 10_000, 14_000)), plan.trial(5_000, 1)):
        # Each is parsed in full; the wrong option at its end is what is complained of, and keeps it from running.
        found = CliRunner().invoke(build(), ["bench", *arguments, "--save", "x.json", "--no-such-option"])
        assert "No such option: --no-such-option" in re.sub(r"[│\n ]+", " ", found.output), found.output


def test_each_figure_that_a_row_promises_is_one_of_its_report() -> None:
    for row in rows(Plan(), 10_000, 14_000):
        names = figures_of(record_of(row)).keys()
        assert {goal.figure for goal in row.goals} <= names, row.label


def test_the_page_tells_medians_ranges_and_what_went_wrong(tmp_path: Path) -> None:
    plan = Plan()
    found = outcomes(plan)
    steady = found[0]
    runs = [report(per_second) for per_second in (9_000.0, 12_000.0, 10_000.0)]
    runs[1] |= {"is_sound": False, "missed": 3}
    found[0] = Outcome(steady.row, tuple(runs), ("the machine | is too busy",))
    text = bench_page.page(found, plan, datetime(2026, 1, 2, tzinfo=UTC))
    assert "| 10,000 | 33,000 | 10,000 | 9,000 to 12,000 | `horologe bench steady --rate 10000" in text
    assert "**Not sound:**" in text and "3 missed" in text
    assert "**Not carried out:**" in text and "the machine / is too busy" in text
    assert "Measured on 2026-01-02." in text and "mean nothing: they are of a short run" not in text
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {3, 8}
    bench_page.write(found, plan, tmp_path)
    linked = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (tmp_path / "benchmarks.md").read_text())
    assert len(linked) == 4
    for link in linked:
        ElementTree.fromstring((tmp_path / link).read_text())


def test_the_chart_of_costs_shows_the_median_of_the_runs() -> None:
    runs = [core_report() for _ in range(3)]
    for run, cost in zip(runs, (61.0, 97.0, 72.0), strict=True):
        run["costs"][0]["microseconds_per_fire"] = cost
    row = next(row for row in rows(Plan(), 10_000, 14_000) if row.label == "core")
    shown = "".join(ElementTree.fromstring(*bench_page.charts([Outcome(row, tuple(runs))]).values()).itertext())
    assert "72" in shown and "55" in shown and "61" not in shown and "97" not in shown


def test_a_page_of_nothing_says_so() -> None:
    row = rows(Plan(), 10_000, 14_000)[0]
    assert "| not measured |" in bench_page.page([Outcome(row, (), ("no",))], Plan())
    assert "they are of a short run" in bench_page.page([], Plan(short=True))


def limit(monkeypatch: pytest.MonkeyPatch, at_once: int, for_long: int) -> list[tuple[str, ...]]:
    """A machine on which more than these rates come to nothing, or are not sound. Answers the commands that were run."""
    asked: list[tuple[str, ...]] = []

    def run_once(arguments: tuple[str, ...], *_: object) -> tuple[dict[str, Any] | None, str]:
        asked.append(tuple(arguments))
        if arguments[0] == "core":
            return core_report(), ""
        rate = float(arguments[2]) if arguments[0] == "steady" else 1.0
        if rate > at_once:
            return None, "too much"
        return report(rate) | {"is_sound": arguments[-1] != "120" or rate <= for_long}, ""

    monkeypatch.setattr(bench_suite, "run_once", run_once)
    return asked


def test_the_highest_rate_that_is_kept_up_with_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = limit(monkeypatch, at_once=14_000, for_long=14_000)
    said: list[str] = []
    done = list(run_all(Plan(runs=2), said.append))
    assert done[0].row.arguments[2] == "14000" and len(done[0].records) == 2
    assert "3 nodes do not keep up with 20,000/s" in said and "1 nodes keep up with 14,000/s" in said
    assert done[-1].row.arguments[:3] == ("steady", "--rate", "7000") and len(done[-1].records) == 1
    assert all(outcome.is_sound for outcome in done)
    assert asked[0] == ("steady", "--rate", "2000", "--nodes", "3", "--seconds", "10")


def test_a_rate_that_is_too_much_for_long_is_left_for_the_next_lower_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = limit(monkeypatch, at_once=5_000, for_long=3_999)
    said: list[str] = []
    done = list(run_all(Plan(runs=3), said.append))
    assert done[0].row.arguments[2] == "3500" and len(done[0].records) == 3 and done[0].keeps_up
    assert "3 nodes do not keep up with 4,000/s for long" in said
    # One run is enough to know.
    assert asked.count(("steady", "--rate", "4000", "--nodes", "3", "--seconds", "120")) == 1
    # What was too much is told, beside the moment at 6,000/s that came to nothing.
    assert [faster.row.rate for faster in done[0].too_much] == [6_000, 5_000, 4_000]
    text = bench_page.page(done, Plan(runs=3))
    assert "**Too much:** `horologe bench steady --rate 6000 --nodes 3 --seconds 10`: too much" in text
    assert (
        "**Too much:** `horologe bench steady --rate 4000 --nodes 3 --seconds 120`: 4,000/s, p99 of the start delay 20"
        in text
    )
    assert done[1].row.arguments[2] == "5000" and [faster.row.rate for faster in done[1].too_much] == [6_000]
    assert all(outcome.is_sound for outcome in done)
    assert done[-1].row.arguments[:3] == ("steady", "--rate", "1750")


def test_what_was_doubled_at_a_rate_that_is_too_much_is_not_forgiven() -> None:
    row = rows(Plan(), 4_000, 4_000)[0]
    faster = Outcome(row, (report(3_000.0) | {"missed": 7, "is_sound": False},))
    assert Outcome(row, (report(),), too_much=(faster,)).is_sound
    doubled = Outcome(row, (report(3_000.0) | {"duplicated": 1, "is_sound": False},))
    assert not Outcome(row, (report(),), too_much=(faster, doubled)).is_sound


def test_a_run_that_takes_too_long_is_asked_to_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        bench_suite.own_program, "command", lambda: [sys.executable, "-c", "import time; time.sleep(600)"]
    )
    assert run_once(("steady",), tmp_path, 0.1) == (None, f"it ended with {-signal.SIGTERM}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"is_sound": False}, False),
        ({"start_delay_ms": None}, False),
        ({"start_delay_ms": {"p99": 1_000.0}}, False),
        ({"throughput_per_second": 80.0}, False),
    ],
)
def test_a_cluster_keeps_up_or_not(changes: dict[str, Any], expected: bool) -> None:
    assert keeps_up(report() | changes, 100.0) is expected


def test_reports_compare_as_they_are_and_as_if_on_one_machine(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(report(100.0, rounds=1_000.0)))
    # Twice the machine, and three times the figure of one that goes by the clock.
    new.write_text(json.dumps(report(300.0, rounds=2_000.0)))
    changes = {change.figure: change for change in compare(load(old), load(new))}
    assert (changes["per second"].ratio, changes["per second"].relative) == (3.0, 1.5)
    delay = changes["start delay p99, ms"]
    assert (delay.ratio, delay.relative) == (1.0, 2.0)
    memory = changes["RSS of the largest node, MiB"]
    assert (memory.ratio, memory.relative) == (1.0, 1.0)
    assert changes["streams broken while held"].relative is None
    shown = CliRunner().invoke(build(), ["bench", "compare", str(old), str(new)])
    assert shown.exit_code == 0 and "per second" in shown.output
    whole = tmp_path / "whole.json"
    whole.write_text(json.dumps({"rows": {"steady": [report(), report()], "core": [core_report()]}}))
    assert {change.label for change in compare(load(whole), load(whole))} == {"steady", "core"}


@pytest.mark.parametrize("content", ["{}", "no JSON", '{"rows": 3}', "[]"])
def test_what_is_no_report_is_said_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    shown = CliRunner().invoke(build(), ["bench", "compare", str(path), str(path)])
    assert shown.exit_code == 2
    assert "report" in shown.output and "Traceback" not in shown.output


def test_figures_know_what_they_depend_on() -> None:
    kinds = {name: figure.kind for name, figure in figures_of(report()).items()}
    assert kinds["per second"] is Kind.RATE and kinds["drained, s"] is Kind.TIME
    assert kinds["CPU of all nodes, us per execution"] is Kind.CPU
    assert kinds["node above bare gRPC, KiB per stream"] is Kind.OTHER
    found = figures_of(report())
    assert found["serving again, s"].value == 2.0
    assert round(found["growth of RSS in the last third, %"].value, 1) == 16.0
    assert found["growth of the state in the last third, %"].value == 0.0


def test_the_reference_loop_measures_processor_and_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_reference, "SLICE_SECONDS", 0.005)
    found = bench_reference.measure(tmp_path)
    assert found.rounds_per_second > 0 and found.rounds_per_cpu_second > 0 and found.fsync_ms >= 0
    assert list(tmp_path.iterdir()) == []
    assert Reference.mean(Reference(1, 3, 5), Reference(3, 5, 7)) == Reference(2, 4, 6)


@pytest.mark.parametrize("command", ["steady", "core", "idle"])
def test_a_folder_that_is_not_there_is_said_before_anything_is_measured(command: str, tmp_path: Path) -> None:
    for option, path in (
        ("--dir", tmp_path / "no"),
        ("--dir", Path(__file__)),
        ("--save", tmp_path / "no" / "report.json"),
    ):
        done = CliRunner().invoke(build(), ["bench", command, option, str(path)])
        assert done.exit_code == 2, done.output
        assert f"Invalid value for '{option}'" in done.stderr
