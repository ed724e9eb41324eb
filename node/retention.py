"""Which history is too old, or too much: the leader walks over it, a little at a time, and proposes what to drop.

It goes from namespace to namespace, and in each from the oldest on as far as something may go (see raft/keeping.py); so a walk
looks at what it drops, and at little else, however much there is.
"""

from __future__ import annotations

from collections.abc import Callable

from horologe.log.v1 import log_pb2
from horologe.raft import audit, facets
from horologe.raft.history import Ages, is_kept_by_run, nodes_of
from horologe.raft.keeping import AGE_KEY, Kept, read_kept
from horologe.raft.records import LEDGER_KEY, U64, Execution, JobState
from horologe.raft.tables import Table, Tables

DEAD_LETTER_RETENTION_MS = 30 * 86_400_000
AUDIT_RETENTION_SECONDS = 365 * 86_400.0
ROWS_PER_WALK = 500
"""Rows looked at, and so dropped at the most, by one entry; a run is one row, and then its nodes."""
ROWS_PER_JOB = 10
"""Looking at a deleted job costs about as much as so many rows."""
WALK_SECONDS = 0.05
REST_SECONDS = 30.0
"""Between two steps of a walk, and between two walks."""
LATE_SECONDS = 0.05
"""After so long a step does not wait any longer for a leader that has nothing else to do."""
_NUMBER_END = 1 << 63


class Retention:
    """Where the walk stands."""

    def __init__(self, retention_seconds: float, audit_retention_seconds: float = AUDIT_RETENTION_SECONDS) -> None:
        self._retention_ms = int(retention_seconds * 1000)
        self._audit_retention_ms = int(audit_retention_seconds * 1000)
        self._phase = 0
        self._cursor = b""
        self._walk_at = 0.0

    def begin(self, now: float) -> None:
        self._phase, self._cursor = 0, b""
        self._walk_at = now + REST_SECONDS

    def is_late(self, now: float) -> bool:
        return now >= self._walk_at + LATE_SECONDS

    def plan(self, tables: Tables, now: float, wall_ms: int) -> log_pb2.Prune | None:
        """What to drop now; None if there is nothing, or it is not the time."""
        if now < self._walk_at:
            return None
        walk = _Walk(tables, wall_ms, wall_ms - self._retention_ms, wall_ms - self._audit_retention_ms)
        while walk.left > 0 and self._phase < len(walk.phases):
            cursor = walk.phases[self._phase](self._cursor)
            if cursor is None:
                self._phase += 1
            self._cursor = cursor or b""
        if self._phase == len(walk.phases):
            self.begin(now)
        else:
            self._walk_at = now + WALK_SECONDS
        return walk.proposal()


