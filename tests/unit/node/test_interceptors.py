"""The interceptors around calls of every kind, and the errors that come out of them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from service_harness import Refusal, refused

from horologe.node import errors, names, paging
from horologe.node.errors import ApiError
from horologe.node.interceptors import MinRevisionInterceptor, UnexpectedErrorInterceptor
from horologe.node.schedule import Violation
from horologe.raft.model import Code, Result
from horologe.v1 import job_service_pb2


class Calls(grpc.GenericRpcHandler):
    """One method of each kind, in both styles of writing them; the request says what goes wrong."""

    def service(self, details):
        kinds = {
            "/t/Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "/t/Generated": grpc.unary_stream_rpc_method_handler(self.generated),
            "/t/Written": grpc.unary_stream_rpc_method_handler(self.written),
            "/t/Collected": grpc.stream_unary_rpc_method_handler(self.collected),
            "/t/Both": grpc.stream_stream_rpc_method_handler(self.both),
            "/t/BothWritten": grpc.stream_stream_rpc_method_handler(self.both_written),
        }
        return kinds.get(details.method)

    async def unary(self, request, context):
        await self.obey(request, context)
        return request

    async def generated(self, request, context):
        yield request
        await self.obey(request, context)
        yield request

    async def written(self, request, context):
        await context.write(request)
        await self.obey(request, context)
        await context.write(request)

    async def collected(self, requests, context):
        parts = [part async for part in requests]
        await self.obey(parts[0], context)
        return b"+".join(parts)

    async def both(self, requests, context):
        async for request in requests:
            await self.obey(request, context)
            yield request

    async def both_written(self, requests, context):
        while (request := await context.read()) is not grpc.aio.EOF:
            await self.obey(request, context)
            await context.write(request)

    async def obey(self, request, context):
        if request == b"defect":
            raise RuntimeError("secret")
        if request == b"api":
            raise errors.job_not_found("x")
        if request == b"own":
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, "mine")


async def ask(channel: grpc.aio.Channel, method: str, request: bytes) -> list[bytes]:
    # Nothing more behind one that is refused: a client that still writes when the call ends reports that instead.
    requests = [request, b"more"] if request == b"hello" else [request]
    match method:
        case "Unary":
            return [await channel.unary_unary("/t/Unary")(request)]
        case "Generated" | "Written":
            return [answer async for answer in channel.unary_stream(f"/t/{method}")(request)]
        case "Collected":
            return [await channel.stream_unary("/t/Collected")(iter(requests))]
    return [answer async for answer in channel.stream_stream(f"/t/{method}")(iter(requests))]


@pytest.fixture
async def channel():
    node = SimpleNamespace(status=lambda: SimpleNamespace(revision=1))
    server = grpc.aio.server(interceptors=[UnexpectedErrorInterceptor(), MinRevisionInterceptor(node)])
    server.add_generic_rpc_handlers((Calls(),))
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection((health.SERVICE_NAME,), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await server.stop(None)


@pytest.mark.parametrize(
    ("method", "answers"),
    [
        ("Unary", [b"hello"]),
        ("Generated", [b"hello", b"hello"]),
        ("Written", [b"hello", b"hello"]),
        ("Collected", [b"hello+more"]),
        ("Both", [b"hello", b"more"]),
        ("BothWritten", [b"hello", b"more"]),
    ],
)
async def test_each_kind_of_call(channel, method, answers):
    assert await ask(channel, method, b"hello") == answers
    for request, code, reason in (
        (b"defect", grpc.StatusCode.INTERNAL, "INTERNAL"),
        (b"api", grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND"),
        (b"own", grpc.StatusCode.OUT_OF_RANGE, ""),
    ):
        error = await refused(ask(channel, method, request))
        assert (error.code, error.reason) == (code, reason)
        assert "secret" not in error.text


async def test_a_method_that_is_not_there(channel):
    error = await refused(channel.unary_unary("/t/Nothing")(b""))
    assert error.code == grpc.StatusCode.UNIMPLEMENTED


async def test_services_of_libraries(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == serving
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == serving
    watch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watch.read()
    requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(requests)
    (answer,) = [each async for each in answers]
    assert [each.name for each in answer.list_services_response.service] == [health.SERVICE_NAME]


# Errors


def details_of(error: ApiError) -> Refusal:
    status = error.to_status()
    metadata = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    return Refusal(grpc.aio.AioRpcError(error.code, grpc.aio.Metadata(), metadata, status.message))


def test_every_result_has_an_error():
    for code in Code:
        if code != Code.OK:
            error = errors.of_result(Result(code, text="x"))
            assert details_of(error).reason == error.reason
            assert "{" not in error.message


def test_details_never_grow_beyond_what_clients_take():
    violations = [Violation(f"jobs[{i}].name", "x" * 250) for i in range(5000)]
    error = errors.invalid([Violation("first", "y" * 5000), *violations])
    status = error.to_status()
    assert status.ByteSize() < 6_000 + 5_000
    assert len(status.message) == errors.MESSAGE_LENGTH_MAX
    seen = details_of(errors.invalid(violations))
    assert len(seen.fields) > 5
    assert len(seen.fields) + int(seen.metadata["more_violations"]) == 5000


# Names and pages


@pytest.mark.parametrize("text", ["a", "a-1", "a" * 63, "job2"])
def test_names(text):
    assert names.read_job_name(f"namespaces/{text}/jobs/{text}", "name") == f"namespaces/{text}/jobs/{text}"


@pytest.mark.parametrize("text", ["", "-", "A", "1a", "a-", "a_b", "a" * 64, "a/b", "a\n", "ä", "a b", "-a", "a.b"])
def test_what_is_no_name(text):
    for name in (f"namespaces/{text}/jobs/a", f"namespaces/a/jobs/{text}"):
        with pytest.raises(ApiError) as caught:
            names.read_job_name(name, "job.name")
        assert details_of(caught.value).fields.keys() == {"job.name"}


def test_quotations_stay_short():
    assert len(names.shorten("\0" * 10_000)) <= 120
    assert names.shorten("a\nb") == r"'a\nb'"


@pytest.mark.parametrize("token", ["x", "!!!!", "bnVsbA", "WyJ6eiIsIngiXQ", "WzEsMl0", "ÿ"])
def test_tokens_that_somebody_made_up(token):
    with pytest.raises(ApiError):
        paging.start_key(job_service_pb2.ListJobsRequest(page_token=token))


def test_a_token_leads_to_its_key():
    request = job_service_pb2.ListJobsRequest(parent="namespaces/a", page_size=3)
    token = paging.next_token(request, b"\x00\xffkey")
    request.page_token, request.page_size = token, 50
    assert paging.start_key(request) == b"\x00\xffkey"
    request.labels["a"] = "b"
    with pytest.raises(ApiError):
        paging.start_key(request)


async def test_what_goes_around_a_method_is_made_once():
    handlers = [grpc.unary_unary_rpc_method_handler(lambda request, context: request) for _ in range(2)]
    found = iter([handlers[0], handlers[0], handlers[1], None])

    async def find(details):
        return next(found)

    guard, details = UnexpectedErrorInterceptor(), SimpleNamespace(method="/t/Unary")
    first, again, other, nothing = [await guard.intercept_service(find, details) for _ in range(4)]
    assert first is again
    assert other is not first, "another handler was found"
    assert nothing is None
