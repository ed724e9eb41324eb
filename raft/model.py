"""The replicated records: their states, their fixed-size forms, and the tables that hold them.

Here belongs what every replica stores and nothing about how it changes (that is machine.py and its neighbours) or where it
lies (store.py). The records that every execution touches are packed structs with integer ids; everything else is protobuf
(horologe.log.v1). All times are milliseconds since the epoch, UTC; 0 stands for "none".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from typing import ClassVar, Final, Protocol, Self


class ExecutionState(IntEnum):
    """Where an execution stands; numbers as in horologe.v1.Execution.State."""

    SCHEDULED = 1
    QUEUED = 2
    RUNNING = 3
    COMPLETED = 4
    FAILED = 5
    CANCELLED = 6
    DEAD = 7
    SKIPPED = 8


FINAL_STATES = frozenset(
    {
        ExecutionState.COMPLETED,
        ExecutionState.FAILED,
        ExecutionState.CANCELLED,
        ExecutionState.DEAD,
        ExecutionState.SKIPPED,
    }
)

LEGAL_MOVES: frozenset[tuple[ExecutionState | None, ExecutionState]] = frozenset(
    {
        # None: the execution does not exist yet.
        (None, ExecutionState.QUEUED),
        (None, ExecutionState.RUNNING),
        (ExecutionState.SCHEDULED, ExecutionState.QUEUED),
        (ExecutionState.SCHEDULED, ExecutionState.RUNNING),
        (ExecutionState.SCHEDULED, ExecutionState.CANCELLED),
        (ExecutionState.QUEUED, ExecutionState.RUNNING),
        (ExecutionState.QUEUED, ExecutionState.CANCELLED),
        (ExecutionState.RUNNING, ExecutionState.COMPLETED),
        (ExecutionState.RUNNING, ExecutionState.FAILED),
        (ExecutionState.RUNNING, ExecutionState.DEAD),
        (ExecutionState.RUNNING, ExecutionState.CANCELLED),
        # A failed attempt waits for its backoff; a lost one is tried again at once.
        (ExecutionState.RUNNING, ExecutionState.SCHEDULED),
        (ExecutionState.RUNNING, ExecutionState.QUEUED),
    }
)
"""Every legal move of an execution. ARCHITECTURE.md's diagram is made from this table (a test compares them)."""


class AttemptState(IntEnum):
    """Where an attempt stands; numbers as in horologe.v1.Attempt.State."""

    NONE = 0
    RUNNING = 1
    SUCCEEDED = 2
    FAILED = 3
    TIMED_OUT = 4
    LOST = 5
    CANCELLED = 6


class Trigger(IntEnum):
    """Why an execution exists; numbers as in horologe.v1.Execution.Trigger."""

    SCHEDULE = 1
    MANUAL = 2


class LedgerOutcome(IntEnum):
    """What became of a due time; numbers as in horologe.v1.LedgerRow.Outcome."""

    RAN = 1
    SKIPPED = 2
    MISSED = 3
    COALESCED = 4


class Reason(IntEnum):
    """Which policy decided. The text is what people read."""

    NONE = 0
    OVERLAP = 1
    PAUSED = 2
    CATCHUP_LATEST = 3
    CATCHUP_SKIP = 4
    CATCHUP_WINDOW = 5
    SCHEDULE_CHANGED = 6
    JOB_DELETED = 7

    @property
    def text(self) -> str:
        return "" if self is Reason.NONE else self.name.lower()


class Overlap(IntEnum):
    """Numbers as in horologe.v1.OverlapPolicy."""

    SKIP = 1
    ALLOW = 2


class Catchup(IntEnum):
    """Numbers as in horologe.v1.CatchupPolicy."""

    LATEST = 1
    SKIP = 2


class LeaseLoss(IntEnum):
    """Numbers as in horologe.v1.LeaseLossPolicy."""

    RETRY = 1
    FAIL = 2


class JobFlag:
    """One bit each in a job's state. Plain integers, as below: arithmetic on IntFlag costs more than reading a record."""

    PAUSED: Final = 1
    DELETED: Final = 2


class ExecutionFlag:
    """One bit each in an execution."""

    CANCEL_REQUESTED: Final = 1
    HAS_DETAIL: Final = 2
    HAS_EXIT_CODE: Final = 4


class TimerKind(IntEnum):
    """What a timer in the wheel is for, and so what its id names."""

    FIRE = 1  # a job
    RETRY = 2  # an execution


