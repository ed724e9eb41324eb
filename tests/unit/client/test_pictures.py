"""`horologe job calendar` and `horologe dashboard`: what people see of a cluster in the terminal, against a fake node."""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from fake_cluster import FakeCluster
from typer.testing import Result

from horologe.client.cli import job_calendar
from horologe.client.times import to_proto
from horologe.v1.execution_pb2 import Execution
from horologe.v1.execution_service_pb2 import LedgerRow
from horologe.v1.job_pb2 import Job

Run = Callable[..., Result]
TODAY = datetime(2026, 11, 26, 0, 30, tzinfo=UTC)


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def row(days_ago: int, hour: int, outcome: LedgerRow.Outcome.ValueType, **fields: object) -> LedgerRow:
    due = to_proto(TODAY - timedelta(days=days_ago) + timedelta(hours=hour))
    return LedgerRow(due_time=due, outcome=outcome, **fields)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def past(fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two days, of a day long ago, and of tomorrow."""
    monkeypatch.setattr(job_calendar, "_now", lambda: TODAY + timedelta(hours=12))
    fake.add_job("report")
    fake.ledger = [
        row(40, 3, LedgerRow.OUTCOME_MISSED),
        row(2, 3, LedgerRow.OUTCOME_SKIPPED),
        row(2, 4, LedgerRow.OUTCOME_MISSED, count=120),
        row(2, 23, LedgerRow.OUTCOME_RAN, state=Execution.STATE_COMPLETED),
        row(2, 23, LedgerRow.OUTCOME_RAN, state=Execution.STATE_DEAD),
        row(1, 7, LedgerRow.OUTCOME_RAN),
        row(1, 8, LedgerRow.OUTCOME_RAN, state=Execution.STATE_RUNNING),
        row(1, 9, LedgerRow.OUTCOME_RAN, state=Execution.STATE_COMPLETED),
        row(1, 9, LedgerRow.OUTCOME_RAN, state=Execution.STATE_COMPLETED),
    ]
    fake.planned = [TODAY + timedelta(days=1, hours=5, minutes=minutes) for minutes in (0, 10, 20)]


def test_each_hour_shows_the_worst_that_came_of_it(fake: FakeCluster, run: Run) -> None:
    shown = lines(run("job", "calendar", "report", "--weeks", "1", "--days", "2"))
    assert fake.requests("ListLedger")[0].latest_first
    days = {line.split()[1]: line.split()[2:] for line in shown[1:11]}
    assert len(days) == 10
    yesterday, before = ((TODAY - timedelta(days=days)).strftime("%Y-%m-%d") for days in (1, 2))
    tomorrow = (TODAY + timedelta(days=1)).strftime("%Y-%m-%d")
    assert days[yesterday] == ["."] * 7 + ["1", "1~", "2"] + ["."] * 14
    assert days[before] == ["."] * 3 + ["1s", "+!"] + ["."] * 18 + ["1x"]
    assert days[tomorrow] == ["."] * 5 + [">3"] + ["."] * 18
    assert next(line for line in shown if "today" in line).split()[1] == TODAY.strftime("%Y-%m-%d")
    legend = shown[12]
    for word in ("ran well", "x failed", "! missed", "s skipped", "~ unfinished", "> planned"):
        assert word in legend
    assert "\x1b" not in "".join(shown)
    assert all(line.isascii() for line in shown[1:11])


def test_sentences_say_the_same(run: Run) -> None:
    shown = lines(run("job", "calendar", "report", "--weeks", "1", "--days", "2", "--plain"))
    assert len(shown) == 4
    assert shown[0].endswith(": 1 ran well (hour 23), 1 failed (hour 23), 120 missed (hour 04), 1 skipped (hour 03).")
    assert shown[1].endswith(": 3 ran well (hour 07 and 09), 1 unfinished (hour 08).")
    assert shown[2].endswith(": 3 planned (hour 05).")
    assert shown[3] == "Days and hours of UTC."


def test_programs_get_figures(run: Run) -> None:
    days = json.loads(run("job", "calendar", "report", "--weeks", "0", "--days", "1", "-o", "json").stdout)
    assert [day["hours"] for day in days] == [{}, {"05": {"planned": 3}}]
    assert days[1]["total"] == {"planned": 3}


def test_days_and_hours_are_those_of_a_zone(run: Run) -> None:
    there = json.loads(run("job", "calendar", "report", "--days", "2", "--tz", "Asia/Kolkata", "-o", "json").stdout)
    planned = [day["hours"] for day in there if "planned" in day["total"]]
    # 05:30 UTC is 11:00 there.
    assert planned == [{"11": {"planned": 3}}]
    assert run("job", "calendar", "report", "--tz", "Middle/Earth").exit_code == 2


def test_what_is_left_out_is_said(fake: FakeCluster, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_calendar, "ROWS_MAX", 3)
    monkeypatch.setattr(job_calendar, "PLANNED_MAX", 2)
    fake.jobs["namespaces/default/jobs/report"].state = Job.STATE_PAUSED
    notes = "\n".join(lines(run("job", "calendar", "report", "--plain")))
    assert f"since {TODAY - timedelta(days=1) + timedelta(hours=8):%Y-%m-%d %H:%M}" in notes
    assert "3 rows of the ledger" in notes and "2 due times" in notes and "The job is paused" in notes


def test_nothing_at_all(fake: FakeCluster, run: Run) -> None:
    fake.ledger, fake.planned = [], []
    assert lines(run("job", "calendar", "report", "--plain"))[0] == "Nothing was due, and nothing is planned."
    assert run("job", "calendar", "nobody").exit_code == 3


def test_the_address_of_the_dashboard(fake: FakeCluster, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("dashboard").exit_code == 4
    assert "http_listen is empty" in run("dashboard").stderr
    fake.http_address = "192.0.2.7:7700"
    assert lines(run("dashboard")) == ["http://192.0.2.7:7700/"]
    # It listens everywhere, so also where the node was found.
    fake.http_address = "0.0.0.0:7700"
    assert lines(run("dashboard", "--all")) == ["http://127.0.0.1:7700/"]
    assert json.loads(run("dashboard", "-o", "json").stdout) == [{"url": "http://127.0.0.1:7700/", "node": "n1"}]
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: bool(opened.append(url)) or len(opened) == 1)
    assert run("dashboard", "--open").exit_code == 0
    assert opened == ["http://127.0.0.1:7700/"]
    assert "no browser here" in run("dashboard", "--open").stderr


def test_the_first_node_that_answers_is_enough(fake: FakeCluster, run: Run) -> None:
    fake.http_address = "127.0.0.1:7700"
    nobody = "127.0.0.1:1"
    assert lines(run("dashboard", "--address", f"{nobody},{fake.address}", "--insecure")) == ["http://127.0.0.1:7700/"]
    fake.stop()
    assert run("dashboard").exit_code == 5
