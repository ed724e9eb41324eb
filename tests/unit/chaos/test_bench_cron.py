"""The measurement of cron expressions measures what it says; whether that is fast enough is for those who run it."""

from __future__ import annotations

import json

from horologe.chaos.bench_cron import COMMON_P99_US_MAX, WORST, WORST_US_MAX, CronFigures, measure, summary
from horologe.chaos.bench_evidence import Distribution
from horologe.node.cron import forget, next_due_ms

NOW_MS = 1_800_000_000_000


def test_everything_is_measured_and_reported() -> None:
    figures = measure(30)
    assert len(figures.worst) == len(WORST)
    assert min(figures.worst.values()) > 0
    assert figures.common.p50 > 0
    assert json.loads(json.dumps(figures.to_record()))["worst"] == figures.worst
    assert all(expression in summary(figures) for expression in figures.worst)


def test_what_is_too_slow_is_not_sound() -> None:
    fast, slow = Distribution(1, 1, 1, 1), Distribution(1, COMMON_P99_US_MAX, 1_000, 1_000)
    assert CronFigures(fast, slow, slow, {"a": WORST_US_MAX - 1}).is_sound
    assert not CronFigures(slow, fast, fast, {"a": 1}).is_sound
    assert not CronFigures(fast, fast, fast, {"a": 1, "b": WORST_US_MAX}).is_sound


def test_answers_do_not_depend_on_what_is_remembered() -> None:
    for rule in WORST:
        remembered = next_due_ms(rule, NOW_MS)
        forget()
        assert next_due_ms(rule, NOW_MS) == remembered
