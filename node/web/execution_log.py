"""What an execution printed: live over server-sent events, and as a file.

The stream tells `start` (the last lines that there are, in place of whatever the page showed), `lines` (more of them, to be
added), `note` (what the reader should know), and `end` (nothing more will come). Every event with lines has as its id the place
after them (log_lines.py), with which a browser that lost the connection goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import cast

import grpc
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from markupsafe import escape

from horologe.node.http.event_stream import EventStream
from horologe.node.local_calls import LocalCallError
from horologe.node.web.log_lines import Line, LineReader, Place
from horologe.node.web.reading import execution_name
from horologe.node.web.view import Web
from horologe.node.web.words import plain
from horologe.v1 import (
    execution_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    output_service_pb2,
    output_service_pb2_grpc,
)

LINES_AT_FIRST_MAX = 400
CHARACTERS_AT_FIRST_MAX = 150_000
"""As HTML. What there is at the beginning is cut to its end, so that a page stays small whatever was printed."""
LINES_SHOWN_MAX = 2_000
"""After so many more, the page gets the last ones anew in place of all."""
LINE_CHARACTERS_MAX = 4_000
NOTE_CHARACTERS_MAX = 500
QUIET_SECONDS = 10.0
"""Without a word for so long, something is sent, so that a browser that has gone is noticed."""
RETRY_MS = 2_000
"""How soon a browser comes back."""
EVENTS_WAITING_MAX = 8
_OVER = frozenset({"OUTPUT_NOT_FOUND", "EXECUTION_NOT_FOUND"})
"""There is no such attempt, and there will be none."""
_GONE = "OUTPUT_GONE"
"""Not kept any more: `follow` says so."""
_BRIEF = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def router(web: Web) -> APIRouter:
    """`/executions/{namespace}/{job}/{number}/log`, and `.../output`"""
    routes = APIRouter()
    path = "/executions/{namespace}/{job}/{number}"

    @routes.get(path + "/log")
    async def log(request: Request, namespace: str, job: str, number: str) -> Response:
        channel = web.view(request).channel
        name = execution_name(namespace, job, number)
        executions = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        found = await executions.GetExecution(execution_service_pb2.GetExecutionRequest(name=name))
        follower = _Follower(
            output_service_pb2_grpc.OutputServiceStub(channel), name, found.execution, _attempt_in(request)
        )
        place = Place.parse(request.headers.get("last-event-id", ""))
        if place is not None:
            follower.go_on_from(place)
        # Who may not read it hears so at once, by the status.
        beginning = await follower.begin() if place is None else []
        return EventStream(_frames(beginning, follower.follow()))

    @routes.get(path + "/output")
    async def output(request: Request, namespace: str, job: str, number: str) -> Response:
        outputs = output_service_pb2_grpc.OutputServiceStub(web.view(request).channel)
        wanted = output_service_pb2.ReadOutputRequest(
            name=execution_name(namespace, job, number), attempt=_attempt_in(request)
        )
        pieces = _pieces(outputs, wanted)
        first = await anext(pieces, None)

        async def body() -> AsyncIterator[bytes]:
            async with aclosing(pieces):
                if first is not None:
                    yield first.data
                async for piece in pieces:
                    yield piece.data

        attempt = f"-attempt-{first.attempt}" if first is not None else ""
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{job}-{number}{attempt}.log"',
        }
        return StreamingResponse(body(), media_type="text/plain; charset=utf-8", headers=headers)

    return routes


def _pieces(
    outputs: output_service_pb2_grpc.OutputServiceStub, request: output_service_pb2.ReadOutputRequest
) -> AsyncGenerator[output_service_pb2.ReadOutputResponse, None]:
    """What the stub of a local channel answers: unlike one of gRPC it is closed, not cancelled."""
    return cast(AsyncGenerator[output_service_pb2.ReadOutputResponse, None], outputs.ReadOutput(request))


def _attempt_in(request: Request) -> int:
    """0: the last one."""
    text = request.query_params.get("attempt", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the stream."""

    kind: str
    html: str
    """Not empty: browsers pass over events without data."""
    place: Place | None = None

    def __str__(self) -> str:
        place = f"id: {self.place}\n" if self.place is not None else ""
        data = "".join(f"data: {line}\n" for line in self.html.split("\n"))
        return f"event: {self.kind}\n{place}{data}\n"


