"""The words of the replicated state: states and their legal moves, policies, reasons, codes, results, effects, counters.

Here belongs what the records (records.py) and the commands (commands.py) mean, and nothing about how anything changes: that is
machine.py and its neighbours. All times are milliseconds since the epoch, UTC; 0 stands for "none".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, ClassVar, Final, Self

if TYPE_CHECKING:
    from horologe.raft.tables import Tables

CLUSTER_ID_KEY = b"cluster_id"
"""In the meta table. Missing until the cluster has got its name."""


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
        # It waits for the one before it, or a condition of its dependencies did not come about.
        (None, ExecutionState.SCHEDULED),
        (None, ExecutionState.SKIPPED),
        # Its deadline passed before it started.
        (ExecutionState.SCHEDULED, ExecutionState.SKIPPED),
        (ExecutionState.QUEUED, ExecutionState.SKIPPED),
        # The time for all attempts is over.
        (ExecutionState.SCHEDULED, ExecutionState.DEAD),
        (ExecutionState.QUEUED, ExecutionState.DEAD),
        # It is driven again out of the dead letter queue.
        (ExecutionState.DEAD, ExecutionState.QUEUED),
        (ExecutionState.DEAD, ExecutionState.SCHEDULED),
        # A workflow whose failed nodes run again.
        (ExecutionState.FAILED, ExecutionState.RUNNING),
        (ExecutionState.CANCELLED, ExecutionState.RUNNING),
        (ExecutionState.COMPLETED, ExecutionState.RUNNING),
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
    BACKFILL = 3
    DEPENDENCY = 4


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
    DEADLINE = 8
    QUEUE_FULL = 9
    REPLACED = 10
    CATCHUP_EARLIEST = 11
    CATCHUP_MAX = 12
    UPSTREAM = 13
    NOT_PERMITTED = 14
    """The principal in whose name the job runs has lost the right to."""
    RUN_CANCELLED = 50

    @property
    def text(self) -> str:
        return "" if self is Reason.NONE else self.name.lower()


class Overlap(IntEnum):
    """Numbers as in horologe.v1.OverlapPolicy."""

    SKIP = 1
    ALLOW = 2
    QUEUE_ONE = 3
    QUEUE_ALL = 4
    REPLACE = 5


class Catchup(IntEnum):
    """Numbers as in horologe.v1.CatchupPolicy."""

    LATEST = 1
    SKIP = 2
    EARLIEST = 3
    ALL = 4


class Condition(IntEnum):
    """Numbers as in horologe.v1.AfterSchedule.Condition."""

    ALL_SUCCEEDED = 1
    ALL_DONE = 2
    ANY_SUCCEEDED = 3
    ANY_FAILED = 4


class LeaseLoss(IntEnum):
    """Numbers as in horologe.v1.LeaseLossPolicy."""

    RETRY = 1
    FAIL = 2


class JobFlag:
    """One bit each in a job's state. Plain integers, as below: arithmetic on IntFlag costs more than reading a record."""

    PAUSED: Final = 1
    DELETED: Final = 2
    PARKED: Final = 4
    """Its due time came while its namespace or the cluster was paused."""
    LIMITED: Final = 8
    """It has `max_running` or named limits."""
    UPSTREAM: Final = 16
    """Other jobs are after it."""
    WORKFLOW: Final = 32
    """Its action is to run the jobs that name it as their workflow."""
    DELETE_WHEN_FINISHED: Final = 128
    SECRETS: Final = 256
    """It names secrets."""
    FAILING: Final = 512
    """Of its executions that completed or failed, the last one failed."""


class ExecutionFlag:
    """One bit each in an execution."""

    CANCEL_REQUESTED: Final = 1
    HAS_DETAIL: Final = 2
    HAS_EXIT_CODE: Final = 4
    HELD: Final = 8
    """SCHEDULED behind other executions of its job."""
    LIMITED: Final = 32
    """Its attempt counts against the limits of its job: see permits.py."""
    DEAD_LETTER: Final = 64
    """DEAD, and in the dead letter queue."""
    REPLACES: Final = 128
    """All older ones of its job were asked to end when it was made: see overlap.py."""
    TIME_IS_UP: Final = 256
    """Its attempt was told to end, because the time for all attempts is over."""
    HAS_UPSTREAM: Final = 512
    """Its run has others before it, whose results go along with it."""


