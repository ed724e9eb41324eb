"""Who calls: tokens that hold and tokens that do not, certificates, and the ends of streams."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from secure_harness import DAY_MS, Role, SecureNode, bearer, certificate
from service_harness import FakeNode, Refusal, interval_job, refused

from horologe.chaos.cluster import eventually
from horologe.log.v1 import log_pb2
from horologe.node import tokens
from horologe.node.authentication import FAILURES_BURST, source_of
from horologe.node.callers import Caller, CallerKind
from horologe.node.open_streams import STREAMS_PER_PRINCIPAL_MAX
from horologe.v1 import access_service_pb2, cluster_service_pb2, job_service_pb2, watch_service_pb2

WHO = access_service_pb2.WhoAmIRequest()
UNKNOWN = "the cluster does not know who calls"


@pytest.fixture
async def node(tmp_path):
    async with SecureNode(tmp_path).serve() as node:
        yield node


async def test_a_token_says_who_calls(node):
    answer = await node.access.WhoAmI(WHO, metadata=bearer(node.admin))
    assert (answer.principal, answer.method) == ("admin", "token")
    assert [(grant.namespace, grant.role) for grant in answer.grants] == [("*", Role.ROLE_ADMIN)]
    assert answer.token.name == f"tokens/{node.admin.split('_')[1]}"


async def test_the_first_token_works_for_thirty_days(node):
    node.clock.now_ms += 30 * DAY_MS - 1
    assert await node.access.WhoAmI(WHO, metadata=bearer(node.admin))
    node.clock.now_ms += 1
    assert (await refused(node.access.WhoAmI(WHO, metadata=bearer(node.admin)))).reason == "UNAUTHENTICATED"


async def test_all_that_proves_nothing_gets_one_answer(node):
    """It never says what was wrong, and none of it goes into the audit log but the token's id."""
    revoked = node.token("ann")
    node.revoke(revoked)
    expired = node.token("ann", life_ms=1_000)
    disabled = node.token("bob")
    node.by_admin(log_pb2.Command(set_principal=log_pb2.SetPrincipal(name="bob", disabled=True)))
    node.clock.now_ms += 1_000
    id_ = node.admin.split("_")[1]
    wrong_secret = f"hlg_{id_}_{tokens.make()[1].split('_', 2)[2]}"
    cases = {
        "nothing": (),
        "another scheme": (("authorization", "Basic YWRtaW46YWRtaW4="),),
        "no token": bearer("hlg_"),
        "an unknown token": bearer(tokens.make()[1]),
        "a wrong secret": bearer(wrong_secret),
        "a revoked one": bearer(revoked),
        "an expired one": bearer(expired),
        "of a disabled principal": bearer(disabled),
        "no JWT is known here": bearer("eyJhbGciOiJub25lIn0.e30."),
        "two at once": (*bearer(node.admin), *bearer(node.admin)),
        "a broken one beside a certificate": (*bearer("hlg_"), *certificate("client", "carl")),
    }
    texts = set()
    for case, metadata in cases.items():
        refusal = await refused(node.access.WhoAmI(WHO, metadata=metadata))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"), case
        texts.add(refusal.text)
    assert len(texts) == 1 and texts.pop().startswith(UNKNOWN)
    records = await node.denied()
    assert {record.principal for record in records} == {""}
    assert {record.method for record in records} == {"AccessService.WhoAmI"}
    assert {record.source for record in records} == {"127.0.0.1"}
    assert {revoked.split("_")[1], expired.split("_")[1], id_} <= {record.token for record in records}
    written = b"".join(command.SerializeToString() for command in node.commands)
    for token in (revoked, expired, wrong_secret, node.admin):
        assert token.split("_", 2)[2].encode() not in written


async def test_health_is_for_everybody_and_reflection_is_not(node):
    stub = health_pb2_grpc.HealthStub(node.channel)
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    reflect = reflection_pb2_grpc.ServerReflectionStub(node.channel).ServerReflectionInfo
    call = reflect(metadata=())
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        # The refusal may be there before the question is.
        await call.write(question)
        await call.read()
    assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
    call = reflect(metadata=node.somebody("ann", Role.ROLE_VIEWER))
    await call.write(question)
    assert (await call.read()).list_services_response.service


