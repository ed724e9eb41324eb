"""Calls to a node's services from within: what comes back, what errors become, and whom the services see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from horologe.node import errors
from horologe.node.authentication import source_of
from horologe.node.callers import CALLER, Caller, current_caller
from horologe.node.interceptors import Guard, UnexpectedErrorInterceptor
from horologe.node.local_calls import LocalCallError, LocalCalls
from horologe.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc, watch_service_pb2, watch_service_pb2_grpc

HERE = ("10.0.0.1", 5000)
ENDED: list[Any] = []
"""The tasks in which streams have ended."""


class Jobs(job_service_pb2_grpc.JobServiceServicer):
    """Answers what it is asked about, and with whom it speaks."""

    async def GetJob(self, request: Any, context: Any) -> job_service_pb2.GetJobResponse:
        if request.name == "none":
            raise errors.job_not_found(request.name)
        if request.name == "defect":
            raise RuntimeError("a defect")
        if request.name == "slow":
            await asyncio.sleep(3600)
        return job_service_pb2.GetJobResponse(job=job_pb2.Job(name=request.name, owner=current_caller().principal))


class Watch(watch_service_pb2_grpc.WatchServiceServicer):
    """Two answers, and then an error."""

    async def WatchEvents(self, request: Any, context: Any) -> AsyncIterator[watch_service_pb2.WatchEventsResponse]:
        ENDED.clear()
        try:
            yield watch_service_pb2.WatchEventsResponse(revision=1)
            yield watch_service_pb2.WatchEventsResponse(revision=2)
            raise errors.no_leader()
        finally:
            ENDED.append(asyncio.current_task())


class Known(Guard):
    """In place of authentication: whoever says a name has it."""

    @asynccontextmanager
    async def _around(self, method: str, request: Any, context: Any) -> AsyncIterator[None]:
        names = [value for key, value in context.invocation_metadata() if key == "authorization"]
        CALLER.set(Caller(principal=f"{names} at {source_of(context)}"))
        yield


@pytest.fixture
def calls() -> LocalCalls:
    calls = LocalCalls([UnexpectedErrorInterceptor(), Known()])
    job_service_pb2_grpc.add_JobServiceServicer_to_server(Jobs(), calls)  # type: ignore[no-untyped-call]
    watch_service_pb2_grpc.add_WatchServiceServicer_to_server(Watch(), calls)  # type: ignore[no-untyped-call]
    return calls


async def get(calls: LocalCalls, name: str, source: tuple[str, int] = HERE, **options: Any) -> job_pb2.Job:
    stub = job_service_pb2_grpc.JobServiceStub(calls.channel(source, (("authorization", "ada"),)))
    return (await stub.GetJob(job_service_pb2.GetJobRequest(name=name), **options)).job


async def test_a_call_passes_the_interceptors_and_comes_from_whoever_asked(calls: LocalCalls) -> None:
    assert (await get(calls, "a")).owner == "['ada'] at 10.0.0.1"
    assert (await get(calls, "a", ("fe80::1", 5))).owner == "['ada'] at fe80::1"
    # Who called is of that call only.
    assert CALLER.get(None) is None or CALLER.get(None) == Caller()


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [("none", grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND"), ("defect", grpc.StatusCode.INTERNAL, "INTERNAL")],
)
async def test_an_error_comes_with_its_code_and_details(
    calls: LocalCalls, name: str, code: grpc.StatusCode, reason: str
) -> None:
    with pytest.raises(LocalCallError) as refusal:
        await get(calls, name)
    assert (refusal.value.code, refusal.value.reason) == (code, reason)
    assert "a defect" not in str(refusal.value)


async def test_a_call_that_takes_too_long_ends(calls: LocalCalls) -> None:
    with pytest.raises(LocalCallError) as refusal:
        await get(calls, "slow", timeout=0.01)
    assert refusal.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_stream_ends_with_its_error(calls: LocalCalls) -> None:
    stub = watch_service_pb2_grpc.WatchServiceStub(calls.channel(HERE))
    seen = []
    with pytest.raises(LocalCallError) as refusal:
        async for answer in stub.WatchEvents(watch_service_pb2.WatchEventsRequest()):
            seen += [answer.revision]
    assert seen == [1, 2]
    assert (refusal.value.code, refusal.value.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_LEADER")


async def test_a_stream_that_nobody_reads_on_ends_at_once_and_in_its_task(calls: LocalCalls) -> None:
    stub = watch_service_pb2_grpc.WatchServiceStub(calls.channel(HERE))
    answers: Any = stub.WatchEvents(watch_service_pb2.WatchEventsRequest())
    assert (await anext(answers)).revision == 1
    await answers.aclose()
    assert [asyncio.current_task()] == ENDED


async def test_a_method_that_nobody_has(calls: LocalCalls) -> None:
    call = calls.channel(HERE).unary_unary("/horologe.v1.JobService/Nonsense")
    with pytest.raises(LocalCallError, match=r"no method /horologe\.v1\.JobService/Nonsense") as refusal:
        await call(job_service_pb2.GetJobRequest())
    assert refusal.value.code is grpc.StatusCode.UNIMPLEMENTED
