"""What this node refuses, or does, by itself, on its way into the audit log: collected, merged, and proposed now and then.

A flood of refusals becomes a few records with counts: one command a second at most, and bounded memory. What does not fit is
counted, so that the audit log says that something is missing. A name that somebody could not prove is no principal here, and a
token's secret never comes this far.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog

from horologe.log.v1 import log_pb2
from horologe.node.callers import Caller
from horologe.node.context import NodeContext
from horologe.node.ids import new_uuid
from horologe.node.proposals import ProposalError
from horologe.node.rate_limits import TokenBuckets
from horologe.v1 import audit_service_pb2

FLUSH_SECONDS = 1.0
PROPOSE_SECONDS = 5.0
AGAIN_SECONDS = 0.05
RECORDS_PER_COMMAND_MAX = 100
KINDS_MAX = 1_000
"""Refusals that differ and wait; ten seconds' worth of commands."""
DETAILS_PER_SECOND, DETAILS_BURST = 5.0, 500.0
"""Of one principal, or of one address: what it is refused beyond that is recorded without objects, and so merges. Nobody fills
the audit log with names that they make up."""
OBJECTS_MAX = 20
OBJECT_LENGTH_MAX = 200
REPEAT_MAX = (1 << 31) - 1
OMITTED = "RECORDS_OMITTED"
"""The reason of the record that counts what did not fit."""

Record = audit_service_pb2.AuditRecord
log = structlog.get_logger(__name__)


class Denials:
    """All refusals of one secure node. Belongs to the event loop."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._details = TokenBuckets(DETAILS_PER_SECOND, DETAILS_BURST)
        self._waiting: dict[bytes, Record] = {}
        self._omitted_count = 0
        self._under_way: log_pb2.Command | None = None

    def note_done(self, caller: Caller, objects: Sequence[str] = ()) -> None:
        """Something was done that is no command of the log."""
        self.note(caller, "", objects)

    def note(self, caller: Caller, reason: str, objects: Sequence[str] = ()) -> None:
        """Something was refused for a reason. `caller` has a principal only if it has proved it."""
        if self._details.take(caller.principal or caller.source, self._node.clock.monotonic()):
            objects = ()
        record = Record(
            principal=caller.principal,
            token=caller.token,
            certificate=caller.certificate,
            source=caller.source,
            method=caller.method,
            objects=[name[:OBJECT_LENGTH_MAX] for name in objects[:OBJECTS_MAX]],
            object_count=len(objects),
            allowed=not reason,
            reason=reason,
        )
        key = record.SerializeToString(deterministic=True)
        known = self._waiting.get(key)
        if known is not None:
            known.repeat_count = min(known.repeat_count + 1, REPEAT_MAX)
        elif len(self._waiting) >= KINDS_MAX:
            self._omitted_count = min(self._omitted_count + 1, REPEAT_MAX)
        else:
            record.repeat_count = 1
            record.time.FromMilliseconds(self._node.clock.wall_ms())
            self._waiting[key] = record
            log.info(
                "refused" if reason else "done",
                principal=caller.principal,
                token=caller.token,
                source=caller.source,
                method=caller.method,
                reason=reason,
            )

    @property
    def waiting_count(self) -> int:
        """Records that are not in the audit log yet."""
        under_way = 0 if self._under_way is None else len(self._under_way.note_denied.records)
        return len(self._waiting) + under_way + bool(self._omitted_count)

    async def keep_flushing(self) -> None:
        """For as long as the node runs."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Proposes what waits, up to one command. What the cluster did not take is kept, and comes again under the same id."""
        if self._under_way is None:
            self._under_way = self._next_command()
        if self._under_way is not None:
            with suppress(ProposalError):
                await self._node.proposals.propose(self._under_way, PROPOSE_SECONDS)
                self._under_way = None

    async def flush_all(self, timeout_seconds: float) -> None:
        """Before the node stops: everything, as far as it goes in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while self._under_way is not None or self._waiting or self._omitted_count:
                    await self.flush()
                    if self._under_way is not None:
                        await asyncio.sleep(AGAIN_SECONDS)

    def _next_command(self) -> log_pb2.Command | None:
        keys = list(self._waiting)[:RECORDS_PER_COMMAND_MAX]
        records = [self._waiting.pop(key) for key in keys]
        if self._omitted_count and len(records) < RECORDS_PER_COMMAND_MAX:
            omitted = Record(reason=OMITTED, repeat_count=self._omitted_count)
            omitted.time.FromMilliseconds(self._node.clock.wall_ms())
            records.append(omitted)
            self._omitted_count = 0
        if not records:
            return None
        return log_pb2.Command(
            # It may be sent again when the leader changes, and must not count twice.
            request_id=new_uuid(self._node.randomness).bytes,
            note_denied=log_pb2.NoteDenied(records=records),
        )
