"""The due times of a job: unions, bounds, exclusions, jitter, what was missed, and how far back it is caught up."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from horologe.node.schedule import DAY_MS
from horologe.node.timetable import MissedRun, PlainInterval, Span, Timetable, default_catchup_window_ms
from horologe.node.zones import ms_from_instant
from horologe.v1.job_pb2 import CronSchedule, Schedule

SECOND_MS, MINUTE_MS, HOUR_MS = 1_000, 60_000, 3_600_000


def ms(text: str) -> int:
    return ms_from_instant(datetime.fromisoformat(text))


NOW_MS = ms("2027-01-15T08:00:00Z")


def parse(text: str) -> Schedule:
    return text_format.Parse(text, Schedule())


def cron(expression: str, zone: str = "") -> Schedule:
    return Schedule(cron=CronSchedule(expression=expression, time_zone=zone))


def once(text: str, allow_past: bool = False) -> Schedule:
    made = Schedule()
    made.once.time.FromJsonString(text)
    made.once.allow_past = allow_past
    return made


def interval(every_seconds: int, phase_seconds: int | None = None) -> Schedule:
    made = Schedule()
    made.interval.every.seconds = every_seconds
    if phase_seconds is not None:
        made.interval.phase.FromSeconds(phase_seconds)
    return made


def of(schedules: Sequence[Schedule], since_ms: int = -1) -> Timetable:
    return Timetable(schedules, "j", since_ms)


def test_the_union_is_the_earliest_and_does_not_depend_on_order() -> None:
    schedules = [cron("0 * * * *"), interval(420, 0), once("2027-01-15T08:01:00Z"), parse("manual { }")]
    due_times = []
    after_ms = NOW_MS
    for _ in range(12):
        shuffled = random.Random(after_ms).sample(schedules, len(schedules))
        due_ms = of(schedules).next_after(after_ms)
        assert due_ms is not None and due_ms > after_ms
        assert of(shuffled).next_after(after_ms) == due_ms
        due_times.append((due_ms - NOW_MS) // MINUTE_MS)
        after_ms = due_ms
    assert due_times[0] == 1
    assert 60 in due_times


def test_manual_and_no_schedule_are_never_due() -> None:
    assert of([]).next_after(NOW_MS) is None
    assert of([parse("manual { }")]).next_after(NOW_MS) is None
    assert of([parse("manual { }")], NOW_MS).next_after(-1) is None


def test_a_once_that_has_passed_is_first_due_at_its_own_time() -> None:
    past = once("2020-01-01T00:00:00Z", allow_past=True)
    assert of([past], NOW_MS).next_after(-1) == ms("2020-01-01T00:00:00Z")
    assert of([cron("0 9 * * *"), past], NOW_MS).next_after(-1) == ms("2020-01-01T00:00:00Z")
    assert of([cron("0 9 * * *")], NOW_MS).next_after(-1) == ms("2027-01-15T09:00:00Z")


def test_missed_includes_both_ends() -> None:
    found = of([cron("0 * * * *")]).missed(NOW_MS, NOW_MS + 5 * HOUR_MS, limit=100)
    assert found == MissedRun(6, NOW_MS, NOW_MS + 5 * HOUR_MS, complete=True)


def test_missed_stops_at_the_limit_and_goes_on_from_there() -> None:
    schedules = [cron("* * * * *"), once("2027-01-15T08:00:30Z")]
    to_ms = NOW_MS + 10 * MINUTE_MS
    first = of(schedules).missed(NOW_MS, to_ms, limit=5)
    assert first == MissedRun(5, NOW_MS, NOW_MS + 3 * MINUTE_MS, complete=False)
    rest = of(schedules).missed(first.last_ms + 1, to_ms, limit=7)
    assert rest == MissedRun(7, NOW_MS + 4 * MINUTE_MS, to_ms, complete=True)


def test_missed_of_nothing_is_the_range_itself() -> None:
    for schedules in ([], [cron("0 9 * * *")], [interval(DAY_MS // SECOND_MS, 9 * 3600)]):
        assert of(schedules).missed(NOW_MS, NOW_MS + 1, limit=10) == MissedRun(0, NOW_MS, NOW_MS + 1, True)


def test_a_single_interval_is_counted_however_many_were_missed() -> None:
    found = of([interval(1, 0)]).missed(NOW_MS, NOW_MS + 365 * DAY_MS, limit=10)
    assert found == MissedRun(365 * 86_400 + 1, NOW_MS, NOW_MS + 365 * DAY_MS, complete=True)


@settings(max_examples=200, deadline=None)
@given(
    every_seconds=st.integers(1, 500),
    phase=st.one_of(st.none(), st.integers(0, 499)),
    from_ms=st.integers(-(10**6), 10**6),
    length_ms=st.integers(0, 10**6),
)
def test_arithmetic_counts_what_enumeration_finds(
    every_seconds: int, phase: int | None, from_ms: int, length_ms: int
) -> None:
    alone = [interval(every_seconds, None if phase is None else phase % every_seconds)]
    counted = of(alone).missed(from_ms, from_ms + length_ms, limit=10)
    enumerated = of([*alone, parse("manual { }")]).missed(from_ms, from_ms + length_ms, limit=10**6)
    assert counted == enumerated


@pytest.mark.parametrize(
    ("schedules", "window_ms"),
    [
        ([once("2027-02-01T00:00:00Z")], 365 * DAY_MS),
        ([cron("0 2 * * *")], DAY_MS),
        ([cron("0 0 1 * *")], DAY_MS),
        ([cron("*/5 * * * *")], 5 * MINUTE_MS),
        ([cron("* * * * *")], MINUTE_MS),
        ([interval(10)], MINUTE_MS),
        ([interval(7_200)], 2 * HOUR_MS),
        ([interval(10 * 86_400)], DAY_MS),
        ([interval(10), cron("0 * * * *")], HOUR_MS),
        ([interval(10), once("2027-02-01T00:00:00Z")], 365 * DAY_MS),
        ([parse("manual { }")], MINUTE_MS),
        ([], MINUTE_MS),
    ],
)
def test_default_catchup_window(schedules: list[Schedule], window_ms: int) -> None:
    assert default_catchup_window_ms(schedules, "j") == window_ms


# Bounds


def test_bounds_include_the_start_and_exclude_the_end() -> None:
    hourly = Timetable([cron("0 * * * *")], "j", start_ms=NOW_MS, end_ms=NOW_MS + 2 * HOUR_MS)
    assert hourly.next_after(0) == NOW_MS
    assert hourly.next_after(NOW_MS) == NOW_MS + HOUR_MS
    assert hourly.next_after(NOW_MS + HOUR_MS) is None
    assert hourly.missed(0, NOW_MS + DAY_MS, limit=10) == MissedRun(2, NOW_MS, NOW_MS + HOUR_MS, complete=True)


def test_bounds_of_an_interval_are_counted_by_arithmetic() -> None:
    every = Timetable([interval(1, 0)], "j", start_ms=NOW_MS, end_ms=NOW_MS + DAY_MS)
    found = every.missed(0, NOW_MS + 9 * DAY_MS, limit=1)
    assert found == MissedRun(86_400, NOW_MS, NOW_MS + DAY_MS - SECOND_MS, complete=True)


def test_instants_that_have_passed_come_one_after_the_other_then_what_is_due_since() -> None:
    instants = [once(f"2020-01-0{day}T00:00:00Z", allow_past=True) for day in (1, 2)]
    timetable = of([*instants, cron("0 9 * * *")], NOW_MS)
    first_ms = timetable.next_after(-1)
    assert first_ms == ms("2020-01-01T00:00:00Z")
    assert timetable.next_after(first_ms) == ms("2020-01-02T00:00:00Z")
    assert timetable.next_after(ms("2020-01-02T00:00:00Z")) == ms("2027-01-15T09:00:00Z")


def test_the_pending_due_time_is_owed_whatever_the_schedule_says() -> None:
    hourly = of([cron("0 * * * *")])
    odd_ms = NOW_MS - 5
    assert hourly.owed(odd_ms, NOW_MS - 1, limit=10) == MissedRun(1, odd_ms, odd_ms, complete=True)
    assert hourly.owed(odd_ms, NOW_MS, limit=10) == MissedRun(2, odd_ms, NOW_MS, complete=True)
    assert hourly.owed(NOW_MS, NOW_MS, limit=10) == MissedRun(1, NOW_MS, NOW_MS, complete=True)


# Exclusions


class Closed:
    """Excluded from one hour to another, counted from 8 o'clock."""

    def __init__(self, start: float, end: float) -> None:
        self.span = Span(NOW_MS + int(start * HOUR_MS), NOW_MS + int(end * HOUR_MS))

    def span_at(self, at_ms: int) -> Span | None:
        return self.span if self.span.start_ms <= at_ms < self.span.end_ms else None


