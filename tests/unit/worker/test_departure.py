"""How a worker leaves: drained by a signal, by the cluster, sent elsewhere, refused."""

from __future__ import annotations

import asyncio
import os
import signal

import grpc
import pytest
from fake_gateway import FakeGateway, Result, Serve, assignment, definition

from horologe.client.worker import Context, Worker, WorkerRefusedError, default_name
from horologe.v1 import worker_pb2


async def test_drain_finishes_what_runs_and_leaves(gateway: FakeGateway) -> None:
    worker = Worker(gateway.address, insecure=True)
    release = asyncio.Event()

    @worker.handler("work")
    async def work(context: Context) -> None:
        await release.wait()

    serving = asyncio.create_task(worker.serve())
    stream = await gateway.stream()
    stream.assign(assignment(), definitions=[definition(python="work")])
    worker.drain()
    await gateway.until(lambda: stream.drained)
    assert not serving.done()
    release.set()
    await serving

    assert [result.outcome for result in stream.results] == [Result.OUTCOME_SUCCEEDED]
    await gateway.until(lambda: stream.ended)


async def test_drain_that_takes_too_long_stops_the_rest(gateway: FakeGateway) -> None:
    worker = Worker(gateway.address, insecure=True, drain_seconds=0.05)
    started = asyncio.Event()

    @worker.handler("work")
    async def work(context: Context) -> None:
        started.set()
        await asyncio.Event().wait()

    serving = asyncio.create_task(worker.serve())
    stream = await gateway.stream()
    stream.assign(assignment(), definitions=[definition(python="work")])
    await started.wait()
    worker.drain()
    await serving

    (result,) = stream.results
    assert result.outcome == Result.OUTCOME_FAILED
    assert result.error == "the worker was shut down before the attempt ended"


async def test_sigterm_drains_and_a_second_one_stops(gateway: FakeGateway) -> None:
    worker = Worker(gateway.address, insecure=True)
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    @worker.handler("work")
    async def work(context: Context) -> None:
        started.set()
        await asyncio.Event().wait()

    serving = loop.create_task(worker._serve_with_signals())
    stream = await gateway.stream()
    stream.assign(assignment(), definitions=[definition(python="work")])
    await started.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await gateway.until(lambda: stream.drained)
    os.kill(os.getpid(), signal.SIGTERM)
    await serving

    assert worker.stopped_at_once
    assert stream.results == []


async def test_drain_asked_for_by_the_cluster(gateway: FakeGateway) -> None:
    serving = asyncio.create_task(Worker(gateway.address, insecure=True).serve())
    stream = await gateway.stream()
    stream.send(drain=worker_pb2.Drain())
    await serving


async def test_go_away_leads_to_another_stream_unless_drained(gateway: FakeGateway) -> None:
    serving = asyncio.create_task(Worker(gateway.address, insecure=True).serve())
    first = await gateway.stream(1)
    first.send(go_away=worker_pb2.GoAway(reason="this node stops"))
    second = await gateway.stream(2)
    second.send(go_away=worker_pb2.GoAway(reason="drained", drained=True))
    await serving
    assert len(gateway.streams) == 2


async def test_unreachable_addresses_are_passed_over(gateway: FakeGateway, serve: Serve) -> None:
    # The discard port of the loopback: nothing listens there.
    worker = Worker(["127.0.0.1:9", gateway.address, "127.0.0.1:9"], insecure=True)
    await serve(worker)
    await worker.connected()


async def test_refusal_ends_the_worker_with_the_reason(gateway: FakeGateway) -> None:
    gateway.refusal = (grpc.StatusCode.INVALID_ARGUMENT, "hello.slot_count is -1")
    with pytest.raises(WorkerRefusedError, match=r"refuses this worker: hello.slot_count is -1"):
        await Worker(gateway.address, insecure=True).serve()


def test_default_names_are_valid_and_differ() -> None:
    assert default_name() != default_name()
    assert len(default_name()) <= 63
    assert default_name()[0].isalpha()


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="slot_count is 10001"):
        Worker("127.0.0.1:1", insecure=True, slot_count=10_001)
    worker = Worker("127.0.0.1:1", insecure=True)
    with pytest.raises(ValueError, match="already a handler named 'a'"):
        for _ in range(2):
            worker.handler("a")(lambda context: None)
