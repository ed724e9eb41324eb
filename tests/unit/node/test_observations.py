"""What a node makes of what its steps say."""

from __future__ import annotations

from itertools import pairwise

from horologe.node.observations import (
    DELAY_BOUNDS_MS,
    LATE_AFTER_MS,
    NUMBERS_KEPT,
    SECONDS_KEPT,
    Figures,
    Observations,
    quantile_ms,
)
from horologe.raft.model import Effects, ExecutionState, LedgerOutcome

START_MS = 1_800_000_000_000


def started(number: int, delay_ms: int, time_ms: int) -> Effects:
    return Effects(time_ms=time_ms, assigned=[(1, number, 1, 1, 0, 9, 0)], begun=[(number, delay_ms)])


def ended(number: int, state: ExecutionState, time_ms: int, namespace: int = 1) -> Effects:
    return Effects(time_ms=time_ms, ended=[(number, namespace, state)])


def seen_from(time_ms: int = START_MS) -> Observations:
    seen = Observations()
    seen.begin(time_ms)
    return seen


def test_what_happened_lies_in_the_second_in_which_it_happened() -> None:
    seen = seen_from()
    seen.note([started(1, 4, START_MS + 100), started(2, 30, START_MS + 999), started(3, 0, START_MS + 1_000)])
    seen.note([ended(1, ExecutionState.COMPLETED, START_MS + 2_000), ended(2, ExecutionState.DEAD, START_MS + 2_001)])
    samples = seen.samples(START_MS + 4_500, 300, 1)
    assert [second * 1000 - START_MS for second, _ in samples] == [0, 1_000, 2_000, 3_000]
    assert [figures.started for _, figures in samples] == [2, 1, 0, 0]
    assert [(figures.succeeded, figures.failed) for _, figures in samples] == [(0, 0), (0, 0), (1, 1), (0, 0)]
    assert list(seen.failed) == [2]


def test_the_second_that_goes_on_is_not_shown_yet() -> None:
    seen = seen_from()
    seen.note([started(1, 0, START_MS + 100)])
    assert seen.samples(START_MS + 900, 10, 1) == []
    assert [figures.started for _, figures in seen.samples(START_MS + 1_000, 10, 1)] == [1]


def test_steps_end_with_the_last_full_second() -> None:
    seen = seen_from()
    for second in range(25):
        seen.note([started(second, 0, START_MS + second * 1000)])
    samples = seen.samples(START_MS + 25_000, 20, 10)
    assert [(second * 1000 - START_MS, figures.started) for second, figures in samples] == [(5_000, 10), (15_000, 10)]
    # A window that is no multiple of the step: the oldest sample stands for what is left of it.
    samples = seen.samples(START_MS + 25_000, 15, 10)
    assert [figures.started for _, figures in samples] == [5, 10]


def test_who_catches_up_puts_everything_where_it_happened() -> None:
    seen = seen_from(START_MS + 60_000)
    seen.note([started(1, 7, START_MS), started(2, 7, START_MS + 60_000)])
    samples = seen.samples(START_MS + 62_000, 300, 1)
    assert [figures.started for _, figures in samples] == [1, 0]
    assert seen.totals.started == 2


def test_an_hour_is_kept() -> None:
    seen = seen_from()
    for second in range(SECONDS_KEPT + 100):
        seen.note([started(second, 0, START_MS + second * 1000)])
    assert len(seen._seconds) == SECONDS_KEPT
    samples = seen.samples(START_MS + (SECONDS_KEPT + 100) * 1000, SECONDS_KEPT, 1)
    assert len(samples) == SECONDS_KEPT
    assert all(figures.started == 1 for _, figures in samples)


def test_late_ones_are_counted_and_named() -> None:
    seen = seen_from()
    seen.note([started(1, LATE_AFTER_MS, START_MS), started(2, LATE_AFTER_MS + 1, START_MS)])
    [(_, figures)] = seen.samples(START_MS + 1_000, 10, 1)
    assert figures.late == 1
    assert list(seen.late) == [2]
    seen.note([started(number, LATE_AFTER_MS * 2, START_MS) for number in range(NUMBERS_KEPT + 5)])
    assert len(seen.late) == NUMBERS_KEPT
    assert seen.late[-1] == NUMBERS_KEPT + 4


def test_a_retry_counts_as_started_and_has_no_delay() -> None:
    seen = seen_from()
    seen.note([Effects(time_ms=START_MS, assigned=[(1, 5, 1, 2, 0, 9, 0)])])
    [(_, figures)] = seen.samples(START_MS + 1_000, 10, 1)
    assert figures.started == 1
    assert quantile_ms(figures.delays, 0.5) is None


def test_quantiles_are_true_to_a_third() -> None:
    seen = seen_from()
    delays = [3] * 50 + [1_234] * 49 + [40_000]
    seen.note([started(number, delay, START_MS) for number, delay in enumerate(delays)])
    [(_, figures)] = seen.samples(START_MS + 1_000, 10, 1)
    assert quantile_ms(figures.delays, 0.5) == 3
    assert quantile_ms(figures.delays, 0.99) == 1_500
    assert quantile_ms(figures.delays, 1.0) == 40_000
    assert seen.totals.delay_ms == sum(delays)
    assert seen.totals.first_started == 100
    beyond = Figures()
    beyond.delays[-1] = 1
    assert quantile_ms(beyond.delays, 0.5) == DELAY_BOUNDS_MS[-1]
    assert all(after <= before * 1.34 for before, after in pairwise(DELAY_BOUNDS_MS[10:]))
    assert sorted(set(DELAY_BOUNDS_MS)) == list(DELAY_BOUNDS_MS)


def test_totals_by_namespace() -> None:
    seen = seen_from()
    seen.note(
        [
            ended(1, ExecutionState.COMPLETED, START_MS, namespace=1),
            ended(2, ExecutionState.CANCELLED, START_MS, namespace=2),
            Effects(
                time_ms=START_MS, not_run=[(2, LedgerOutcome.MISSED, 40), (2, LedgerOutcome.SKIPPED, 1)], expired=[9]
            ),
        ]
    )
    assert seen.totals.ended[1][ExecutionState.COMPLETED] == 1
    assert seen.totals.ended[2][ExecutionState.CANCELLED] == 1
    assert seen.totals.not_run[2][LedgerOutcome.MISSED] == 40
    assert seen.totals.leases_expired == 1
    [(_, figures)] = seen.samples(START_MS + 1_000, 10, 1)
    assert (figures.succeeded, figures.failed) == (1, 0)
