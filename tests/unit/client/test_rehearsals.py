"""Programs rehearse their jobs: handlers inline, a clock that the test moves, the rules of a cluster."""

from __future__ import annotations

import importlib
import inspect
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.pages import blocks_of, page_text

from horologe.client import Context, Handlers, InvalidArgument, NotFound, PermanentError, jobs
from horologe.client.testing import Rehearsal
from horologe.v1.calendar_pb2 import Calendar

START = "2027-01-01T00:00:00Z"
HALF_A_DAY_LATER = datetime(2027, 1, 1, 12, tzinfo=UTC)


def failing(times: int, error: type[Exception] = ValueError, **policies: object) -> Handlers:
    """A job that is due at noon and fails so often before it succeeds."""
    handlers = Handlers()
    attempts: list[int] = []

    @handlers.job("report", jobs.cron("0 12 * * *"), **policies)  # type: ignore[arg-type]
    def report(context: Context) -> dict[str, int]:
        attempts.append(context.attempt)
        context.write_output(f"attempt {context.attempt}\n")
        if len(attempts) <= times:
            raise error("no paper")
        return {"pages": 3}

    return handlers


def test_the_policies_of_a_declared_job_are_those_of_a_job() -> None:
    named = {"name", "schedule", "action"}
    assert set(jobs.Policies.__annotations__) == set(inspect.signature(jobs.job).parameters) - named


def test_a_declared_job_is_a_definition_and_its_function_stays_itself() -> None:
    handlers = Handlers()

    @handlers.job("report", jobs.every("1h"), payload={"title": "sales"}, labels={"team": "sales"})
    def report(context: Context) -> str:
        return f"{context.payload['title']} {context.labels['team']}"

    assert handlers.jobs == [
        jobs.job("report", jobs.every("1h"), jobs.python("report", {"title": "sales"}), labels={"team": "sales"})
    ]
    assert "report" in handlers
    assert report.__name__ == "report"
    assert Rehearsal(handlers).run("report").result == "sales sales"


def test_a_name_that_is_taken_declares_nothing() -> None:
    handlers = Handlers()
    handlers.job("report", jobs.manual())(lambda context: None)
    with pytest.raises(ValueError, match="already a handler named 'report'"):
        handlers.job("report", jobs.every("1h"))(lambda context: None)
    assert len(handlers.jobs) == 1


def test_what_is_due_runs_when_the_clock_comes_there_and_not_before() -> None:
    rehearsal = Rehearsal(failing(0), start=START)
    assert rehearsal.advance("11h59m") == []
    (run,) = rehearsal.advance("1m")
    assert (run.job, run.state, run.due_time, run.result) == ("report", "completed", HALF_A_DAY_LATER, {"pages": 3})
    assert run.output == "attempt 1\n"
    assert [each.due_time.day for each in rehearsal.advance_to("2027-01-04T12:00:00Z")] == [2, 3, 4]
    assert rehearsal.now == datetime(2027, 1, 4, 12, tzinfo=UTC)


def test_daylight_saving_is_that_of_a_cluster() -> None:
    handlers = Handlers()
    handlers.job("night", jobs.cron("30 2 * * *", time_zone="Europe/Berlin"))(lambda context: None)
    rehearsal = Rehearsal(handlers, start="2027-03-27T12:00:00Z")
    # 02:30 does not exist on the 28th; by default it runs after the gap.
    assert [run.due_time.isoformat() for run in rehearsal.advance("2d")] == [
        "2027-03-28T01:00:00+00:00",
        "2027-03-29T00:30:00+00:00",
    ]


def test_a_failed_attempt_waits_as_long_as_its_policy_says() -> None:
    retry = jobs.retry(max_attempts=4, base="10s", factor=3, jitter="none")
    (run,) = Rehearsal(failing(2, retry=retry), start=START).advance("1d")
    assert (run.state, len(run.tries)) == ("completed", 3)
    assert [(each.start_time - HALF_A_DAY_LATER).seconds for each in run.tries] == [0, 10, 40]
    assert run.tries[0].error == "ValueError: no paper"
    assert "Traceback" in run.tries[0].output
    assert run.error == ""


def test_attempts_run_out_and_the_clock_stays_between_two_of_them() -> None:
    rehearsal = Rehearsal(failing(9, retry=jobs.retry(max_attempts=2, base="1m", jitter="none")), start=START)
    (run,) = rehearsal.advance_to("2027-01-01T12:00:30Z")
    assert (run.state, len(run.tries)) == ("running", 1)
    assert rehearsal.advance("1m") == []
    assert (run.state, run.error) == ("dead", "ValueError: no paper")


def test_a_permanent_error_is_not_tried_again() -> None:
    run = Rehearsal(failing(9, PermanentError)).run("report")
    assert (run.state, len(run.tries)) == ("failed", 1)


def test_a_run_by_hand_goes_through_its_retries_with_the_clock() -> None:
    rehearsal = Rehearsal(failing(1, retry=jobs.retry(max_attempts=2, base="5m", jitter="none")), start=START)
    run = rehearsal.run("report")
    assert (run.state, run.result) == ("completed", {"pages": 3})
    assert rehearsal.now == datetime(2027, 1, 1, 0, 5, tzinfo=UTC)


