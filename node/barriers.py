"""Linearizable reads: a barrier goes through the log before the state is read.

Whoever has applied a barrier that was proposed after a call came in has applied every write that was acknowledged before
the call came in, by whatever node. Calls that come in while a barrier is on its way share the next one, so that there is at
most one at a time, however many readers there are.
"""

from __future__ import annotations

import asyncio

from horologe.log.v1 import log_pb2
from horologe.node.proposals import ProposalError, Proposals

ROUND_SECONDS_MAX = 5.0
"""After this long without an answer the next barrier is tried; the cluster may have got another leader."""


class Barriers:
    """The barriers of this node. Belongs to the event loop."""

    def __init__(self, proposals: Proposals) -> None:
        self._proposals = proposals
        self._next: asyncio.Future[None] | None = None
        """Those who wait for the barrier that is not proposed yet."""
        self._rounds: asyncio.Task[None] | None = None

    async def passed(self) -> None:
        """Until this node has applied a barrier that was proposed after this call. Raises ProposalError if there is none."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        waited_for = self._next
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.create_task(self._propose_all(), name="barriers")
        await asyncio.shield(waited_for)

    async def _propose_all(self) -> None:
        while self._next is not None:
            waiting, self._next = self._next, None
            try:
                await self._proposals.propose(log_pb2.Command(barrier=log_pb2.Barrier()), ROUND_SECONDS_MAX)
                waiting.set_result(None)
            except ProposalError as error:
                waiting.set_exception(error)
                waiting.exception()  # All who waited may have left.
