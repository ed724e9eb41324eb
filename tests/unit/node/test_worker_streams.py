"""The beginning of a worker's stream: how many there may be on a node, and how long one may say nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from service_harness import FakeNode

from horologe.node import worker_service
from horologe.node.gateway import Gateway
from horologe.node.output_copies import OutputCopies
from horologe.v1 import worker_pb2, worker_service_pb2, worker_service_pb2_grpc


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[worker_service_pb2_grpc.WorkerServiceStub]:
    """A node with the stream that workers use, which its harness leaves out."""
    async with FakeNode(tmp_path).serve() as node:
        gateway = Gateway(node.context, node.outputs, OutputCopies(node.context, node.outputs, node.peers.__getitem__))
        server = grpc.aio.server()
        worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(
            worker_service.WorkerService(node.context, gateway), server
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield worker_service_pb2_grpc.WorkerServiceStub(channel)
        await server.stop(None)


async def hello(workers: worker_service_pb2_grpc.WorkerServiceStub, name: str):
    stream = workers.Connect()
    said = worker_pb2.Hello(worker=name, incarnation="a", slot_count=1, protocol_version=1)
    await stream.write(worker_service_pb2.ConnectRequest(hello=said))
    return stream


async def test_as_many_workers_as_a_node_takes_and_one_more(workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_service, "WORKERS_PER_NODE_MAX", 2)
    first, second = await hello(workers, "w1"), await hello(workers, "w2")
    assert (await first.read()).HasField("welcome")
    assert (await second.read()).HasField("welcome")
    late = await hello(workers, "w3")
    assert await late.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "this node has 2 workers already" in await late.details()


async def test_a_stream_on_which_nobody_says_hello_ends(workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_service, "HELLO_SECONDS_MAX", 0.05)
    silent = workers.Connect()
    assert await silent.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "did not say hello within 0.05 s" in await silent.details()
