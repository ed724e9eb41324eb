"""Which history is too old: the leader walks over it, a little at a time, and proposes what to drop."""

from __future__ import annotations

from itertools import islice

from horologe.log.v1 import log_pb2
from horologe.raft.history import is_kept_by_run
from horologe.raft.model import FINAL_STATES
from horologe.raft.records import LEDGER_KEY, U64, Execution, LedgerEntry
from horologe.raft.tables import Tables

ROWS_PER_WALK = 1_000
"""Rows of each table looked at, and so dropped at the most, by one entry."""
WALK_SECONDS = 0.1
REST_SECONDS = 30.0
"""Between two steps of a walk, and between two walks."""


class Retention:
    """Where the walks over executions and ledger stand."""

    def __init__(self, retention_seconds: float) -> None:
        self._retention_ms = int(retention_seconds * 1000)
        self._executions_from: bytes | None = b""
        self._ledger_from: bytes | None = b""
        self._walk_at = 0.0

    def begin(self, now: float) -> None:
        self._executions_from = self._ledger_from = b""
        self._walk_at = now + REST_SECONDS

    def plan(self, tables: Tables, now: float, wall_ms: int) -> log_pb2.Prune | None:
        """What to drop now; None if there is nothing, or it is not the time."""
        if now < self._walk_at:
            return None
        before_ms = wall_ms - self._retention_ms
        prune = log_pb2.Prune(
            before_ms=before_ms,
            operations=_old_operations(tables, before_ms) if self._executions_from == b"" else b"",
            executions=self._walk_executions(tables, before_ms),
            ledger_rows=self._walk_ledger(tables, before_ms),
        )
        if self._executions_from is None and self._ledger_from is None:
            self.begin(now)
        else:
            self._walk_at = now + WALK_SECONDS
        return prune if prune.executions or prune.ledger_rows or prune.operations else None

    def _walk_executions(self, tables: Tables, before_ms: int) -> bytes:
        """Numbers grow with time, so the walk ends at the first execution that is young."""
        if self._executions_from is None:
            return b""
        found = bytearray()
        for count, (key, value) in enumerate(tables.execution.scan(self._executions_from)):
            execution = Execution.unpack(value)
            if execution.create_ms >= before_ms:
                break
            if count >= ROWS_PER_WALK:
                self._executions_from = bytes(key)
                return bytes(found)
            number = U64.unpack(key)[0]
            is_over = execution.state in FINAL_STATES and execution.end_ms < before_ms
            if is_over and not is_kept_by_run(tables, number, execution):
                found += U64.pack(number)
        self._executions_from = None
        return bytes(found)

    def _walk_ledger(self, tables: Tables, before_ms: int) -> bytes:
        """Rows of executions go with them; the others are found here, job by job."""
        if self._ledger_from is None:
            return b""
        found = bytearray()
        for count, (key, value) in enumerate(tables.ledger.scan(self._ledger_from)):
            if count >= ROWS_PER_WALK:
                self._ledger_from = bytes(key)
                return bytes(found)
            if LEDGER_KEY.unpack(key)[1] < before_ms and not LedgerEntry.unpack(value).is_of_execution:
                found += key
        self._ledger_from = None
        return bytes(found)


def _old_operations(tables: Tables, before_ms: int) -> bytes:
    """There are few of them: they are looked at once per walk, the oldest first."""
    found = bytearray()
    for key, value in islice(tables.operation.scan(), ROWS_PER_WALK):
        record = log_pb2.OperationRecord.FromString(bytes(value))
        is_over = record.state != log_pb2.OperationRecord.STATE_RUNNING and not record.unfinished
        if is_over and record.end_time_ms < before_ms:
            found += key
    return bytes(found)
