"""The packed records of the replicated state, and the keys of its tables: what every execution touches.

Fixed size, integer ids, big-endian, so that packed keys sort by value. Everything that is not touched by every execution is
protobuf (horologe.log.v1). All times are milliseconds since the epoch, UTC; 0 stands for "none".
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Self

from horologe.raft.model import LedgerOutcome

U32 = Struct(">I")
U64 = Struct(">Q")
PAIR = Struct(">QQ")
READY_KEY = Struct(">IBQQ")
RUNNING_VALUE = Struct(">QQI")
LEDGER_KEY = Struct(">QQQ")
WORKER_VALUE = Struct(">IQ")
RUN_HEAD = Struct(">III")
"""Of a run: nodes that are not finished, nodes that ended badly, and tallies (see tallies.py)."""
RUN_NODE = Struct(">QB")
"""Of a node of a run: its latest execution, and that one's final state; 0 while it is not finished."""


@dataclass(slots=True)
class JobState:
    """The part of a job that firing needs, so that no definition is decoded on the way of an execution.

    A job with one plain interval schedule, and nothing that changes its due times, carries `every_ms`; for all others it is 0 and
    the planner asks the definition.
    """

    STRUCT: ClassVar[Struct] = Struct(">QQQQQQQQQQQQIIIIIIIIQQQQQQQQHBBBB")

    revision: int = 0
    next_due_ms: int = 0
    next_fire_ms: int = 0
    """When `next_due_ms` fires: later by the job's jitter."""
    every_ms: int = 0
    timeout_ms: int = 0
    catchup_window_ms: int = 0
    deadline_ms: int = 0
    execution_timeout_ms: int = 0
    retry_window_ms: int = 0
    fixed_delay_ms: int = 0
    """The next due time is so long after the end of its executions; 0 if none of its schedules says so."""
    max_executions: int = 0
    scheduled: int = 0
    """Executions that the schedule has made, for `max_executions`."""
    namespace: int = 0
    queue: int = 0
    """The lane: a queue's name with the labels that a worker must carry."""
    unfinished: int = 0
    held: int = 0
    """Of the unfinished ones, those that wait behind others of this job."""
    queue_max: int = 0
    catchup_max: int = 0
    flags: int = 0
    run_as: int = 0
    """Number of the principal in whose name it runs; 0: the cluster had no security when it was written."""
    executions: int = 0
    """From here on what JobCounters shows."""
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    missed: int = 0
    coalesced: int = 0
    retries: int = 0
    max_attempts: int = 0
    overlap: int = 0
    catchup: int = 0
    on_lease_loss: int = 0
    priority: int = 0

    def pack(self) -> bytes:
        return self.STRUCT.pack(
            self.revision,
            self.next_due_ms,
            self.next_fire_ms,
            self.every_ms,
            self.timeout_ms,
            self.catchup_window_ms,
            self.deadline_ms,
            self.execution_timeout_ms,
            self.retry_window_ms,
            self.fixed_delay_ms,
            self.max_executions,
            self.scheduled,
            self.namespace,
            self.queue,
            self.unfinished,
            self.held,
            self.queue_max,
            self.catchup_max,
            self.flags,
            self.run_as,
            self.executions,
            self.completed,
            self.failed,
            self.cancelled,
            self.skipped,
            self.missed,
            self.coalesced,
            self.retries,
            self.max_attempts,
            self.overlap,
            self.catchup,
            self.on_lease_loss,
            self.priority,
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        return cls(*cls.STRUCT.unpack(raw))


@dataclass(slots=True)
class Execution:
    """One run owed, with its current attempt. Attempts that are over stand in the detail table if they had anything to say."""

    STRUCT: ClassVar[Struct] = Struct(">QQQQQQQQQQQQQQQIIIiHHHBBBB")

    job: int
    due_ms: int
    create_ms: int
    planned_ms: int = 0
    """When it was to start: the due time and the job's jitter."""
    start_ms: int = 0
    end_ms: int = 0
    next_attempt_ms: int = 0
    end_by_ms: int = 0
    """When the time for all attempts is over, which began with the first start. 0: never, or it has ended."""
    deadline_ms: int = 0
    """Until when it must have started; 0 once it has, or if it may start at any time."""
    token: int = 0
    session: int = 0
    assign_ms: int = 0
    root: int = 0
    """The execution that began its run (see workflows.py); 0 for one that stands alone."""
    operation: int = 0
    """The backfill that it belongs to; 0 for none."""
    line: int = 0
    """The limit in whose line it waits while it is QUEUED (see lines.py); 0: it is in the ready queue."""
    worker: int = 0
    queue: int = 0
    """The lane, as in JobState."""
    namespace: int = 0
    exit_code: int = 0
    attempt: int = 0
    attempt_base: int = 0
    """Attempts that do not count any more: it was driven again after them."""
    flags: int = 0
    state: int = 0
    attempt_state: int = 0
    trigger: int = 0
    priority: int = 0

    def pack(self) -> bytes:
        return self.STRUCT.pack(
            self.job,
            self.due_ms,
            self.create_ms,
            self.planned_ms,
            self.start_ms,
            self.end_ms,
            self.next_attempt_ms,
            self.end_by_ms,
            self.deadline_ms,
            self.token,
            self.session,
            self.assign_ms,
            self.root,
            self.operation,
            self.line,
            self.worker,
            self.queue,
            self.namespace,
            self.exit_code,
            self.attempt,
            self.attempt_base,
            self.flags,
            self.state,
            self.attempt_state,
            self.trigger,
            self.priority,
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        return cls(*cls.STRUCT.unpack(raw))


@dataclass(slots=True)
class LedgerEntry:
    """What became of a due time, or of a run of `count` due times from `first_due_ms` to the key's due time."""

    STRUCT: ClassVar[Struct] = Struct(">BBQQQ")

    outcome: int
    reason: int
    execution: int
    first_due_ms: int
    count: int

    @property
    def is_of_execution(self) -> bool:
        """Whether it accounts for `execution`: one that ran, or was made and then skipped."""
        return self.outcome == LedgerOutcome.RAN or (self.outcome == LedgerOutcome.SKIPPED and self.execution > 0)

    def pack(self) -> bytes:
        return self.STRUCT.pack(self.outcome, self.reason, self.execution, self.first_due_ms, self.count)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        return cls(*cls.STRUCT.unpack(raw))
