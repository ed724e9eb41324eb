"""Servers that the real services, with their interceptors, take for those of grpc.aio. See rpc.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, NoReturn

import grpc
import grpc.aio

from horologe.chaos.sim.process import Process
from horologe.chaos.sim.rpc import Call, Rpc, Status

_OK: Status = (grpc.StatusCode.OK, "", ())


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
