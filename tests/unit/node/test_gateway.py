"""The gateway: what a session is told when its worker comes back, and what of the workers' words goes into the log."""

from __future__ import annotations

import pytest
from google.protobuf.struct_pb2 import Value
from service_harness import FakeNode, interval_job, manual_job

from horologe.log.v1 import log_pb2
from horologe.node.gateway import ASSIGNMENT_BYTES_PER_MESSAGE, Gateway
from horologe.node.outcomes import OUTCOME_BYTES_PER_COMMAND, batches, pack_outcomes
from horologe.node.output_copies import OutputCopies
from horologe.node.outputs import OutputKey
from horologe.node.sessions import WorkerSession
from horologe.node.worker_service import _complaint
from horologe.raft.commands import COMMAND_BYTES_MAX
from horologe.raft.model import Effects
from horologe.v1 import job_service_pb2, secret_service_pb2, worker_pb2, worker_service_pb2

SUCCEEDED = worker_pb2.AttemptResult.OUTCOME_SUCCEEDED


def gateway_of(node: FakeNode) -> Gateway:
    copies = OutputCopies(node.context, node.outputs, node.peers.__getitem__)
    return Gateway(node.context, node.outputs, copies)


async def create_job(node: FakeNode) -> None:
    await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="tick", job=interval_job()))


async def test_a_cancellation_during_a_break_of_the_stream_is_said_again(node):
    await create_job(node)
    number = node.fire(1, node.open_session())
    node.apply(log_pb2.Command(cancel_execution=log_pb2.CancelExecution(execution=number)))
    session = WorkerSession(node.open_session(), "w1")
    token = node.execution(number).token
    held = worker_pb2.AttemptId(execution=number, attempt=1, fencing_token=token)
    assert await gateway_of(node).open(session, [held]) == []
    (message,) = session.outgoing
    assert list(message.cancellation.attempts) == [held]


async def test_output_under_made_up_numbers_stops_nobody(node):
    await create_job(node)
    number = node.fire(1, node.open_session())
    session = WorkerSession(node.open_session(), "w1")
    gateway = gateway_of(node)
    await gateway.open(session, [])
    token = node.execution(number).token
    chunk = worker_pb2.OutputChunk(execution=number, attempt=-7, fencing_token=token, stream=1, data=b"kept")
    gateway.output(session, chunk)
    chunk.sequence, chunk.stream = 1, 300
    gateway.output(session, chunk)
    result = worker_pb2.AttemptResult(execution=number, attempt=1, fencing_token=token, outcome=SUCCEEDED)
    gateway.results(session, worker_pb2.AttemptResults(results=[result]))
    await gateway.drained()
    assert session.outgoing[-1].result_acks.recorded[0].execution == number
    assert node.outputs.read_batch(OutputKey(number, 1, node.execution(number).assign_ms)) == [(0, 1, b"kept", False)]


def test_outcomes_that_say_much_are_split_into_commands_that_fit():
    session = WorkerSession(1, "w1")
    results = [
        worker_pb2.AttemptResult(execution=number, attempt=1, fencing_token=1, outcome=SUCCEEDED, error="x" * 4_000)
        for number in range(1, 1_001)
    ]
    results[500].result.string_value = "y" * 10 * OUTCOME_BYTES_PER_COMMAND
    reported = [(session, result, None) for result in results]
    made = list(batches(reported))
    assert [entry for batch in made for entry in batch] == reported
    assert len(made) < 20
    for batch in made:
        command = log_pb2.Command(complete=pack_outcomes(batch, [0] * len(batch)))
        assert command.ByteSize() < COMMAND_BYTES_MAX
    assert list(batches([])) == []


def test_a_result_that_json_cannot_say_is_dropped_alone():
    result = worker_pb2.AttemptResult(execution=1, attempt=1, fencing_token=1, outcome=SUCCEEDED)
    result.result.CopyFrom(Value(number_value=float("nan")))
    command = pack_outcomes([(WorkerSession(1, "w1"), result, None)], [0])
    assert not command.details[0].HasField("result")
    assert command.details[0].error.startswith("the result is not JSON and was dropped: ")


