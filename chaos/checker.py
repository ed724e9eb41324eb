"""Judges a run: what handlers saw (evidence.py) against what had to happen and what the cluster says happened (history.py).

Pure functions over plain data, so that the simulator and real processes are judged by the same rules. Every rule has a
counter of its own and belongs to one of eleven criteria; what was attempted is counted too: a run in which nothing happened
is no proof. What callers were promised is judged in checker_operations.py, the delays are counted in delays.py.
"""

from __future__ import annotations

import enum
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from horologe.chaos.delays import Delays, match_windows
from horologe.chaos.evidence import Kind, Mark
from horologe.chaos.history import (
    FINAL_STATES,
    Due,
    LedgerLine,
    Outcome,
    Policy,
    Skew,
    skew_ms_at,
    skew_ms_max,
)

DETAILS_MAX = 20
WINDOW_MS = 600_000.0
"""Where starts are matched to due times without names, a start may come so late. Lateness is judged by the delays."""

CRITERIA = {
    "C1": "every due time is accounted for: it ran, or a policy left it out",
    "C2": "an attempt starts at most once",
    "C3": "attempts of one due time do not overlap",
    "C4": "one accepted outcome per due time",
    "C5": "nothing starts before its time or after its cancellation",
    "C6": "fencing tokens are unique and grow",
    "C7": "what was acknowledged is there",
    "C8": "a request has happened wholly or not at all, and once",
    "C9": "in the end everything has ended, and work is on time again",
    "C10": "no more runs at a time than jobs, limits and overlap policies allow",
    "C11": "the nodes of a workflow keep their order, and its runs end as their nodes did",
}


class Rule(enum.Enum):
    """What must never happen: the criterion that falls with it, and words for it."""

    DUE_LOST = ("C1", "due times that are in no ledger")
    NOT_STARTED = ("C1", "due times that the ledger calls RAN and COMPLETED, without a start in the evidence")
    LEFT_OUT = ("C1", "due times that were left out for a reason that their job does not allow")
    LEFT_OUT_IN_PEACE = ("C1", "due times that were missed while nothing was wrong")
    NOT_COMPLETED = ("C1", "executions that did not end well although their job allows them to try again")
    ORACLES_DISAGREE = ("C1", "jobs whose starts, matched without names, tell another story")
    STARTED_TWICE = ("C2", "attempts that were started more than once")
    NOT_PROVEN = ("C2", "starts without the file that they had to make first")
    STARTED_AGAIN = ("C2", "executions that were started again although their job says at most once")
    OVERLAP = ("C3", "attempts that ran while another attempt of the same execution ran")
    RECORDED_TWICE = ("C4", "due times that are in the ledger more than once")
    COMPLETED_TWICE = ("C4", "executions with more than one successful attempt on record, or two ends under one token")
    NOT_ENDED = ("C4", "executions on record as completed under a token whose handler did not come to its end")
    TOO_EARLY = ("C5", "starts before the due time")
    NOT_IN_SCHEDULE = ("C5", "starts for due times that no schedule names")
    STARTED_AFTER_CANCEL = ("C5", "attempts that were granted and started after their cancellation was acknowledged")
    RAN_WHILE_PAUSED = ("C5", "due times that ran although they came while the job was paused")
    TOKEN_SHARED = ("C6", "fencing tokens that two attempts had for the same execution")
    TOKEN_NOT_GROWING = ("C6", "attempts whose fencing token is not above that of the attempt before")
    ACKNOWLEDGED_LOST = ("C7", "acknowledged operations whose effect is not there")
    EVENT_LOST = ("C7", "moves of executions that somebody who followed did not see")
    BACKFILLED_AGAIN = ("C8", "due times that had run well and were run again to fill a gap")
    STATES_DIFFER = ("C7", "members that do not hold the state of the others at the end, or could not say")
    TWO_LEADERS = ("C7", "terms in which two nodes said that they lead")
    HALF_DONE = ("C8", "requests that happened in part")
    DONE_TWICE = ("C8", "requests that happened twice, or got two different answers")
    UNFINISHED = ("C9", "executions without a final state at the end")
    LATE_IN_PEACE = ("C9", "starts that were late while nothing was wrong")
    NODE_ENDED = ("C9", "nodes that ended by themselves although nothing was wrong with their disks")
    NOT_RECOVERED = ("C9", "faults after which work did not become steady again in time")

    RAN_BESIDE = ("C10", "executions that ran beside another one of their job although its overlap policy forbids it")
    RUN_NOT_OVER = ("C11", "runs of workflows that were not over in the end")
    RUN_ENDED_OTHERWISE = ("C11", "runs and nodes that ended otherwise than those that they rest on")
    RUN_OUT_OF_ORDER = ("C11", "nodes that started before, or without, what they are after")
    LIMIT_EXCEEDED = ("C10", "executions that ran although as many as a limit allows ran already")

    @property
    def criterion(self) -> str:
        """C1 to C11."""
        return self.value[0]

    @property
    def words(self) -> str:
        """What was counted."""
        return self.value[1]


