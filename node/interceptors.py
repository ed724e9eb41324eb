"""What every call passes on its way to a service: the wait for a revision or a barrier, and the translation of errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import cached_property
from types import TracebackType
from typing import Any

import grpc
import grpc.aio
import structlog

from horologe.node import errors
from horologe.node.barriers import Barriers
from horologe.node.context import NodeContext
from horologe.node.errors import ApiError
from horologe.node.names import shorten
from horologe.node.proposals import NoLeaderError, ProposalError

MIN_REVISION_KEY = "horologe-min-revision"
READ_KEY = "horologe-read"
LINEARIZABLE = "linearizable"
BEHIND_WAIT_SECONDS_MAX = 5.0
BEHIND_RETRY_SECONDS = 0.2

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class Guard(grpc.aio.ServerInterceptor):
    """An interceptor that goes around a call from its first message to its last."""

    @cached_property
    def _guarded(self) -> dict[str, tuple[Any, Any]]:
        """By method: what was found for it, and that with this around it. Services do not change while a node runs."""
        return {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        found, guarded = self._guarded.get(method, (None, None))
        if found is not handler:
            guarded = self._guard(method, handler)
            self._guarded[method] = handler, guarded
        return guarded

    def _guard(self, method: str, handler: Any) -> Any:
        codecs = handler.request_deserializer, handler.response_serializer
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._guard_stream(method, handler.stream_stream), *codecs)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._guard_stream(method, handler.unary_stream), *codecs)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(self._guard_call(method, handler.stream_unary), *codecs)
        return grpc.unary_unary_rpc_method_handler(self._guard_call(method, handler.unary_unary), *codecs)

    def _around(self, method: str, request: Any, context: Context) -> AbstractAsyncContextManager[None]:
        """What the call runs in. `request` is a message, or, of a stream, the messages to come."""
        raise NotImplementedError

    def _around_stream(self, method: str, request: Any, context: Context) -> AbstractAsyncContextManager[None]:
        """The same for a call that answers a stream."""
        return self._around(method, request, context)

    def _guard_call(self, method: str, call: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Awaitable[Any]]:
        async def guarded(request: Any, context: Context) -> Any:
            async with self._around(method, request, context):
                answer = call(request, context)
                # Servicers of libraries (health, reflection) may be plain functions.
                return await answer if isinstance(answer, Awaitable) else answer

        return guarded

    def _guard_stream(self, method: str, call: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Any]:
        async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
            async with self._around_stream(method, request, context):
                answers = call(request, context)
                if isinstance(answers, Awaitable):
                    await answers  # it writes with context.write
                else:
                    # Whoever stops listening ends it at once, in the same task.
                    async with aclosing(_each(answers)) as each:
                        async for answer in each:
                            yield answer

        return guarded


class Gate(Guard):
    """A guard that looks at a call before it begins, and not at what becomes of it."""

    async def _before(self, method: str, request: Any, context: Context) -> None:
        """Lets the call through when it returns. Raises an ApiError for one that may not go on."""
        raise NotImplementedError

    @asynccontextmanager
    async def _around(self, method: str, request: Any, context: Context) -> AsyncIterator[None]:
        await self._before(method, request, context)
        yield

    def _guard_call(self, method: str, call: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Awaitable[Any]]:
        async def guarded(request: Any, context: Context) -> Any:
            await self._before(method, request, context)
            answer = call(request, context)
            return await answer if isinstance(answer, Awaitable) else answer

        return guarded

    def _guard_stream(self, method: str, call: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Any]:
        """As a guard does it; nothing of this stays around a stream that may be open for days, among thousands of others."""

        async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
            await self._before(method, request, context)
            answers = call(request, context)
            if isinstance(answers, Awaitable):
                await answers
            else:
                async with aclosing(_each(answers)) as each:
                    async for answer in each:
                        yield answer

        return guarded


async def _each(answers: Any) -> AsyncGenerator[Any, None]:
    """What a servicer's generator answers; those of libraries may be plain ones."""
    if isinstance(answers, AsyncGenerator):
        async with aclosing(answers):
            async for answer in answers:
                yield answer
    else:
        for answer in answers:
            yield answer


class UnexpectedErrorInterceptor(Guard):
    """An ApiError becomes its status. Anything else that a service raises is a defect: it is logged with its traceback, and
    the caller is told INTERNAL. Goes outermost."""

    def _around(self, method: str, request: Any, context: Context) -> AbstractAsyncContextManager[None]:
        return _Translation(method, context)


class _Translation:
    """Of what a call raises. A class, like the meter's: every call passes here, and a generator costs four times as much."""

    __slots__ = ("_context", "_method")

    def __init__(self, method: str, context: Context) -> None:
        self._method = method
        self._context = context

    async def __aenter__(self) -> None:
        """Nothing has happened yet."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ApiError):
            await errors.abort(self._context, error)
        # A BaseError: the service has ended the call itself, or the caller is gone.
        elif isinstance(error, Exception) and not isinstance(error, grpc.aio.BaseError):
            log.error("call failed", method=self._method, exc_info=error)
            await errors.abort(self._context, errors.internal())


class MinRevisionInterceptor(Gate):
    """Metadata `horologe-min-revision: N` makes a call wait until this node has applied N, so that a caller reads its own
    writes on any node."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context

    async def _before(self, method: str, request: Any, context: Context) -> None:
        for key, value in context.invocation_metadata() or ():
            if key == MIN_REVISION_KEY:
                text = value.decode(errors="replace") if isinstance(value, bytes) else value
                await self._wait(text, context.time_remaining())

    async def _wait(self, text: str, remaining_seconds: float | None) -> None:
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise errors.invalid_field(
                MIN_REVISION_KEY, f"{shorten(text)} is no revision; send a number that a call has answered"
            )
        if int(text) <= self._node.status().revision:
            return
        if not await self._node.wait_revision(int(text), _wait_seconds(remaining_seconds)):
            revision = self._node.status().revision
            raise ApiError(
                "BEHIND",
                f"this node has applied revision {revision}, not yet {text}; try again, or ask another node",
                metadata={"revision": str(revision), "min_revision": text},
                retry_seconds=BEHIND_RETRY_SECONDS,
            )


class LinearizableInterceptor(Gate):
    """Metadata `horologe-read: linearizable` makes a call wait for a barrier, so that it sees every write that was
    acknowledged before it began, by whatever node and to whomever."""

    def __init__(self, barriers: Barriers) -> None:
        self._barriers = barriers

    async def _before(self, method: str, request: Any, context: Context) -> None:
        for key, value in context.invocation_metadata() or ():
            if key == READ_KEY:
                if value not in (LINEARIZABLE, LINEARIZABLE.encode()):
                    raise errors.invalid_field(READ_KEY, f"must be {LINEARIZABLE}, or absent")
                await self._pass(context.time_remaining())

    async def _pass(self, remaining_seconds: float | None) -> None:
        try:
            async with asyncio.timeout(_wait_seconds(remaining_seconds)):
                await self._barriers.passed()
        except NoLeaderError as error:
            raise errors.no_leader() from error
        except (ProposalError, TimeoutError) as error:
            raise ApiError(
                "BEHIND",
                "this node could not make sure that it knows the newest state; try again, or ask another node",
                retry_seconds=BEHIND_RETRY_SECONDS,
            ) from error


def _wait_seconds(remaining_seconds: float | None) -> float:
    """So long that the caller still hears of it."""
    return (
        BEHIND_WAIT_SECONDS_MAX if remaining_seconds is None else min(BEHIND_WAIT_SECONDS_MAX, remaining_seconds * 0.9)
    )
