"""One look at the node for all who wait for something to have changed: they hear of it at most once a second.

The task that looks lives while anybody listens. It also speaks when nothing has changed for a while, so that no listener needs a
clock of its own, and it ends all of them when the node stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from horologe.node.context import NodeContext
from horologe.raft.step import Status

PAUSE_SECONDS = 1.0
"""Between two changes that are told. People do not see more, and each is read anew by all who listen."""
LOOK_SECONDS = 1.0
"""A leader that is lost is nothing that is applied, so it is looked for."""
QUIET_SECONDS = 15.0
"""Proxies and browsers give up what says nothing for long; half a minute is usual."""


class Mark(NamedTuple):
    """How the cluster stands for this node; another one if anything may have changed."""

    revision: int
    leader: str
    term: int

    @classmethod
    def of(cls, status: Status) -> Mark:
        """Of the replica, after its last step."""
        return cls(status.revision, status.leader or "", status.term)

    @property
    def text(self) -> str:
        """What a page carries, so that its script knows whether it is as new as what it hears of."""
        return f"{self.revision}-{self.term}-{self.leader}"


class Ticks:
    """Of one node. Belongs to the event loop."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._listeners = 0
        self._told = 0
        """How often everybody was woken."""
        self._next: asyncio.Future[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def marks(self) -> AsyncIterator[Mark]:
        """The present one, later ones as they come, and the same again now and then. Ends when the node stops."""
        with self._listening():
            while not self._node.stopping.is_set():
                told = self._told
                yield self._mark()
                if told == self._told:
                    assert self._next is not None
                    # Shared by all listeners: one that goes away must not cancel it.
                    await asyncio.shield(self._next)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        self._listeners += 1
        if self._looking is None:
            self._next = asyncio.get_running_loop().create_future()
            self._looking = asyncio.create_task(self._look(), name="ticks")
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._looking.cancel()
                self._looking = self._next = None

    def _mark(self) -> Mark:
        return Mark.of(self._node.status())

    async def _look(self) -> None:
        seen, now = self._mark(), self._node.clock.monotonic
        told_at = now()
        while not self._node.stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._node.wait_applied()
            mark = self._mark()
            if mark != seen or now() - told_at >= QUIET_SECONDS:
                seen, told_at = mark, now()
                self._tell()
                with suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE_SECONDS):
                        await self._node.stopping.wait()
        self._tell()

    def _tell(self) -> None:
        self._told += 1
        woken, self._next = self._next, asyncio.get_running_loop().create_future()
        assert woken is not None
        woken.set_result(None)