@dataclass(slots=True)
class Verdict:
    """The counts of a run."""

    due: int = 0
    """Due times that had to be accounted for."""
    starts: int = 0
    executions: int = 0
    retried: int = 0
    """Executions that were started more than once, as their policy allows."""
    runs: int = 0
    """Runs of workflows."""
    not_run: Counter[str] = field(default_factory=Counter)
    """Due times that a policy left out, by outcome and reason."""
    frozen_overlaps: int = 0
    """Attempts that overlapped because one of them was in a process that had been stopped from outside: a known limit."""
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

    def by_criterion(self) -> dict[str, int]:
        """Violations of each criterion, zeroes included."""
        found = dict.fromkeys(CRITERIA, 0)
        for rule, count in self.violations.items():
            found[rule.criterion] += count
        return found

    def summary(self) -> str:
        """A few lines for people."""
        lines = [
            f"due times {self.due}, executions started {self.executions}, starts {self.starts}, retried {self.retried}",
            f"left out by policy: {dict(self.not_run) or 'none'}",
            f"start delay ms: {self.delays_ms}",
        ]
        lines += [
            f"VIOLATED {rule.criterion} {rule.name}: {count} {rule.words}" for rule, count in self.violations.items()
        ]
        return "\n".join([*lines, *self.details])


