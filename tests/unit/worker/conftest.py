"""What all tests of the worker share: a scriptable gateway, and workers that are gone when the test ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop
from fake_gateway import FakeGateway, Serve, Stream

from horologe.client.worker import Worker


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that workers run on: its transports differ from those of asyncio."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    fake = FakeGateway()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def serve(gateway: FakeGateway) -> AsyncIterator[Serve]:
    """Serves a worker in the background and hands back its first stream."""
    running: list[tuple[Worker, asyncio.Task[None]]] = []

    async def start(worker: Worker) -> Stream:
        count = len(gateway.streams)
        task = asyncio.create_task(worker.serve())
        running.append((worker, task))
        return await gateway.stream(count + 1)

    yield start
    for worker, _ in running:
        worker.stop()
    for _, task in running:
        await task
