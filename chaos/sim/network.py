"""The simulated network: packets between machines, which arrive late, are held back by a partition, or never come.

It behaves as TCP does under gRPC: what two processes say to each other over one stream arrives in order or not at all; a
partition holds packets until it heals or until somebody gives the connection up; a killed process is noticed at once when its
machine is there to say so, and only by silence otherwise. What the streams carry is in rpc.py.

Two faults go beyond TCP, to test the layer above: a message of a stream may be repeated, or swallowed.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from horologe.chaos.sim.process import Process
from horologe.chaos.sim.timeline import Timeline

DELAY_SECONDS = (0.0002, 0.001)
HEAL_SECONDS = 0.2
"""After a partition the kernel sends again within so long."""
PEER_KEEPALIVE_SECONDS = 8.0
KEEPALIVE_SECONDS = 15.0
"""A connection on which nothing comes back for so long is given up by both ends; between nodes earlier (see node/peers.py)."""

Direction = tuple[str, str]


class Connection(Protocol):
    """Something between two processes that can break (see rpc.Call)."""

    client: Process
    server: Process | None
    keepalive_seconds: float

    def broke(self, side: str, reason: str) -> None:
        """One side, `client` or `server`, learns that the connection is gone."""


@dataclass(slots=True)
class _Link:
    """One direction between two machines."""

    slow_seconds: float = 0.0
    blocked_since: float | None = None
    clear_at: float = 0.0
    """Until then what was held is still coming."""
    held: deque[tuple[Process, Callable[[], None]]] = field(default_factory=deque)


@dataclass(slots=True)
class NetworkFaults:
    """Shares of the messages between nodes that suffer something."""

    repeated: float = 0.0
    swallowed: float = 0.0
    damaged: float = 0.0
    """Chunks of snapshots with a flipped bit."""


class Network:
    """All links of the world."""

    def __init__(self, timeline: Timeline, randomness: random.Random, trace: hashlib.blake2b) -> None:
        self._timeline = timeline
        self._random = randomness
        self._trace = trace
        self._links: dict[Direction, _Link] = {}
        self._connections: dict[int, Connection] = {}
        self._connection_count = 0
        self.faults = NetworkFaults()
        self.counts: Counter[str] = Counter()

    # What carries

    def connect(self, connection: Connection) -> int:
        """Registers a connection while it lives; answers its number."""
        self._connection_count += 1
        self._connections[self._connection_count] = connection
        return self._connection_count

    def forget(self, number: int) -> None:
        self._connections.pop(number, None)

    def arrival(self, source: str, target: str, not_before: float = 0.0) -> float:
        """When a packet that leaves now arrives, if nothing holds it up; never before `not_before`, which keeps order."""
        shortest, longest = DELAY_SECONDS
        delay = shortest + (longest - shortest) * self._random.random() + self._link((source, target)).slow_seconds
        return max(self._timeline.now + delay, not_before + 1e-9)

    def carry(self, source: str, target: Process, when: float, data: bytes, deliver: Callable[[], None]) -> None:
        """Brings a packet to a process, unless a partition holds it."""
        self._trace.update(b"%d %s %s %d" % (int(when * 1e6), source.encode(), target.name.encode(), len(data)))
        self._trace.update(data)
        self._timeline.at(when, lambda: self._arrive((source, target.name), target, deliver))

    def _arrive(
        self, direction: Direction, target: Process, deliver: Callable[[], None], *, was_held: bool = False
    ) -> None:
        link = self._link(direction)
        if link.blocked_since is None and self._timeline.now < link.clear_at and not was_held:
            # Nothing overtakes what was held.
            link.clear_at += 1e-6
            self._timeline.at(link.clear_at, lambda: self._arrive(direction, target, deliver, was_held=True))
            return
        if link.blocked_since is not None:
            link.held.append((target, deliver))
            self.counts["packets held by a partition"] += 1
        else:
            target.deliver(deliver)

    def _link(self, direction: Direction) -> _Link:
        link = self._links.get(direction)
        if link is None:
            link = self._links[direction] = _Link()
        return link

    # Faults

    def block(self, source: str, target: str) -> None:
        """From now on nothing gets from one machine to the other, in this direction."""
        link = self._link((source, target))
        if link.blocked_since is None and source != target:
            link.blocked_since = since = self._timeline.now
            for seconds in (PEER_KEEPALIVE_SECONDS, KEEPALIVE_SECONDS):
                self._timeline.after(seconds, lambda one=seconds: self._give_up(source, target, since, one))  # type: ignore[misc]

    def heal(self, source: str, target: str) -> None:
        """The direction works again; what was held comes within a moment, in order."""
        link = self._link((source, target))
        if link.blocked_since is None:
            return
        link.blocked_since = None
        held, link.held = link.held, deque()
        when = self._timeline.now + HEAL_SECONDS * self._random.random()
        for target_process, deliver in held:
            when += 1e-6
            self._timeline.at(
                when,
                lambda one=target_process, work=deliver: self._arrive((source, target), one, work, was_held=True),  # type: ignore[misc]
            )
        link.clear_at = when + 1e-6

    def heal_all(self) -> None:
        """Everything works again, at its usual speed."""
        for direction, link in list(self._links.items()):
            link.slow_seconds = 0.0
            self.heal(*direction)

    def isolate(self, group: Iterable[str], others: Iterable[str], *, one_way: bool = False) -> None:
        """Cuts a group off from others; `one_way`: the group still hears them."""
        others = list(others)
        for one in group:
            for other in others:
                self.block(one, other)
                if not one_way:
                    self.block(other, one)

    def slow_down(self, source: str, target: str, seconds: float) -> None:
        """Adds so much delay to one direction."""
        self._link((source, target)).slow_seconds = seconds

    def is_blocked(self, source: str, target: str) -> bool:
        return self._link((source, target)).blocked_since is not None

    def break_connections(self, one: str, other: str) -> int:
        """Resets every connection between two machines. Each end learns it at its own time, and until then takes what comes."""
        broken = [found for found in self._connections.values() if {one, other} == _machines(found)]
        for connection in broken:
            for side in ("client", "server"):
                self._tell(connection, side, self._random.random() * 0.01, "connection reset")
        return len(broken)

    def process_ended(self, process: Process, *, silently: bool) -> None:
        """The other ends of its connections learn it from the machine's kernel, or, if that is gone too, from silence."""
        for connection in list(self._connections.values()):
            if process not in (connection.client, connection.server):
                continue
            side = "server" if connection.client is process else "client"
            other = connection.server if side == "server" else connection.client
            seconds = connection.keepalive_seconds
            if not silently and other is not None and not self.is_blocked(process.name, other.name):
                seconds = self.arrival(process.name, other.name) - self._timeline.now
            self._tell(connection, side, seconds, "socket closed")

    def _give_up(self, source: str, target: str, since: float, keepalive_seconds: float) -> None:
        if self._link((source, target)).blocked_since != since:
            return
        concerned = [one for one in self._connections.values() if {source, target} == _machines(one)]
        for connection in [one for one in concerned if one.keepalive_seconds == keepalive_seconds]:
            for side in ("client", "server"):
                self._tell(connection, side, self._random.random() * 0.1, "keepalive timed out")

    def _tell(self, connection: Connection, side: str, seconds: float, reason: str) -> None:
        self.counts[f"connections broken: {reason}"] += 1
        process = connection.client if side == "client" else connection.server
        if process is not None:
            process.after(seconds, lambda: connection.broke(side, reason))


def _machines(connection: Connection) -> set[str]:
    return {connection.client.name, connection.server.name if connection.server is not None else ""}
