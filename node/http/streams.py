"""Streams of the API over HTTP: server-sent events, or lines of JSON, for as long as the caller listens and may.

What the caller may is looked at by open_streams.py, as for gRPC; it ends the task in which the stream began, so each stream has
a task of its own, which hands over what comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, cast

import grpc
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from google.protobuf.message import Message

from horologe.node.http.endpoints import Endpoint
from horologe.node.http.json_writer import dump, write
from horologe.node.http.problems import Problem
from horologe.node.local_calls import LocalCallError

EVENTS, LINES = "text/event-stream", "application/x-ndjson"
LAST_EVENT_HEADER = "last-event-id"
KEEP_ALIVE_SECONDS = 15.0
FIRST_SECONDS = 1.0
"""So long an answer waits for the first message, or for an error, which then has a status of its own."""
AHEAD_MAX = 16
"""Messages that wait for a slow reader."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """How a stream goes on behind a message that the caller has had."""

    id_of: Callable[[Any], str]
    """Of a message; empty if nothing can go on behind it."""
    apply: Callable[[Any, str], None]
    """To a request. Raises ValueError."""


def _resume_output(request: Any, id_: str) -> None:
    attempt, _, position = id_.partition("-")
    request.attempt, request.after_position = int(attempt), int(position)


def _resume_audit(request: Any, id_: str) -> None:
    request.from_sequence = int(id_) + 1


RESUMPTIONS: Mapping[str, Resumption] = {
    "AuditService.ExportAuditRecords": Resumption(
        lambda message: str(message.records[-1].sequence) if message.records else "", _resume_audit
    ),
    "OutputService.ReadOutput": Resumption(lambda message: f"{message.attempt}-{message.position}", _resume_output),
    "WatchService.WatchEvents": Resumption(
        lambda message: str(message.resume_token), lambda request, id_: setattr(request, "resume_token", id_)
    ),
}
"""Streams that can go on; the others begin anew."""


def check_accept(request: Request, endpoint: Endpoint) -> None:
    """Raises Problem if the caller takes no stream that there is."""
    if endpoint.is_stream:
        _chosen(request)


def _chosen(request: Request) -> str:
    """The kind of stream that the caller likes best; lines, if it does not mind."""
    found: dict[str, float] = {}
    for part in request.headers.get("accept", "*/*").split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        try:
            found[kind.lower()] = float(quality)
        except ValueError:
            found[kind.lower()] = 0.0

    def liked(kind: str) -> float:
        return found.get(kind, found.get(f"{kind.partition('/')[0]}/*", found.get("*/*", 0.0)))

    best = max((LINES, EVENTS), key=liked)
    if not liked(best):
        raise Problem.of_http("NOT_ACCEPTABLE", f"this is a stream: {EVENTS} or {LINES}; ask for one of them in Accept")
    return best


def set_resumption(request: Request, endpoint: Endpoint, message: Message) -> None:
    """What `Last-Event-ID` says becomes the place in the request where to go on. Raises Problem."""
    id_ = request.headers.get(LAST_EVENT_HEADER)
    resumption = RESUMPTIONS.get(endpoint.name)
    if not id_ or resumption is None:
        return
    try:
        resumption.apply(message, id_)
    except ValueError:
        raise Problem.of_http("INVALID_HEADER", "Last-Event-ID is of no event of this stream") from None


async def begin(request: Request, endpoint: Endpoint, channel: grpc.aio.Channel, message: Message) -> Response:
    """The answer, once it is clear that there is a stream. Raises LocalCallError."""
    kind = _chosen(request)
    call: Callable[[Message], AsyncGenerator[Message, None]] = cast(Any, channel).unary_stream(endpoint.path)
    source = _Source(call(message))
    try:
        await source.begun()
    except BaseException:
        await source.close()
        raise
    resumption = RESUMPTIONS.get(endpoint.name)
    pieces = _events(source, resumption) if kind == EVENTS else _lines(source)
    # Nobody on the way may hold anything back, or compress it in blocks.
    headers = {"X-Accel-Buffering": "no", "Content-Encoding": "identity"}
    return StreamingResponse(_closing(source, pieces), media_type=kind, headers=headers)


class _Source:
    """The messages of a stream, read in a task of their own."""

    def __init__(self, messages: AsyncGenerator[Message, None]) -> None:
        self._messages = messages
        self._waiting: asyncio.Queue[Message | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(AHEAD_MAX)
        self.problem: Problem | None = None
        self._error: LocalCallError | None = None
        self._task = asyncio.create_task(self._read(), name="http stream")
        self._first: asyncio.Future[Message | None] | None = asyncio.ensure_future(self._waiting.get())

    async def _read(self) -> None:
        try:
            async with aclosing(self._messages):
                async for message in self._messages:
                    await self._room.acquire()
                    self._waiting.put_nowait(message)
        except LocalCallError as error:
            self._error = error
        except asyncio.CancelledError:
            # Whoever reads slowly is not in the call when open_streams.py ends it.
            self.problem = Problem(403, "PERMISSION_DENIED", "the caller may not listen any longer")
            raise
        finally:
            self._waiting.put_nowait(None)

    async def begun(self) -> None:
        """Returns when the first message is there, or after a moment. Raises LocalCallError if there is none to come."""
        assert self._first is not None
        await asyncio.wait({self._first}, timeout=FIRST_SECONDS)
        if self._first.done() and self._first.result() is None and self._error is not None:
            raise self._error

    async def next(self, timeout_seconds: float) -> Message | None:
        """None at the end. Raises TimeoutError if nothing has come."""
        if self._first is None:
            self._first = asyncio.ensure_future(self._waiting.get())
        await asyncio.wait({self._first}, timeout=timeout_seconds)
        if not self._first.done():
            raise TimeoutError
        message, self._first = self._first.result(), None
        self._room.release()
        if message is None and self._error is not None:
            self.problem = Problem.of_call(self._error)
        return message

    async def close(self) -> None:
        """Ends the call, if it goes on."""
        if self._first is not None:
            self._first.cancel()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


async def _closing(source: _Source, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for piece in pieces:
            yield piece
    finally:
        await source.close()


async def _events(source: _Source, resumption: Resumption | None) -> AsyncIterator[bytes]:
    yield b": listening\n\n"
    while True:
        try:
            message = await source.next(KEEP_ALIVE_SECONDS)
        except TimeoutError:
            yield b": still here\n\n"
            continue
        if message is None:
            break
        id_ = resumption.id_of(message) if resumption is not None else ""
        yield (f"id: {id_}\n" if id_ else "").encode() + _event("", await write(message))
    # A browser connects again by itself after the end, unless it is told that this was one.
    yield _event("end", b"{}") if source.problem is None else _event("error", dump(source.problem.document()))


async def _lines(source: _Source) -> AsyncIterator[bytes]:
    while True:
        try:
            message = await source.next(KEEP_ALIVE_SECONDS)
        except TimeoutError:
            continue
        if message is None:
            break
        yield await write(message) + b"\n"
    if source.problem is not None:
        yield dump({"problem": source.problem.document()}) + b"\n"


def _event(name: str, data: bytes) -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + data + b"\n\n"