async def test_certificates_are_principals_of_their_own(node):
    node.grant("carl", "default", Role.ROLE_VIEWER)
    answer = await node.access.WhoAmI(WHO, metadata=certificate("client", "carl"))
    assert (answer.principal, answer.method) == ("carl", "certificate")
    for role in ("worker", "node"):
        answer = await node.access.WhoAmI(WHO, metadata=certificate(role, "carl"))
        assert answer.principal == f"{role}:carl"
        job = job_service_pb2.ListJobsRequest(parent="namespaces/default")
        assert (
            await refused(node.jobs.ListJobs(job, metadata=certificate(role, "carl")))
        ).reason == "PERMISSION_DENIED"


async def test_a_workers_certificate_is_shut_out_although_nobody_gave_it_rights(node):
    stolen = certificate("worker", "w1")
    assert (await node.access.WhoAmI(WHO, metadata=stolen)).principal == "worker:w1"
    node.by_admin(log_pb2.Command(set_principal=log_pb2.SetPrincipal(name="worker:w1", disabled=True)))
    assert (await refused(node.access.WhoAmI(WHO, metadata=stolen))).reason == "UNAUTHENTICATED"
    assert (await refused(node.workers.Connect(metadata=stolen).read())).reason == "UNAUTHENTICATED"
    assert await node.access.WhoAmI(WHO, metadata=certificate("worker", "w2"))


async def test_a_token_counts_before_a_certificate(node):
    answer = await node.access.WhoAmI(WHO, metadata=(*bearer(node.admin), *certificate("client", "carl")))
    assert answer.principal == "admin"


async def test_what_is_written_has_the_principal_as_its_author(node):
    ann = node.somebody("ann", Role.ROLE_EDITOR)
    job = job_service_pb2.CreateJobRequest(parent="namespaces/default", job_id="a", job=interval_job())
    await node.jobs.CreateJob(job, metadata=(*ann, ("horologe-author", "admin")))
    command = node.commands[-1]
    assert command.put_jobs.author == "ann"
    assert (command.actor.principal, command.actor.method) == ("ann", "JobService.CreateJob")
    assert command.actor.token == ann[0][1].split("_")[1]
    assert command.actor.source == "127.0.0.1"


async def test_failures_are_limited_and_right_proofs_never(node):
    wrong = bearer(f"hlg_{node.admin.split('_')[1]}_{tokens.make()[1].split('_', 2)[2]}")
    for _ in range(int(FAILURES_BURST)):
        assert (await refused(node.access.WhoAmI(WHO, metadata=wrong))).reason == "UNAUTHENTICATED"
    refusal = await refused(node.access.WhoAmI(WHO, metadata=wrong))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert refusal.retry_ms is not None and 0 < refusal.retry_ms <= 1_000
    assert await node.access.WhoAmI(WHO, metadata=bearer(node.admin))
    node.clock.now_ms += 1_000
    assert (await refused(node.access.WhoAmI(WHO, metadata=wrong))).reason == "UNAUTHENTICATED"
    records = {record.reason: record.repeat_count for record in await node.denied()}
    assert records == {"UNAUTHENTICATED": FAILURES_BURST + 1, "RATE_LIMITED": 1}


async def test_a_principal_has_its_rate(tmp_path):
    async with SecureNode(tmp_path, calls_per_second_max=2.0).serve() as node:
        ann, bob = node.somebody("ann", Role.ROLE_VIEWER), node.somebody("bob", Role.ROLE_VIEWER)
        for _ in range(4):
            await node.access.WhoAmI(WHO, metadata=ann)
        refusal = await refused(node.access.WhoAmI(WHO, metadata=ann))
        assert (refusal.reason, refusal.retry_ms) == ("RATE_LIMITED", 500)
        await node.access.WhoAmI(WHO, metadata=bob)
        node.clock.now_ms += 500
        await node.access.WhoAmI(WHO, metadata=ann)
        [record] = await node.denied()
        assert (record.principal, record.reason) == ("ann", "RATE_LIMITED")


async def test_uses_of_tokens_are_noted_once(node):
    ann = node.somebody("ann", Role.ROLE_VIEWER)
    await node.access.WhoAmI(WHO, metadata=ann)
    node.clock.now_ms += 5_000
    await node.access.WhoAmI(WHO, metadata=ann)
    await node.control.uses.flush()
    [use] = node.commands[-1].note_token_uses.uses
    assert (use.id, use.time_ms) == (ann[0][1].split("_")[1], node.clock.now_ms)
    count = len(node.commands)
    await node.control.uses.flush()
    assert len(node.commands) == count


