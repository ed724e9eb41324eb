"""What became of due times, read in bulk: latest results beside a list of jobs, the ledger backwards, and counts by the day."""

from __future__ import annotations

import pytest
from service_harness import FakeNode, interval_job, refused

from horologe.node import job_search, paging
from horologe.raft.commands import Outcome
from horologe.v1 import execution_pb2, job_pb2
from horologe.v1 import execution_service_pb2 as executions
from horologe.v1 import job_service_pb2 as jobs

DAY_SECONDS = 86_400
Row = executions.LedgerRow
State = execution_pb2.Execution


async def create(node: FakeNode, job_id: str, seconds: int = 3_600) -> str:
    job = interval_job(seconds)
    job.schedules[0].interval.phase.FromSeconds(0)
    job.overlap = job_pb2.OVERLAP_POLICY_SKIP
    return (await node.jobs.CreateJob(jobs.CreateJobRequest(job_id=job_id, job=job))).job.name


async def some_history(node: FakeNode) -> tuple[str, str]:
    """The first job: completed, failed, running, skipped. The second one has never been due."""
    names = await create(node, "nightly"), await create(node, "quiet")
    session = node.open_session()
    for outcome in (Outcome.SUCCEEDED, Outcome.FAILED):
        node.complete(node.fire(1, session), outcome, retry_delay_ms=-2)
    node.fire(1, session)
    node.fire(1, session)
    return names


async def test_a_list_of_jobs_with_their_latest_results(node: FakeNode) -> None:
    name, _ = await some_history(node)
    answer = await node.jobs.ListJobs(jobs.ListJobsRequest(result_count=3))
    assert len(answer.results) == len(answer.jobs) == 2
    seen = [(row.outcome, row.state, row.reason, row.execution) for row in answer.results[0].rows]
    assert seen == [
        (Row.OUTCOME_SKIPPED, State.STATE_UNSPECIFIED, "overlap", ""),
        (Row.OUTCOME_RAN, State.STATE_RUNNING, "", f"{name}/executions/3"),
        (Row.OUTCOME_RAN, State.STATE_FAILED, "", f"{name}/executions/2"),
    ]
    assert not answer.results[1].rows
    assert len((await node.jobs.ListJobs(jobs.ListJobsRequest(result_count=999))).results[0].rows) == 4
    assert not (await node.jobs.ListJobs(jobs.ListJobsRequest())).results
    assert "result_count" in (await refused(node.jobs.ListJobs(jobs.ListJobsRequest(result_count=-1)))).fields


