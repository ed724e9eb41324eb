"""What `horologe verify` finds in a ledger, and the timetable that it holds the ledger against."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horologe.chaos.audit import FINDINGS_KEPT, JobAudit, Period, Row
from horologe.chaos.timetable import Every, Once, Timetable, Union, timetable_of
from horologe.node import timetable as node_timetable
from horologe.v1.job_pb2 import CronSchedule, IntervalSchedule, Job, OnceSchedule, Schedule

EVERY = Every(10, 3)
SINCE, UNTIL = 100, 200
DUE = [103, 113, 123, 133, 143, 153, 163, 173, 183, 193]
WHOLE = [Row(due, due, 1, "ran", f"e{due}") for due in DUE]
NAME = "namespaces/default/jobs/tick"


def _audit(
    rows: list[Row],
    *,
    timetable: Timetable = EVERY,
    since: int = SINCE,
    required: int = SINCE,
    until: int = UNTIL,
    next_due: int = 203,
) -> JobAudit:
    audit = JobAudit(NAME, timetable, Period(since, required, until, next_due))
    for row in rows:
        audit.take(row)
    audit.finish()
    return audit


def _found(audit: JobAudit) -> list[tuple[str, int, int, int]]:
    return [(found.kind, found.first_ms, found.last_ms, found.count) for found in audit.findings]


def test_a_whole_account() -> None:
    audit = _audit(WHOLE)
    assert audit.is_sound
    assert audit.outcomes == Counter(ran=10)


def test_runs_of_due_times_with_one_fate() -> None:
    rows = [
        *WHOLE[:2],
        Row(123, 143, 3, "coalesced"),
        Row(153, 153, 1, "ran", "e153"),
        Row(163, 173, 2, "skipped"),
        Row(180, 180, 1, "ran", "by hand", is_on_request=True),
        *WHOLE[8:],
    ]
    audit = _audit(rows)
    assert audit.is_sound
    assert audit.outcomes == Counter(ran=5, coalesced=3, skipped=2)


@pytest.mark.parametrize("gone", range(len(DUE)))
def test_a_row_that_is_gone(gone: int) -> None:
    audit = _audit(WHOLE[:gone] + WHOLE[gone + 1 :])
    assert audit.wrong == Counter(missing=1)
    assert audit.findings[0].first_ms == DUE[gone]


def test_everything_is_gone() -> None:
    assert _found(_audit([])) == [("missing", 103, 200, 10)]


def test_a_due_time_that_is_pending_is_late_and_not_lost() -> None:
    audit = _audit(WHOLE[:5], next_due=153)
    assert _found(audit) == [("late", 153, 200, 5)]
    audit = _audit(WHOLE[:4], next_due=153)
    assert _found(audit) == [("missing", 143, 152, 1), ("late", 153, 200, 5)]


def test_a_job_that_is_finished_owes_what_came_before() -> None:
    assert _audit([], timetable=Once(150), next_due=0).wrong == Counter(missing=1)
    assert _audit([Row(150, 150, 1, "ran", "e")], timetable=Once(150), next_due=0).is_sound
    assert _audit([], timetable=Once(99), next_due=0).is_sound


def test_due_times_around_the_last_change_may_be_there_or_not() -> None:
    assert _audit(WHOLE, required=120).is_sound
    assert _audit(WHOLE[2:], required=120).is_sound
    assert _audit(WHOLE[3:], required=120).wrong == Counter(missing=1)


def test_what_was_before_the_last_change_is_not_judged() -> None:
    rows = [Row(1, 1, 1, "ran", "old"), Row(57, 99, 5, "skipped"), *WHOLE]
    assert _audit(rows).is_sound
    # A run of due times that began before is judged from then on.
    assert _audit([Row(83, 113, 4, "skipped"), *WHOLE[2:]]).is_sound


def test_what_fires_while_the_ledger_is_read_is_not_wrong() -> None:
    assert _audit([*WHOLE, Row(203, 203, 1, "ran", "e203"), Row(213, 213, 1, "ran", "e213")]).is_sound


def test_a_due_time_with_two_rows() -> None:
    rows = [*WHOLE[:4], Row(113, 143, 4, "coalesced"), *WHOLE[5:]]
    audit = _audit(rows)
    assert _found(audit) == [("double", 113, 133, 3)]
    assert audit.outcomes == Counter(ran=9, coalesced=1)


def test_an_execution_that_stands_for_two_due_times() -> None:
    rows = [*WHOLE[:4], Row(143, 143, 1, "ran", "e133"), *WHOLE[5:]]
    assert _found(_audit(rows)) == [("double", 143, 143, 1)]


def test_a_row_that_no_schedule_names() -> None:
    rows = [*WHOLE[:4], Row(140, 140, 1, "ran", "odd"), *WHOLE[4:]]
    audit = _audit(rows)
    assert _found(audit) == [("not in schedule", 140, 140, 1)]
    assert audit.outcomes == Counter(ran=10)


def test_a_row_that_counts_wrong() -> None:
    rows = [*WHOLE[:2], Row(123, 143, 2, "missed"), *WHOLE[5:]]
    assert _found(_audit(rows)) == [("miscounted", 123, 143, 1)]


def test_findings_are_counted_beyond_those_that_are_kept() -> None:
    rows = [Row(due, due, 1, "ran", f"e{due}") for due in range(103, 2_000, 20)]
    audit = _audit(rows, until=2_000, next_due=2_003)
    assert audit.wrong["missing"] == 95
    assert len(audit.findings) == FINDINGS_KEPT


def test_any_damage_to_any_ledger_is_found() -> None:
    """Random accounts that are whole, and then one row less, one twice, or one moved by a millisecond."""
    chance = random.Random(1)
    for _ in range(300):
        rows: list[Row] = []
        due = 103
        while due < UNTIL:
            last = min(193, due + 10 * chance.choice([0, 0, 0, 1, 4]))
            outcome = "ran" if last == due else "skipped"
            rows.append(Row(due, last, (last - due) // 10 + 1, outcome, f"e{due}" if outcome == "ran" else ""))
            due = last + 10
        assert _audit(rows).is_sound
        at = chance.randrange(len(rows))
        row = rows[at]
        moved = Row(row.first_ms + 1, row.last_ms + 1, row.count, row.outcome, row.execution)
        for damaged in (
            rows[:at] + rows[at + 1 :],
            [*rows[: at + 1], *rows[at:]],
            [*rows[:at], moved, *rows[at + 1 :]],
        ):
            assert not _audit(damaged).is_sound, (rows, damaged)


@given(
    every=st.integers(1_000, 10**9),
    phase=st.none() | st.integers(0, 999),
    at=st.integers(10**9, 2 * 10**12),
    distance=st.integers(0, 10**10),
)
def test_intervals_are_due_when_the_code_that_fires_them_says_so(every: int, phase: int | None, at: int, distance: int):
    interval = IntervalSchedule()
    interval.every.FromMilliseconds(every)
    if phase is not None:
        interval.phase.FromMilliseconds(phase)
    job = Job(name=NAME, schedules=[Schedule(interval=interval)])
    timetable = timetable_of(job)
    fired = node_timetable.timetable_of(job)
    assert timetable.next_after(at) == fired.next_after(at)
    assert timetable.count(at, at + distance) == fired.missed(at, at + distance, limit=1).count


def test_a_job_with_several_schedules_is_due_when_one_of_them_is() -> None:
    once = OnceSchedule()
    once.time.FromMilliseconds(1_800_000_090_000)
    interval = IntervalSchedule()
    interval.every.FromMilliseconds(40_000)
    interval.phase.FromMilliseconds(0)
    schedules = [
        Schedule(cron=CronSchedule(expression="* * * * *", time_zone="UTC")),
        Schedule(interval=interval),
        Schedule(once=once),
    ]
    timetable = timetable_of(Job(name=NAME, schedules=schedules))
    assert isinstance(timetable, Union)
    at, found = 1_800_000_000_000, []
    for _ in range(5):
        at = timetable.next_after(at) or 0
        found.append(at - 1_800_000_000_000)
    assert found == [40_000, 60_000, 80_000, 90_000, 120_000]
    assert timetable.count(1_800_000_000_000, 1_800_000_120_000) == 6
    manual = timetable_of(Job(name=NAME, schedules=[Schedule(manual={})]))
    assert manual.next_after(0) is None
    assert manual.count(0, 10**15) == 0
