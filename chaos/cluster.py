"""A real cluster under torment: nodes and recording workers as processes, and what one waits for between two blows.

Every process ends with the `async with` block, by its pid. What is done to the processes is for the caller to say; how
the run is judged is in checker.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self, TypeVar

from horologe.client.client import AsyncClient
from horologe.client.errors import HorologeError
from horologe.node.local_cluster import LocalCluster, LocalProcess
from horologe.v1.cluster_service_pb2 import GetClusterStatusResponse

POLL_SECONDS = 0.02
ASK_SECONDS = 1.0
READY_SECONDS = 30.0
WORKER_END_SECONDS = 15.0

Status = GetClusterStatusResponse
Found = TypeVar("Found")


class NotInTimeError(AssertionError):
    """What was waited for did not come."""


async def eventually(
    condition: Callable[[], Awaitable[Found | None]], seconds: float, what: str, *, poll_seconds: float = POLL_SECONDS
) -> Found:
    """The first true answer of `condition`; raises NotInTimeError if none comes. Errors of the API are no answer."""
    deadline = time.monotonic() + seconds
    last: object = None
    while True:
        try:
            found = await condition()
        except HorologeError as error:
            found, last = None, error
        if found:
            return found
        last = found if found is not None else last
        if time.monotonic() > deadline:
            raise NotInTimeError(f"{what}: not within {seconds:g} s (last: {last!r})")
        await asyncio.sleep(poll_seconds)


class RecordingWorker:
    """One worker process with an evidence file of its own; restarted, it gets another one."""

    def __init__(self, folder: Path, name: str, addresses: list[str], slots: int, queue: str) -> None:
        self.name = name
        self._folder = folder
        self._arguments = [str(slots), queue, *addresses]
        self._lives = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process, or starts it again."""
        self._lives += 1
        evidence = self._folder / f"{self.name}-{self._lives}.evidence"
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "horologe.chaos.recording_worker",
                    self.name,
                    str(evidence),
                    *self._arguments,
                ],
                # It ends when this pipe is closed, however this process ends.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        if self._process is None:
            raise RuntimeError(f"worker {self.name} was not started")
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """SIGKILL, SIGSTOP, SIGCONT or SIGTERM."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()

    async def stop(self) -> int:
        """Lets it drain; answers its exit code."""
        process = self._process
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(process.wait, WORKER_END_SECONDS)
        self.kill()
        return code


class ChaosCluster:
    """Nodes, workers and a client for each node."""

    def __init__(self, folder: Path, count: int = 3, options: Mapping[str, str | int | float] | None = None) -> None:
        self.folder = folder
        self.local = LocalCluster.prepare(folder / "cluster", count, options, usual_ports=False)
        self.evidence = folder / "evidence"
        self.evidence.mkdir()
        self.workers: dict[str, RecordingWorker] = {}
        self._stack = AsyncExitStack()
        self._clients: dict[str, AsyncClient] = {}

    async def __aenter__(self) -> Self:
        try:
            self.client = await self._stack.enter_async_context(AsyncClient(self.local.addresses, "default"))
            for node, address in zip(self.local.nodes, self.local.addresses, strict=True):
                self._clients[node.name] = await self._stack.enter_async_context(AsyncClient(address, "default"))
            self.local.start()
            await self.wait_ready()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def _end(self) -> None:
        for worker in self.workers.values():
            worker.kill()
        self.local.kill()
        await self._stack.aclose()

    # Nodes

    @property
    def names(self) -> list[str]:
        """Of the nodes."""
        return [node.name for node in self.local.nodes]

    def node(self, name: str) -> LocalProcess:
        """The process of a node."""
        return next(node for node in self.local.nodes if node.name == name)

    def on(self, name: str) -> AsyncClient:
        """A client that knows this node only."""
        return self._clients[name]

    async def status(self, name: str) -> Status | None:
        """What a node says of itself; None if it does not answer."""
        try:
            return await self._clients[name].with_timeout(ASK_SECONDS).cluster_status()
        except HorologeError:
            return None

    async def leader(self) -> str | None:
        """The node that says that it leads and hears a majority. In the newest term, should two say so."""
        statuses = await asyncio.gather(*(self.status(node.name) for node in self.local.nodes if node.is_running))
        leading = [one for one in statuses if one is not None and one.leader == one.node and one.has_quorum]
        return max(leading, key=lambda one: one.term).node if leading else None

    async def wait_leader(self, seconds: float = READY_SECONDS) -> str:
        """The leader's name, once there is one."""
        return await eventually(self.leader, seconds, "a leader")

    async def followers(self) -> list[str]:
        """All nodes but the leader."""
        leader = await self.wait_leader()
        return [name for name in self.names if name != leader]

    async def wait_caught_up(self, name: str, seconds: float = READY_SECONDS) -> None:
        """Until a node follows (or leads), and has applied what the leader had when this was called."""
        leader = await self.wait_leader(seconds)
        goal = await eventually(lambda: self.status(leader), seconds, f"the leader {leader}'s status")

        async def caught_up() -> bool:
            own = await self.status(name)
            return own is not None and bool(own.leader) and own.revision >= goal.revision

        await eventually(caught_up, seconds, f"{name} at revision {goal.revision}")

    async def wait_ready(self, seconds: float = READY_SECONDS) -> str:
        """Until every node has the same leader and knows the cluster's identity; answers the leader."""

        async def ready() -> str | None:
            statuses = await asyncio.gather(*(self.status(name) for name in self.names))
            leaders = {one.leader if one is not None and one.cluster_id else "" for one in statuses}
            return leaders.pop() if len(leaders) == 1 else None

        return await eventually(ready, seconds, "all nodes with one leader")

    # Workers

    def add_worker(
        self, name: str, *, slots: int = 1_000, queue: str = "default", addresses: list[str] | None = None
    ) -> RecordingWorker:
        """A worker, not started."""
        worker = RecordingWorker(self.evidence, name, addresses or self.local.addresses, slots, queue)
        self.workers[name] = worker
        return worker

    async def wait_workers(self, *names: str, seconds: float = READY_SECONDS) -> None:
        """Until all of these have a session."""
        wanted = {f"workers/{name}" for name in names}

        async def connected() -> bool:
            return wanted <= {worker.name async for worker in self.client.list_workers()}

        await eventually(connected, seconds, f"workers {', '.join(names)} connected")
