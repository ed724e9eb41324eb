"""One state machine driven by hand: a log of one's own, a clock that stands still, and shorthands to look at the state."""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft.dead_letters import DEAD_KEY
from horologe.raft.machine import StateMachine
from horologe.raft.model import Counters, Effects, ExecutionState, LedgerOutcome, Reason, Result
from horologe.raft.records import U64, Execution, JobState
from horologe.raft.tables import Tables
from support import invariants
from support.tables import dict_tables

START_MS = 1_798_761_600_000
"""2027-01-01T00:00:00Z: a multiple of every period that the tests use."""


class Driver:
    """Applies commands, one entry each call, and remembers the effects of the last one."""

    def __init__(self, tables: Tables | None = None, now_ms: int = START_MS) -> None:
        self.tables = dict_tables() if tables is None else tables
        self.now_ms = now_ms
        self.index = 0
        self.entries: list[tuple[int, log_pb2.Entry]] = []
        self.effects = Effects()

    def apply(self, *commands: log_pb2.Command, index: int | None = None) -> list[Result]:
        """One entry with all commands, now."""
        self.index = self.index + 1 if index is None else index
        entry = log_pb2.Entry(time_ms=self.now_ms, commands=commands)
        self.entries.append((self.index, entry))
        results, self.effects = StateMachine().apply(self.tables, self.index, entry)
        return results

    def do(self, command: log_pb2.Command, *, after_ms: int = 0) -> Result:
        """One entry with one command, `after_ms` later."""
        self.now_ms += after_ms
        return self.apply(command)[0]

    def check(self) -> None:
        invariants.check(self.tables)

    @property
    def counters(self) -> Counters:
        return Counters.load(self.tables)

    def execution(self, number: int = 1) -> Execution:
        raw = self.tables.execution.get(U64.pack(number))
        assert raw is not None, f"there is no execution {number}"
        return Execution.unpack(raw)

    def state(self, number: int = 1) -> str:
        return ExecutionState(self.execution(number).state).name

    def detail(self, number: int = 1) -> log_pb2.ExecutionRecord:
        return log_pb2.ExecutionRecord.FromString(self.tables.detail.get(U64.pack(number)) or b"")

    def operation(self, number: int = 1) -> log_pb2.OperationRecord:
        return log_pb2.OperationRecord.FromString(self.tables.operation.get(U64.pack(number)) or b"")

    def dead_letters(self) -> list[int]:
        """Their numbers, in the order in which they died."""
        return [DEAD_KEY.unpack(key)[2] for key, _ in self.tables.dead.scan()]

    def job_state(self, job: int = 1) -> JobState:
        raw = self.tables.job_state.get(U64.pack(job))
        assert raw is not None, f"there is no job {job}"
        return JobState.unpack(raw)

    def job(self, job: int = 1) -> log_pb2.JobRecord:
        return log_pb2.JobRecord.FromString(self.tables.job.get(U64.pack(job)) or b"")

    def ledger(self, job: int = 1) -> list[tuple[int, int, int, str, str, int]]:
        """first and last due time (from START_MS), count, outcome, reason, execution; in the order of time."""
        return [
            (
                entry.first_due_ms - START_MS,
                due_ms - START_MS,
                entry.count,
                LedgerOutcome(entry.outcome).name,
                Reason(entry.reason).text,
                entry.execution,
            )
            for (found, due_ms, _), entry in sorted(invariants.read_ledger(self.tables).items())
            if found == job
        ]