def check(
    marks: Sequence[Mark],
    expected: Iterable[Due],
    ledger: Iterable[LedgerLine],
    outcomes: Iterable[Outcome],
    *,
    skews: Sequence[Skew] = (),
    frozen: frozenset[int] = frozenset(),
    policies: Mapping[int, Policy] | None = None,
) -> Verdict:
    """Compares the evidence with the due times in `expected` and with the cluster's own account of them.

    `ledger` and `outcomes` may hold more than what is expected; only what was expected, or has evidence, is judged.
    `frozen`: executions that ran in a process that was stopped from outside, which may overlap with their successors for
    as long as it takes the thawed process to notice. `policies`: of those jobs for which more is judged than that each
    due time is accounted for once. `skews`: when wall clocks were wrong; then a start may come so much too early.
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
    states = {outcome.execution: outcome for outcome in outcomes}
    _check_ledger(verdict, wanted, lines)
    _check_starts(verdict, lines, first_starts, states, skews)
    _check_outcomes(verdict, lines, states)
    own = [mark for mark in marks if mark.execution in first_starts]
    check_attempts(verdict, own, frozen)
    _check_policies(verdict, lines, states, own, policies or {})
    _check_ends(verdict, own, states)
    _compare_oracles(verdict, lines, first_starts, states, skews)
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
            _check_overlap(verdict, starts, [mark for mark in own if mark.kind != Kind.STARTED], execution in frozen)
        ends = Counter(mark.token for mark in own if mark.kind == Kind.ENDED)
        for token, count in ends.items():
            if count > 1:
                verdict.note(Rule.COMPLETED_TWICE, f"execution {execution} token {token}: {count} ends")


def check_proofs(
    verdict: Verdict, marks: Iterable[Mark], proven_jobs: frozenset[int], proofs: frozenset[tuple[int, int, int, int]]
) -> None:
    """Whether every start of these jobs made its file first, and none found it made already."""
    for mark in marks:
        if mark.kind == Kind.DOUBLE:
            verdict.note(Rule.STARTED_TWICE, f"{mark} found the file of its own attempt")
        must_be_proven = mark.kind == Kind.STARTED and mark.job in proven_jobs
        if must_be_proven and (mark.job, mark.due_ms, mark.attempt, mark.token) not in proofs:
            verdict.note(Rule.NOT_PROVEN, f"{mark}")


def _check_ledger(verdict: Verdict, wanted: set[Due], lines: Sequence[LedgerLine]) -> None:
    seen = Counter((line.job, line.due_ms) for line in lines)
    for due in sorted(wanted):
        count = seen[due.job, due.due_ms]
        if count == 0:
            verdict.note(Rule.DUE_LOST, f"{due}")
        elif count > 1:
            verdict.note(Rule.RECORDED_TWICE, f"{due} is in the ledger {count} times")
    for line in lines:
        if line.outcome != "RAN":
            verdict.not_run[line.outcome if line.reason == "NONE" else f"{line.outcome} {line.reason}"] += 1


def _check_starts(
    verdict: Verdict,
    lines: Sequence[LedgerLine],
    first_starts: Mapping[int, Mark],
    states: Mapping[int, Outcome],
    skews: Sequence[Skew],
) -> None:
    named = {line.execution for line in lines if line.outcome == "RAN"}
    for execution, mark in first_starts.items():
        if execution not in named:
            verdict.note(Rule.RECORDED_TWICE, f"{mark} has a start, but the ledger names another execution or none")
        if mark.delay_ms < 0 and -mark.delay_ms > skew_ms_at(skews, mark.monotonic_ns):
            verdict.note(Rule.TOO_EARLY, f"{mark}")
    for line in lines:
        if line.outcome == "RAN" and line.execution not in first_starts:
            outcome = states.get(line.execution)
            # What ended otherwise may have been lost, or cancelled, on its way to the worker.
            if outcome is None or outcome.state not in ("FAILED", "CANCELLED", "DEAD", "SKIPPED"):
                verdict.note(Rule.NOT_STARTED, f"{line} {outcome}")


def _check_outcomes(verdict: Verdict, lines: Sequence[LedgerLine], states: Mapping[int, Outcome]) -> None:
    for execution in sorted({line.execution for line in lines if line.outcome == "RAN"}):
        outcome = states.get(execution)
        if outcome is None or outcome.state not in FINAL_STATES:
            verdict.note(Rule.UNFINISHED, f"execution {execution}: {outcome}")
        elif outcome.succeeded_attempts > 1:
            verdict.note(Rule.COMPLETED_TWICE, f"{outcome}")


def _check_policies(
    verdict: Verdict,
    lines: Iterable[LedgerLine],
    states: Mapping[int, Outcome],
    marks: Iterable[Mark],
    policies: Mapping[int, Policy],
) -> None:
    for line in lines:
        policy = policies.get(line.job)
        if policy is None:
            continue
        if line.outcome != "RAN":
            if line.reason not in policy.left_out:
                verdict.note(Rule.LEFT_OUT, f"{line}")
            continue
        outcome = states.get(line.execution)
        if outcome is not None and outcome.state in ("FAILED", "DEAD", "CANCELLED") and policy.must_complete:
            verdict.note(Rule.NOT_COMPLETED, f"{line} {outcome}")
    starts = Counter(mark.execution for mark in marks if mark.kind == Kind.STARTED and _is_once(mark.job, policies))
    for execution, count in starts.items():
        if count > 1:
            verdict.note(Rule.STARTED_AGAIN, f"execution {execution}: {count} starts")


def _is_once(job: int, policies: Mapping[int, Policy]) -> bool:
    policy = policies.get(job)
    return policy is not None and policy.at_most_once


def _check_ends(verdict: Verdict, marks: Sequence[Mark], states: Mapping[int, Outcome]) -> None:
    """A success on record is believed only if its handler wrote that it came to its end under that very token."""
    ended = {(mark.execution, mark.token) for mark in marks if mark.kind == Kind.ENDED}
    for execution in sorted({mark.execution for mark in marks}):
        outcome = states.get(execution)
        if outcome is not None and outcome.succeeded_token and (execution, outcome.succeeded_token) not in ended:
            verdict.note(Rule.NOT_ENDED, f"{outcome}")


def _compare_oracles(
    verdict: Verdict,
    lines: Iterable[LedgerLine],
    first_starts: Mapping[int, Mark],
    states: Mapping[int, Outcome],
    skews: Sequence[Skew],
) -> None:
    """Matches the starts of each job to its due times by time alone, as somebody would who knows no names."""
    targets: dict[int, list[float]] = defaultdict(list)
    missing: Counter[int] = Counter()
    for line in lines:
        outcome = states.get(line.execution)
        if line.outcome == "RAN" and (outcome is None or outcome.state == "COMPLETED"):
            targets[line.job].append(line.due_ms)
            missing[line.job] += line.execution not in first_starts
    starts: dict[int, list[float]] = defaultdict(list)
    for mark in first_starts.values():
        outcome = states.get(mark.execution)
        if outcome is None or outcome.state == "COMPLETED":
            starts[mark.job].append(mark.wall_us / 1000)
    skew_ms = skew_ms_max(skews)
    for job in sorted(targets.keys() | starts.keys()):
        windows = [(due - skew_ms, due + WINDOW_MS) for due in targets[job]]
        matched = match_windows(windows, starts[job])
        by_name = len(windows) - missing[job]
        if matched != by_name or matched != len(starts[job]):
            verdict.note(
                Rule.ORACLES_DISAGREE,
                f"job {job}: {by_name} due times by name, {matched} by time, {len(starts[job])} starts",
            )


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


def _check_overlap(verdict: Verdict, starts: Sequence[Mark], ends: Sequence[Mark], is_frozen: bool) -> None:
    """An attempt without an end was in a process that was killed: it ended with it, which nobody could write down."""
    ended_ns = {mark.token: mark.monotonic_ns for mark in ends}
    for earlier, later in itertools.pairwise(starts):
        if ended_ns.get(earlier.token, 0) > later.monotonic_ns:
            if is_frozen:
                verdict.frozen_overlaps += 1
            else:
                verdict.note(Rule.OVERLAP, f"{later} started while the attempt with token {earlier.token} ran")


def longest_gap_seconds(marks: Iterable[Mark], from_ns: int, until_ns: int) -> float:
    """The longest time without a start between two monotonic instants; both ends count as starts."""
    instants = sorted(
        mark.monotonic_ns for mark in marks if mark.kind == Kind.STARTED and from_ns <= mark.monotonic_ns <= until_ns
    )
    points = [from_ns, *instants, until_ns]
    return max(later - earlier for earlier, later in itertools.pairwise(points)) / 1e9