def test_a_hello_that_would_not_fit_a_command_is_refused():
    hello = worker_pb2.Hello(worker="w1", incarnation="a", slot_count=1, protocol_version=1)
    first = worker_service_pb2.ConnectRequest(hello=hello)
    assert _complaint(first) is None
    first.hello.labels["a"] = "b" * 257
    assert "hello.labels" in (_complaint(first) or "")
    first.hello.labels.clear()
    first.hello.labels.update({str(number): "" for number in range(65)})
    assert "hello.labels" in (_complaint(first) or "")
    first.hello.labels.clear()
    first.hello.version = "1" * 65
    assert "hello.version" in (_complaint(first) or "")


@pytest.mark.parametrize("queue", ["", "q\0gpu=1", "q\n", "-", "x" * 65])
def test_a_queue_that_no_job_can_have_is_refused(queue):
    first = worker_service_pb2.ConnectRequest()
    first.hello.CopyFrom(
        worker_pb2.Hello(worker="w1", incarnation="a", slot_count=1, queues=["good", queue], protocol_version=1)
    )
    assert "hello.queues: at most 100, each of 1 to 64 letters" in (_complaint(first) or "")


def test_held_attempts_of_executions_that_cannot_be_are_refused():
    hello = worker_pb2.Hello(worker="w1", incarnation="a", slot_count=1, protocol_version=1)
    hello.held_attempts.add(execution=-1, attempt=1, fencing_token=1)
    assert "below 1" in (_complaint(worker_service_pb2.ConnectRequest(hello=hello)) or "")


# Secrets


async def set_secret(node: FakeNode, value: str, id_: str = "db") -> None:
    name = f"namespaces/default/secrets/{id_}"
    await node.secrets.SetSecret(secret_service_pb2.SetSecretRequest(name=name, value=value.encode()))


async def create_job_with_secrets(node: FakeNode, job_id: str = "tick", *ids: str) -> None:
    job = manual_job()
    job.action.shell.env["A"] = "".join(f"{{{{ secrets.{id_} }}}}" for id_ in ids or ("db",))
    await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id=job_id, job=job))


async def run_job(node: FakeNode, session: int, job_id: str = "tick") -> int:
    request = job_service_pb2.RunJobRequest(name=f"namespaces/default/jobs/{job_id}", force=True)
    number = int((await node.jobs.RunJob(request)).execution.name.rpartition("/")[2])
    node.assign(number, session)
    return number


def assignments_in(session: WorkerSession) -> list[worker_pb2.Assignment]:
    return [each for message in session.outgoing for each in message.assignments.assignments]


async def test_secrets_go_to_the_session_that_holds_the_assignment_and_to_no_other(node):
    await set_secret(node, "hush")
    await create_job_with_secrets(node)
    mine, other = (WorkerSession(node.open_session(worker), worker) for worker in ("w1", "w2"))
    gateway = gateway_of(node)
    await gateway.open(mine, [])
    await gateway.open(other, [])
    number = await run_job(node, mine.number)
    execution = node.execution(number)
    effects = Effects(assigned=[(mine.number, number, 1, 1, execution.due_ms, execution.token, execution.flags)])
    gateway.deliver(effects)
    (assignment,) = assignments_in(mine)
    assert dict(assignment.secrets) == {"db": "hush"}
    assert not other.outgoing
    definition = mine.outgoing[0].assignments.definitions[0]
    assert definition.action.shell.env["A"] == "{{ secrets.db }}", "workers render"


async def test_an_attempt_that_is_sent_again_comes_with_the_secrets_as_they_are_now(node):
    await set_secret(node, "old")
    await create_job_with_secrets(node)
    session = WorkerSession(node.open_session(), "w1")
    await run_job(node, session.number)
    await gateway_of(node).open(session, [])
    await set_secret(node, "new")
    again = WorkerSession(session.number, "w1")
    gateway = gateway_of(node)
    await gateway.open(again, [])
    assert [dict(one.secrets) for one in assignments_in(session) + assignments_in(again)] == [
        {"db": "old"},
        {"db": "new"},
    ]
    again.attempts.clear()
    gateway.resync()
    assert dict(assignments_in(again)[-1].secrets) == {"db": "new"}


def definitions_in(session: WorkerSession) -> list[worker_pb2.Definition]:
    return [each for message in session.outgoing for each in message.assignments.definitions]