class TimerKind(IntEnum):
    """What a timer in the wheel is for, and so what its id names."""

    FIRE = 1  # a job
    RETRY = 2  # an execution
    DEADLINE = 3  # an execution that has not started
    EXECUTION_TIMEOUT = 4  # an execution


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
    CALENDAR_NOT_FOUND = 40
    CALENDAR_IN_USE = 41
    SCOPE_PAUSED = 42
    SCOPE_NOT_PAUSED = 43
    TOO_MANY_PAUSES = 44
    MOVED_ON = 45
    """Due times that the proposer counted have been accounted for since."""
    DEAD_LETTER_NOT_FOUND = 50
    OPERATION_NOT_FOUND = 51
    OPERATION_FINISHED = 52
    ATTEMPTS_EXHAUSTED = 53
    QUEUE_FULL = 30
    LIMIT_NOT_FOUND = 31
    LIMIT_IN_USE = 32
    QUEUE_PAUSED = 33
    QUEUE_NOT_PAUSED = 34
    UPSTREAM_NOT_FOUND = 60
    WORKFLOW_NOT_FOUND = 61
    CYCLE = 62
    ORIGINS_DIFFER = 63
    WORKFLOW_TOO_LARGE = 64
    HAS_DEPENDANTS = 65
    NOT_IN_A_RUN = 66
    RUN_UNFINISHED = 67
    NOTHING_TO_RERUN = 68
    KIND_CHANGED = 69
    PERMISSION_DENIED = 80
    TOKEN_NOT_FOUND = 82
    GRANT_NOT_FOUND = 83
    PRINCIPAL_NOT_FOUND = 84
    LAST_ADMIN = 85
    ALREADY_SECURE = 86
    TOKEN_EXISTS = 87
    SECRET_NOT_FOUND = 90
    SECRET_IN_USE = 91
    QUOTA_EXCEEDED = 95
    NOTIFICATION_NOT_FOUND = 96
    VERSION_TOO_LOW = 100
    VERSION_NOT_READY = 101


@dataclass(frozen=True, slots=True)
class Result:
    """What one command answers: a code, numbers (ids, outcomes) and a text (mostly the name that the code is about)."""

    code: Code
    numbers: tuple[int, ...] = ()
    text: str = ""


@dataclass(slots=True)
class Counters:
    """Numbers of the whole state: what comes next, what time it is, how much there is. One record, written once per entry."""

    STRUCT: ClassVar[Struct] = Struct(">26Q")
    KEY: ClassVar[bytes] = b"counters"
    _TIME: ClassVar[Struct] = Struct(">2Q")

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
    last_namespace: int = 0
    last_limit: int = 0
    last_calendar: int = 0
    last_operation: int = 0
    dead_letters: int = 0
    events: int = 0
    """Events that the watch table holds."""
    last_principal: int = 0
    last_audit: int = 0
    """Number of the newest audit record."""

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
            self.last_namespace,
            self.last_limit,
            self.last_calendar,
            self.last_operation,
            self.dead_letters,
            self.events,
            self.last_principal,
            self.last_audit,
        )

    @classmethod
    def load(cls, tables: Tables) -> Self:
        raw = tables.meta.get(cls.KEY)
        return cls() if raw is None else cls(*cls.STRUCT.unpack(raw))

    @classmethod
    def load_time(cls, tables: Tables) -> tuple[int, int]:
        """Revision and time alone: most of those who read want no more."""
        raw = tables.meta.get(cls.KEY)
        return (0, 0) if raw is None else cls._TIME.unpack_from(raw)


@dataclass(slots=True)
class Effects:
    """What an applied entry asks this process to do. Hints: whoever needs certainty reads the state.

    assigned: session, execution, job, attempt, due_ms, token, flags
    freed: session, execution (an attempt ended, and its slot is free)
    queued, unqueued: queue
    lanes_made: lane
    eased: limit (there is room under it, and nobody was called up from its lines)
    cancelled: session, execution, attempt, token
    begun: execution, delay_ms (its first attempt started so long after it was ready to)
    ended: execution, namespace, state
    not_run: namespace, outcome, due times
    expired: session
    """

    time_ms: int = 0
    """The cluster's time at this entry."""
    assigned: list[tuple[int, int, int, int, int, int, int]] = field(default_factory=list)
    freed: list[tuple[int, int]] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)
    unqueued: list[int] = field(default_factory=list)
    lanes_made: list[int] = field(default_factory=list)
    eased: list[int] = field(default_factory=list)
    cancelled: list[tuple[int, int, int, int]] = field(default_factory=list)
    begun: list[tuple[int, int]] = field(default_factory=list)
    ended: list[tuple[int, int, int]] = field(default_factory=list)
    not_run: list[tuple[int, int, int]] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    sessions_opened: list[int] = field(default_factory=list)
    sessions_closed: list[int] = field(default_factory=list)
    sessions_drained: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    jobs_changed: list[int] = field(default_factory=list)
    operations_changed: list[int] = field(default_factory=list)
    calendars_changed: list[int] = field(default_factory=list)
    checkpoint: bool = False
    """The state as of this entry is to be kept for a digest."""
    version_changed: bool = False
    """The cluster's version, or whether it is held."""