async def test_the_ledger_backwards_and_by_outcome(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _ = await some_history(node)
    forwards = list((await node.executions.ListLedger(executions.ListLedgerRequest(parent=name))).rows)
    assert [row.state for row in forwards][:2] == [State.STATE_COMPLETED, State.STATE_FAILED]
    # Two rows a call, with a page size of one: pages that are empty lead on all the same.
    monkeypatch.setattr(paging, "SCAN_ROWS_MAX", 2)
    for latest_first in (True, False):
        for wanted in ((), (Row.OUTCOME_SKIPPED,), (Row.OUTCOME_RAN, Row.OUTCOME_MISSED), (Row.OUTCOME_COALESCED,)):
            rows: list[Row] = []
            token = ""
            for _ in range(10):
                request = executions.ListLedgerRequest(
                    parent=name, page_size=1, page_token=token, outcomes=wanted, latest_first=latest_first
                )
                answer = await node.executions.ListLedger(request)
                rows += answer.rows
                token = answer.next_page_token
                if not token:
                    break
            expected = [row for row in forwards if not wanted or row.outcome in wanted]
            assert rows == (expected[::-1] if latest_first else expected), (latest_first, wanted)
    request = executions.ListLedgerRequest(parent=name, outcomes=[77])  # type: ignore[list-item]
    assert "outcomes[0]" in (await refused(node.executions.ListLedger(request))).fields


async def test_days_are_counted(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    name = await create(node, "nightly", DAY_SECONDS // 2)
    session = node.open_session()
    for outcome in (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.SUCCEEDED, Outcome.SUCCEEDED):
        node.complete(node.fire(1, session), outcome, retry_delay_ms=-2)
    running = node.execution(node.fire(1, session))
    node.fire(1, session)
    whole = await node.jobs.GetJobStatistics(jobs.GetJobStatisticsRequest(name=name))
    assert not whole.HasField("counted_from")
    assert all(day.start_time.seconds % DAY_SECONDS == 0 for day in whole.days)
    assert [day.start_time.seconds for day in whole.days] == sorted(
        (day.start_time.seconds for day in whole.days), reverse=True
    )

    def total(field: str, days: list[jobs.JobDay]) -> int:
        return sum(getattr(day, field) for day in days)

    fields = ("completed", "failed", "cancelled", "unfinished", "skipped", "missed", "coalesced")
    counted = {field: total(field, list(whole.days)) for field in fields}
    assert counted == {
        "completed": 3, "failed": 1, "cancelled": 0, "unfinished": 1, "skipped": 1, "missed": 0, "coalesced": 0,
    }  # fmt: skip
    part = jobs.GetJobStatisticsRequest(name=name)
    part.start_time.FromMilliseconds(running.due_ms)
    part.end_time.FromMilliseconds(running.due_ms + 1)
    assert [total(field, list((await node.jobs.GetJobStatistics(part)).days)) for field in fields] == [
        0,
        0,
        0,
        1,
        0,
        0,
        0,
    ]

    monkeypatch.setattr(paging, "SCAN_ROWS_MAX", 2)
    days: list[jobs.JobDay] = []
    request = jobs.GetJobStatisticsRequest(name=name)
    calls = 0
    while calls < 9:
        calls += 1
        answer = await node.jobs.GetJobStatistics(request)
        days += answer.days
        if not answer.HasField("counted_from"):
            break
        request.end_time.CopyFrom(answer.counted_from)
    assert calls == 3
    assert {field: total(field, days) for field in fields} == counted
    gone = jobs.GetJobStatisticsRequest(name=name + "x")
    assert (await refused(node.jobs.GetJobStatistics(gone))).reason == "JOB_NOT_FOUND"


async def test_jobs_whose_name_contains_a_text(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled = interval_job()
    labelled.labels["a/b"] = "night"
    for job_id in ("nightly-report", "report", "fortnight"):
        await node.jobs.CreateJob(jobs.CreateJobRequest(job_id=job_id, job=labelled))

    async def found(**fields: object) -> list[str]:
        answer = await node.jobs.ListJobs(jobs.ListJobsRequest(**fields))  # type: ignore[arg-type]
        return [job.name.rpartition("/")[2] for job in answer.jobs]

    assert await found(name_contains="night") == ["fortnight", "nightly-report"]
    assert await found(name_contains="night", labels={"a/b": "night"}) == ["fortnight", "nightly-report"]
    assert await found(name_contains="night", name_prefix="n") == ["nightly-report"]
    assert await found(name_contains="default") == [], "the namespace is no part of it"
    # A second name that does not fit is where a call ends, and the next one begins.
    monkeypatch.setattr(job_search, "_NAME_WORK", job_search.WORK_PER_PAGE / 2)
    for wanted in ("night", "report", "odd", ""):
        names: list[str] = []
        request = jobs.ListJobsRequest(name_contains=wanted)
        calls = 0
        while calls < 9:
            calls += 1
            answer = await node.jobs.ListJobs(request)
            names += [job.name.rpartition("/")[2] for job in answer.jobs]
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
        assert names == [each for each in ("fortnight", "nightly-report", "report") if wanted in each]
        assert calls == (3 if wanted == "odd" else 1), wanted
    assert "name_contains" in (await refused(node.jobs.ListJobs(jobs.ListJobsRequest(name_contains="x" * 201)))).fields
