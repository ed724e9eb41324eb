"""A whole node and a worker in the test's own process, with a wall clock that can be put forward while the node is away."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from horologe.chaos.cluster import eventually
from horologe.client.async_client import AsyncClient
from horologe.client.executors.shell import ShellExecutor
from horologe.client.worker import Context, Worker
from horologe.node.config import NodeConfig
from horologe.node.local_cluster import free_ports
from horologe.node.node import Node
from horologe.node.surroundings import Surroundings
from horologe.v1.execution_service_pb2 import LedgerRow
from horologe.v1.output_service_pb2 import OutputStream

OUTPUT_BYTES_MAX = 20_000


class AdvancedClock:
    """The machine's clocks; the wall clock shows a later time."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms

    def monotonic(self) -> float:
        return time.monotonic()


class OneNode:
    """The node, its client and its worker."""

    def __init__(self, folder: Path, *, pages: bool = False, **options: Any) -> None:
        """With `pages`, it has a port for browsers."""
        self.clock = AdvancedClock()
        listen, peer_listen, http_listen = (f"127.0.0.1:{port}" for port in free_ports(3))
        self._config = NodeConfig(
            name="n1",
            data_dir=folder / "data",
            listen=listen,
            peer_listen=peer_listen,
            http_listen=http_listen if pages else "",
            insecure=True,
            output_bytes_per_attempt_max=OUTPUT_BYTES_MAX,
            drain_seconds=2.0,
            **options,
        )
        self.client = AsyncClient(self._config.listen, insecure=True)
        self.worker = Worker(self._config.listen, name="w1", slot_count=50, drain_seconds=1.0, insecure=True)
        self.worker.add_executor("shell", ShellExecutor(self.worker.lease))
        self.running: Counter[str] = Counter()
        self.most_at_a_time: Counter[str] = Counter()
        self.node: Node | None = None

        @self.worker.handler("hold")
        async def hold(context: Context) -> None:
            self.running[context.job] += 1
            self.most_at_a_time[context.job] = max(self.most_at_a_time[context.job], self.running[context.job])
            try:
                await asyncio.sleep(context.payload)
            finally:
                self.running[context.job] -= 1

    async def start(self) -> None:
        """Starts the node, or a new one on the old one's data."""
        self.node = self.make_node()
        await self.node.start()

        async def leads() -> bool:
            return bool((await self.client.cluster_status()).leader)

        await eventually(leads, 60, "the node leads")

    @property
    def address(self) -> str:
        """Where clients find it."""
        return self._config.listen

    @property
    def http_address(self) -> str:
        """Where browsers find it."""
        return f"http://{self._config.http_listen}"

    def make_node(self) -> Node:
        """One that has not started."""
        return Node(self._config, Surroundings(self.clock))

    async def stop(self) -> None:
        """Stops the node in good order."""
        if self.node is not None:
            node, self.node = self.node, None
            await node.stop()

    async def worker_connected(self) -> None:
        """Until the worker has a session with the node that runs now."""

        async def connected() -> bool:
            return any([worker.name == "workers/w1" async for worker in self.client.list_workers()])

        await eventually(connected, 60, "the worker connected")

    async def ledger(self, job: str) -> Counter[str]:
        """Due times by outcome, with the reason where there is one: `RAN`, `SKIPPED overlap`..."""
        found: Counter[str] = Counter()
        async for row in self.client.list_ledger(job):
            outcome = LedgerRow.Outcome.Name(row.outcome).removeprefix("OUTCOME_")
            found[outcome] += row.count
        return found

    async def output(self, execution: str, **options: Any) -> dict[str, bytes]:
        """All captured output, by stream."""
        found = {"STDOUT": b"", "STDERR": b""}
        async for piece in self.client.read_output(execution, **options):
            found[OutputStream.Name(piece.stream).removeprefix("OUTPUT_STREAM_")] += piece.data
        return found


@asynccontextmanager
async def one_node(folder: Path, *, pages: bool = False, **options: Any) -> AsyncIterator[OneNode]:
    """A node that leads and a worker that is connected; both are gone afterwards."""
    here = OneNode(folder, pages=pages, **options)
    serving: asyncio.Task[None] | None = None
    try:
        async with here.client:
            await here.start()
            serving = asyncio.create_task(here.worker.serve())
            await here.worker_connected()
            yield here
    finally:
        here.worker.stop()
        if serving is not None:
            await asyncio.wait_for(serving, 60)
        await here.stop()
