"""DeadLetterService and OperationService over gRPC: dead letters one by one, in groups, and worked on together."""

from __future__ import annotations

import uuid

import grpc
import pytest
from google.protobuf.struct_pb2 import Value
from service_harness import FakeNode, interval_job, refused

from horologe.log.v1 import log_pb2
from horologe.node.catalog import Catalog
from horologe.node.fingerprints import fingerprint_of
from horologe.node.operations_planner import OperationsPlanner
from horologe.raft.commands import NO_RETRY, Outcome
from horologe.raft.failures import Failure
from horologe.raft.model import ExecutionFlag
from horologe.v1 import dead_letter_service_pb2 as api
from horologe.v1 import execution_pb2, job_service_pb2, operation_pb2
from horologe.v1 import operation_service_pb2 as operations

State = execution_pb2.Execution
PARENT = "namespaces/default"
TICK, TOCK = f"{PARENT}/jobs/tick", f"{PARENT}/jobs/tock"


async def create(node: FakeNode, job_id: str = "tick", parent: str = PARENT) -> None:
    job = interval_job()
    job.action.python.handler = "h"
    job.action.python.payload.CopyFrom(Value(string_value=job_id))
    request = job_service_pb2.CreateJobRequest(parent=parent, job_id=job_id, job=job)
    await node.jobs.CreateJob(request)


def die(node: FakeNode, job: int, error: str) -> int:
    """The next execution of a job ends DEAD with this error."""
    number = node.fire(job, node.open_session())
    node.clock.now_ms += 1
    fingerprint = fingerprint_of(Failure(""), error)
    node.complete(number, Outcome.FAILED, retry_delay_ms=NO_RETRY, error=error, fingerprint=fingerprint)
    return number


def work(node: FakeNode) -> int:
    """Lets the planner step the operations until nothing is left to do now; answers how many pieces that took."""
    planner = OperationsPlanner(Catalog())
    pieces = 0
    while True:
        with node.store.read() as tables:
            planner.lead(tables)
            steps = planner.steps(tables, node.clock.now_ms)
        if not steps:
            return pieces
        pieces += len(steps)
        node.apply(log_pb2.Command(plan=log_pb2.Plan(operation_steps=steps)))


async def numbers(node: FakeNode, page_size: int = 0, **fields) -> list[int]:
    found: list[int] = []
    token = ""
    while True:
        request = api.ListDeadLettersRequest(
            parent=PARENT, page_size=page_size, page_token=token, filter=api.DeadLetterFilter(**fields)
        )
        answer = await node.dead_letters.ListDeadLetters(request)
        found += [int(one.execution.name.rpartition("/")[2]) for one in answer.dead_letters]
        token = answer.next_page_token
        if not token:
            return found


async def operation(node: FakeNode, number: int = 1) -> operation_pb2.Operation:
    name = f"namespaces/-/operations/{number}"
    return (await node.operations.GetOperation(operations.GetOperationRequest(name=name))).operation


async def test_dead_letters_are_listed_newest_first_and_filtered(node):
    await create(node)
    await create(node, "tock")
    await create(node, "tick", "namespaces/other")
    dead = [die(node, job, error) for job, error in ((1, "order 7"), (2, "disk full"), (1, "order 8"), (3, "order 9"))]
    times = [node.execution(number).end_ms for number in dead]
    assert await numbers(node) == [dead[2], dead[1], dead[0]]
    assert await numbers(node, page_size=1) == [dead[2], dead[1], dead[0]]
    assert await numbers(node, job=TICK) == [dead[2], dead[0]]
    order = f"{fingerprint_of(Failure(''), 'order 1'):016x}"
    assert await numbers(node, fingerprint=order, page_size=1) == [dead[2], dead[0]]
    since = api.DeadLetterFilter()
    since.start_time.FromMilliseconds(times[1])
    since.end_time.FromMilliseconds(times[2])
    assert await numbers(node, start_time=since.start_time, end_time=since.end_time) == [dead[1]]
    elsewhere = await node.dead_letters.ListDeadLetters(api.ListDeadLettersRequest(parent="namespaces/other"))
    assert [one.execution.name for one in elsewhere.dead_letters] == [
        f"namespaces/other/jobs/tick/executions/{dead[3]}"
    ]
    nowhere = await node.dead_letters.ListDeadLetters(api.ListDeadLettersRequest(parent="namespaces/nowhere"))
    assert not nowhere.dead_letters


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"fingerprint": "x" * 16}, "filter.fingerprint"),
        ({"fingerprint": "12"}, "filter.fingerprint"),
        ({"job": "tick"}, "filter.job"),
        ({"job": "namespaces/other/jobs/tick"}, "filter.job"),
    ],
)
async def test_wrong_filters(node, fields, wrong):
    assert wrong in (await refused(numbers(node, **fields))).fields


