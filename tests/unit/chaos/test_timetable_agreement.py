"""Two programs that say when a job is due, written apart: the one that fires it, and the one that `horologe verify` judges by."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import patch

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st

from horologe.chaos import closures
from horologe.chaos import timetable as judging
from horologe.chaos.closures import ClosedTooLongError, Closure
from horologe.node import timetable as firing
from horologe.node.calendars import complete_calendar, coverage_of
from horologe.v1.calendar_pb2 import Calendar, CronSpan, WeeklyHours
from horologe.v1.job_pb2 import (
    EXCLUSION_POLICY_NEXT_OPEN,
    EXCLUSION_POLICY_SKIP,
    CronSchedule,
    Job,
    Schedule,
)

START_MS = 1_800_000_000_000
"""2027-01-15T08:00:00Z."""
NAME = "namespaces/default/jobs/tick"

clocks = st.sampled_from(["00:00", "02:30", "06:00", "12:00", "22:45"])
days = st.sampled_from([[], ["mon-fri"], ["sat", "sun"], ["fri-mon"], ["wed"]])
dates = st.sampled_from(["2027-01-20", "*-01-31", "2027-02-01/2027-02-03", "*-12-24/*-01-16", "*-03-28"])
zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    hours = []
    for _ in range(draw(st.integers(0, 2))):
        hours.append(WeeklyHours(days=draw(days), to=draw(st.sampled_from(["04:00", "13:15", "23:30"]))))
        setattr(hours[-1], "from", draw(clocks))
    spans = [
        CronSpan(
            cron=CronSchedule(expression=draw(st.sampled_from(["0 3 * * *", "30 */5 * * *", "15 9 1 * *"]))),
            duration=Duration(seconds=draw(st.sampled_from([1, 90, 5_400, 100_000]))),
        )
        for _ in range(draw(st.integers(0, 1)))
    ]
    made = Calendar(
        name="namespaces/default/calendars/c",
        time_zone=draw(zones),
        dates=draw(st.lists(dates, max_size=2, unique=True)),
        hours=hours,
        spans=spans,
    )
    complete, violations = complete_calendar(made, "calendar", START_MS)
    assert violations == []
    return complete


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    job = Job(name=NAME, on_exclusion=draw(st.sampled_from([EXCLUSION_POLICY_SKIP, EXCLUSION_POLICY_NEXT_OPEN])))
    for _ in range(draw(st.integers(1, 2))):
        if draw(st.booleans()):
            expression = draw(st.sampled_from(["0 * * * *", "*/17 9-17 * * *", "0 0 * * mon"]))
            job.schedules.append(Schedule(cron=CronSchedule(expression=expression, time_zone=draw(zones))))
        else:
            every = job.schedules.add().interval
            every.every.FromTimedelta(timedelta(minutes=draw(st.sampled_from([7, 45, 600]))))
            every.phase.FromMilliseconds(0)
    if draw(st.booleans()):
        job.start_time.FromMilliseconds(START_MS + draw(st.integers(0, 10**8)))
    if draw(st.booleans()):
        job.end_time.FromMilliseconds(START_MS + 10**8 + draw(st.integers(0, 10**9)))
    job.schedule_time.FromMilliseconds(START_MS - draw(st.integers(0, 10**9)))
    return job


@settings(max_examples=150, deadline=None)
@given(calendar=calendars(), offset_ms=st.integers(0, 60 * 86_400_000))
def test_a_calendar_covers_the_same_instants(calendar: Calendar, offset_ms: int) -> None:
    for at_ms in (START_MS + offset_ms, START_MS + offset_ms // 60_000 * 60_000):
        span = coverage_of(calendar).span_at(at_ms)
        assert (span is not None) == Closure(calendar).covers(at_ms), at_ms
        if span is not None:
            assert Closure(calendar).covers(span.start_ms) and Closure(calendar).covers(span.end_ms - 1)


@settings(max_examples=20, deadline=None)
@given(job=jobs(), used=st.lists(calendars(), max_size=1), after_ms=st.integers(0, 3 * 10**8))
def test_a_job_is_due_at_the_same_times(job: Job, used: list[Calendar], after_ms: int) -> None:
    since_ms = job.schedule_time.ToMilliseconds()
    one = firing.timetable_of(job, [coverage_of(calendar) for calendar in used], since_ms)
    other = judging.timetable_of(job, used)
    at_ms: int | None = START_MS + after_ms
    for _ in range(3):
        assert at_ms is not None
        due_ms = one.next_after(at_ms)
        try:
            # It looks minute by minute, which is slow: two days tell enough.
            with patch.object(closures, "MINUTES_LOOKED_AT", 2 * 1440):
                assert other.next_after(at_ms) == due_ms
        except ClosedTooLongError:
            return
        if due_ms is None:
            break
        at_ms = due_ms


def test_a_job_that_is_never_open_is_given_up() -> None:
    job = Job(name=NAME, schedules=[Schedule(cron=CronSchedule(expression="0 0 * * mon"))])
    mondays, _ = complete_calendar(Calendar(hours=[WeeklyHours(days=["mon"])]), "calendar", START_MS)
    with pytest.raises(ClosedTooLongError):
        judging.timetable_of(job, [mondays]).next_after(START_MS)
