"""When tokens were used, to a few minutes: collected here, and written down now and then."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from horologe.log.v1 import log_pb2
from horologe.node.context import NodeContext
from horologe.node.proposals import ProposalError

NOTE_SECONDS = 300.0
PROPOSE_SECONDS = 5.0
USES_PER_COMMAND_MAX = 1_000


class TokenUses:
    """The tokens that came by since the last note. As many as there are valid tokens, at most."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._last_ms: dict[str, int] = {}

    def note(self, token: str) -> None:
        """A valid token was used; empty: none was."""
        if token:
            self._last_ms[token] = self._node.clock.wall_ms()

    async def keep_noting(self) -> None:
        """For as long as the node runs."""
        while True:
            await asyncio.sleep(NOTE_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Proposes what was noticed. What does not get through is no great loss: it comes again with the next use."""
        noticed, self._last_ms = list(self._last_ms.items()), {}
        for start in range(0, len(noticed), USES_PER_COMMAND_MAX):
            uses = [log_pb2.TokenUse(id=id_, time_ms=at_ms) for id_, at_ms in noticed[start:][:USES_PER_COMMAND_MAX]]
            command = log_pb2.Command(note_token_uses=log_pb2.NoteTokenUses(uses=uses))
            with suppress(ProposalError):
                await self._node.proposals.propose(command, PROPOSE_SECONDS)
