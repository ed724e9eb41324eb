"""gRPC without a network: channels and servers that the real stubs and the real services take for those of grpc.aio.

Messages travel in their serialised form over network.py. Only what Horologe uses is here; its behaviour under cancellation,
deadlines and broken connections follows grpc.aio.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn, Self

import grpc
import grpc.aio

from horologe.chaos.sim.network import KEEPALIVE_SECONDS, PEER_KEEPALIVE_SECONDS, Network
from horologe.chaos.sim.process import Process

Status = tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]
_OK: Status = (grpc.StatusCode.OK, "", ())
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


# Clients


class _ClientCall:
    """What the kinds of calls have in common for the caller."""

    def __init__(self, call: Call, decode: Callable[[bytes], Any]) -> None:
        self._call = call
        self._decode = decode

    def cancel(self) -> bool:
        return self._call.cancel()

    def done(self) -> bool:
        return self._call.status is not None

    async def code(self) -> grpc.StatusCode:
        await asyncio.shield(self._call.ended)
        assert self._call.status is not None
        return self._call.status[0]

    async def details(self) -> str:
        await asyncio.shield(self._call.ended)
        assert self._call.status is not None
        return self._call.status[1]

    async def read(self) -> Any:
        data = await self._call.responses.get()
        if data is not None:
            return self._decode(data)
        self._call.raise_for_status()
        return grpc.aio.EOF

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message


class UnaryCall(_ClientCall):
    """Awaited for its one answer."""

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        try:
            data = await self._call.responses.get()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if data is not None:
            return self._decode(data)
        self._call.raise_for_status()
        raise grpc.aio.InternalError("the call ended well and without an answer")


class StreamCall(_ClientCall):
    """Messages in both directions."""

    def __init__(self, call: Call, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]) -> None:
        super().__init__(call, decode)
        self._encode = encode
        self._opened = False

    async def write(self, message: Any) -> None:
        if self.done():
            raise asyncio.InvalidStateError("RPC already finished.")
        self._call.to_server(self._encode(message), opens=not self._opened)
        self._opened = True

    async def done_writing(self) -> None:
        if not self.done():
            self._call.to_server(None)


class SimChannel:
    """See grpc.aio.Channel."""

    def __init__(self, world: Rpc, process: Process, address: str) -> None:
        self._world = world
        self._process = process
        self._address = address
        self._calls: list[Call] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        for call in self._calls:
            call.cancel()

    def _begin(self, path: str, timeout: float | None, metadata: Any) -> Call:
        self._calls = [call for call in self._calls if call.status is None]
        call = Call(self._world, self._process, self._address, path, metadata, timeout)
        self._calls.append(call)
        return call

    def unary_unary(
        self,
        path: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool = False,
    ) -> Callable[..., UnaryCall]:
        def invoke(request: Any, *, timeout: float | None = None, metadata: Any = None) -> UnaryCall:
            call = self._begin(path, timeout, metadata)
            call.to_server(request_serializer(request), opens=True)
            return UnaryCall(call, response_deserializer)

        return invoke

    def unary_stream(
        self,
        path: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool = False,
    ) -> Callable[..., _ClientCall]:
        def invoke(request: Any, *, timeout: float | None = None, metadata: Any = None) -> _ClientCall:
            call = self._begin(path, timeout, metadata)
            call.to_server(request_serializer(request), opens=True)
            return _ClientCall(call, response_deserializer)

        return invoke

    def stream_stream(
        self,
        path: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool = False,
    ) -> Callable[..., StreamCall]:
        def invoke(*, timeout: float | None = None, metadata: Any = None, wait_for_ready: bool = False) -> StreamCall:
            return StreamCall(self._begin(path, timeout, metadata), request_serializer, response_deserializer)

        return invoke


# Servers


class ServerContext:
    """See grpc.aio.ServicerContext."""

    def __init__(
        self, call: Call, process: Process, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]
    ) -> None:
        self._call = call
        self._process = process
        self._encode = encode
        self._decode = decode
        self._deadline = None if call.timeout is None else process.clock.monotonic() + call.timeout
        self.trailing: tuple[tuple[str, str | bytes], ...] = ()

    async def read(self) -> Any:
        data = await self._call.requests.get()
        return grpc.aio.EOF if data is None else self._decode(data)

    async def write(self, message: Any) -> None:
        self._call.to_client(self._encode(message))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        self._call.to_client(None, (code, details, tuple((key, value) for key, value in trailing_metadata)))
        raise grpc.aio.AbortError("Locally aborted.")

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._call.metadata

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        self.trailing = tuple(metadata)

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - self._process.clock.monotonic())


class _CallDetails:
    """See grpc.HandlerCallDetails."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata: tuple[tuple[str, str], ...] = ()


class SimServer:
    """See grpc.aio.Server."""

    def __init__(self, world: Rpc, process: Process, interceptors: Sequence[Any]) -> None:
        self._world = world
        self._process = process
        self._interceptors = interceptors
        self._generic: list[Any] = []
        self._resolved: dict[str, Any] = {}
        self._address = ""
        self._calls: list[Call] = []
        self.is_open = False

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        self._generic += handlers

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """The generic handlers know the same methods."""

    def add_insecure_port(self, address: str) -> int:
        self._address = address
        return 1

    async def start(self) -> None:
        self.is_open = True
        self._world.listen(self._address, self._process, self)

    async def stop(self, grace: float | None) -> None:
        self.is_open = False
        for call in self._calls:
            if not call.server_ended:
                call.to_client(None, (grpc.StatusCode.UNAVAILABLE, "the server stops", ()))
                if call.handler is not None:
                    call.handler.cancel()

    def accept(self, call: Call) -> None:
        self._calls = [one for one in self._calls if not one.server_ended]
        self._calls.append(call)
        call.handler = self._process.loop.create_task(self._serve(call))

    async def _serve(self, call: Call) -> None:
        handler = self._resolved.get(call.path)
        if handler is None:
            handler = self._resolved[call.path] = await self._resolve(call.path)
        if handler is None:
            call.to_client(None, (grpc.StatusCode.UNIMPLEMENTED, f"Method not found: {call.path}", ()))
            return
        context = ServerContext(call, self._process, handler.response_serializer, handler.request_deserializer)
        try:
            await self._run(handler, context)
        except (grpc.aio.AbortError, asyncio.CancelledError):
            return
        except Exception as error:  # noqa: BLE001 - as grpc does
            self._process.loop.call_exception_handler({"message": f"{call.path} failed", "exception": error})
            call.to_client(None, (grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}", ()))
            return
        call.to_client(None, _OK if not context.trailing else (grpc.StatusCode.OK, "", context.trailing))

    async def _run(self, handler: Any, context: ServerContext) -> None:
        if handler.request_streaming:
            answer = handler.stream_stream(None, context)
        elif handler.response_streaming:
            answer = handler.unary_stream(await context.read(), context)
        else:
            await context.write(await handler.unary_unary(await context.read(), context))
            return
        if isinstance(answer, Awaitable):
            await answer
            return
        async for message in answer:
            await context.write(message)

    async def _resolve(self, path: str) -> Any:
        details = _CallDetails(path)

        async def innermost(details: Any) -> Any:
            for generic in self._generic:
                found = generic.service(details)
                if found is not None:
                    return found
            return None

        continuation: Callable[[Any], Awaitable[Any]] = innermost
        for interceptor in reversed(self._interceptors):
            continuation = partial(interceptor.intercept_service, continuation)
        return await continuation(details)
