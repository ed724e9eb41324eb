"""Judges a run: what handlers saw (evidence.py) against what had to happen and what the cluster says happened.

Pure functions over plain data, so that the simulator and real processes are judged by the same rules. Every rule has a
counter of its own, and what was attempted is counted too: a run in which nothing happened is no proof.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from horologe.chaos.evidence import Kind, Mark

DETAILS_MAX = 20


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


class Outcome(NamedTuple):
    """How the cluster says an execution stands."""

    execution: int
    state: str
    """COMPLETED, FAILED, CANCELLED, DEAD, or one that is not final."""
    succeeded_attempts: int = 0
    """As far as they were looked at."""


FINAL_STATES = frozenset({"COMPLETED", "FAILED", "CANCELLED", "DEAD"})


class Rule(enum.Enum):
    """What must never happen; the value says it in words."""

    DUE_LOST = "due times that are in no ledger"
    NOT_STARTED = "due times that the ledger calls RAN, without a start in the evidence"
    RECORDED_TWICE = "due times that are in the ledger more than once"
    STARTED_TWICE = "attempts that were started more than once"
    TOKEN_SHARED = "fencing tokens that two attempts had for the same execution"
    TOKEN_NOT_GROWING = "attempts whose fencing token is not above that of the attempt before"
    COMPLETED_TWICE = "executions with more than one successful attempt on record, or two ends under one token"
    OVERLAP = "attempts that ran while another attempt of the same execution ran"
    TOO_EARLY = "starts before the due time"
    NOT_IN_SCHEDULE = "starts for due times that no schedule names"
    UNFINISHED = "executions without a final state at the end"


@dataclass(frozen=True, slots=True)
class Delays:
    """From due time to start, in milliseconds; nearest rank over all first starts, nothing left out."""

    p50: float
    p99: float
    p99_9: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Delays | None:
        """None if there are no values."""
        ordered = sorted(values)
        if not ordered:
            return None

        def rank(share: float) -> float:
            return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 1)

        return cls(rank(0.5), rank(0.99), rank(0.999), round(ordered[-1], 1))


@dataclass(slots=True)
class Verdict:
    """The counts of a run."""

    due: int = 0
    """Due times that had to be accounted for."""
    starts: int = 0
    executions: int = 0
    retried: int = 0
    """Executions that were started more than once, as their policy allows."""
    not_run: Counter[str] = field(default_factory=Counter)
    """Due times that a policy left out, by outcome."""
    delays_ms: Delays | None = None
    violations: Counter[Rule] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)

    def note(self, rule: Rule, text: str) -> None:
        """Counts one violation, and keeps the first few."""
        self.violations[rule] += 1
        if len(self.details) < DETAILS_MAX:
            self.details.append(f"{rule.name}: {text}")

    @property
    def is_sound(self) -> bool:
        """Nothing was broken, and something happened at all."""
        return not self.violations and self.due > 0 and self.starts > 0

    def summary(self) -> str:
        """A few lines for people."""
        lines = [
            f"due times {self.due}, executions started {self.executions}, starts {self.starts}, retried {self.retried}",
            f"left out by policy: {dict(self.not_run) or 'none'}",
            f"start delay ms: {self.delays_ms}",
        ]
        lines += [f"VIOLATED {rule.name}: {count} {rule.value}" for rule, count in self.violations.items()]
        return "\n".join([*lines, *self.details])


def check(
    marks: Sequence[Mark],
    expected: Iterable[Due],
    ledger: Iterable[LedgerLine],
    outcomes: Iterable[Outcome],
    *,
    clock_skew_ms: float = 1.0,
    frozen: frozenset[int] = frozenset(),
) -> Verdict:
    """Compares the evidence with the due times in `expected` and with the cluster's own account of them.

    `ledger` and `outcomes` may hold more than what is expected; only what was expected, or has evidence, is judged.
    `frozen`: executions that ran in a process that was stopped from outside, which may overlap with their successors for
    as long as it takes the thawed process to notice.
    """
    verdict = Verdict()
    wanted = set(expected)
    lines = [line for line in ledger if (line.job, line.due_ms) in wanted]
    started = [mark for mark in marks if mark.kind == Kind.STARTED and (mark.job, mark.due_ms) in wanted]
    verdict.due = len(wanted)
    verdict.starts = len(started)
    first_starts: dict[int, Mark] = {}
    for mark in started:
        first_starts.setdefault(mark.execution, mark)
    verdict.executions = len(first_starts)
    verdict.delays_ms = Delays.of(mark.delay_ms for mark in first_starts.values())
    _check_ledger(verdict, wanted, lines, set(first_starts))
    named = {line.execution for line in lines if line.outcome == "RAN"}
    for execution, mark in first_starts.items():
        if execution not in named:
            verdict.note(Rule.RECORDED_TWICE, f"{mark} has a start, but the ledger names another execution or none")
        if mark.delay_ms < -clock_skew_ms:
            verdict.note(Rule.TOO_EARLY, f"{mark}")
    states = {outcome.execution: outcome for outcome in outcomes if outcome.execution in named}
    for execution in sorted(named):
        outcome = states.get(execution)
        if outcome is None or outcome.state not in FINAL_STATES:
            verdict.note(Rule.UNFINISHED, f"execution {execution}: {outcome}")
        elif outcome.succeeded_attempts > 1:
            verdict.note(Rule.COMPLETED_TWICE, f"{outcome}")
    concerned = set(first_starts)
    check_attempts(verdict, [mark for mark in marks if mark.execution in concerned], frozen)
    return verdict


def check_schedule(
    verdict: Verdict, marks: Iterable[Mark], expected: Iterable[Due], from_ms: int, until_ms: int
) -> None:
    """Whether every start with a due time in [from_ms, until_ms) is for a due time that a schedule names."""
    wanted = set(expected)
    for mark in marks:
        is_judged = mark.kind == Kind.STARTED and mark.job and from_ms <= mark.due_ms < until_ms
        if is_judged and (mark.job, mark.due_ms) not in wanted:
            verdict.note(Rule.NOT_IN_SCHEDULE, f"{mark}")


def check_attempts(verdict: Verdict, marks: Iterable[Mark], frozen: frozenset[int] = frozenset()) -> None:
    """What must hold between the attempts of one execution, whatever they were due for."""
    by_execution: dict[int, list[Mark]] = defaultdict(list)
    for mark in marks:
        by_execution[mark.execution].append(mark)
    for execution, own in by_execution.items():
        starts = sorted((mark for mark in own if mark.kind == Kind.STARTED), key=lambda mark: mark.monotonic_ns)
        if len(starts) > 1:
            verdict.retried += 1
            _check_order(verdict, starts)
            if execution not in frozen:
                _check_overlap(verdict, starts, [mark for mark in own if mark.kind != Kind.STARTED])
        ends = Counter(mark.token for mark in own if mark.kind == Kind.ENDED)
        for token, count in ends.items():
            if count > 1:
                verdict.note(Rule.COMPLETED_TWICE, f"execution {execution} token {token}: {count} ends")


def _check_ledger(verdict: Verdict, wanted: set[Due], lines: Sequence[LedgerLine], started: set[int]) -> None:
    seen = Counter((line.job, line.due_ms) for line in lines)
    for due in sorted(wanted):
        count = seen[due.job, due.due_ms]
        if count == 0:
            verdict.note(Rule.DUE_LOST, f"{due}")
        elif count > 1:
            verdict.note(Rule.RECORDED_TWICE, f"{due} is in the ledger {count} times")
    for line in lines:
        if line.outcome != "RAN":
            verdict.not_run[line.outcome] += 1
        elif line.execution not in started:
            verdict.note(Rule.NOT_STARTED, f"{line}")


def _check_order(verdict: Verdict, starts: Sequence[Mark]) -> None:
    by_attempt = Counter((mark.attempt, mark.token) for mark in starts)
    for (attempt, token), count in by_attempt.items():
        if count > 1:
            verdict.note(
                Rule.STARTED_TWICE, f"execution {starts[0].execution} attempt {attempt} token {token}: {count} starts"
            )
    numbers = Counter(attempt for attempt, _ in by_attempt)
    for attempt, count in numbers.items():
        if count > 1:
            verdict.note(Rule.STARTED_TWICE, f"execution {starts[0].execution} attempt {attempt} under {count} tokens")
    tokens = Counter(token for _, token in by_attempt)
    for token, count in tokens.items():
        if count > 1:
            verdict.note(Rule.TOKEN_SHARED, f"execution {starts[0].execution} token {token}: {count} attempts")
    by_number = sorted(by_attempt)
    for (_, token), (attempt, next_token) in itertools.pairwise(by_number):
        if next_token <= token:
            verdict.note(
                Rule.TOKEN_NOT_GROWING, f"execution {starts[0].execution} attempt {attempt}: {next_token} after {token}"
            )


def _check_overlap(verdict: Verdict, starts: Sequence[Mark], ends: Sequence[Mark]) -> None:
    """An attempt without an end was in a process that was killed: it ended with it, which nobody could write down."""
    ended_ns = {mark.token: mark.monotonic_ns for mark in ends}
    for earlier, later in itertools.pairwise(starts):
        if ended_ns.get(earlier.token, 0) > later.monotonic_ns:
            verdict.note(Rule.OVERLAP, f"{later} started while the attempt with token {earlier.token} ran")


def longest_gap_seconds(marks: Iterable[Mark], from_ns: int, until_ns: int) -> float:
    """The longest time without a start between two monotonic instants; both ends count as starts."""
    instants = sorted(
        mark.monotonic_ns for mark in marks if mark.kind == Kind.STARTED and from_ns <= mark.monotonic_ns <= until_ns
    )
    points = [from_ns, *instants, until_ns]
    return max(later - earlier for earlier, later in itertools.pairwise(points)) / 1e9
