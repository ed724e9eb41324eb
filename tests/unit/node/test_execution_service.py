"""ExecutionService over gRPC: executions as people see them, following, cancelling, output and the ledger."""

from __future__ import annotations

import asyncio
import uuid

import grpc
import pytest
from google.protobuf.struct_pb2 import Value
from service_harness import FakeNode, interval_job, manual_job, refused

from horologe.log.v1 import log_pb2
from horologe.node import paging
from horologe.node.execution_service import ChangeQueue
from horologe.raft.commands import FIRE, MissedFate, Outcome
from horologe.raft.records import U64, JobState
from horologe.v1 import execution_pb2, execution_service_pb2, job_pb2, job_service_pb2

Api = execution_service_pb2
State = execution_pb2.Execution
Try = execution_pb2.Attempt
NAME = "namespaces/default/jobs/tick"


async def create(node: FakeNode, job: job_pb2.Job | None = None, job_id: str = "tick") -> job_pb2.Job:
    request = job_service_pb2.CreateJobRequest(job_id=job_id, job=job or interval_job())
    return (await node.jobs.CreateJob(request)).job


async def get(node: FakeNode, number: int, job: str = NAME) -> execution_pb2.Execution:
    name = f"{job}/executions/{number}"
    return (await node.executions.GetExecution(Api.GetExecutionRequest(name=name))).execution


async def test_a_plain_success(node):
    await create(node)
    session = node.open_session()
    number = node.fire(1, session)
    due_ms = node.clock.now_ms
    running = await get(node, number)
    assert (running.state, running.trigger) == (State.STATE_RUNNING, State.TRIGGER_SCHEDULE)
    assert [(each.number, each.state, each.worker) for each in running.attempts] == [(1, Try.STATE_RUNNING, "w1")]
    assert running.attempts[0].fencing_token == node.index
    assert not running.HasField("start_time")
    node.clock.now_ms += 150
    node.complete(number, exit_code=0)
    done = await get(node, number)
    assert done.state == State.STATE_COMPLETED
    assert done.due_time.ToMilliseconds() == due_ms
    assert done.start_time.ToMilliseconds() == due_ms + 5
    assert done.end_time.ToMilliseconds() == due_ms + 150
    assert done.idempotency_key.endswith(f"-{done.name.rpartition('/')[2]}")
    (attempt,) = done.attempts
    assert (attempt.state, attempt.worker, attempt.exit_code) == (Try.STATE_SUCCEEDED, "w1", 0)
    assert (attempt.start_time, attempt.end_time) == (done.start_time, done.end_time)
    assert not attempt.HasField("http_status")


async def test_a_failure_a_retry_and_a_success_with_a_result(node):
    await create(node)
    session = node.open_session()
    number = node.fire(1, session)
    node.complete(number, Outcome.FAILED, retry_delay_ms=5000, error="it broke", exit_code=3)
    waiting = await get(node, number)
    assert waiting.state == State.STATE_SCHEDULED
    assert waiting.next_attempt_time.ToMilliseconds() == node.clock.now_ms + 5000
    assert [(each.number, each.state, each.error, each.exit_code) for each in waiting.attempts] == [
        (1, Try.STATE_FAILED, "it broke", 3)
    ]
    retries = log_pb2.Plan(retries=U64.pack(number) + U64.pack(node.clock.now_ms + 5000) + U64.pack(session))
    node.clock.now_ms += 5000
    node.apply(log_pb2.Command(plan=retries))
    assert [each.state for each in (await get(node, number)).attempts] == [Try.STATE_FAILED, Try.STATE_RUNNING]
    node.complete(number, result=Value(string_value="done"), http_status=201, output_nodes=["n1", "n2"], output_bytes=9)
    done = await get(node, number)
    assert [each.number for each in done.attempts] == [1, 2]
    assert done.result.string_value == "done"
    assert (done.attempts[1].http_status, done.attempts[1].output_bytes, done.attempts[1].output_copies) == (201, 9, 2)
    listed = await node.executions.ListExecutions(Api.ListExecutionsRequest(parent=NAME))
    assert listed.executions[0].name == done.name
    assert not listed.executions[0].attempts
    assert not listed.executions[0].HasField("result")