async def test_a_dead_letter_with_its_error_and_payload(node):
    await create(node)
    number = die(node, 1, "order 7 is broken")
    name = f"namespaces/-/jobs/-/executions/{number}"
    letter = (await node.dead_letters.GetDeadLetter(api.GetDeadLetterRequest(name=name))).dead_letter
    assert (letter.execution.state, letter.error) == (State.STATE_DEAD, "order 7 is broken")
    assert letter.fingerprint == f"{fingerprint_of(Failure(''), 'order 8 is broken'):016x}"
    assert letter.payload.string_value == "tick"
    assert [one.error for one in letter.execution.attempts] == ["order 7 is broken"]
    alive = node.fire(1)
    error = await refused(node.dead_letters.GetDeadLetter(api.GetDeadLetterRequest(name=f"{TICK}/executions/{alive}")))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "DEAD_LETTER_NOT_FOUND")


async def test_an_execution_whose_time_was_up_says_so(node):
    await create(node)
    number = node.fire(1, node.open_session())
    execution = node.execution(number)
    execution.flags |= ExecutionFlag.TIME_IS_UP
    node.store.tables.execution.put(number.to_bytes(8, "big"), execution.pack())
    node.store.tables.recent.executions.put(number, execution)
    node.complete(number, Outcome.CANCELLED, error="cancelled")
    request = api.GetDeadLetterRequest(name=f"{TICK}/executions/{number}")
    letter = (await node.dead_letters.GetDeadLetter(request)).dead_letter
    assert letter.error == "all attempts together took longer than the execution timeout"
    assert letter.fingerprint == "0000000000000003"
    assert [(one.state, one.error_kind) for one in letter.execution.attempts] == [
        (execution_pb2.Attempt.STATE_TIMED_OUT, "timeout")
    ]


async def test_groups_have_count_first_last_and_a_sample(node, monkeypatch):
    await create(node)
    dead = [die(node, 1, error) for error in ("order 1", "order 2", "disk full", "order 3")]
    answer = await node.dead_letters.ListDeadLetterGroups(api.ListDeadLetterGroupsRequest(parent=PARENT))
    assert not answer.incomplete
    assert [(group.count, group.sample.error) for group in answer.groups] == [(3, "order 3"), (1, "disk full")]
    first, last = node.execution(dead[0]).end_ms, node.execution(dead[3]).end_ms
    assert answer.groups[0].first_time.ToMilliseconds() == first
    assert answer.groups[0].last_time.ToMilliseconds() == last
    monkeypatch.setattr("horologe.node.dead_letter_reader.ROWS_COUNTED_MAX", 2)
    answer = await node.dead_letters.ListDeadLetterGroups(api.ListDeadLetterGroupsRequest(parent=PARENT))
    assert answer.incomplete
    assert sum(group.count for group in answer.groups) == 2


async def test_one_is_driven_again_with_another_payload(node):
    await create(node)
    number = die(node, 1, "order 7")
    name = f"{TICK}/executions/{number}"
    key = (await node.dead_letters.GetDeadLetter(api.GetDeadLetterRequest(name=name))).dead_letter.execution
    request = api.RedriveDeadLetterRequest(
        name=name, payload=Value(string_value="smaller"), request_id=str(uuid.uuid4())
    )
    again = (await node.dead_letters.RedriveDeadLetter(request)).execution
    assert (again.name, again.state, again.idempotency_key) == (name, State.STATE_QUEUED, key.idempotency_key)
    # The same request again has the same answer, and drives nothing.
    assert (await node.dead_letters.RedriveDeadLetter(request)).execution == again
    assert await numbers(node) == []
    error = await refused(node.dead_letters.RedriveDeadLetter(api.RedriveDeadLetterRequest(name=name)))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "DEAD_LETTER_NOT_FOUND")
    with node.store.read() as tables:
        detail = log_pb2.ExecutionRecord.FromString(tables.detail.get(number.to_bytes(8, "big")))
    assert detail.payload.string_value == "smaller"


async def test_dead_letters_of_deleted_jobs_are_not_driven_again(node):
    await create(node)
    number = die(node, 1, "order 7")
    await node.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(name=TICK))
    request = api.RedriveDeadLetterRequest(name=f"{TICK}/executions/{number}")
    error = await refused(node.dead_letters.RedriveDeadLetter(request))
    assert (error.reason, error.metadata) == ("JOB_NOT_FOUND", {"name": TICK})


async def test_one_is_purged_and_stays_in_the_history(node):
    await create(node)
    number = die(node, 1, "order 7")
    name = f"{TICK}/executions/{number}"
    await node.dead_letters.PurgeDeadLetter(api.PurgeDeadLetterRequest(name=name))
    assert await numbers(node) == []
    error = await refused(node.dead_letters.PurgeDeadLetter(api.PurgeDeadLetterRequest(name=name)))
    assert error.reason == "DEAD_LETTER_NOT_FOUND"
    assert node.execution(number).state == State.STATE_DEAD