# Streams


def watch(node, metadata, namespace="default"):
    request = watch_service_pb2.WatchEventsRequest(parent=f"namespaces/{namespace}/jobs/-")
    return node.watching.WatchEvents(request, metadata=metadata)


async def ended(stream) -> Refusal:
    """The error that the stream must end with, over whatever it still says."""
    try:
        async with asyncio.timeout(60):
            while True:
                message = await stream.read()
                assert message is not grpc.aio.EOF
    except grpc.aio.AioRpcError as error:
        return Refusal(error)


async def test_a_stream_ends_when_its_token_is_revoked(node):
    ann = node.somebody("ann", Role.ROLE_VIEWER)
    stream, other = watch(node, ann), watch(node, bearer(node.admin))
    await stream.read()
    await other.read()
    node.control.streams.look()
    node.revoke(ann[0][1].removeprefix("Bearer "))
    node.control.streams.look()
    assert (await ended(stream)).reason == "UNAUTHENTICATED"
    node.apply(log_pb2.Command(barrier=log_pb2.Barrier()))
    assert not other.done()
    [record] = await node.denied()
    assert (record.principal, record.method, record.reason) == ("ann", "WatchService.WatchEvents", "UNAUTHENTICATED")


async def test_a_stream_ends_when_its_rights_are_taken_away(node):
    ann = node.somebody("ann", Role.ROLE_VIEWER)
    stream = watch(node, ann)
    await stream.read()
    node.by_admin(log_pb2.Command(delete_grant=log_pb2.DeleteGrant(subject="ann", namespace="default")))
    node.control.streams.look()
    assert (await ended(stream)).reason == "PERMISSION_DENIED"


async def test_a_rate_below_one_a_second_is_a_rate_too(tmp_path):
    async with SecureNode(tmp_path, calls_per_second_max=0.1).serve() as node:
        assert await node.access.WhoAmI(WHO, metadata=bearer(node.admin))
        assert (await refused(node.access.WhoAmI(WHO, metadata=bearer(node.admin)))).reason == "RATE_LIMITED"
        node.clock.now_ms += 10_000
        assert await node.access.WhoAmI(WHO, metadata=bearer(node.admin))


async def test_streams_are_counted(node):
    ann, bob = node.somebody("ann", Role.ROLE_VIEWER), node.somebody("bob", Role.ROLE_VIEWER)
    streams = [watch(node, ann) for _ in range(STREAMS_PER_PRINCIPAL_MAX)]
    for stream in streams:
        await stream.read()
    refusal = await ended(watch(node, ann))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert await watch(node, bob).read()
    streams[0].cancel()

    async def is_over() -> bool:
        return node.control.streams.count("ann") < STREAMS_PER_PRINCIPAL_MAX

    await eventually(is_over, 60, "a stream is over")
    assert await watch(node, ann).read()


async def test_the_workers_of_a_pool_are_more_than_the_streams_of_a_person(node):
    """They share a certificate, and so a principal."""
    pool = Caller(CallerKind.WORKER, "worker:pool", "certificate", method="WorkerService.Connect")
    with ExitStack() as stack:
        for _ in range(STREAMS_PER_PRINCIPAL_MAX + 1):
            stack.enter_context(node.control.streams.entered(pool, None))
        assert node.control.streams.count("worker:pool") == STREAMS_PER_PRINCIPAL_MAX + 1
    assert node.control.streams.count("worker:pool") == 0


async def test_without_security_anybody_may_do_everything(tmp_path):
    async with FakeNode(tmp_path).serve() as node:
        answer = await node.access.WhoAmI(WHO)
        assert (answer.principal, answer.method) == ("", "none")
        assert await node.cluster.GetClusterStatus(cluster_service_pb2.GetClusterStatusRequest())


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        ("ipv4:10.0.0.7:4711", "10.0.0.7"),
        ("ipv6:%5B2001:db8::1%5D:4711", "2001:db8::1"),
        ("ipv6:[::1]:4711", "::1"),
        ("unix:", "unix"),
        ("", ""),
    ],
)
def test_sources_have_no_ports(peer, source):
    class Context:
        def peer(self):
            return peer

    assert source_of(Context()) == source
