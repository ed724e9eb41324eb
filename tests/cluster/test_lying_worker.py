"""Workers with certificates that lie, on a secure node: what they say is refused, and the audit log names them for it."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import grpc
import grpc.aio
import pytest
from rude_worker import Request, RudeWorker, attempt_id
from support.governed_node import GovernedNode, governed_node

from horologe.chaos.cluster import eventually
from horologe.node import worker_service
from horologe.node.conduct import RESULTS_PER_MESSAGE_MAX
from horologe.v1 import (
    access_service_pb2,
    access_service_pb2_grpc,
    execution_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    output_service_pb2,
    output_service_pb2_grpc,
    secret_service_pb2,
    secret_service_pb2_grpc,
    worker_pb2,
)

GIBIBYTE = 1 << 30


async def test_a_worker_that_lies_is_refused_and_named(tmp_path: Path) -> None:
    async with governed_node(tmp_path) as here:
        admin = (("authorization", f"Bearer {here.admin}"),)
        jobs = job_service_pb2_grpc.JobServiceStub(here.channel)
        job = job_pb2.Job(queue="work")
        job.schedules.add().manual.SetInParent()
        job.action.shell.argv.append("true")
        await jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="a", job=job), metadata=admin)
        run = job_service_pb2.RunJobRequest(name="namespaces/default/jobs/a")
        execution = (await jobs.RunJob(run, metadata=admin)).execution.name
        address = here.config.worker_listen
        honest, liar = here.worker_credentials("honest", "work"), here.worker_credentials("liar", "other")
        async with RudeWorker(address, "honest", queue="work", renews=True, credentials=honest) as good:
            assignment = await good.take_assignment()
            held = [attempt_id(assignment)]
            async with RudeWorker(address, "liar", queue="other", renews=True, held=held, credentials=liar) as bad:
                assert list(bad.welcome.revoked_attempts) == held
                # Another one's attempt, under its own token.
                assert (await bad.report(assignment)).lease_lost
                chunk = worker_pb2.OutputChunk(
                    execution=assignment.execution, fencing_token=assignment.fencing_token, stream=1, data=b"false"
                )
                await bad.send(Request(output=chunk))
                # What nobody was ever given.
                assert (await bad.report(assignment, token=1 << 40)).lease_lost
                # A second hello ends the stream.
                await bad.send(Request(hello=worker_pb2.Hello(worker="honest")))
                assert "hello comes once" in (await bad.read("go_away")).go_away.reason
            executions = execution_service_pb2_grpc.ExecutionServiceStub(here.channel)
            get = execution_service_pb2.GetExecutionRequest(name=execution)
            found = (await executions.GetExecution(get, metadata=admin)).execution
            assert found.state == execution_pb2.Execution.STATE_RUNNING
            assert (await good.report(assignment)).recorded
            refused = [record for record in await here.refusals() if record.method == "WorkerService.Connect"]
            assert {record.principal for record in refused} == {"worker:liar"}
            assert {record.reason for record in refused} == {
                "FOREIGN_ATTEMPT",
                "FOREIGN_RESULT",
                "FOREIGN_OUTPUT",
                "UNEXPECTED_MESSAGE",
            }
            assert all(record.certificate and record.source == "127.0.0.1" for record in refused)


async def test_a_name_and_queues_that_the_certificate_does_not_bear_out(tmp_path: Path) -> None:
    async with governed_node(tmp_path) as here:
        liar = here.worker_credentials("liar", "work")
        for name, queue in (("honest", "work"), ("liar", "default")):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                async with RudeWorker(here.config.worker_listen, name, queue=queue, credentials=liar):
                    raise AssertionError("it has a session")
            assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
        # Without a certificate nobody gets as far as to say hello, on either port.
        for credentials in (None, grpc.ssl_channel_credentials((tmp_path / "data" / "tls" / "ca.pem").read_bytes())):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                async with RudeWorker(here.config.worker_listen, "liar", queue="work", credentials=credentials):
                    raise AssertionError("it has a session")
            assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
        records = {(record.principal, record.reason, *record.objects) for record in await here.refusals()}
        assert ("worker:liar", "FALSE_NAME", "workers/honest") in records
        assert ("worker:liar", "FALSE_NAME", "workers/liar") in records


async def test_a_worker_reads_nothing_of_others(tmp_path: Path) -> None:
    async with governed_node(tmp_path) as here:
        admin = (("authorization", f"Bearer {here.admin}"),)
        job = job_pb2.Job(queue="work")
        job.schedules.add().manual.SetInParent()
        job.action.shell.argv.append("true")
        jobs = job_service_pb2_grpc.JobServiceStub(here.channel)
        await jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="a", job=job), metadata=admin)
        name = (
            await jobs.RunJob(job_service_pb2.RunJobRequest(name="namespaces/default/jobs/a"), metadata=admin)
        ).execution.name
        liar = here.worker_credentials("liar", "other")
        async with grpc.aio.secure_channel(here.config.worker_listen, liar) as channel:
            calls = (
                job_service_pb2_grpc.JobServiceStub(channel).GetJob(
                    job_service_pb2.GetJobRequest(name="namespaces/default/jobs/a")
                ),
                execution_service_pb2_grpc.ExecutionServiceStub(channel).GetExecution(
                    execution_service_pb2.GetExecutionRequest(name=name)
                ),
                output_service_pb2_grpc.OutputServiceStub(channel).SearchOutput(
                    output_service_pb2.SearchOutputRequest(parent="namespaces/default/jobs/a", text="x")
                ),
                secret_service_pb2_grpc.SecretServiceStub(channel).ListSecrets(
                    secret_service_pb2.ListSecretsRequest(parent="namespaces/default")
                ),
            )
            for call in calls:
                with pytest.raises(grpc.aio.AioRpcError) as refusal:
                    await call
                assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
        refused = {(record.principal, record.method, record.reason) for record in await here.refusals()}
        assert refused == {
            ("worker:liar", method, "PERMISSION_DENIED")
            for method in (
                "JobService.GetJob",
                "ExecutionService.GetExecution",
                "OutputService.SearchOutput",
                "SecretService.ListSecrets",
            )
        }


async def test_a_worker_that_floods_is_slowed_down_and_named_and_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Less than in earnest: this process could not send as much as a node can read.
    monkeypatch.setattr(worker_service, "MESSAGES_PER_SECOND_MAX", 10.0)
    monkeypatch.setattr(worker_service, "MESSAGES_BURST", 100.0)
    async with governed_node(tmp_path) as here:
        liar = here.worker_credentials("liar", "other")
        async with RudeWorker(here.config.worker_listen, "liar", queue="other", credentials=liar) as bad:
            sequences = itertools.count(1)

            async def floods() -> bool:
                # On until it is too fast, whatever this machine takes for a message.
                for sequence in itertools.islice(sequences, 40):
                    await bad.send(Request(heartbeat=worker_pb2.Heartbeat(sequence=sequence)))
                return await _names(here, "FLOOD")

            await eventually(floods, 60, "the flood is in the audit log")
            access = access_service_pb2_grpc.AccessServiceStub(here.channel)
            admin = (("authorization", f"Bearer {here.admin}"),)
            assert (await access.WhoAmI(access_service_pb2.WhoAmIRequest(), metadata=admin)).principal == "admin"
            many = [worker_pb2.AttemptResult(execution=1, attempt=1)] * (RESULTS_PER_MESSAGE_MAX + 1)
            await bad.send(Request(results=worker_pb2.AttemptResults(results=many)))
            assert "results in one message" in (await bad.read("go_away")).go_away.reason


async def test_a_gibibyte_in_one_message_reaches_nobody_and_is_named(tmp_path: Path) -> None:
    """gRPC refuses it by its announced length, before it comes to the node: nothing is kept, and the node goes on."""
    async with governed_node(tmp_path) as here:
        liar = here.worker_credentials("liar", "other")
        options = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.secure_channel(here.config.worker_listen, liar, options=options) as channel:
            call = channel.stream_stream("/horologe.v1.WorkerService/Connect", request_serializer=bytes)()
            hello = worker_pb2.Hello(worker="liar", incarnation="x", queues=["other"], slot_count=1, protocol_version=1)
            await call.write(Request(hello=hello).SerializeToString())
            await call.read()
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await call.write(bytes(GIBIBYTE))
                while await call.read() is not grpc.aio.EOF:
                    pass
            assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await eventually(lambda: _names(here, "BROKEN_OFF"), 60, "the broken stream is in the audit log")
        async with RudeWorker(here.config.worker_listen, "liar", queue="other", credentials=liar) as again:
            assert again.welcome.session > 1


async def test_a_gibibyte_in_parts_is_kept_nowhere_and_named(tmp_path: Path) -> None:
    async with governed_node(tmp_path) as here:
        liar = here.worker_credentials("liar", "other")
        async with RudeWorker(here.config.worker_listen, "liar", queue="other", credentials=liar) as bad:
            part = bytes(8 << 20)
            chunk = worker_pb2.OutputChunk(execution=1, fencing_token=1 << 40, stream=1, data=part)
            for number in range(1, GIBIBYTE // len(part) + 1):
                await bad.send(Request(output=chunk))
                # In turn: a stream takes one message at a time.
                await bad.send(Request(heartbeat=worker_pb2.Heartbeat(sequence=number)))
            await eventually(lambda: _names(here, "FOREIGN_OUTPUT"), 60, "the lie is in the audit log")
        assert sum(path.stat().st_size for path in here.config.data_dir.rglob("*") if path.is_file()) < len(part)


async def _names(here: GovernedNode, reason: str) -> bool:
    """Whether the liar, and nobody else, is accused of this, and of nothing else."""
    return {(record.principal, record.reason) for record in await here.refusals()} == {("worker:liar", reason)}


async def test_a_worker_that_is_shut_out_loses_its_stream_and_does_not_come_back(tmp_path: Path) -> None:
    async with governed_node(tmp_path) as here:
        stolen = here.worker_credentials("stolen", "work")
        address = here.config.worker_listen
        async with RudeWorker(address, "stolen", queue="work", renews=True, credentials=stolen) as worker:
            off = access_service_pb2.UpdatePrincipalRequest(name="worker:stolen", disabled=True)
            access = access_service_pb2_grpc.AccessServiceStub(here.channel)
            await access.UpdatePrincipal(off, metadata=(("authorization", f"Bearer {here.admin}"),))
            async with asyncio.timeout(60):
                with pytest.raises(grpc.aio.AioRpcError) as refusal:
                    await worker.read("go_away")
            assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            async with RudeWorker(address, "stolen", queue="work", credentials=stolen):
                raise AssertionError("it has a session")
        assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