def test_a_due_time_during_a_run_is_skipped_unless_the_job_allows_it() -> None:
    for overlap, states in (("skip", ["dead", "skipped", "dead"]), ("allow", ["dead", "dead", "dead"])):
        handlers = Handlers()
        handlers.job(
            "often",
            jobs.every("1m", phase="0s"),
            overlap=overlap,
            retry=jobs.retry(max_attempts=2, base="90s", jitter="none"),
        )(_fails)
        rehearsal = Rehearsal(handlers, start="2027-01-01T00:00:30Z")
        assert [run.state for run in rehearsal.advance("3m")][:1] == ["dead"]
        rehearsal.advance("5m")
        assert [run.state for run in rehearsal.runs[:3]] == states


def _fails(context: Context) -> None:
    raise ValueError("no")


def test_a_fixed_delay_counts_from_the_end_and_executions_are_counted() -> None:
    handlers = Handlers()
    handlers.job("poll", jobs.fixed_delay("10m"), max_executions=3)(lambda context: context.execution)
    runs = Rehearsal(handlers, start=START).advance("1d")
    assert [run.due_time.minute for run in runs] == [0, 10, 20]


def test_calendars_exclude_due_times() -> None:
    holidays = Calendar(name="namespaces/default/calendars/holidays", dates=["2027-01-02"], time_zone="UTC")
    rehearsal = Rehearsal(failing(0, calendars=["holidays"]), start=START, calendars={"holidays": holidays})
    assert [run.due_time.day for run in rehearsal.advance_to("2027-01-03T23:00:00Z")] == [1, 3]
    with pytest.raises(InvalidArgument, match="'holidays' is not among the calendars of this rehearsal"):
        Rehearsal(failing(0, calendars=["holidays"]))


def test_handlers_see_payload_results_before_them_and_secrets_which_nobody_else_sees() -> None:
    handlers = Handlers()

    @handlers.job("load", jobs.manual(), payload={"table": "orders"})
    async def load(context: Context) -> dict[str, object]:
        context.write_output(f"with {context.secrets['password']}\n")
        return {"table": context.payload["table"], "rows": context.upstream["extract"].result, "key": "hunter2hunter2"}

    run = Rehearsal(handlers).run(
        "load", payload={"table": "totals"}, upstream={"extract": 17}, secrets={"password": "hunter2hunter2"}
    )
    assert run.result == {"table": "totals", "rows": 17, "key": "[secret password]"}
    assert run.output == "with [secret password]\n"


async def test_a_test_with_a_loop_of_its_own_may_rehearse_too() -> None:
    handlers = Handlers()

    @handlers.job("wait", jobs.manual())
    async def wait(context: Context) -> str:
        return "done"

    assert Rehearsal(handlers).run("wait").result == "done"


def test_a_handler_runs_in_the_thread_of_the_test() -> None:
    handlers = Handlers()
    handlers.job("where", jobs.manual())(lambda context: threading.current_thread() is threading.main_thread())
    assert Rehearsal(handlers).run("where").result is True


def test_a_handler_that_looks_whether_it_has_to_end() -> None:
    handlers = Handlers()

    @handlers.job("long", jobs.manual())
    def long(context: Context) -> None:
        context.progress(0.5)

    run = Rehearsal(handlers).run("long", cancelled="enough")
    assert (run.state, run.error, run.output) == ("cancelled", "cancelled: enough", "")


@pytest.mark.parametrize(
    ("job", "complaint"),
    [
        (jobs.job("a", jobs.every("1ms"), jobs.python("a")), "job.schedules"),
        (jobs.job("a", jobs.every("1h"), jobs.shell(["true"])), "is not for a handler"),
        (jobs.job("a", jobs.every("1h"), jobs.python("a"), overlap="replace"), "'replace' is not rehearsed"),
    ],
)
def test_what_a_cluster_would_refuse_or_nobody_can_rehearse_is_refused(job: jobs.Job, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        Rehearsal(Handlers()).add(job)


def test_a_handler_that_is_missing_fails_as_on_a_worker() -> None:
    rehearsal = Rehearsal(Handlers())
    rehearsal.add(jobs.job("a", jobs.manual(), jobs.python("nobody"), retry=jobs.retry(max_attempts=1)))
    assert "no handler named 'nobody'" in rehearsal.run("a").error
    with pytest.raises(NotFound, match="no namespaces/default/jobs/b"):
        rehearsal.run("b")


def test_the_clock_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="does not go back"):
        Rehearsal(Handlers(), start=START).advance_to("2026-01-01T00:00:00Z")
    with pytest.raises(ValueError, match="has no zone"):
        Rehearsal(Handlers(), start=datetime(2027, 1, 1))


def test_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [block for block in blocks_of(page_text("docs/testing.md")) if block.mark.startswith("file ")]
    for block in files:
        (tmp_path / block.mark.removeprefix("file ")).write_text(block.text)
    monkeypatch.syspath_prepend(tmp_path)
    tests = importlib.import_module("test_reports")
    names = [name for name in dir(tests) if name.startswith("test_")]
    assert len(names) == 2
    for name in names:
        getattr(tests, name)()