def hours_of(timetable: Timetable, after_ms: int = NOW_MS - 1, until: float = 8) -> list[float]:
    found = []
    while (due_ms := timetable.next_after(after_ms)) is not None and due_ms <= NOW_MS + until * HOUR_MS:
        found.append((due_ms - NOW_MS) / HOUR_MS)
        after_ms = due_ms
    return found


@pytest.mark.parametrize(
    ("closed", "skipped", "moved"),
    [
        ([], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
        ([Closed(0.5, 2.5)], [0, 3, 4], [0, 2.5, 3, 4]),
        ([Closed(1, 3)], [0, 3, 4], [0, 3, 4]),
        ([Closed(1, 1.1), Closed(1.1, 1.25)], [0, 2, 3, 4], [0, 1.25, 2, 3, 4]),
        ([Closed(0.5, 1.5), Closed(1.25, 2.5), Closed(3, 3.5)], [0, 4], [0, 2.5, 3.5, 4]),
        ([Closed(1.1, 1.9)], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
    ],
)
def test_exclusions(closed: list[Closed], skipped: list[float], moved: list[float]) -> None:
    every = [interval(3_600, 0)]
    assert hours_of(Timetable(every, "j", exclusions=closed), until=4) == skipped
    assert hours_of(Timetable(every, "j", exclusions=closed, moves_excluded=True), until=4) == moved


def test_what_has_moved_is_found_from_within_the_excluded_time_unless_it_is_not_owed() -> None:
    moving = Timetable([interval(4 * 3_600, 0)], "j", exclusions=[Closed(-0.5, 2)], moves_excluded=True)
    assert moving.next_after(NOW_MS + HOUR_MS) == NOW_MS + 2 * HOUR_MS
    later = Timetable(moving.schedules, "j", NOW_MS, exclusions=moving.exclusions, moves_excluded=True)
    assert later.next_after(NOW_MS + HOUR_MS) == NOW_MS + 4 * HOUR_MS


def test_what_is_excluded_for_ever_is_never_due_and_found_out_soon() -> None:
    class Always:
        def span_at(self, at_ms: int) -> Span | None:
            return Span(at_ms - at_ms % DAY_MS, at_ms - at_ms % DAY_MS + DAY_MS)

    for moves in (False, True):
        assert Timetable([interval(1, 0)], "j", exclusions=[Always()], moves_excluded=moves).next_after(NOW_MS) is None


# Jitter


def test_jitter_follows_from_job_and_due_time_and_ends_before_the_next_due_time() -> None:
    def delays(identity: str, jitter_ms: int) -> list[int]:
        timetable = Timetable([interval(60, 0)], identity, jitter_ms=jitter_ms)
        return [timetable.fire_ms(due_ms) - due_ms for due_ms in range(0, 3_600_000, MINUTE_MS)]

    assert delays("a", 0) == [0] * 60
    some, others, again = delays("a", 30_000), delays("b", 30_000), delays("a", 30_000)
    assert some == again != others
    assert 0 <= min(some) < 3_000 and 27_000 < max(some) <= 30_000
    assert max(delays("a", 3_600_000)) < MINUTE_MS


@given(st.integers(1, 10_000), st.integers(0, 100), st.integers(0, 10**9), st.integers(-(10**6), 10**9))
def test_a_plain_interval_answers_what_its_timetable_does(
    every_seconds: int, phase_seconds: int, begun: int, later_ms: int
) -> None:
    timetable = of([interval(every_seconds, min(phase_seconds, every_seconds - 1))])
    pending_ms = timetable.next_after(NOW_MS + begun) or 0
    plain = PlainInterval(pending_ms, timetable.period_ms)
    until_ms = pending_ms + abs(later_ms)
    assert plain.owed(pending_ms, until_ms, 1) == timetable.owed(pending_ms, until_ms, 1)
    assert plain.next_after(until_ms) == timetable.next_after(until_ms)
    assert plain.fire_ms(until_ms) == timetable.fire_ms(until_ms)
