"""Retention: history that is too old, or too much, is dropped, a bounded number of rows per entry.

The leader proposes (node/retention.py), by the same rules as here; the state looks again. A run goes as a whole: its nodes with
their root, when all of them may go. What was made anew in a run goes when its root is gone.
"""

from __future__ import annotations

from collections.abc import Iterator

from horologe.log.v1 import log_pb2
from horologe.raft import audit, facets
from horologe.raft.dead_letters import purge_one
from horologe.raft.keeping import Kept
from horologe.raft.model import FINAL_STATES, Code, ExecutionFlag, ExecutionState, Result
from horologe.raft.operations import find, forget
from horologe.raft.permits import LimitKind, limit_of
from horologe.raft.records import LEDGER_KEY, PAIR, RUN_HEAD, RUN_NODE, U64, Execution, LedgerEntry
from horologe.raft.requests import REQUEST_RETENTION_MS
from horologe.raft.state import State, ledger_key
from horologe.raft.tables import Tables

ROWS_PER_ENTRY = 4_000
"""Executions, rows of the ledger and jobs that one entry looks at; for what it names beyond them the next walk comes."""
AUDIT_RECORDS_PER_ENTRY = 1_000
RECENT_MS = 10 * 60_000
"""What is younger does not go for being too much: reports, repeated requests and changes of schedules may still come to it."""


class Ages:
    """How old history must be to go, as of one instant: the leader's and the state's judgement."""

    def __init__(self, now_ms: int, before_ms: int, dead_letters_before_ms: int) -> None:
        """What ended before goes in a namespace that says nothing of it."""
        self._now_ms = now_ms
        self._before_ms = before_ms
        self._dead_letters_before_ms = dead_letters_before_ms
        self.excess_before_ms = now_ms - RECENT_MS

    def before_ms(self, kept: Kept) -> int:
        return self._now_ms - kept.history_ms if kept.history_ms else self._before_ms

    def dead_letters_before_ms(self, kept: Kept) -> int:
        return self._now_ms - kept.dead_letters_ms if kept.dead_letters_ms else self._dead_letters_before_ms

    def may_go(self, kept: Kept, count: int, time_ms: int) -> bool:
        """Whether what ended, or was due, at this time may go, of `count` that there are."""
        if time_ms < self.before_ms(kept):
            return True
        return 0 < kept.count_max < count and time_ms < self.excess_before_ms

    def job_may_go(self, tables: Tables, kept: Kept, record: log_pb2.JobRecord) -> bool:
        """Whether nothing tells of a deleted job any more: no execution, no due time, and no request that may be repeated."""
        last_ms = min(self.before_ms(kept), self._now_ms - REQUEST_RETENTION_MS)
        if not record.deleted or record.update_time_ms >= last_ms:
            return False
        # Whatever there is of a job has its row in the ledger.
        return all(LEDGER_KEY.unpack(key)[0] != record.id for key in first_key(tables, record.id))


def first_key(tables: Tables, job: int) -> Iterator[bytes]:
    """The first row of the ledger from the job's on, if there is one."""
    for key, _ in tables.ledger.scan(LEDGER_KEY.pack(job, 0, 0)):
        yield bytes(key)
        return


def prune(state: State, command: log_pb2.Prune) -> Result:
    """Drops what the proposer chose, as far as it really is over, and old or too much.

    Answers (executions, ledger rows, operations, dead letters, jobs); a dead letter that is too old becomes history.
    Audit records are of one age everywhere, which the leader judges; here they only go from the oldest on.
    """
    pruning = _Pruning(state, Ages(state.now_ms, command.before_ms, command.dead_letters_before_ms))
    if command.audit_before:
        audit.drop(state, command.audit_before, AUDIT_RECORDS_PER_ENTRY)
    return Result(
        Code.OK,
        (
            sum(pruning.drop_execution(number) for (number,) in U64.iter_unpack(command.executions)),
            sum(pruning.drop_row(key) for key in LEDGER_KEY.iter_unpack(command.ledger_rows)),
            sum(pruning.drop_operation(number) for (number,) in U64.iter_unpack(command.operations)),
            sum(pruning.bury_for_good(number) for (number,) in U64.iter_unpack(command.dead_letters)),
            sum(pruning.drop_job(number) for (number,) in U64.iter_unpack(command.jobs)),
        ),
    )


def is_kept_by_run(tables: Tables, number: int, execution: Execution) -> bool:
    """Whether it goes with the root of its run, and not by itself."""
    is_node = execution.root not in (0, number)
    return is_node and tables.execution.get(U64.pack(execution.root)) is not None


