"""The checker must find what it looks for: each rule is broken once, in a few marks made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from horologe.chaos.checker import (
    CRITERIA,
    Rule,
    Verdict,
    check,
    check_attempts,
    check_proofs,
    check_schedule,
    longest_gap_seconds,
)
from horologe.chaos.delays import delays_by_phase, first_starts, match_windows
from horologe.chaos.evidence import EvidenceFile, Kind, Mark, prove, read_folder, read_latest, read_proofs
from horologe.chaos.history import Due, LedgerLine, Outcome, Phase, Policy

DUE = Due(1, 1_000)
RAN = LedgerLine(1, 1_000, "RAN", 7)
DONE = Outcome(7, "COMPLETED", 1)


def _mark(kind: Kind, at_ms: float, *, attempt: int = 1, token: int = 40, execution: int = 7) -> Mark:
    return Mark(kind, execution, attempt, token, 1, 1_000, int(at_ms * 1_000), int(at_ms * 1_000_000))


STARTED, ENDED = _mark(Kind.STARTED, 1_010), _mark(Kind.ENDED, 1_020)
SECOND = [_mark(Kind.STARTED, 1_030, attempt=2, token=41), _mark(Kind.ENDED, 1_040, attempt=2, token=41)]


def test_a_run_without_a_fault_is_sound() -> None:
    verdict = check([STARTED, ENDED], [DUE], [RAN], [DONE])
    assert verdict.is_sound
    assert verdict.delays_ms is not None and verdict.delays_ms.max == 10
    assert check([STARTED, *SECOND], [DUE], [RAN], [DONE]).is_sound, "a retry under a higher token is no fault"


def test_a_run_in_which_nothing_happened_proves_nothing() -> None:
    assert not check([], [], [], []).is_sound


@pytest.mark.parametrize(
    ("rule", "marks", "ledger", "outcomes"),
    [
        (Rule.DUE_LOST, [], [], []),
        (Rule.NOT_STARTED, [], [RAN], [DONE]),
        (Rule.RECORDED_TWICE, [STARTED, ENDED], [RAN, RAN], [DONE]),
        (Rule.RECORDED_TWICE, [STARTED, ENDED, _mark(Kind.STARTED, 1_020, execution=8)], [RAN], [DONE]),
        (Rule.STARTED_TWICE, [STARTED, ENDED, _mark(Kind.STARTED, 1_030)], [RAN], [DONE]),
        (Rule.STARTED_TWICE, [STARTED, ENDED, _mark(Kind.STARTED, 1_030, token=41)], [RAN], [DONE]),
        (Rule.TOKEN_SHARED, [STARTED, ENDED, _mark(Kind.STARTED, 1_030, attempt=2)], [RAN], [DONE]),
        (Rule.TOKEN_NOT_GROWING, [STARTED, ENDED, _mark(Kind.STARTED, 1_030, attempt=2, token=39)], [RAN], [DONE]),
        (Rule.COMPLETED_TWICE, [STARTED, ENDED, ENDED], [RAN], [DONE]),
        (Rule.COMPLETED_TWICE, [STARTED, ENDED, *SECOND], [RAN], [Outcome(7, "COMPLETED", 2)]),
        (Rule.OVERLAP, [STARTED, *SECOND, _mark(Kind.ENDED, 1_050)], [RAN], [DONE]),
        (Rule.TOO_EARLY, [_mark(Kind.STARTED, 990), ENDED], [RAN], [DONE]),
        (Rule.UNFINISHED, [STARTED], [RAN], [Outcome(7, "RUNNING")]),
        (Rule.UNFINISHED, [STARTED], [RAN], []),
        (Rule.LEFT_OUT, [], [LedgerLine(1, 1_000, "SKIPPED", 0, "OVERLAP")], []),
        (Rule.NOT_COMPLETED, [STARTED], [RAN], [Outcome(7, "DEAD")]),
        (Rule.NOT_ENDED, [STARTED], [RAN], [Outcome(7, "COMPLETED", 1, "tick-1", 40)]),
        (Rule.NOT_ENDED, [STARTED, ENDED], [RAN], [Outcome(7, "COMPLETED", 1, "tick-1", 41)]),
        (Rule.ORACLES_DISAGREE, [_mark(Kind.STARTED, 990), ENDED], [RAN], [DONE]),
    ],
)
def test_each_rule_falls(
    rule: Rule, marks: Sequence[Mark], ledger: Sequence[LedgerLine], outcomes: Sequence[Outcome]
) -> None:
    verdict = check(marks, [DUE], ledger, outcomes, policies={1: Policy()})
    assert verdict.violations[rule] > 0, verdict.summary()
    assert not verdict.is_sound
    assert rule.name in verdict.summary()
    assert verdict.by_criterion()[rule.criterion] > 0


def test_a_frozen_attempt_may_end_late_and_a_start_nobody_scheduled_is_found() -> None:
    late = [STARTED, *SECOND, _mark(Kind.STOPPED, 1_050)]
    verdict = check(late, [DUE], [RAN], [DONE], frozen=frozenset({7}))
    assert verdict.is_sound and verdict.frozen_overlaps == 1
    verdict = Verdict()
    check_schedule(verdict, [STARTED], [Due(1, 2_000)], 0, 5_000)
    assert verdict.violations == {Rule.NOT_IN_SCHEDULE: 1}


def test_gaps_count_from_the_first_instant_to_the_last() -> None:
    starts = [_mark(Kind.STARTED, at_ms) for at_ms in (100, 150, 400)]
    assert longest_gap_seconds(starts, 100_000_000, 500_000_000) == 0.25
    assert longest_gap_seconds(starts, 100_000_000, 900_000_000) == 0.5
    assert longest_gap_seconds([], 0, 1_000_000_000) == 1.0


def test_evidence_survives_half_a_record(tmp_path) -> None:
    path = tmp_path / "w1.evidence"
    with EvidenceFile(path) as evidence:
        evidence.add(Kind.STARTED, 7, 1, 40, 1, 1_000)
        evidence.add(Kind.ENDED, 7, 1, 40, 1, 1_000)
    with path.open("ab") as file:
        file.write(b"half a record")
    assert [(mark.kind, mark.execution, mark.token) for mark in read_folder(tmp_path)] == [(1, 7, 40), (2, 7, 40)]
    with pytest.raises(FileExistsError):
        EvidenceFile(path)
    with path.open("ab") as file:
        file.write(b"and the rest of nothing")
    assert [mark.kind for mark in read_latest(tmp_path, 1)] == [2]


def test_at_most_once_is_judged_by_the_jobs_own_word() -> None:
    lost = Outcome(7, "FAILED")
    once = {1: Policy(at_most_once=True)}
    assert check([STARTED], [DUE], [RAN], [lost], policies=once).is_sound
    verdict = check([STARTED, *SECOND], [DUE], [RAN], [DONE], policies=once)
    assert verdict.violations == {Rule.STARTED_AGAIN: 1}


def test_a_start_is_proven_by_a_file_that_only_it_can_make(tmp_path) -> None:
    assert prove(tmp_path, 1, 1_000, 1, 40)
    assert not prove(tmp_path, 1, 1_000, 1, 40)
    proofs = read_proofs(tmp_path)
    assert proofs == {(1, 1_000, 1, 40)}
    verdict = Verdict()
    check_proofs(verdict, [STARTED], frozenset({1}), proofs)
    assert not verdict.violations
    check_proofs(verdict, [STARTED], frozenset({1}), frozenset())
    check_proofs(verdict, [_mark(Kind.DOUBLE, 1_010)], frozenset({1}), proofs)
    assert verdict.violations == {Rule.NOT_PROVEN: 1, Rule.STARTED_TWICE: 1}


def test_attempts_are_judged_without_a_schedule_too() -> None:
    verdict = Verdict()
    check_attempts(verdict, [STARTED, *SECOND, _mark(Kind.ENDED, 1_050)])
    assert verdict.violations == {Rule.OVERLAP: 1}


def test_windows_are_matched_by_the_earliest_end() -> None:
    assert match_windows([(0, 10), (5, 20)], [6, 8]) == 2
    assert match_windows([(0, 10), (5, 20)], [12, 15]) == 1
    assert match_windows([(0, 10), (0, 30), (5, 8)], [6, 7, 9]) == 3
    assert match_windows([(0, 10)], [-1, 11]) == 0


def test_delays_belong_to_the_phase_of_their_due_time() -> None:
    phases = [Phase("quiet", 0, 900_000_000), Phase("kill", 900_000_000, 2_000_000_000)]
    starts = first_starts([STARTED, *SECOND])
    assert starts == [STARTED]
    found = delays_by_phase(starts, phases, wall_minus_monotonic_ms=0)
    assert list(found) == ["kill"] and found["kill"][0] == 1 and found["kill"][1].max == 10
    assert list(delays_by_phase(starts, phases, wall_minus_monotonic_ms=500)) == ["quiet"]


def test_every_criterion_has_rules() -> None:
    assert {rule.criterion for rule in Rule} == CRITERIA.keys()