async def test_a_name_must_fit(node):
    await create(node)
    await create(node, job_id="other")
    number = node.fire(1)
    assert (await get(node, number, "namespaces/-/jobs/-")).name == f"{NAME}/executions/{number}"
    for job in ("namespaces/default/jobs/other", "namespaces/x/jobs/tick"):
        error = await refused(get(node, number, job))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "EXECUTION_NOT_FOUND")
    assert (await refused(get(node, 99))).reason == "EXECUTION_NOT_FOUND"
    for name in ("", NAME, f"{NAME}/executions/x", f"{NAME}/executions/-1", f"{NAME}/executions/{'9' * 30}"):
        assert "name" in (await refused(node.executions.GetExecution(Api.GetExecutionRequest(name=name)))).fields


async def test_the_history_of_a_deleted_job_keeps_its_name(node):
    await create(node)
    number = node.fire(1)
    await node.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(name=NAME, cancel_running=True))
    await create(node)
    old = await get(node, number)
    assert (old.name, old.state, old.reason) == (f"{NAME}/executions/{number}", State.STATE_CANCELLED, "job deleted")
    listed = await node.executions.ListExecutions(Api.ListExecutionsRequest(parent=NAME))
    assert not listed.executions
    listed = await node.executions.ListExecutions(Api.ListExecutionsRequest(parent="namespaces/-/jobs/-"))
    assert [each.name for each in listed.executions] == [old.name]


async def list_all(node: FakeNode, **fields) -> list[int]:
    numbers: list[int] = []
    token = ""
    while True:
        answer = await node.executions.ListExecutions(Api.ListExecutionsRequest(page_token=token, **fields))
        numbers += [int(each.name.rpartition("/")[2]) for each in answer.executions]
        token = answer.next_page_token
        if not token:
            return numbers


@pytest.mark.parametrize("parent", [NAME, "namespaces/default/jobs/-", "namespaces/-/jobs/-"])
async def test_a_token_with_a_made_up_key_is_none(node, parent):
    await create(node)
    node.fire(1)
    for key in (b"\0", b"\xff" * 9, b"namespaces/red/jobs/x"):
        request = Api.ListExecutionsRequest(parent=parent)
        request.page_token = paging.next_token(request, key)
        error = await refused(node.executions.ListExecutions(request))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_lists_newest_first_by_job_namespace_and_state(node):
    await create(node)
    await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(parent="namespaces/b", job_id="hand", job=manual_job()))
    session = node.open_session()
    for _ in range(3):
        node.complete(node.fire(1, session))
    await node.jobs.RunJob(job_service_pb2.RunJobRequest(name="namespaces/b/jobs/hand"))
    await node.jobs.RunJob(job_service_pb2.RunJobRequest(name=NAME))
    assert await list_all(node, parent=NAME) == [5, 3, 2, 1]
    assert await list_all(node, parent=NAME, page_size=1) == [5, 3, 2, 1]
    assert await list_all(node, parent="namespaces/-/jobs/-", page_size=2) == [5, 4, 3, 2, 1]
    assert await list_all(node, parent="namespaces/b/jobs/-") == [4]
    assert await list_all(node, parent="namespaces/-/jobs/tick") == [5, 3, 2, 1]
    assert await list_all(node, parent=NAME, states=[State.STATE_QUEUED]) == [5]
    assert await list_all(node, parent="namespaces/-/jobs/-", states=[State.STATE_COMPLETED]) == [3, 2, 1]
    assert (await refused(list_all(node, parent="namespaces/b/jobs/tick"))).reason == "JOB_NOT_FOUND"
    assert "states[0]" in (await refused(list_all(node, parent=NAME, states=[99]))).fields
    assert "parent" in (await refused(list_all(node, parent="tick"))).fields


async def test_a_filter_looks_at_so_many_rows_at_a_time(node, monkeypatch):
    monkeypatch.setattr("horologe.node.execution_search.WORK_PER_PAGE", 2)
    await create(node)
    session = node.open_session()
    for outcome in (Outcome.FAILED, *[Outcome.SUCCEEDED] * 4):
        node.complete(node.fire(1, session), outcome, retry_delay_ms=-2)
    for parent in (NAME, "namespaces/-/jobs/-"):
        assert await list_all(node, parent=parent, states=[State.STATE_FAILED]) == [1]


async def test_cancel(node):
    await create(node)
    number = node.fire(1)
    name = f"{NAME}/executions/{number}"
    request = Api.CancelExecutionRequest(name=name, reason="not today", request_id=str(uuid.uuid4()))
    answer = await node.executions.CancelExecution(request)
    assert (answer.execution.state, answer.execution.reason) == (State.STATE_CANCELLED, "not today")
    assert (await node.executions.CancelExecution(request)).execution == answer.execution
    error = await refused(node.executions.CancelExecution(Api.CancelExecutionRequest(name=name)))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EXECUTION_FINISHED")
    assert error.metadata == {"state": "CANCELLED"}


