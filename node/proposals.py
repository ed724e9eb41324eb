"""Commands on their way into the log, and the callers who wait for them.

A caller's command goes to the leader, wherever that is; its result comes out of this node's own apply, so whoever has the
answer can also read the change here. While the leader changes, commands that carry a request id, or that are harmless to
repeat, are sent again by themselves; the state machine recognises the repetition.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from horologe.log.v1 import log_pb2
from horologe.node.clock import Clock
from horologe.raft.model import Result

RESEND_SECONDS = 1.5
"""A command without a result for so long is sent again: its leader may have gone with it."""


class ProposalError(Exception):
    """The command has no result."""


class NoLeaderError(ProposalError):
    """In no log, for certain: there was no leader to take it."""


class OverloadedError(ProposalError):
    """In no log, for certain: the leader has too much to do."""


class OutcomeUnknownError(ProposalError):
    """Nobody knows: it may be applied later, or never."""


@dataclass(slots=True)
class _Pending:
    command: log_pb2.Command
    future: asyncio.Future[Result]
    sent_at: float
    tried: int


class Proposals:
    """All of this node's proposals. Belongs to the event loop."""

    def __init__(
        self,
        node: str,
        clock: Clock,
        submit: Callable[[list[log_pb2.Command]], None],
        took: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`submit` hands commands to the step thread; `took` hears how many seconds passed until a command had its result."""
        self._node = node
        self._clock = clock
        self._submit = submit
        self._took = took
        # Starts where no earlier life of this node has been: results of its commands may still come out of the log.
        self._ids = itertools.count((clock.wall_ms() << 20) & ((1 << 62) - 1))
        self._pending: dict[int, _Pending] = {}

    async def propose(self, command: log_pb2.Command, timeout_seconds: float) -> Result:
        """The command's result, once it is committed and applied on this node.

        Raises NoLeaderError or OverloadedError if it is certain that the command is in no log, OutcomeUnknownError if it is not.
        The command must be safe to repeat (by its request id, or by what it expects of the state). One that is proposed again
        keeps its number: a leader that still has it on its way takes no second copy, and the step thread may be reading it.
        """
        if not command.origin_id or command.origin != self._node:
            command.origin, command.origin_id = self._node, next(self._ids)
        origin_id = command.origin_id
        began = self._clock.monotonic()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        expiry = loop.call_later(timeout_seconds, _expire, future)
        self._pending[origin_id] = _Pending(command, future, began, 1)
        try:
            self._submit([command])
            result = await future
        finally:
            expiry.cancel()
            self._pending.pop(origin_id, None)
        self._took(self._clock.monotonic() - began)
        return result

    def resolve(self, results: list[tuple[int, Result]]) -> None:
        """Commands of this node were applied."""
        for origin_id, result in results:
            pending = self._pending.get(origin_id)
            if pending is not None and not pending.future.done():
                pending.future.set_result(result)

    def refuse(self, refused: list[tuple[int, bool]]) -> None:
        """Commands of this node were not taken. One that was sent only once is in no log, for certain."""
        for origin_id, overloaded in refused:
            pending = self._pending.get(origin_id)
            if pending is None or pending.future.done():
                continue
            if overloaded and pending.tried == 1:
                pending.future.set_exception(OverloadedError("the leader has too much to do"))
            elif overloaded or pending.tried > 1:
                # Wait: a copy may be in a log, or room may come; `resend` tries again until the caller's deadline.
                pending.sent_at = self._clock.monotonic()
            else:
                pending.future.set_exception(NoLeaderError("there is no leader"))

    def resend(self, *, leader_changed: bool) -> None:
        """Sends again what has waited too long, or everything if the leader changed."""
        now = self._clock.monotonic()
        again: list[log_pb2.Command] = []
        for pending in self._pending.values():
            # Later each time: what only waits for a slow disk would otherwise make the log grow while it is slow.
            if leader_changed or now - pending.sent_at > RESEND_SECONDS * 2 ** min(pending.tried - 1, 2):
                pending.sent_at = now
                pending.tried += 1
                again.append(pending.command)
        if again:
            self._submit(again)


def _expire(future: asyncio.Future[Result]) -> None:
    if not future.done():
        future.set_exception(OutcomeUnknownError("no answer from the cluster in time; the write may still happen"))
