"""An answer of server-sent events: text that goes on until its source ends, its reader leaves, or its caller may not any more.

What is wrong before the first event becomes an ordinary answer; what goes wrong later ends the stream, and browsers ask again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import Response
from starlette.types import Message, Receive, Scope, Send

from horologe.node.local_calls import LocalCallError

MEDIA_TYPE = "text/event-stream; charset=utf-8"


def event(name: str, data: str) -> str:
    """One event of one line."""
    return f"event: {name}\ndata: {data}\n\n"


class EventStream(Response):
    """Sends texts as they come. The source is read by one task from its beginning to its end: calls that go on need that."""

    def __init__(self, source: AsyncGenerator[str, None]) -> None:
        super().__init__(headers={"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        writing = asyncio.create_task(self._write(send), name="event stream")
        leaving = asyncio.create_task(_left(receive), name="event stream's reader")
        tasks = (writing, leaving)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not writing.cancelled():
            writing.result()

    async def _write(self, send: Send) -> None:
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        start: Message | None = {"type": "http.response.start", "status": 200, "headers": headers}
        try:
            async with aclosing(self._source):
                async for text in self._source:
                    if start is not None:
                        await send(start)
                        start = None
                    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        except LocalCallError:
            if start is not None:
                raise
        if start is not None:
            await send(start)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