class Code(IntEnum):
    """How a command ended. Everything but OK left the state as it was."""

    OK = 0
    JOB_EXISTS = 1
    JOB_NOT_FOUND = 2
    ETAG_MISMATCH = 3
    JOB_PAUSED = 4
    JOB_NOT_PAUSED = 5
    EXECUTION_NOT_FOUND = 6
    EXECUTION_FINISHED = 7
    OVERLAP = 8
    WORKER_NOT_FOUND = 9
    REQUEST_ID_REUSED = 10
    SESSION_NOT_FOUND = 11
    WRONG_CLUSTER = 12
    MEMBER_EXISTS = 13
    MEMBER_NOT_FOUND = 14
    MEMBER_REMOVED = 15
    MEMBER_BEHIND = 16
    LAST_VOTER = 17
    QUORUM_AT_RISK = 18
    MALFORMED = 19


@dataclass(frozen=True, slots=True)
class Result:
    """What one command answers: a code, numbers (ids, outcomes) and a text (mostly the name that the code is about)."""

    code: Code
    numbers: tuple[int, ...] = ()
    text: str = ""


class Table(Protocol):
    """A sorted map of bytes. Key order is byte order, so packed big-endian keys sort by value."""

    def get(self, key: bytes, /) -> bytes | None: ...
    def put(self, key: bytes, value: bytes, /) -> object: ...
    def delete(self, key: bytes, /) -> bool: ...
    def scan(self, start: bytes = b"", /) -> Iterator[tuple[bytes, bytes]]:
        """Pairs from `start` on, upwards. The table must not change while the iterator is in use."""

    def scan_down(self, start: bytes, /) -> Iterator[tuple[bytes, bytes]]:
        """Pairs from below `start` downwards."""


class SetTable(Protocol):
    """A sorted map of bytes to sorted sets of values of one size."""

    def put(self, key: bytes, value: bytes, /) -> object: ...
    def delete(self, key: bytes, value: bytes, /) -> bool: ...
    def scan(self, start: bytes = b"", /) -> Iterator[tuple[bytes, bytes]]: ...


class Tables(Protocol):
    """All tables of one transaction; store.py implements it over LMDB, tests over dicts."""

    @property
    def meta(self) -> Table: ...  # name -> see Counters; cluster identity
    @property
    def job(self) -> Table: ...  # job -> log.v1.JobRecord
    @property
    def job_name(self) -> Table: ...  # name -> job
    @property
    def job_state(self) -> Table: ...  # job -> JobState
    @property
    def timer(self) -> SetTable: ...  # see wheel.py
    @property
    def execution(self) -> Table: ...  # execution -> Execution
    @property
    def detail(self) -> Table: ...  # execution -> log.v1.ExecutionRecord
    @property
    def ready(self) -> Table: ...  # queue, 9 - priority, due, execution -> nothing
    @property
    def running(self) -> Table: ...  # session, execution -> deadline, token, attempt
    @property
    def session(self) -> Table: ...  # session -> log.v1.SessionRecord
    @property
    def worker(self) -> Table: ...  # name -> worker, session
    @property
    def worker_name(self) -> Table: ...  # worker -> name
    @property
    def queue(self) -> Table: ...  # name -> queue
    @property
    def ledger(self) -> Table: ...  # job, due, execution (manual) or 0 -> LedgerEntry
    @property
    def request(self) -> Table: ...  # request id -> log.v1.RequestRecord
    @property
    def request_time(self) -> Table: ...  # time, request id -> nothing


TABLE_NAMES: tuple[str, ...] = (
    "meta",
    "job",
    "job_name",
    "job_state",
    "execution",
    "detail",
    "ready",
    "running",
    "session",
    "worker",
    "worker_name",
    "queue",
    "ledger",
    "request",
    "request_time",
)
SET_TABLE_NAMES: tuple[str, ...] = ("timer",)

U32 = Struct(">I")
U64 = Struct(">Q")
PAIR = Struct(">QQ")
READY_KEY = Struct(">IBQQ")
RUNNING_VALUE = Struct(">QQI")
LEDGER_KEY = Struct(">QQQ")
WORKER_VALUE = Struct(">IQ")


