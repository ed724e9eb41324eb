"""A real cluster under torment: nodes and recording workers as processes, and what one waits for between two blows.

Every process ends with the `async with` block, by its pid. Where they live is decided by network.py; what is done to them
is for the caller to say (nemesis.py has blows); how the run is judged is in checker.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from horologe.chaos.disk import discard, small_disk
from horologe.chaos.links import Links
from horologe.chaos.network import CLIENT_PORT, PEER_PORT, LoopbackNetwork, Network, Place
from horologe.chaos.proxy import Weather
from horologe.client import own_program
from horologe.client.async_client import AsyncClient
from horologe.client.errors import HorologeError
from horologe.node.clock import CLOCK_FILE_VARIABLE
from horologe.node.local_cluster import LocalCluster, LocalProcess, NodeAddresses, free_port
from horologe.v1.cluster_service_pb2 import GetClusterStatusResponse, Member

POLL_SECONDS = 0.02
ASK_SECONDS = 1.0
READY_SECONDS = 60.0
WORKER_END_SECONDS = 60.0
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
                    *own_program.run_module(
                        "horologe.chaos.recording_worker", self.name, str(evidence), *self._arguments
                    ),
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
    command: tuple[str, ...] = ()
    """The program that the nodes run, which takes the arguments of `horologe`; empty: this one."""
    spare_seats: int = 0
    """Room for so many nodes more, for those that join."""
    links: bool = False
    """Whether what the nodes say to each other passes through links that can have bad weather."""
    clock_files: bool = False
    """Whether each node's wall clock can be set wrong, by writing to `clock_file(name)`."""
    clock_offset_seconds: int = 0
    """The clocks that count from the start of the machine are ahead by this from one seat to the next (time namespaces)."""
    small_disk_bytes: int = 0
    """Each node's data folder is a file system of its own of so many bytes; 0: it is not."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a node can be. A node that joins takes a seat that is free; clients and workers know all seats."""

    number: int
    """From 1."""
    place: Place
    addresses: NodeAddresses


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
        self._has_own_data_folders = self.network.can_partition or bool(self.setting.small_disk_bytes)
        self._ports: set[int] = set()
        seats = range(1, count + self.setting.spare_seats + 1)
        self.seats = [self._make_seat(number, linked=self.setting.links) for number in seats]
        self.local = LocalCluster.prepare(
            folder / "cluster", count, self._options(), places=[seat.addresses for seat in self.seats[:count]]
        )
        self._seat_of = {node.name: seat for node, seat in zip(self.local.nodes, self.seats, strict=False)}
        for node in self.local.nodes:
            self._dress(node)
        self.evidence = folder / "evidence"
        self.evidence.mkdir()
        self.workers: dict[str, RecordingWorker] = {}
        self.links: list[Links] = []
        self.others: dict[str, LocalProcess] = {}
        """Nodes that are no members: not yet, or not any more."""
        self._left: set[str] = set()
        self._disks: dict[str, ExitStack] = {}
        self._clients: dict[int, AsyncClient] = {}

    def _make_seat(self, number: int, *, linked: bool) -> Seat:
        place = self.network.place(f"n{number}")
        if not self.network.can_partition:
            return Seat(number, place, NodeAddresses.on_loopback(*self._free_ports()))
        peer_listen = f"{place.host}:{PEER_PORT}"
        found_at = f"127.0.1.{number}:{PEER_PORT}" if linked else peer_listen
        return Seat(number, place, NodeAddresses(f"{place.host}:{CLIENT_PORT}", peer_listen, found_at))

    def _free_ports(self) -> tuple[int, int]:
        while True:
            client_port, peer_port = free_port(), free_port()
            if client_port != peer_port and not self._ports & {client_port, peer_port}:
                self._ports |= {client_port, peer_port}
                return client_port, peer_port

    def _options(self) -> dict[str, str | int | float]:
        return {"data_dir": DATA_FOLDER if self._has_own_data_folders else ".", **self.setting.options}

    def _dress(self, node: LocalProcess) -> None:
        """Gives a node's process its program, its place, its clocks and its disk."""
        seat = self._seat_of[node.name]
        node.command = self.setting.command or node.command
        node.prefix = seat.place.prefix
        if offset := (seat.number - 1) * self.setting.clock_offset_seconds:
            node.prefix += ("unshare", "--time", f"--boottime={offset}", f"--monotonic={offset}")
        if self.setting.clock_files:
            node.environment[CLOCK_FILE_VARIABLE] = str(self.clock_file(node.name))

    def _open_disk(self, name: str) -> None:
        if self.setting.small_disk_bytes:
            disk = self._disks[name] = self._stack.enter_context(ExitStack())
            disk.enter_context(small_disk(self.data_folder(name), self.setting.small_disk_bytes))

    def _open_links(self) -> None:
        for seat in self.seats:
            targets = {
                other.addresses.peer_address: other.addresses.peer_listen for other in self.seats if other is not seat
            }
            self.links.append(Links(seat.place, targets, self.folder / "cluster" / f"links-{seat.number}.log"))

    async def __aenter__(self) -> Self:
        try:
            self.client = await self._stack.enter_async_context(AsyncClient(self.addresses, "default", insecure=True))
            for seat in self.seats:
                await self._open_client(seat)
            for name in self.names:
                self._open_disk(name)
            if self.setting.links:
                self._open_links()
            self.local.start()
            await self.wait_ready()
        except BaseException:
            await self._end()
            raise
        return self

    async def _open_client(self, seat: Seat) -> None:
        client = AsyncClient(seat.addresses.listen, "default", insecure=True)
        self._clients[seat.number] = await self._stack.enter_async_context(client)

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def _end(self) -> None:
        for worker in self.workers.values():
            worker.kill()
        self.local.kill()
        for node in self.others.values():
            node.kill()
        for links in self.links:
            links.kill()
        await self._stack.aclose()

    # Network

    @property
    def addresses(self) -> list[str]:
        """Of all seats, for clients and workers."""
        return [seat.addresses.listen for seat in self.seats]

    def unhear(self, listener: str, speakers: Iterable[str]) -> None:
        """From now on a node or worker hears nothing from the others; `network.hear_all` ends it."""
        self.network.unhear(self._place_name(listener), [self._place_name(name) for name in speakers])

    def _place_name(self, name: str) -> str:
        return self._seat_of[name].place.name if name in self._seat_of else name

    def set_weather(self, weather: Weather) -> None:
        """On every link between nodes."""
        for links in self.links:
            links.set_weather({seat.addresses.peer_address: weather for seat in self.seats})

    # Nodes

    @property
    def names(self) -> list[str]:
        """Of the nodes that are members."""
        return [node.name for node in self.local.nodes]

    def node(self, name: str) -> LocalProcess:
        """The process of a node, also of one that is to join, or has left."""
        return next(node for node in (*self.local.nodes, *self.others.values()) if node.name == name)

    def on(self, name: str) -> AsyncClient:
        """A client that knows this node only."""
        return self._clients[self._seat_of[name].number]

    def clock_file(self, name: str) -> Path:
        """What is written there (milliseconds) is how wrong the node's wall clock is."""
        return self.folder / "cluster" / name / "clock"

    def data_folder(self, name: str) -> Path:
        """Where a node keeps its state."""
        folder = self.node(name).folder
        return folder / DATA_FOLDER if self._has_own_data_folders else folder

    async def status(self, name: str) -> Status | None:
        """What a node says of itself; None if it does not answer."""
        try:
            return await self.on(name).with_timeout(ASK_SECONDS).cluster_status()
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
        """The name of a node that may `join`: it has a seat, its files (`join = true`) and a client, and is not started.

        Where there is no spare seat it gets a new one, and speaks with the others directly, also where those speak over links.
        """
        name = self.local.next_name()
        gone = {other for other in self._left if not self.others[other].is_running}
        for other in gone & self._disks.keys():
            self._disks.pop(other).close()
            discard(self.data_folder(other))
        taken = [seat for other, seat in self._seat_of.items() if other not in gone]
        seat = next((seat for seat in self.seats if seat not in taken), None)
        if seat is None:
            seat = self._make_seat(len(self.seats) + 1, linked=False)
            self.seats.append(seat)
            await self._open_client(seat)
        self._seat_of[name] = seat
        node = self.others[name] = self.local.new_node(name, self._options(), seat.addresses)
        self._dress(node)
        self._open_disk(name)
        return name

    async def join(self, name: str, *, learner: bool = False, seconds: float = READY_SECONDS) -> None:
        """Starts a new node if it does not run, adds it to the cluster, and waits until it votes (a `learner`: is a member)."""
        node = self.others[name]
        if not node.is_running:
            await asyncio.to_thread(node.start)
        await self.client.add_member(name, self._seat_of[name].addresses.peer_address, learner=learner)
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
        """Removes a member, dead or alive, and leaves its process to end by itself; then its seat is free."""
        await self.client.remove_member(name)
        self.others[name] = self.node(name)
        self._left.add(name)
        self.local.leave_out(name)

    # Workers

    def add_worker(
        self, name: str, *, slots: int = 1_000, queue: str = "default", addresses: list[str] | None = None
    ) -> RecordingWorker:
        """A worker, not started."""
        place = self.network.place(name)
        worker = RecordingWorker(self.evidence, name, addresses or self.addresses, slots, queue, prefix=place.prefix)
        self.workers[name] = worker
        return worker

    async def wait_workers(self, *names: str, seconds: float = READY_SECONDS) -> None:
        """Until all of these have a session."""
        wanted = {f"workers/{name}" for name in names}

        async def connected() -> bool:
            return wanted <= {worker.name async for worker in self.client.list_workers()}

        await eventually(connected, seconds, f"workers {', '.join(names)} connected")
