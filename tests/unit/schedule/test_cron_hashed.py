"""`H`: always the same for one job, spread over many, and no reason to compute anything twice for jobs without it."""

from __future__ import annotations

from collections import Counter

import pytest

from horologe.node import cron
from horologe.node.cron import CronRule, next_due_ms
from horologe.node.cron_fields import uses_hash
from horologe.node.cron_syntax import read_expression
from horologe.node.cron_words import Dialect

NOW_MS = 1_800_000_000_000
JOBS = [f"namespaces/default/jobs/job-{number}" for number in range(2_000)]


def test_hashed_values_never_change() -> None:
    """Fixed for ever: stored jobs rely on it. SHA-256 of the field's name, a zero byte and the job's name."""
    fields = read_expression("H H H H H", identity="namespaces/default/jobs/nightly")
    found = (fields.minutes, fields.hours, fields.days_of_month, fields.months, fields.days_of_week)
    assert found == ((57,), (14,), (14,), (5,), (5,))
    assert read_expression("H * * * * *", Dialect.UNIX_SECONDS_FIRST, JOBS[0]).seconds == (27,)


@pytest.mark.parametrize(
    ("field", "position", "possible"),
    [
        ("H", 0, [[value] for value in range(60)]),
        ("h(0-29)", 0, [[value] for value in range(30)]),
        ("H/15", 0, [[first, first + 15, first + 30, first + 45] for first in range(15)]),
        ("H(5-30)/10", 0, [[*range(first, 31, 10)] for first in range(5, 15)]),
        ("H/100", 0, [[value] for value in range(60)]),
        ("H/1", 0, [[*range(60)]]),
        ("H(8-17)", 1, [[value] for value in range(8, 18)]),
        ("H", 2, [[value] for value in range(1, 29)]),
        ("H(29-31)", 2, [[29], [30], [31]]),
        ("H(jan-mar)", 3, [[1], [2], [3]]),
        ("H", 4, [[value] for value in range(7)]),
        ("H(mon-fri)", 4, [[value] for value in range(1, 6)]),
        ("0,H(30-59)", 0, [[0, value] for value in range(30, 60)]),
    ],
)
def test_jobs_are_spread_over_all_values_of_the_range(field: str, position: int, possible: list[list[int]]) -> None:
    texts = ["*"] * 5
    texts[position] = field
    found: Counter[tuple[int, ...]] = Counter()
    for job in JOBS:
        fields = read_expression(" ".join(texts), identity=job)
        read = (fields.minutes, fields.hours, fields.days_of_month, fields.months, fields.days_of_week)
        found[read[position]] += 1
    assert sorted(found) == sorted(tuple(values) for values in possible)
    fair = len(JOBS) / len(possible)
    assert all(fair / 2.5 < count < fair * 2 for count in found.values())


def test_fields_of_one_job_are_independent() -> None:
    pairs = {
        (fields.minutes[0], fields.days_of_month[0])
        for job in JOBS
        if (fields := read_expression("H * H * *", identity=job))
    }
    assert len(pairs) > 0.6 * 28 * 60


@pytest.mark.parametrize(
    ("expression", "uses"),
    [
        ("H * * * *", True),
        ("0 h * * *", True),
        ("0 23,H(9-11) * * *", True),
        ("0 0 * * H/2", True),
        ("0 0 * * thu", False),
        ("0 0 * mar THU,SAT", False),
        ("@hourly", False),
        ("@MONTHLY", False),
    ],
)
def test_which_expressions_depend_on_the_job(expression: str, uses: bool) -> None:
    assert uses_hash(expression) is uses
    dues = {next_due_ms(CronRule(expression, identity=job), NOW_MS) for job in JOBS[:50]}
    assert (len(dues) > 1) is uses


def test_jobs_with_equal_expressions_without_h_share_one_computation() -> None:
    cron._shared_next_due_ms.cache_clear()
    for job in JOBS[:100]:
        next_due_ms(CronRule("17 3 * * thu", identity=job), NOW_MS)
    assert cron._shared_next_due_ms.cache_info().misses == 1
    assert read_expression("17 3 * * thu", identity=JOBS[0]) is read_expression("17 3 * * thu", identity=JOBS[1])


def test_quartz_and_seconds_have_it_too() -> None:
    for dialect, expression in (
        (Dialect.QUARTZ, "H H H ? * H"),
        (Dialect.UNIX_SECONDS_LAST, "H H * * * H"),
        (Dialect.KUBERNETES, "H H * * *"),
    ):
        dues = {next_due_ms(CronRule(expression, dialect=dialect, identity=job), NOW_MS) for job in JOBS[:50]}
        assert len(dues) > 45