def nodes_of(tables: Tables, root: int) -> list[tuple[int, Execution]] | None:
    """The nodes that go with the root of a run, without itself. None if the run is not over, or has a dead letter."""
    head = tables.run.get(PAIR.pack(root, 0))
    if head is not None and RUN_HEAD.unpack(head)[0]:
        return None
    nodes: list[tuple[int, Execution]] = []
    for key, value in tables.run.scan(PAIR.pack(root, 1)):
        if PAIR.unpack(key)[0] != root:
            break
        number = RUN_NODE.unpack(value)[0]
        raw = tables.execution.get(U64.pack(number))
        if raw is not None and number != root:
            execution = Execution.unpack(raw)
            if not is_history(execution):
                return None
            nodes.append((number, execution))
    return nodes


def is_history(execution: Execution) -> bool:
    """Whether it is over, and nobody is to look at it."""
    return execution.state in FINAL_STATES and not execution.flags & ExecutionFlag.DEAD_LETTER


class _Pruning:
    """One command at work."""

    def __init__(self, state: State, ages: Ages) -> None:
        self._state = state
        self._ages = ages
        self._left = ROWS_PER_ENTRY

    def drop_execution(self, number: int) -> int:
        """Answers how many went: with the root of a run its nodes."""
        execution = self._state.execution(number) if self._spend(1) else None
        if execution is None or not is_history(execution) or is_kept_by_run(self._state.tables, number, execution):
            return 0
        nodes = nodes_of(self._state.tables, number) if execution.root == number else []
        if nodes is None or not self._spend(len(nodes)):
            return 0
        whole = [*nodes, (number, execution)]
        kept = self._state.keeping.of(execution.namespace)
        if not all(self._ages.may_go(kept, kept.executions, each.end_ms) for _, each in whole):
            return 0
        for each_number, each in whole:
            self._forget(each_number, each)
        return len(whole)

    def drop_row(self, key: tuple[int, int, int]) -> bool:
        """A row of an execution goes with it; here go the due times that made none."""
        job, due_ms, _ = key
        packed = LEDGER_KEY.pack(*key)
        raw = self._state.tables.ledger.get(packed) if self._spend(1) else None
        job_state = self._state.job_state(job)
        if raw is None or job_state is None or LedgerEntry.unpack(raw).is_of_execution:
            return False
        kept = self._state.keeping.of(job_state.namespace)
        if not self._ages.may_go(kept, kept.idle, due_ms):
            return False
        self._state.tables.ledger.delete(packed)
        self._state.keeping.take_idle(job_state.namespace, due_ms, job)
        return True

    def drop_operation(self, number: int) -> bool:
        record = find(self._state, number) if self._spend(1) else None
        if record is None:
            return False
        return forget(self._state, number, self._ages.before_ms(self._state.keeping.of(record.namespace)))

    def bury_for_good(self, number: int) -> bool:
        """A dead letter that nobody cared for is history from now on."""
        execution = self._state.execution(number) if self._spend(1) else None
        if execution is None or execution.state != ExecutionState.DEAD:
            return False
        before_ms = self._ages.dead_letters_before_ms(self._state.keeping.of(execution.namespace))
        return execution.end_ms < before_ms and purge_one(self._state, number)

    def drop_job(self, job: int) -> bool:
        tables, key = self._state.tables, U64.pack(job)
        raw = tables.job.get(key) if self._spend(1) else None
        job_state = self._state.job_state(job)
        if raw is None or job_state is None:
            return False
        record = log_pb2.JobRecord.FromString(bytes(raw))
        if not self._ages.job_may_go(tables, self._state.keeping.of(job_state.namespace), record):
            return False
        facets.forget(tables, record)
        for table in (tables.job, tables.job_state, tables.job_limit):
            table.delete(key)
        self._state.permits.set_max(limit_of(LimitKind.JOB, job), 0)
        self._state.effects.jobs_changed.append(job)
        return True

    def _spend(self, rows: int) -> bool:
        self._left -= rows
        return self._left >= 0

    def _forget(self, number: int, execution: Execution) -> None:
        tables, key = self._state.tables, U64.pack(number)
        if execution.root:
            _leave_run(tables, number, execution)
        self._state.keeping.take_execution(number, execution)
        tables.ledger.delete(ledger_key(number, execution))
        if execution.flags & ExecutionFlag.HAS_DETAIL:
            tables.detail.delete(key)
        self._state.drop_execution(number)
        self._state.search.dropped(number, execution)


def _leave_run(tables: Tables, number: int, execution: Execution) -> None:
    """What the run knows of the execution; with its root, also the head."""
    if number == execution.root:
        tables.run.delete(PAIR.pack(number, 0))
    key = PAIR.pack(execution.root, execution.job)
    raw = tables.run.get(key)
    if raw is not None and RUN_NODE.unpack(raw)[0] == number:
        tables.run.delete(key)
