"""Calls to this node's own services from within its process, past no port: the way of the HTTP API and the dashboard.

They pass the same interceptors as calls that come over gRPC, so that who may do what is decided, limited and recorded in one
place only. Generated stubs work on a `LocalChannel`. Messages are handed over as they are: whoever gets one may read it, and must
not change it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, NoReturn, cast

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

CALL_SECONDS_MAX = 30.0
_DETAILS_KEY = "grpc-status-details-bin"
Metadata = Sequence[tuple[str, str]]


class LocalCallError(Exception):
    """A call that was answered with an error. Its text is the message for the caller."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status

    @property
    def code(self) -> grpc.StatusCode:
        """The status as gRPC names it."""
        return next(code for code in grpc.StatusCode if code.value[0] == self.status.code)

    @property
    def reason(self) -> str:
        """What programs compare, as `JOB_NOT_FOUND`; the code's name if the service gave no reason."""
        info = error_details_pb2.ErrorInfo()
        for detail in self.status.details:
            if detail.Unpack(info):
                return str(info.reason)
        return self.code.name


class _CallDetails:
    """See grpc.HandlerCallDetails."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata: tuple[tuple[str, str], ...] = ()


class _LocalContext:
    """What a service and the interceptors see of a call. See grpc.aio.ServicerContext."""

    def __init__(self, peer: str, metadata: Metadata, timeout_seconds: float | None) -> None:
        self._peer = peer
        self._metadata = tuple(metadata)
        loop = asyncio.get_running_loop()
        self._time = loop.time
        self._ends_at = None if timeout_seconds is None else loop.time() + timeout_seconds
        self.trailing: tuple[tuple[str, str | bytes], ...] = ()

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> dict[str, Any]:
        """Nobody shows a certificate here."""
        return {}

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def time_remaining(self) -> float | None:
        return None if self._ends_at is None else max(0.0, self._ends_at - self._time())

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        self.trailing = tuple(metadata)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        status = status_pb2.Status(code=code.value[0], message=details)
        for key, value in trailing_metadata or ():
            if key == _DETAILS_KEY:
                status = status_pb2.Status.FromString(value)
        raise _AbortedError(status)


class _AbortedError(grpc.aio.AbortError):
    """How an aborted call ends, with what the caller is to be told."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__("Locally aborted.")
        self.status = status


class LocalCalls:
    """All services of one node. Services are added to it as to a server; see grpc.aio.Server."""

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor]) -> None:
        self._interceptors = interceptors
        self._generic: list[grpc.GenericRpcHandler] = []
        self._handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Called by the generated `add_..._to_server`."""
        self._generic += handlers

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """The generic handlers know the same methods."""

    def channel(self, source: tuple[str, int], metadata: Metadata = ()) -> grpc.aio.Channel:
        """For calls of one caller: where it is, and what it says of itself (`authorization`)."""
        host, port = source
        peer = f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"
        # As much of a channel as stubs use.
        return cast(grpc.aio.Channel, LocalChannel(self, peer, metadata))

    async def unary(self, path: str, request: Message, peer: str, metadata: Metadata, timeout_seconds: float) -> Any:
        """One message for one. Raises LocalCallError."""
        handler = await self._handler(path)
        context = _LocalContext(peer, metadata, timeout_seconds)
        # In a context of its own: who calls is remembered there (callers.CALLER).
        call = asyncio.create_task(handler.unary_unary(request, context))
        try:
            async with asyncio.timeout(timeout_seconds):
                return await call
        except _AbortedError as error:
            raise LocalCallError(error.status) from None
        except TimeoutError:
            text = f"it was not answered within {timeout_seconds:g} s"
            code = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
            raise LocalCallError(status_pb2.Status(code=code, message=text)) from None

    async def stream(self, path: str, request: Message, peer: str, metadata: Metadata) -> AsyncGenerator[Any, None]:
        """Many messages for one, for as long as the caller listens. Raises LocalCallError."""
        handler = await self._handler(path)
        answers: AsyncGenerator[Any, None] = handler.unary_stream(request, _LocalContext(peer, metadata, None))
        try:
            # Whoever stops listening ends the call at once: what it holds is counted (open_streams.py).
            async with aclosing(answers):
                async for answer in answers:
                    yield answer
        except _AbortedError as error:
            raise LocalCallError(error.status) from None

    async def _handler(self, path: str) -> Any:
        handler = self._handlers.get(path)
        if handler is None:
            continuation: Callable[[Any], Awaitable[Any]] = self._innermost
            for interceptor in reversed(self._interceptors):
                continuation = partial(interceptor.intercept_service, continuation)
            handler = await continuation(_CallDetails(path))
            if handler is None:
                code = grpc.StatusCode.UNIMPLEMENTED.value[0]
                raise LocalCallError(status_pb2.Status(code=code, message=f"there is no method {path}"))
            self._handlers[path] = handler
        return handler

    async def _innermost(self, details: Any) -> Any:
        return next((found for generic in self._generic if (found := generic.service(details)) is not None), None)


class LocalChannel:
    """What generated stubs call through, in the name of one caller. See grpc.aio.Channel."""

    def __init__(self, calls: LocalCalls, peer: str, metadata: Metadata) -> None:
        self._calls = calls
        self._peer = peer
        self._metadata = tuple(metadata)

    def unary_unary(self, path: str, *_: Any, **__: Any) -> Callable[..., Awaitable[Any]]:
        """A callable of one request, as stubs make it."""

        async def call(request: Message, *, metadata: Metadata = (), timeout: float = CALL_SECONDS_MAX) -> Any:
            return await self._calls.unary(path, request, self._peer, (*self._metadata, *metadata), timeout)

        return call

    def unary_stream(self, path: str, *_: Any, **__: Any) -> Callable[..., AsyncGenerator[Any, None]]:
        """The same for calls that answer a stream."""

        def call(request: Message, *, metadata: Metadata = ()) -> AsyncGenerator[Any, None]:
            return self._calls.stream(path, request, self._peer, (*self._metadata, *metadata))

        return call

    def stream_stream(self, path: str, *_: Any, **__: Any) -> Callable[..., NoReturn]:
        """Workers have a port of their own."""

        def call(*_: Any, **__: Any) -> NoReturn:
            raise NotImplementedError(f"{path} takes a stream, and is not called from within")

        return call
