"""What tells open pages that something has changed: `/live`, server-sent events. Pages read anew what they show."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import grpc.aio
from fastapi import APIRouter, Request, Response

from horologe.node.http.event_stream import EventStream, event
from horologe.node.ticks import Mark
from horologe.node.web.view import Web
from horologe.v1 import watch_service_pb2, watch_service_pb2_grpc

STREAMS_MAX = 1_000
"""On one node, of all readers together: half of the connections that it takes. Of one reader open_streams.py counts too."""
RETRY_MILLISECONDS = 2_000
"""After so long a browser asks again when a node was gone, or has ended the stream."""


class LiveStreams:
    """All open ones of a node."""

    def __init__(self) -> None:
        self.count = 0

    @property
    def is_full(self) -> bool:
        return self.count >= STREAMS_MAX

    async def events(self, channel: grpc.aio.Channel) -> AsyncGenerator[str, None]:
        """The first one at once: what a page was made from may be older."""
        self.count += 1
        try:
            watch = watch_service_pb2_grpc.WatchServiceStub(channel)
            told = ""
            # What the stub of a local channel answers: unlike one of gRPC it is closed, not cancelled.
            answers = cast(
                AsyncGenerator[watch_service_pb2.WatchChangesResponse, None],
                watch.WatchChanges(watch_service_pb2.WatchChangesRequest()),
            )
            async with aclosing(answers):
                async for answer in answers:
                    mark = Mark(answer.revision, answer.leader, answer.term).text
                    head = "" if told else f"retry: {RETRY_MILLISECONDS}\n"
                    yield head + (event("changed", mark) if mark != told else ":\n\n")
                    told = mark
        finally:
            self.count -= 1


def router(web: Web) -> APIRouter:
    """`/live`"""
    routes = APIRouter()
    streams = LiveStreams()

    @routes.get("/live")
    async def live(request: Request) -> Response:
        if streams.is_full:
            return Response("too many pages are open on this node", 503, headers={"Retry-After": "30"})
        return EventStream(streams.events(web.view(request).channel))

    return routes
