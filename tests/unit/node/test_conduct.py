"""Workers that lie: what can only be a lie is named, what may be late is not, and the gateway refuses either."""

from __future__ import annotations

import pytest
from secure_harness import SecureNode
from service_harness import interval_job

from horologe.node.callers import Caller, CallerKind
from horologe.node.conduct import ACCUSATIONS_BURST, Offence, is_lie
from horologe.node.gateway import Gateway
from horologe.node.output_copies import OutputCopies
from horologe.node.sessions import WorkerSession
from horologe.raft.commands import Outcome
from horologe.v1 import job_service_pb2, worker_pb2

SUCCEEDED = worker_pb2.AttemptResult.OUTCOME_SUCCEEDED


@pytest.fixture
async def node(tmp_path):
    """With an execution that runs on the worker `honest`, and a session of the worker `liar`."""
    async with SecureNode(tmp_path).serve() as node:
        admin = (("authorization", f"Bearer {node.admin}"),)
        for name in ("a", "b"):
            request = job_service_pb2.CreateJobRequest(job_id=name, job=interval_job())
            await node.jobs.CreateJob(request, metadata=admin)
        copies = OutputCopies(node.context, node.outputs, node.peers.__getitem__)
        node.gateway = Gateway(node.context, node.outputs, copies, node.denials.note)
        node.number = node.fire(1, node.open_session("honest"))
        node.held = attempt_of(node, node.number)
        caller = Caller(CallerKind.WORKER, "worker:liar", "certificate", method="WorkerService.Connect")
        node.session = WorkerSession(node.open_session("liar"), "liar", caller)
        yield node


def attempt_of(node: SecureNode, number: int) -> worker_pb2.AttemptId:
    execution = node.execution(number)
    return worker_pb2.AttemptId(execution=number, attempt=execution.attempt, fencing_token=execution.token)


def lies(node: SecureNode, worker: str, attempt: worker_pb2.AttemptId) -> bool:
    with node.store.read() as tables:
        return is_lie(tables, worker, attempt)


async def report(node: SecureNode, attempt: worker_pb2.AttemptId) -> worker_pb2.ResultAcks:
    result = worker_pb2.AttemptResult(
        execution=attempt.execution, attempt=attempt.attempt, fencing_token=attempt.fencing_token, outcome=SUCCEEDED
    )
    node.gateway.results(node.session, worker_pb2.AttemptResults(results=[result]))
    await node.gateway.drained()
    return node.session.outgoing[-1].result_acks


async def test_the_attempt_of_another_worker_is_refused_and_named(node):
    await node.gateway.open(node.session, [])
    state = node.execution(node.number)
    assert (await report(node, node.held)).lease_lost == [node.held]
    assert node.execution(node.number) == state
    [record] = await node.denied()
    assert (record.principal, record.method, record.reason) == (
        "worker:liar",
        "WorkerService.Connect",
        "FOREIGN_RESULT",
    )
    assert list(record.objects) == [f"namespaces/-/jobs/-/executions/{node.number}"]


async def test_its_output_is_dropped_and_named(node):
    await node.gateway.open(node.session, [])
    for sequence in range(3):
        node.gateway.output(
            node.session,
            worker_pb2.OutputChunk(
                execution=node.number, fencing_token=node.held.fencing_token, stream=1, sequence=sequence, data=b"false"
            ),
        )
    [record] = await node.denied()
    assert (record.principal, record.reason, record.repeat_count) == ("worker:liar", "FOREIGN_OUTPUT", 3)


async def test_a_worker_that_comes_back_with_it_is_named(node):
    assert await node.gateway.open(node.session, [node.held]) == [node.held]
    assert [record.reason for record in await node.denied()] == ["FOREIGN_ATTEMPT"]
    assert node.session.attempts == {}


async def test_what_is_late_is_refused_and_is_no_lie(node):
    """Its own attempt, which ended meanwhile: a lease that ran out, or a result that came twice."""
    await node.gateway.open(node.session, [])
    mine = node.fire(2, node.session.number)
    late = attempt_of(node, mine)
    assert not lies(node, "liar", late)
    node.complete(mine, Outcome.FAILED, retry_delay_ms=1_000, error="broken")
    assert not lies(node, "liar", late)
    await report(node, late)
    node.fire(2, node.open_session("honest"))
    assert not lies(node, "liar", late)
    assert await node.denied() == []


async def test_a_past_attempt_of_another_worker_is_a_lie(node):
    node.complete(node.number, Outcome.FAILED, retry_delay_ms=1_000, error="broken")
    assert lies(node, "liar", node.held)
    assert not lies(node, "honest", node.held)


@pytest.mark.parametrize(("execution", "token", "is_one"), [(10**6, 1, True), (1, 10**9, True), (1, 1, False)])
async def test_numbers_that_nobody_was_given(node, execution, token, is_one):
    attempt = worker_pb2.AttemptId(execution=execution, attempt=1, fencing_token=token)
    assert lies(node, "liar", attempt) is is_one


async def test_impossible_numbers_are_refused_and_named(node):
    await node.gateway.open(node.session, [])
    impossible = worker_pb2.AttemptId(execution=-1, attempt=1, fencing_token=1)
    assert (await report(node, impossible)).lease_lost == [impossible]
    assert [record.reason for record in await node.denied()] == ["IMPOSSIBLE_NUMBERS"]


async def test_whoever_lies_all_the_time_fills_no_log(node):
    conduct = node.gateway.conduct
    for number in range(1_000):
        conduct.accuse(node.session.caller, "liar", Offence.FOREIGN_RESULT, [f"execution {number}"])
    records = await node.denied()
    assert len(records) == ACCUSATIONS_BURST + 1
    assert sum(record.repeat_count for record in records) == conduct.offence_count == 1_000


async def test_without_security_nobody_is_named(node):
    node.gateway = Gateway(node.context, node.outputs, OutputCopies(node.context, node.outputs, node.peers.get))
    await node.gateway.open(node.session, [])
    assert (await report(node, node.held)).lease_lost == [node.held]
    assert await node.denied() == []
    assert node.gateway.conduct.offence_count == 1