@dataclass(slots=True)
class JobState:
    """The part of a job that firing needs, so that no definition is decoded on the way of an execution.

    A job with one plain interval schedule carries `every_ms`; for all others it is 0 and the
    planner asks the definition.
    """

    STRUCT: ClassVar[Struct] = Struct(">QQQQIIHBBBBBQ")

    revision: int
    next_due_ms: int
    every_ms: int
    timeout_ms: int
    unfinished: int
    queue: int
    max_attempts: int
    flags: int
    overlap: int
    catchup: int
    on_lease_loss: int
    priority: int
    catchup_window_ms: int

    def pack(self) -> bytes:
        return self.STRUCT.pack(
            self.revision,
            self.next_due_ms,
            self.every_ms,
            self.timeout_ms,
            self.unfinished,
            self.queue,
            self.max_attempts,
            self.flags,
            self.overlap,
            self.catchup,
            self.on_lease_loss,
            self.priority,
            self.catchup_window_ms,
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        return cls(*cls.STRUCT.unpack(raw))


@dataclass(slots=True)
class Execution:
    """One run owed, with its current attempt. Attempts that are over stand in the detail table if they had anything to say."""

    STRUCT: ClassVar[Struct] = Struct(">QQQQQQQQQIIiHBBBBB")

    job: int
    due_ms: int
    create_ms: int
    start_ms: int = 0
    end_ms: int = 0
    next_attempt_ms: int = 0
    token: int = 0
    session: int = 0
    assign_ms: int = 0
    worker: int = 0
    queue: int = 0
    exit_code: int = 0
    attempt: int = 0
    state: int = 0
    attempt_state: int = 0
    trigger: int = 0
    flags: int = 0
    priority: int = 0

    def pack(self) -> bytes:
        return self.STRUCT.pack(
            self.job,
            self.due_ms,
            self.create_ms,
            self.start_ms,
            self.end_ms,
            self.next_attempt_ms,
            self.token,
            self.session,
            self.assign_ms,
            self.worker,
            self.queue,
            self.exit_code,
            self.attempt,
            self.state,
            self.attempt_state,
            self.trigger,
            self.flags,
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

    def pack(self) -> bytes:
        return self.STRUCT.pack(self.outcome, self.reason, self.execution, self.first_due_ms, self.count)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        return cls(*cls.STRUCT.unpack(raw))


@dataclass(slots=True)
class Counters:
    """Numbers of the whole state: what comes next, what time it is, how much there is. One record, written once per entry."""

    STRUCT: ClassVar[Struct] = Struct(">18Q")
    KEY: ClassVar[bytes] = b"counters"

    revision: int = 0
    log_time_ms: int = 0
    cursor_ms: int = 0
    last_job: int = 0
    last_execution: int = 0
    last_session: int = 0
    last_queue: int = 0
    last_worker: int = 0
    jobs: int = 0
    queued: int = 0
    running: int = 0
    fired: int = 0
    completed: int = 0
    failed: int = 0
    not_run: int = 0
    refused_tokens: int = 0
    entries: int = 0
    workers: int = 0

    def pack(self) -> bytes:
        return self.STRUCT.pack(
            self.revision,
            self.log_time_ms,
            self.cursor_ms,
            self.last_job,
            self.last_execution,
            self.last_session,
            self.last_queue,
            self.last_worker,
            self.jobs,
            self.queued,
            self.running,
            self.fired,
            self.completed,
            self.failed,
            self.not_run,
            self.refused_tokens,
            self.entries,
            self.workers,
        )

    @classmethod
    def load(cls, tables: Tables) -> Self:
        raw = tables.meta.get(cls.KEY)
        return cls() if raw is None else cls(*cls.STRUCT.unpack(raw))


@dataclass(slots=True)
class Effects:
    """What an applied entry asks this process to do. Hints: whoever needs certainty reads the state.

    assigned: session, execution, job, attempt, due_ms, token, flags
    freed: session, execution (an attempt ended, and its slot is free)
    queued, unqueued: queue
    cancelled: session, execution, attempt, token
    """

    assigned: list[tuple[int, int, int, int, int, int, int]] = field(default_factory=list)
    freed: list[tuple[int, int]] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)
    unqueued: list[int] = field(default_factory=list)
    cancelled: list[tuple[int, int, int, int]] = field(default_factory=list)
    sessions_opened: list[int] = field(default_factory=list)
    sessions_closed: list[int] = field(default_factory=list)
    sessions_drained: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    jobs_changed: list[int] = field(default_factory=list)
    checkpoint: bool = False
    """The state as of this entry is to be kept for a digest."""