class _Follower:
    """Reads for one browser: one attempt, or the last one and all that come after it."""

    def __init__(
        self,
        outputs: output_service_pb2_grpc.OutputServiceStub,
        name: str,
        execution: execution_pb2.Execution,
        attempt: int,
    ) -> None:
        """`attempt` 0: the last one."""
        self._outputs = outputs
        self._name = name
        last = execution.attempts[-1].number if execution.attempts else 1
        self._last = attempt if 0 < attempt < last else 0
        """The attempt after which nothing more is read; 0: there is none."""
        self._reader = LineReader(Place(attempt or last))
        self._attempt = attempt or last
        """The one that is read."""
        self._is_silent = False
        """The attempt has begun while the page was open, and nothing of it is shown yet."""
        self._tail: deque[Line] = deque(maxlen=LINES_AT_FIRST_MAX)
        self._line_count = 0
        self._shown_count = 0

    def go_on_from(self, place: Place) -> None:
        """All before it is shown already."""
        self._reader, self._attempt = LineReader(place), place.attempt
        self._is_silent = place.position == place.line_count == 0

    async def begin(self) -> list[Event]:
        """What there is by now, as far as it is shown. Raises LocalCallError."""
        try:
            async for lines in self._read(follow=False):
                self._keep(lines)
        except LocalCallError as error:
            if error.reason not in (*_OVER, _GONE):
                raise
        return [self._anew()]

    async def follow(self) -> AsyncIterator[Event]:
        """What comes from then on."""
        try:
            while not self._last or self._attempt <= self._last:
                async for lines in self._read(follow=True):
                    for event in self._more(lines):
                        yield event
                for event in self._more(self._reader.finish()):
                    yield event
                self.go_on_from(self._reader.place)
        except LocalCallError as error:
            if error.reason not in _OVER:
                yield Event("note", str(escape(plain(error, NOTE_CHARACTERS_MAX))))
            if error.code in _BRIEF:
                # Without an `end` the browser comes back, and goes on from where it is.
                return
        yield Event("end", "end")

    async def _read(self, *, follow: bool) -> AsyncIterator[list[Line]]:
        request = output_service_pb2.ReadOutputRequest(
            name=self._name,
            attempt=self._attempt,
            follow=follow,
            after_position=self._reader.position,
        )
        async with aclosing(_pieces(self._outputs, request)) as pieces:
            async for piece in pieces:
                is_error = piece.stream == output_service_pb2.OUTPUT_STREAM_STDERR
                yield self._reader.take(piece.data, piece.position, is_error=is_error)

    def _more(self, lines: list[Line]) -> list[Event]:
        """The events that tell of these lines: they are added, or what is shown is cut to the last ones."""
        if not lines:
            return []
        self._keep(lines)
        self._shown_count += len(lines)
        if self._shown_count > LINES_SHOWN_MAX:
            return [self._anew()]
        heading = f'<span class="log-note">attempt {self._attempt}</span>\n' if self._is_silent else ""
        self._is_silent = False
        return [Event("lines", heading + "".join(map(_html, lines)), self._reader.place)]

    def _keep(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self._tail.append(line)
            self._line_count += 1

    def _anew(self) -> Event:
        """The last lines, in place of all that is shown."""
        shown: deque[str] = deque()
        room = CHARACTERS_AT_FIRST_MAX
        for line in reversed(self._tail):
            html = _html(line)
            room -= len(html)
            if room < 0:
                break
            shown.appendleft(html)
        self._shown_count = len(shown)
        omitted = self._line_count - len(shown)
        note = f'<span class="log-note">{omitted} earlier lines are not shown; the file has all of them</span>\n'
        return Event("start", (note if omitted else "<span></span>") + "".join(shown), self._reader.place)


def _html(line: Line) -> str:
    """Lines of standard error say so, not by a colour alone."""
    mark = '<span class="log-error"><b>err</b> ' if line.is_error else "<span>"
    return f"{mark}{escape(plain(line.text, LINE_CHARACTERS_MAX))}</span>\n"


async def _frames(beginning: Iterable[Event], events: AsyncIterator[Event]) -> AsyncGenerator[str, None]:
    """The stream as it is sent. The events are read by a task of their own, whose end is theirs."""
    yield f"retry: {RETRY_MS}\n\n"
    for event in beginning:
        yield str(event)
    waiting: asyncio.Queue[Event | None] = asyncio.Queue(EVENTS_WAITING_MAX)

    async def read() -> None:
        async for event in events:
            await waiting.put(event)
        await waiting.put(None)

    task = asyncio.create_task(read(), name="log of an execution")
    try:
        while True:
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    next_event = await waiting.get()
            except TimeoutError:
                yield ": nothing new\n\n"
                continue
            if next_event is None:
                return
            yield str(next_event)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
