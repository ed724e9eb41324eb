"""The first administrator of a new cluster: a token that is made once, and given to whoever started the cluster.

Every secure node tries; the state takes the first one, and only the node whose token that is gives it away. Where that goes
into a file it is written beside it before it is proposed, under the node's name: a node that dies in between has not made an
administrator whom nobody knows, and nodes that name the same file do not write over each other.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

import structlog

from horologe.log.v1 import log_pb2
from horologe.node import tokens
from horologe.node.context import NodeContext
from horologe.node.ids import new_uuid
from horologe.node.private_files import is_private, replace_durably
from horologe.node.proposals import ProposalError
from horologe.raft.access import is_secure

ADMINISTRATOR = "admin"
LIFE_MS = 30 * 86_400_000
"""Long enough to set up who governs the cluster from then on."""
PROPOSE_SECONDS = 5.0
LOOK_SECONDS = 0.05

log = structlog.get_logger(__name__)


class FirstAdministrator:
    """Sees to it that the cluster has security, and somebody who can govern it."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._file = context.config.bootstrap_token_file
        self._id, self._token = tokens.make()
        if self._file is not None:
            self._candidate = self._file.with_name(f".{self._file.name}.{context.config.name}")
            self._take_up(self._candidate)

    async def appoint(self) -> None:
        """Returns when the cluster has security, whoever began it."""
        while not self._is_done():
            if self._node.status().may_serve:
                if self._file is not None:
                    replace_durably(self._candidate, self._token.encode() + b"\n")
                expire_time_ms = self._node.clock.wall_ms() + LIFE_MS
                admin = tokens.command(self._id, self._token, ADMINISTRATOR, expire_time_ms, "the first one")
                command = log_pb2.Command(
                    request_id=new_uuid(self._node.randomness).bytes,
                    begin_security=log_pb2.BeginSecurity(admin=admin),
                )
                with suppress(ProposalError):
                    await self._node.proposals.propose(command, PROPOSE_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    def _is_done(self) -> bool:
        with self._node.store.read() as tables:
            if not is_secure(tables):
                return False
            is_ours = tables.token.get(self._id.encode()) is not None
        if is_ours:
            self._give_away()
        elif self._file is not None:
            # Another node was first: what this one wrote is good for nothing.
            self._candidate.unlink(missing_ok=True)
        return True

    def _take_up(self, candidate: Path) -> None:
        """What an earlier life of this node may have proposed, and not what somebody else has put there."""
        with suppress(OSError, UnicodeDecodeError):
            with os.fdopen(os.open(candidate, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as opened:
                about = os.fstat(opened.fileno())
                text = opened.read().strip()
            found = tokens.read(text)
            if found is not None and about.st_uid == os.geteuid() and is_private(about.st_mode):
                self._id, self._token = found.id, text

    def _give_away(self) -> None:
        if self._file is not None:
            self._candidate.replace(self._file)
            log.info("the first administrator's token is in a file", file=str(self._file), token=self._id)
            return
        # Once, and to standard output: what goes through the logger is kept.
        sys.stdout.write(f"The first administrator's token, shown only once, good for 30 days: {self._token}\n")
        sys.stdout.flush()
