"""The words of a run's history, for the checker: what was due, what the cluster says, what callers asked and were told.

Plain data without behaviour of its own, so that the simulator and real processes are judged alike. What handlers saw is in
evidence.py.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from horologe.chaos.evidence import Mark

FINAL_STATES = frozenset({"COMPLETED", "FAILED", "CANCELLED", "DEAD", "SKIPPED"})


ROUNDING_MS = 1.0
SKEW_AFTERMATH_NS = 2_000_000_000
"""What was fired under a wrong clock may start so much later, still before its time."""


class Due(NamedTuple):
    """A due time that some job's schedule names."""

    job: int
    due_ms: int


class LedgerLine(NamedTuple):
    """What the cluster says became of one due time."""

    job: int
    due_ms: int
    outcome: str
    """RAN, SKIPPED, MISSED or COALESCED."""
    execution: int
    reason: str = "NONE"


class Outcome(NamedTuple):
    """How the cluster says an execution stands."""

    execution: int
    state: str
    """COMPLETED, FAILED, CANCELLED, DEAD, or one that is not final."""
    succeeded_attempts: int = 0
    """As far as they were looked at."""
    job: str = ""
    """The job's id, if it was looked at."""
    succeeded_token: int = 0
    """The fencing token of the attempt whose success was taken, if it was looked at."""

    @property
    def is_final(self) -> bool:
        """Nothing will change it any more."""
        return self.state in FINAL_STATES


class Policy(NamedTuple):
    """What a job allows to become of its due times."""

    left_out: frozenset[str] = frozenset({"CATCHUP_LATEST", "CATCHUP_SKIP", "CATCHUP_WINDOW"})
    """Reasons for which a due time may be left out."""
    at_most_once: bool = False
    """The code of an execution starts at most once; a lost attempt ends it as FAILED."""
    may_fail: bool = False
    """Its own code may fail as often as it likes."""

    @property
    def must_complete(self) -> bool:
        """Every execution ends well."""
        return not (self.at_most_once or self.may_fail)


class Answer(enum.Enum):
    """What a caller was told. No answer in time is UNKNOWN, never FAILED."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Operation(NamedTuple):
    """One call of one caller."""

    kind: str
    """create, run, cancel, update, pause, resume, delete."""
    job: str
    """The job's id; a batch that is created together has several, joined by commas."""
    request_id: str
    node: str
    """The node that was asked."""
    sent_ns: int
    """Monotonic clock of the machine, as in the evidence."""
    answered_ns: int
    sent_ms: int
    """Wall clock of the caller, milliseconds since the epoch."""
    answered_ms: int
    answer: Answer
    detail: str = ""
    """What the answer names: of a run its execution, of a cancel `state:token`, of a failure its words."""
    argument: str = ""
    """Of an update, the new description; of a cancel, the execution."""


class JobView(NamedTuple):
    """A job as the final read found it."""

    job: str
    paused: bool
    description: str


class Phase(NamedTuple):
    """A part of the run in which one thing was wrong, or nothing: `quiet`, a fault's name, `recovery`."""

    name: str
    from_ns: int
    until_ns: int


class Skew(NamedTuple):
    """A time in which some node's wall clock was wrong by up to this much."""

    from_ns: int
    until_ns: int
    skew_ms: float


def skew_ms_max(skews: Iterable[Skew]) -> float:
    """By how much a wall clock was wrong at most; a millisecond is what rounding may cost."""
    return max([ROUNDING_MS, *(skew.skew_ms for skew in skews)])


def skew_ms_at(skews: Iterable[Skew], instant_ns: int) -> float:
    """By how much a wall clock may have been wrong shortly before a monotonic instant."""
    return skew_ms_max(one for one in skews if one.from_ns <= instant_ns <= one.until_ns + SKEW_AFTERMATH_NS)


class Leadership(NamedTuple):
    """What a node said of itself at one moment, when it said that it leads."""

    at_ns: int
    node: str
    term: int


@dataclass(slots=True)
class History:
    """Everything about a run that is judged."""

    marks: list[Mark]
    expected: list[Due]
    ledger: list[LedgerLine]
    outcomes: list[Outcome]
    operations: list[Operation] = field(default_factory=list)
    jobs: list[JobView] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    leaderships: list[Leadership] = field(default_factory=list)
    policies: dict[int, Policy] = field(default_factory=dict)
    """By job number; jobs that are not here have the default."""
    frozen: frozenset[int] = frozenset()
    """Executions that ran in a process while it was stopped from outside."""
    proofs: frozenset[tuple[int, int, int, int]] | None = None
    """(job, due_ms, attempt, token) of the starts that were proven by a file of their own; None: none were to be."""
    proven_jobs: frozenset[int] = frozenset()
    """Jobs whose every start must be proven."""
    skews: list[Skew] = field(default_factory=list)
    """When nodes' wall clocks were wrong."""
    owned_jobs: dict[str, int] = field(default_factory=dict)
    """Numbers of the recurring jobs that callers pause and resume, by their ids."""
    asked_executions: frozenset[int] = frozenset()
    """Runs that were acknowledged to callers."""
    wall_minus_monotonic_ms: float = 0.0
    """What leads from the monotonic clock to the wall clock of the machine."""
    digests: dict[str, str] = field(default_factory=dict)
    """Of each member's state at one revision at the end; empty for one that had none to show."""
    peace: list[Phase] = field(default_factory=list)
    """Times in which nothing was wrong and everything had recovered: here every due time must run at once."""