async def test_cancel_of_a_running_one_is_a_request(node):
    await create(node)
    number = node.fire(1, node.open_session())
    name = f"{NAME}/executions/{number}"
    answer = await node.executions.CancelExecution(Api.CancelExecutionRequest(name=name))
    assert answer.execution.state == State.STATE_RUNNING
    assert answer.execution.cancel_requested
    node.complete(number, Outcome.CANCELLED)
    done = await get(node, number)
    assert (done.state, done.cancel_requested) == (State.STATE_CANCELLED, False)


async def test_the_ledger_oldest_first(node):
    await create(node)
    session = node.open_session()
    number = node.fire(1, session)
    node.fire(1, session)  # overlaps
    with node.store.read() as tables:
        state = JobState.unpack(tables.job_state.get(U64.pack(1)))
    first_ms = state.next_due_ms
    last_ms, run_ms = first_ms + 2 * 60_000, first_ms + 3 * 60_000
    node.complete(number)
    node.clock.now_ms = run_ms
    fires = FIRE.pack(
        1,
        state.revision,
        run_ms,
        run_ms + 60_000,
        run_ms + 60_000,
        session,
        first_ms,
        last_ms,
        3,
        MissedFate.COALESCED,
        1,
    )
    node.apply(log_pb2.Command(plan=log_pb2.Plan(fires=fires)))
    rows: list[Api.LedgerRow] = []
    token = ""
    while not rows or token:
        answer = await node.executions.ListLedger(Api.ListLedgerRequest(parent=NAME, page_size=1, page_token=token))
        assert len(answer.rows) == 1
        rows += answer.rows
        token = answer.next_page_token
    row = Api.LedgerRow
    assert [(each.outcome, each.reason, each.count, each.execution.rpartition("/")[2]) for each in rows] == [
        (row.OUTCOME_RAN, "", 1, "1"),
        (row.OUTCOME_SKIPPED, "overlap", 1, ""),
        (row.OUTCOME_COALESCED, "catchup_latest", 3, "2"),
        (row.OUTCOME_RAN, "", 1, "2"),
    ]
    assert rows[2].due_time.ToMilliseconds() == first_ms
    assert rows[2].last_due_time.ToMilliseconds() == last_ms
    assert await list_all(node, parent=NAME) == [2, 1], "a coalesced row is no execution of its own"
    assert (
        await refused(node.executions.ListLedger(Api.ListLedgerRequest(parent=NAME + "x")))
    ).reason == "JOB_NOT_FOUND"


# Following


async def test_watch_sees_every_change_of_its_jobs(node):
    await create(node)
    await create(node, job_id="other")
    call = node.executions.WatchExecutions(Api.WatchExecutionsRequest(parent=NAME))
    await call.initial_metadata()
    session = node.open_session()
    node.fire(2, session)
    number = node.fire(1, session)
    change = await call.read()
    assert [(each.name, each.state) for each in change.executions] == [
        (f"{NAME}/executions/{number}", State.STATE_RUNNING)
    ]
    assert change.revision == node.index
    node.complete(number)
    change = await call.read()
    assert [each.state for each in change.executions] == [State.STATE_COMPLETED]
    assert change.dropped_count == 0
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.read()


class Watchers(list):
    """Tells when one has left."""

    def __init__(self) -> None:
        super().__init__()
        self.left = asyncio.Event()

    def remove(self, queue: ChangeQueue) -> None:
        super().remove(queue)
        self.left.set()


async def test_a_watch_ends_its_queue(node):
    node.context.changes = Watchers()
    call = node.executions.WatchExecutions(Api.WatchExecutionsRequest(parent="namespaces/-/jobs/-"))
    await call.initial_metadata()
    assert len(node.context.changes) == 1
    call.cancel()
    async with asyncio.timeout(60):
        await node.context.changes.left.wait()
    assert not node.context.changes


def test_a_slow_watcher_loses_changes_and_hears_how_many():
    queue = ChangeQueue()
    for position in range(210):
        queue.put_nowait([position, position % 7])
    numbers, dropped = queue.take()
    assert numbers[:3] == [0, 1, 2]
    assert len(numbers) == len(set(numbers))
    assert dropped == 20
    assert queue.take() == ([], 0)
