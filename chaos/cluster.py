"""A real cluster under torment: nodes and recording workers as processes, and what one waits for between two blows.

Every process ends with the `async with` block, by its pid. Where they live is decided by network.py; what is done to them
is for the caller to say (nemesis.py has blows); how the run is judged is in checker.py.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from horologe.chaos.disk import small_disk
from horologe.chaos.links import Links
from horologe.chaos.network import CLIENT_PORT, PEER_PORT, LoopbackNetwork, Network
from horologe.client.client import AsyncClient
from horologe.client.errors import HorologeError
from horologe.node.clock import CLOCK_FILE_VARIABLE
from horologe.node.local_cluster import LocalCluster, LocalProcess, NodeAddresses, listen_of, peer_address_of
from horologe.v1.cluster_service_pb2 import GetClusterStatusResponse, Member

POLL_SECONDS = 0.02
ASK_SECONDS = 1.0
READY_SECONDS = 30.0
WORKER_END_SECONDS = 15.0
DATA_FOLDER = "data"
"""In each node's folder, where the state has to be apart from the node's log, so that it can have a disk of its own."""

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

    def __init__(
        self, folder: Path, name: str, addresses: list[str], slots: int, queue: str, prefix: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self._folder = folder
        self._prefix = prefix
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
                    *self._prefix,
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
    def is_running(self) -> bool:
        """Whether there is a process that has not ended."""
        return self._process is not None and self._process.poll() is None

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


@dataclass(frozen=True, slots=True)
class Setting:
    """What a cluster's nodes are born into, beside their network."""

    options: Mapping[str, str | int | float] = field(default_factory=dict)
    """More lines of node.toml."""
    links: bool = False
    """Whether what the nodes say to each other passes through links that can have bad weather."""
    clock_files: bool = False
    """Whether each node's wall clock can be set wrong, by writing to `clock_file(name)`."""
    clock_offsets_seconds: Mapping[str, int] = field(default_factory=dict)
    """By node: in a time namespace of its own, where the clocks that count from the start of the machine are ahead by this."""
    small_disks: Mapping[str, int] = field(default_factory=dict)
    """By node: its data folder is a file system of its own of so many bytes."""


