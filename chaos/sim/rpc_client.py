"""Channels and calls that the real stubs, the SDK and the worker take for those of grpc.aio. See rpc.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Self

import grpc
import grpc.aio

from horologe.chaos.sim.process import Process
from horologe.chaos.sim.rpc import Call, Rpc


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
