"""Calls that go on: who has them open, how many they may have, and their end when the caller may not any more.

Rights are looked at when a stream begins, and from then on about every second, together for all of them. A token that is
revoked ends what was begun with it; whoever reads slowly loses the stream without a word of why.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from horologe.node.authorization import check
from horologe.node.callers import Caller, CallerKind
from horologe.node.context import NodeContext
from horologe.node.denials import Denials
from horologe.node.errors import ApiError
from horologe.node.standing import rights_now
from horologe.raft.access import Rights

STREAMS_PER_PRINCIPAL_MAX = 100
"""On one node. A page that shows a cluster needs a few; each costs a look at whatever happens."""
LOOK_SECONDS = 1.0
_ENDING = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})


@dataclass(slots=True, eq=False)
class OpenStream:
    """One stream."""

    caller: Caller
    request: Any
    task: asyncio.Task[Any]
    ended_by: ApiError | None = None


class OpenStreams:
    """All streams of one node. Belongs to the event loop."""

    def __init__(self, context: NodeContext, denials: Denials) -> None:
        self._node = context
        self._denials = denials
        self._streams: set[OpenStream] = set()
        self._counts: Counter[str] = Counter()

    @contextmanager
    def entered(self, caller: Caller, request: Any) -> Iterator[None]:
        """For as long as the stream lasts. Raises an ApiError if the caller has too many, or may not any more."""
        who = caller.principal or f"source {caller.source}"
        # A certificate may be that of a pool of workers, each with its stream; how many there may be is in worker_service.py.
        if self._counts[who] >= STREAMS_PER_PRINCIPAL_MAX and caller.kind is not CallerKind.WORKER:
            self._denials.note(caller, "LIMIT_EXCEEDED")
            raise ApiError(
                "LIMIT_EXCEEDED",
                f"{who} has {STREAMS_PER_PRINCIPAL_MAX} streams open on this node; end some, or ask another node",
            )
        task = asyncio.current_task()
        assert task is not None, "calls are served in tasks"
        stream = OpenStream(caller, request, task)
        self._streams.add(stream)
        self._counts[who] += 1
        try:
            yield
        except asyncio.CancelledError:
            if stream.ended_by is None:
                raise
            task.uncancel()
            raise stream.ended_by from None
        finally:
            self._streams.discard(stream)
            self._counts[who] -= 1
            if not self._counts[who]:
                del self._counts[who]

    def count(self, principal: str) -> int:
        """How many the principal has open."""
        return self._counts[principal]

    async def keep_watch(self) -> None:
        """For as long as the node runs."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Ends what its caller may not go on with."""
        known: dict[tuple[str, str, tuple[str, ...] | None, int], Rights] = {}
        now_ms = self._node.clock.wall_ms()
        with self._node.store.read() as tables:
            for stream in list(self._streams):
                caller = stream.caller
                if not caller.principal or stream.ended_by is not None:
                    continue
                who = (caller.principal, caller.token, caller.groups, caller.expire_time_ms)
                try:
                    rights = known.get(who)
                    if rights is None:
                        rights = known[who] = rights_now(tables, caller, now_ms)
                    check(tables, replace(caller, rights=rights), stream.request)
                except ApiError as error:
                    # That something is gone by now is for the stream itself to find out.
                    if error.reason in _ENDING:
                        self._end(stream, error)

    def _end(self, stream: OpenStream, error: ApiError) -> None:
        stream.ended_by = error
        self._denials.note(stream.caller, error.reason)
        stream.task.cancel()