async def test_all_that_fit_are_driven_again_by_an_operation(node):
    await create(node)
    await create(node, "tock")
    dead = [die(node, job, error) for job, error in ((1, "order 7"), (2, "order 8"), (1, "disk full"))]
    request = api.RedriveDeadLettersRequest(
        parent=PARENT, filter=api.DeadLetterFilter(job=TICK), rate=2, request_id=str(uuid.uuid4())
    )
    begun = (await node.dead_letters.RedriveDeadLetters(request)).operation
    assert (begun.kind, begun.state, begun.job) == (
        operation_pb2.Operation.KIND_REDRIVE,
        operation_pb2.Operation.STATE_RUNNING,
        TICK,
    )
    assert begun.description == "drive again all dead letters of one job at 2 a second"
    assert (await node.dead_letters.RedriveDeadLetters(request)).operation.name == begun.name
    work(node)
    # One now, the next one half a second later.
    assert await numbers(node) == [dead[2], dead[1]]
    node.clock.now_ms += 499
    work(node)
    assert await numbers(node) == [dead[2], dead[1]]
    node.clock.now_ms += 1
    work(node)
    node.clock.now_ms += 500
    work(node)
    assert await numbers(node) == [dead[1]]
    done = await operation(node)
    assert (done.state, done.done_count) == (operation_pb2.Operation.STATE_DONE, 2)
    assert done.HasField("end_time")


async def test_chosen_ones_are_purged_by_an_operation(node):
    await create(node)
    dead = [die(node, 1, "order 7") for _ in range(3)]
    chosen = [f"{TICK}/executions/{number}" for number in (dead[0], dead[2], dead[0])]
    request = api.PurgeDeadLettersRequest(parent=PARENT, names=chosen)
    begun = (await node.dead_letters.PurgeDeadLetters(request)).operation
    assert (begun.total_count, begun.description) == (2, "purge 2 chosen dead letters")
    work(node)
    assert await numbers(node) == [dead[1]]


async def test_what_operations_on_dead_letters_refuse(node):
    await create(node, parent="namespaces/other")
    number = die(node, 1, "order 7")
    name = f"namespaces/other/jobs/tick/executions/{number}"
    for request, field in (
        (api.RedriveDeadLettersRequest(parent=PARENT, names=[name]), "names[0]"),
        (api.RedriveDeadLettersRequest(parent=PARENT, names=[name] * 1_001), "names"),
        (api.RedriveDeadLettersRequest(parent=PARENT, rate=-1), "rate"),
        (api.RedriveDeadLettersRequest(parent=PARENT, rate=float("nan")), "rate"),
        (api.RedriveDeadLettersRequest(parent=PARENT, rate=1e-300), "rate"),
        (api.RedriveDeadLettersRequest(parent=PARENT, rate=float("inf")), "rate"),
        (
            api.RedriveDeadLettersRequest(
                parent="namespaces/other", names=[name], filter=api.DeadLetterFilter(fingerprint="0" * 16)
            ),
            "filter",
        ),
    ):
        assert field in (await refused(node.dead_letters.RedriveDeadLetters(request))).fields


async def test_operations_are_listed_and_cancelled(node):
    await create(node)
    for _ in range(3):
        die(node, 1, "order 7")
    for parent in (PARENT, "namespaces/other", PARENT):
        await node.dead_letters.RedriveDeadLetters(api.RedriveDeadLettersRequest(parent=parent, rate=0.001))
    work(node)
    listed = await node.operations.ListOperations(operations.ListOperationsRequest(parent="namespaces/-"))
    assert [one.name for one in listed.operations] == [
        f"{PARENT}/operations/3",
        "namespaces/other/operations/2",
        f"{PARENT}/operations/1",
    ]
    listed = await node.operations.ListOperations(operations.ListOperationsRequest(parent=PARENT, page_size=1))
    assert [one.name for one in listed.operations] == [f"{PARENT}/operations/3"]
    following = operations.ListOperationsRequest(parent=PARENT, page_size=1, page_token=listed.next_page_token)
    listed = await node.operations.ListOperations(following)
    assert [one.name for one in listed.operations] == [f"{PARENT}/operations/1"]
    request = operations.CancelOperationRequest(name=f"{PARENT}/operations/1", reason="enough")
    cancelled = (await node.operations.CancelOperation(request)).operation
    assert (cancelled.state, cancelled.reason) == (operation_pb2.Operation.STATE_CANCELLED, "enough")
    error = await refused(node.operations.CancelOperation(request))
    assert (error.reason, error.metadata) == ("OPERATION_FINISHED", {"state": "CANCELLED"})
    for name in (f"{PARENT}/operations/9", "namespaces/other/operations/1"):
        error = await refused(node.operations.GetOperation(operations.GetOperationRequest(name=name)))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "OPERATION_NOT_FOUND")
    for name in ("operations/1", f"{PARENT}/operations/one", "namespaces/A/operations/1"):
        assert "name" in (await refused(node.operations.GetOperation(operations.GetOperationRequest(name=name)))).fields
