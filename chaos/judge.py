"""One judgement over a whole history: every rule of checker.py and checker_operations.py, and work on time in peace. Pure."""

from __future__ import annotations

import bisect
from collections import Counter

from horologe.chaos.checker import Rule, Verdict, check, check_attempts, check_proofs, check_schedule
from horologe.chaos.checker_operations import check_leaders, check_operations, check_pauses
from horologe.chaos.delays import first_starts
from horologe.chaos.evidence import Kind
from horologe.chaos.history import History, Phase, skew_ms_max

PEACE_DELAY_MS_MAX = 5_000.0
"""In peace nothing may be so late: from here on it would count as missed."""


def judge(history: History, from_ms: int, until_ms: int) -> Verdict:
    """Judges everything that was due in [from_ms, until_ms), and all that callers did."""
    verdict = check(
        history.marks,
        history.expected,
        history.ledger,
        history.outcomes,
        skews=history.skews,
        frozen=history.frozen,
        policies=history.policies,
    )
    scheduled = [mark for mark in history.marks if mark.job in history.policies]
    check_schedule(verdict, scheduled, history.expected, from_ms, until_ms)
    asked = {outcome.execution for outcome in history.outcomes} - {mark.execution for mark in scheduled}
    check_attempts(verdict, [mark for mark in history.marks if mark.execution in asked], history.frozen)
    if history.proofs is not None:
        check_proofs(verdict, history.marks, history.proven_jobs, history.proofs)
    check_operations(verdict, history.operations, history.jobs, history.outcomes, history.marks)
    check_pauses(verdict, history.operations, history.ledger, history.owned_jobs, skew_ms_max(history.skews))
    check_leaders(verdict, history.leaderships)
    _check_digests(verdict, history)
    _check_ends(verdict, history)
    _check_peace(verdict, history)
    return verdict


def _check_digests(verdict: Verdict, history: History) -> None:
    usual = Counter(history.digests.values()).most_common(1)
    for member, digest in sorted(history.digests.items()):
        if not digest or digest != usual[0][0]:
            verdict.note(Rule.STATES_DIFFER, f"{member}: {digest or 'unknown'}, most have {usual[0][0] or 'none'}")


def _check_ends(verdict: Verdict, history: History) -> None:
    """What callers asked for has ended, too: they cancelled what would have lasted."""
    for outcome in history.outcomes:
        if outcome.job and not outcome.is_final and outcome.execution in history.asked_executions:
            verdict.note(Rule.UNFINISHED, f"{outcome}, asked for by a caller")


def _check_peace(verdict: Verdict, history: History) -> None:
    """While nothing is wrong, nothing is missed and nothing is late."""
    for line in history.ledger:
        if line.outcome in ("MISSED", "COALESCED") and _is_in(history.peace, _ns(history, line.due_ms)):
            verdict.note(Rule.LEFT_OUT_IN_PEACE, f"{line}")
    scheduled = (mark for mark in history.marks if mark.job in history.policies and mark.kind == Kind.STARTED)
    for mark in first_starts(scheduled):
        if mark.delay_ms > PEACE_DELAY_MS_MAX and _is_in(history.peace, _ns(history, mark.due_ms)):
            verdict.note(Rule.LATE_IN_PEACE, f"{mark} is {mark.delay_ms:.0f} ms late")


def _ns(history: History, wall_ms: float) -> int:
    return int((wall_ms - history.wall_minus_monotonic_ms) * 1e6)


def _is_in(phases: list[Phase], instant_ns: int) -> bool:
    position = bisect.bisect_right(phases, (instant_ns,), key=lambda phase: (phase.from_ns,)) - 1
    return position >= 0 and instant_ns < phases[position].until_ns
