"""gRPC without a network: one call, seen from both ends, and the way from one to the other.

Messages travel in their serialised form over network.py. What the real stubs and the real services take for grpc.aio is in
rpc_client.py and rpc_server.py; cancellation, deadlines and broken connections do there what they do in grpc.aio, as far as
Horologe uses it.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import grpc.aio

from horologe.chaos.sim.network import KEEPALIVE_SECONDS, PEER_KEEPALIVE_SECONDS, Network
from horologe.chaos.sim.process import Process

if TYPE_CHECKING:
    from horologe.chaos.sim.rpc_server import SimServer

Status = tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]
_CANCELLED: Status = (grpc.StatusCode.CANCELLED, "Locally cancelled by application!", ())
_NODE_TO_NODE = "/horologe.peer.v1.PeerService/Exchange"
_SNAPSHOT = "/horologe.peer.v1.PeerService/FetchSnapshot"


class Message(NamedTuple):
    """One message of a call, as somebody on the way sees it."""

    path: str
    source: str
    target: str
    data: bytes


class Line:
    """Messages that have arrived at one end and were not read yet."""

    def __init__(self) -> None:
        self._items: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.is_closed = False

    def put(self, data: bytes) -> None:
        self._items.append(data)
        self._wake()

    def close(self) -> None:
        """Nothing comes any more; what is here can still be read."""
        self.is_closed = True
        self._wake()

    async def get(self) -> bytes | None:
        """The next message; None when the line is closed and empty."""
        while not self._items:
            if self.is_closed:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._items.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Call:
    """One RPC, seen from both ends; see network.Connection."""

    def __init__(
        self, world: Rpc, client: Process, address: str, path: str, metadata: Any, timeout: float | None
    ) -> None:
        self.client = client
        self.server: Process | None = None
        self.path = path
        self.keepalive_seconds = PEER_KEEPALIVE_SECONDS if path == _NODE_TO_NODE else KEEPALIVE_SECONDS
        self.metadata = tuple(metadata or ())
        self.timeout = timeout
        self.address = address
        self.responses = Line()
        self.requests = Line()
        self.status: Status | None = None
        """On the client: how it ended."""
        self.ended = client.loop.create_future()
        self.handler: asyncio.Task[None] | None = None
        self.server_ended = False
        self._world = world
        self._number = world.network.connect(self)
        self._up_at = 0.0
        self._down_at = 0.0
        self._opened = False
        if timeout is not None:
            client.loop.call_later(max(timeout, 0.0), self._deadline)

    # The client's end

    def to_server(self, data: bytes | None, *, opens: bool = False) -> None:
        """Sends a message, or the end of them. The first packet finds the server."""
        target = self.server
        if opens:
            target = self._world.listener(self.address)
            self.server = target
        if target is None or not target.is_alive:
            if opens:
                where = f"failed to connect to all addresses; last error: {self.address}: Connection refused"
                refused: Status = (grpc.StatusCode.UNAVAILABLE, where, ())
                self.client.after(0.0005, lambda: self.end_client(refused))
            return
        network = self._world.network
        for _ in range(self._world.copies(self.path, self.client.name, target.name, data or b"", opens=opens)):
            self._up_at = network.arrival(self.client.name, target.name, self._up_at)
            deliver = partial(self._arrives_at_server, data, opens)
            network.carry(self.client.name, target, self._up_at, data or b"", deliver)

    def end_client(self, status: Status) -> None:
        """The call is over for the client."""
        if self.status is None:
            self.status = status
            self.responses.close()
            self.ended.set_result(None)
            self._forget()

    def cancel(self) -> bool:
        """The client wants no more of it; the server hears so after a while."""
        if self.status is not None:
            return False
        self.end_client(_CANCELLED)
        server = self.server
        if server is not None and server.is_alive:
            network = self._world.network
            self._up_at = network.arrival(self.client.name, server.name, self._up_at)
            network.carry(self.client.name, server, self._up_at, b"cancel", self.end_server)
        return True

    def error(self) -> grpc.aio.AioRpcError:
        assert self.status is not None
        code, details, trailing = self.status
        return grpc.aio.AioRpcError(
            code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details=details, debug_error_string=details
        )

    def raise_for_status(self) -> None:
        """As grpc.aio does: nothing after a good end, CancelledError after an own cancellation, else AioRpcError."""
        assert self.status is not None
        if self.status is _CANCELLED:
            raise asyncio.CancelledError
        if self.status[0] is not grpc.StatusCode.OK:
            raise self.error()

    def _deadline(self) -> None:
        if self.cancel():
            self.status = (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", ())

    # The server's end

    def _arrives_at_server(self, data: bytes | None, opens: bool) -> None:
        if self.server_ended:
            return
        if opens and not self._opened:
            self._opened = True
            assert self.server is not None
            self._world.accept(self)
        if data is None:
            self.requests.close()
        elif not self.requests.is_closed:
            self.requests.put(data)

    def to_client(self, data: bytes | None, status: Status | None = None) -> None:
        """Sends a message, or with `status` the end of the call."""
        if self.server_ended or self.server is None:
            return
        if status is not None:
            self.server_ended = True
        network = self._world.network
        if data is not None and self.path == _SNAPSHOT:
            data = self._world.perhaps_damaged(data)
        ends = status is not None
        for _ in range(self._world.copies(self.path, self.server.name, self.client.name, data or b"", ends=ends)):
            self._down_at = network.arrival(self.server.name, self.client.name, self._down_at)
            deliver = partial(self._arrives_at_client, data, status)
            network.carry(self.server.name, self.client, self._down_at, data or b"", deliver)

    def _arrives_at_client(self, data: bytes | None, status: Status | None) -> None:
        if self.status is None:
            if data is not None:
                self.responses.put(data)
            if status is not None:
                self.end_client(status)

    def end_server(self) -> None:
        """The client is gone or wants no more: the handler is cancelled."""
        if not self.server_ended:
            self.server_ended = True
            self.requests.close()
            if self.handler is not None:
                self.handler.cancel()
            self._forget()

    def broke(self, side: str, reason: str) -> None:
        """See network.Connection."""
        if side == "client":
            self.end_client((grpc.StatusCode.UNAVAILABLE, reason, ()))
        else:
            self.end_server()

    def _forget(self) -> None:
        if self.status is not None and (self.server_ended or self.server is None):
            self._world.network.forget(self._number)


class Rpc:
    """All servers of the world, and the way to them."""

    def __init__(self, network: Network, randomness: random.Random) -> None:
        self.network = network
        self._random = randomness
        self._listeners: dict[str, tuple[Process, SimServer]] = {}
        self.intruder: Callable[[Message], int] | None = None
        """For scenarios: sees each message that leaves, and says how often it arrives."""

    def listen(self, address: str, process: Process, server: SimServer) -> None:
        self._listeners[address] = (process, server)

    def listener(self, address: str) -> Process | None:
        found = self._listeners.get(address)
        return found[0] if found is not None and found[1].is_open else None

    def accept(self, call: Call) -> None:
        self._listeners[call.address][1].accept(call)

    def copies(
        self, path: str, source: str, target: str, data: bytes, *, opens: bool = False, ends: bool = False
    ) -> int:
        """How often a message arrives: once, unless a scenario or a fault between nodes wants it otherwise."""
        if self.intruder is not None and not ends:
            return self.intruder(Message(path, source, target, data))
        faults = self.network.faults
        if path != _NODE_TO_NODE or opens or ends or not (faults.repeated or faults.swallowed):
            return 1
        dice = self._random.random()
        if dice < faults.swallowed:
            self.network.counts["messages swallowed"] += 1
            return 0
        if dice < faults.swallowed + faults.repeated:
            self.network.counts["messages repeated"] += 1
            return 2
        return 1

    def perhaps_damaged(self, data: bytes) -> bytes:
        if len(data) < 100 or self._random.random() >= self.network.faults.damaged:
            return data
        self.network.counts["snapshot chunks damaged"] += 1
        position = self._random.randrange(len(data) // 2, len(data))
        return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