async def test_a_definition_is_sent_once_and_again_when_the_job_has_changed(node):
    job = (await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="tick", job=manual_job()))).job
    session = WorkerSession(node.open_session(), "w1")
    gateway = gateway_of(node)

    async def run() -> None:
        number = await run_job(node, session.number)
        execution = node.execution(number)
        assigned = (session.number, number, 1, 1, execution.due_ms, execution.token, execution.flags)
        gateway.deliver(Effects(assigned=[assigned]))

    await gateway.open(session, [])
    await run()
    await run()
    assert [definition.etag for definition in definitions_in(session)] == [job.etag]
    job.labels["team"] = "b"
    changed = (await node.jobs.UpdateJob(job_service_pb2.UpdateJobRequest(job=job))).job
    gateway.deliver(Effects(jobs_changed=[1]))
    await run()
    await run()
    assert [definition.etag for definition in definitions_in(session)] == [job.etag, changed.etag]
    assert len(assignments_in(session)) == 4


async def test_a_job_that_names_a_secret_only_now_gets_it(node):
    await set_secret(node, "hush")
    job = (await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="tick", job=manual_job()))).job
    session = WorkerSession(node.open_session(), "w1")
    gateway = gateway_of(node)
    await run_job(node, session.number)
    await gateway.open(session, [])
    job.action.shell.env["A"] = "{{ secrets.db }}"
    await node.jobs.UpdateJob(job_service_pb2.UpdateJobRequest(job=job))
    gateway.deliver(Effects(jobs_changed=[1]))
    for _ in range(2):
        session.attempts.clear()
        await run_job(node, session.number)
        gateway.resync()
    assert [dict(one.secrets) for one in assignments_in(session)][1:] == [{"db": "hush"}] * 5


async def test_as_many_jobs_are_remembered_as_may_be(node, monkeypatch):
    monkeypatch.setattr("horologe.node.gateway.PLAIN_JOBS_MAX", 1)
    for job_id in ("tick", "tock"):
        await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id=job_id, job=manual_job()))
    session = WorkerSession(node.open_session(), "w1")
    gateway = gateway_of(node)
    for job_id in ("tick", "tock", "tick", "tick"):
        await run_job(node, session.number, job_id)
    await gateway.open(session, [])
    assert len(gateway._plain_revisions) == 1
    assert (len(definitions_in(session)), len(assignments_in(session))) == (2, 4)


async def test_after_the_state_was_replaced_jobs_are_looked_at_anew(node):
    """A state that was fetched holds changes of which no entry has told here."""
    job = (await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="tick", job=manual_job()))).job
    session = WorkerSession(node.open_session(), "w1")
    gateway = gateway_of(node)
    await run_job(node, session.number)
    await gateway.open(session, [])
    job.labels["team"] = "b"
    changed = (await node.jobs.UpdateJob(job_service_pb2.UpdateJobRequest(job=job))).job
    await run_job(node, session.number)
    node.store.replacements += 1
    gateway.resync()
    assert [definition.etag for definition in definitions_in(session)] == [job.etag, changed.etag]


async def test_a_job_that_names_no_secret_gets_none(node):
    await set_secret(node, "hush")
    await create_job(node)
    session = WorkerSession(node.open_session(), "w1")
    node.fire(1, session.number)
    await gateway_of(node).open(session, [])
    assert not assignments_in(session)[0].secrets


async def test_what_is_left_of_a_deleted_job_goes_out_without_the_secret_that_is_gone(node):
    for id_ in ("db", "api"):
        await set_secret(node, id_, id_)
    await create_job_with_secrets(node, "tick", "db", "api")
    session = WorkerSession(node.open_session(), "w1")
    await run_job(node, session.number)
    await node.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(name="namespaces/default/jobs/tick"))
    gone = secret_service_pb2.DeleteSecretRequest(name="namespaces/default/secrets/db")
    await node.secrets.DeleteSecret(gone)
    await gateway_of(node).open(session, [])
    assert dict(assignments_in(session)[0].secrets) == {"api": "api"}


async def test_secrets_count_for_the_size_of_a_message(node):
    ids = [f"s{number}" for number in range(10)]
    for id_ in ids:
        await set_secret(node, "x" * 60_000, id_)
    await create_job_with_secrets(node, "tick", *ids)
    session = WorkerSession(node.open_session(), "w1")
    for _ in range(4):
        await run_job(node, session.number)
    await gateway_of(node).open(session, [])
    sizes = [message.ByteSize() for message in session.outgoing]
    assert [len(message.assignments.assignments) for message in session.outgoing] == [2, 2]
    assert max(sizes) < ASSIGNMENT_BYTES_PER_MESSAGE + 700_000