class ChaosCluster:
    """Nodes, workers and a client for each node."""

    def __init__(
        self,
        folder: Path,
        count: int = 3,
        options: Mapping[str, str | int | float] | None = None,
        *,
        network: Network | None = None,
        setting: Setting | None = None,
    ) -> None:
        """The network is entered already, and outlives the cluster; without one, everybody is on loopback."""
        self.folder = folder
        self.network = network or LoopbackNetwork()
        self.setting = setting or Setting(options or {})
        self._stack = AsyncExitStack()
        self._data_folder = "."
        self.local = self._prepare(count)
        self.evidence = folder / "evidence"
        self.evidence.mkdir()
        self.workers: dict[str, RecordingWorker] = {}
        self.links: dict[str, Links] = {}
        self.others: dict[str, LocalProcess] = {}
        """Nodes that are no members: not yet, or not any more."""
        self._clients: dict[str, AsyncClient] = {}

    def _prepare(self, count: int) -> LocalCluster:
        names = [f"n{number}" for number in range(1, count + 1)]
        self.places = {name: self.network.place(name) for name in names}
        addresses: list[NodeAddresses] = []
        if not isinstance(self.network, LoopbackNetwork):
            addresses = [self._addresses(number, self.places[name].host) for number, name in enumerate(names, 1)]
        if addresses or self.setting.small_disks:
            self._data_folder = DATA_FOLDER
        options = {"data_dir": self._data_folder, **self.setting.options}
        folder = self.folder / "cluster"
        local = LocalCluster.prepare(folder, count, options, usual_ports=False, places=addresses)
        for node in local.nodes:
            self._settle(node)
        return local

    def _settle(self, node: LocalProcess) -> None:
        """Lets a node live where its place and the setting say."""
        node.prefix = self.places[node.name].prefix
        if offset := self.setting.clock_offsets_seconds.get(node.name):
            node.prefix += ("unshare", "--time", f"--boottime={offset}", f"--monotonic={offset}")
        if self.setting.clock_files:
            node.environment[CLOCK_FILE_VARIABLE] = str(self.clock_file(node.name))

    def _addresses(self, number: int, host: str) -> NodeAddresses:
        peer_listen = f"{host}:{PEER_PORT}"
        return NodeAddresses(f"{host}:{CLIENT_PORT}", peer_listen, _link(number) if self.setting.links else peer_listen)

    def _open_links(self) -> None:
        for node in self.local.nodes:
            targets = {
                _link(number): f"{self.places[other.name].host}:{PEER_PORT}"
                for number, other in enumerate(self.local.nodes, 1)
                if other is not node
            }
            self.links[node.name] = Links(self.places[node.name], targets, node.folder / "links.log")

    def link_address(self, target: str) -> str:
        """Under which every other node finds the link to this one."""
        return _link(self.names.index(target) + 1)

    def clock_file(self, name: str) -> Path:
        """What is written there (milliseconds) is how wrong the node's wall clock is."""
        return self.folder / "cluster" / name / "clock"

    def data_folder(self, name: str) -> Path:
        """Where a node keeps its state."""
        return self.node(name).folder / self._data_folder

    async def __aenter__(self) -> Self:
        try:
            self.client = await self._stack.enter_async_context(AsyncClient(self.local.addresses, "default"))
            for node, address in zip(self.local.nodes, self.local.addresses, strict=True):
                self._clients[node.name] = await self._stack.enter_async_context(AsyncClient(address, "default"))
            for name, size_bytes in self.setting.small_disks.items():
                self._stack.enter_context(small_disk(self.data_folder(name), size_bytes))
            if self.setting.links:
                self._open_links()
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
        for node in self.others.values():
            node.kill()
        for links in self.links.values():
            links.kill()
        await self._stack.aclose()

    # Nodes

    @property
    def names(self) -> list[str]:
        """Of the nodes."""
        return [node.name for node in self.local.nodes]

    def node(self, name: str) -> LocalProcess:
        """The process of a node, also of one that is to join, or has left."""
        return next(node for node in (*self.local.nodes, *self.others.values()) if node.name == name)

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

    # Members come and go

    async def new_node(self) -> str:
        """The name of a node that may `join`: it has its place, its files (`join = true`) and a client, and is not started.

        It speaks with the others directly, also where those speak over links.
        """
        options = self.setting.options
        name = self.local.next_name()
        place = self.places[name] = self.network.place(name)
        if isinstance(self.network, LoopbackNetwork):
            node = self.local.new_node(name, options)
        else:
            peer_listen = f"{place.host}:{PEER_PORT}"
            addresses = NodeAddresses(f"{place.host}:{CLIENT_PORT}", peer_listen, peer_listen)
            node = self.local.new_node(name, {"data_dir": "data", **options}, addresses)
        self._settle(node)
        self.others[node.name] = node
        self._clients[node.name] = await self._stack.enter_async_context(AsyncClient(listen_of(node), "default"))
        return node.name

    async def join(self, name: str, *, learner: bool = False, seconds: float = READY_SECONDS) -> None:
        """Starts a new node, adds it to the cluster, and waits until it votes (a `learner`: until it is a member)."""
        node = self.others[name]
        await asyncio.to_thread(node.start)
        await self.client.add_member(name, peer_address_of(node), learner=learner)
        del self.others[name]
        self.local.take_in(node)
        roles = {Member.ROLE_LEARNER} if learner else {Member.ROLE_FOLLOWER, Member.ROLE_LEADER}
        await self.wait_member(name, roles, seconds)

    async def wait_member(self, name: str, roles: set[Member.Role.ValueType], seconds: float = READY_SECONDS) -> None:
        """Until a node is a member in one of these roles."""

        async def is_there() -> bool:
            found = {member.name: member.role async for member in self.client.list_members()}
            return found.get(name) in roles

        await eventually(is_there, seconds, f"{name} as a member")

    async def remove(self, name: str) -> None:
        """Removes a member, dead or alive, and leaves its process to end by itself."""
        await self.client.remove_member(name)
        self.others[name] = self.node(name)
        self.local.leave_out(name)

    # Workers

    def add_worker(
        self, name: str, *, slots: int = 1_000, queue: str = "default", addresses: list[str] | None = None
    ) -> RecordingWorker:
        """A worker, not started."""
        place = self.network.place(name)
        worker = RecordingWorker(
            self.evidence, name, addresses or self.local.addresses, slots, queue, prefix=place.prefix
        )
        self.workers[name] = worker
        return worker

    async def wait_workers(self, *names: str, seconds: float = READY_SECONDS) -> None:
        """Until all of these have a session."""
        wanted = {f"workers/{name}" for name in names}

        async def connected() -> bool:
            return wanted <= {worker.name async for worker in self.client.list_workers()}

        await eventually(connected, seconds, f"workers {', '.join(names)} connected")


def _link(number: int) -> str:
    """Where a place finds its link to the node of this number: the same address in every place, which each has to itself."""
    return f"127.0.1.{number}:{PEER_PORT}"