class _Walk:
    """One step. Each phase goes on from a key, and answers where to go on; None at its end."""

    def __init__(self, tables: Tables, wall_ms: int, before_ms: int, audit_before_ms: int) -> None:
        self._tables = tables
        self._audit_before_ms = audit_before_ms
        self._ages = Ages(wall_ms, before_ms, wall_ms - DEAD_LETTER_RETENTION_MS)
        self._prune = log_pb2.Prune(before_ms=before_ms, dead_letters_before_ms=wall_ms - DEAD_LETTER_RETENTION_MS)
        self._executions, self._rows, self._dead_letters = bytearray(), bytearray(), bytearray()
        self.left = ROWS_PER_WALK
        self.phases: tuple[Callable[[bytes], bytes | None], ...] = (
            self._walk_executions,
            self._walk_idle,
            self._walk_dead_letters,
            self._walk_operations,
            self._walk_jobs,
            self._walk_audit,
        )

    def proposal(self) -> log_pb2.Prune | None:
        prune = self._prune
        prune.executions, prune.ledger_rows = bytes(self._executions), bytes(self._rows)
        prune.dead_letters = bytes(self._dead_letters)
        of_history = prune.executions or prune.ledger_rows or prune.dead_letters or prune.operations or prune.jobs
        return prune if of_history or prune.audit_before else None

    def _walk_executions(self, cursor: bytes) -> bytes | None:
        def count(kept: Kept) -> int:
            return kept.executions

        return self._walk(self._tables.over, cursor, self._ages.before_ms, count, self._take_execution)

    def _walk_idle(self, cursor: bytes) -> bytes | None:
        def count(kept: Kept) -> int:
            return kept.idle

        def take(_: Kept, due_ms: int, job: int) -> int:
            self._rows += LEDGER_KEY.pack(job, due_ms, 0)
            return 1

        return self._walk(self._tables.idle, cursor, self._ages.before_ms, count, take)

    def _walk_dead_letters(self, cursor: bytes) -> bytes | None:
        def no_count(_: Kept) -> int:
            return 0

        def take(_: Kept, __: int, number: int) -> int:
            self._dead_letters += U64.pack(number)
            return 1

        return self._walk(self._tables.dead, cursor, self._ages.dead_letters_before_ms, no_count, take)

    def _walk(
        self,
        table: Table,
        cursor: bytes,
        before: Callable[[Kept], int],
        count: Callable[[Kept], int],
        take: Callable[[Kept, int, int], int],
    ) -> bytes | None:
        """Takes from each namespace what is older than `before`, and what there is more of than it says.

        `take` gets the time and the last part of the key, and answers how many rows will go.
        """
        namespace, kept, before_ms, excess = -1, Kept(), 0, 0
        while True:
            for key, _ in table.scan(cursor):
                if self.left <= 0:
                    return bytes(key)
                self.left -= 1
                found, time_ms, id_ = AGE_KEY.unpack(key)
                if found != namespace:
                    namespace, kept = found, read_kept(self._tables, found)
                    before_ms, excess = before(kept), count(kept) - kept.count_max if kept.count_max else 0
                is_too_much = excess > 0 and time_ms < self._ages.excess_before_ms
                if time_ms >= before_ms and not is_too_much:
                    cursor = AGE_KEY.pack(namespace + 1, 0, 0)
                    break
                excess -= take(kept, time_ms, id_)
            else:
                return None

    def _take_execution(self, kept: Kept, end_ms: int, number: int) -> int:
        del end_ms
        raw = self._tables.execution.get(U64.pack(number))
        execution = Execution.unpack(raw) if raw is not None else None
        if execution is None or is_kept_by_run(self._tables, number, execution):
            return 0
        nodes = nodes_of(self._tables, number) if execution.root == number else []
        if nodes is None:
            return 0
        self.left -= len(nodes)
        if not all(self._ages.may_go(kept, kept.executions, node.end_ms) for _, node in nodes):
            return 0
        self._executions += U64.pack(number)
        return 1 + len(nodes)

    def _walk_operations(self, cursor: bytes) -> bytes | None:
        for key, value in self._tables.operation.scan(cursor):
            if self.left <= 0:
                return bytes(key)
            self.left -= 1
            record = log_pb2.OperationRecord.FromString(bytes(value))
            is_over = record.state != log_pb2.OperationRecord.STATE_RUNNING and not record.unfinished
            kept = read_kept(self._tables, record.namespace)
            if is_over and record.end_time_ms < self._ages.before_ms(kept):
                self._prune.operations += bytes(key)
        return None

    def _walk_jobs(self, cursor: bytes) -> bytes | None:
        for key in facets.deleted_jobs(self._tables, cursor):
            if self.left <= 0:
                return key
            self.left -= ROWS_PER_JOB
            self._take_job(facets.job_of(key))
        return None

    def _take_job(self, job: int) -> None:
        key = U64.pack(job)
        raw = self._tables.job.get(key)
        raw_state = self._tables.job_state.get(key)
        if raw is not None and raw_state is not None:
            record = log_pb2.JobRecord.FromString(bytes(raw))
            kept = read_kept(self._tables, JobState.unpack(raw_state).namespace)
            if self._ages.job_may_go(self._tables, kept, record):
                self._prune.jobs += key

    def _walk_audit(self, cursor: bytes) -> bytes | None:
        """Records are dropped from the oldest on, so a walk ends at the first one that is to be kept."""
        for record in audit.records(self._tables, U64.unpack(cursor)[0] if cursor else 0, _NUMBER_END):
            if self.left <= 0:
                return U64.pack(record.sequence)
            self.left -= 1
            if record.time.ToMilliseconds() >= self._audit_before_ms:
                break
            self._prune.audit_before = record.sequence + 1
        return None
