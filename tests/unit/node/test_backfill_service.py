"""BackfillService over gRPC: what a backfill is told, what it would run, and what it has run."""

from __future__ import annotations

import uuid

import pytest
from service_harness import START_MS, FakeNode, interval_job, manual_job, refused
from test_dead_letter_service import operation, work

from horologe.raft.commands import GIVE_UP, Outcome
from horologe.v1 import backfill_service_pb2 as api
from horologe.v1 import job_pb2, job_service_pb2, operation_pb2

NAME = "namespaces/default/jobs/tick"
MINUTE = 60_000
Request = api.BackfillJobRequest
Operation = operation_pb2.Operation


async def create(node: FakeNode, job: job_pb2.Job | None = None) -> None:
    job = job or interval_job()
    if job.schedules[0].HasField("interval"):
        job.schedules[0].interval.phase.FromSeconds(0)
    job.overlap = job_pb2.OVERLAP_POLICY_ALLOW
    await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="tick", job=job))


def asked(from_ms: int, to_ms: int, **fields) -> Request:
    request = Request(name=NAME, **fields)
    request.start_time.FromMilliseconds(START_MS + from_ms)
    request.end_time.FromMilliseconds(START_MS + to_ms)
    return request


async def backfill(node: FakeNode, from_ms: int, to_ms: int, **fields) -> api.BackfillJobResponse:
    return await node.backfills.BackfillJob(asked(from_ms, to_ms, **fields))


async def test_due_times_from_before_the_job_existed_are_run_a_few_at_a_time(node):
    await create(node)
    request = asked(-5 * MINUTE, 0, max_running=2, request_id=str(uuid.uuid4()))
    begun = (await node.backfills.BackfillJob(request)).operation
    assert (begun.kind, begun.job, begun.total_count) == (Operation.KIND_BACKFILL, NAME, 5)
    assert begun.description.startswith("run missing due times from 2027-01-15T07:55:00Z to 2027-01-15T08:00:00Z, ")
    assert (await node.backfills.BackfillJob(request)).operation == begun
    session = node.open_session()
    ran = 0
    while (await operation(node)).state == Operation.STATE_RUNNING:
        work(node)
        last = node.counters().last_execution
        assert last - ran <= 2
        for number in range(ran + 1, last + 1):
            execution = node.execution(number)
            assert execution.due_ms == START_MS - (6 - number) * MINUTE
            node.assign(number, session)
            node.complete(number, Outcome.FAILED if number == 3 else Outcome.SUCCEEDED, retry_delay_ms=GIVE_UP)
        ran = last
    done = await operation(node)
    assert (done.state, done.done_count, done.completed_count, done.failed_count) == (Operation.STATE_DONE, 5, 4, 1)
    # Now nothing is missing, and one failed.
    preview = await backfill(node, -5 * MINUTE, 0, validate_only=True)
    assert (preview.wanted_count, preview.operation.total_count) == (0, 5)
    preview = await backfill(node, -5 * MINUTE, 0, validate_only=True, only=Request.ONLY_FAILED)
    assert [one.ToMilliseconds() for one in preview.first_due_times] == [START_MS - 3 * MINUTE]
    preview = await backfill(
        node, -50 * MINUTE, 0, validate_only=True, only=Request.ONLY_ALL, order=Request.ORDER_BACKWARDS
    )
    assert preview.wanted_count == 50
    assert [one.ToMilliseconds() for one in preview.first_due_times] == [
        START_MS - minutes * MINUTE for minutes in range(1, 11)
    ]
    assert node.counters().last_operation == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"max_running": -1}, "max_running"),
        ({"max_running": 1_001}, "max_running"),
        ({"order": 9}, "order"),
        ({"only": 9}, "only"),
        ({"request_id": "x"}, "request_id"),
    ],
)
async def test_what_is_refused(node, change, field):
    await create(node)
    assert field in (await refused(backfill(node, -MINUTE, 0, **change))).fields


@pytest.mark.parametrize(
    ("from_ms", "to_ms", "field"),
    [(0, 0, "end_time"), (0, -1, "end_time"), (0, 1, "end_time"), (-START_MS - 1, 0, "start_time")],
)
async def test_wrong_ranges(node, from_ms, to_ms, field):
    await create(node)
    assert field in (await refused(backfill(node, from_ms, to_ms))).fields


async def test_a_range_has_a_beginning_and_an_end(node):
    await create(node)
    assert "start_time" in (await refused(node.backfills.BackfillJob(Request(name=NAME)))).fields


async def test_too_many_due_times_are_split_by_the_caller(node):
    await create(node, interval_job(1))
    assert "end_time" in (await refused(backfill(node, -100_001_000, 0))).fields
    assert (await backfill(node, -100_000_000, 0)).operation.total_count == 100_000


async def test_a_job_without_due_times_has_nothing_to_be_run(node):
    await create(node, manual_job())
    assert (await backfill(node, -MINUTE, 0)).operation.total_count == 0
    work(node)
    assert (await operation(node)).state == Operation.STATE_DONE


async def test_no_job(node):
    assert (await refused(backfill(node, -MINUTE, 0))).reason == "JOB_NOT_FOUND"
