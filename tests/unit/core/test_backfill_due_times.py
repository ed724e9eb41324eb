"""The due times of a backfill, in both orders and in pieces of any size, held against the timetable read straight on."""

from __future__ import annotations

import itertools

import pytest

from horologe.node.backfills import Backwards, Forwards
from horologe.node.timetable import Timetable
from horologe.v1.job_pb2 import CronSchedule, IntervalSchedule, OnceSchedule, Schedule

START_MS = 1_798_761_600_000  # 2027-01-01T00:00:00Z
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def cron(
    expression: str, zone: str = "UTC", dialect: CronSchedule.Dialect.ValueType = CronSchedule.DIALECT_UNIX
) -> Schedule:
    rule = CronSchedule(expression=expression, time_zone=zone, dialect=dialect, dst_gap=1, dst_overlap=3, day_match=1)
    return Schedule(cron=rule)


def every(seconds: int) -> Schedule:
    schedule = IntervalSchedule()
    schedule.every.FromSeconds(seconds)
    schedule.phase.FromSeconds(0)
    return Schedule(interval=schedule)


def once(at_ms: int) -> Schedule:
    schedule = OnceSchedule()
    schedule.time.FromMilliseconds(at_ms)
    return Schedule(once=schedule)


TIMETABLES = {
    "hourly": ([every(3_600)], 3 * DAY_MS),
    "every second": ([every(1)], 90_000),
    "many at once": ([every(seconds) for seconds in range(1, 21)], 60_000),
    "seldom": ([cron("0 2 1 * *", "Europe/Berlin")], 400 * DAY_MS),
    "crowded": ([cron("* 2 * * *"), *map(every, (7, 11))], 30 * HOUR_MS),
    "through daylight saving": ([cron("30 * * * *", "Europe/Berlin")], 330 * DAY_MS),
    "one instant": ([once(START_MS + 5 * DAY_MS), every(366 * 86_400)], 30 * DAY_MS),
    "nothing": ([once(START_MS - 1)], 30 * DAY_MS),
}


def all_of(timetable: Timetable, from_ms: int, to_ms: int) -> list[int]:
    found: list[int] = []
    due_ms = timetable.next_after(from_ms - 1)
    while due_ms is not None and due_ms < to_ms:
        found.append(due_ms)
        due_ms = timetable.next_after(due_ms)
    return found


@pytest.mark.parametrize("order", [Forwards, Backwards])
@pytest.mark.parametrize("name", TIMETABLES)
@pytest.mark.parametrize(("budget", "room"), [(200, 1_000), (200, 7), (70, 1)])
def test_each_due_time_comes_once(order: type[Forwards | Backwards], name: str, budget: int, room: int) -> None:
    """However little may be computed and taken at a time, and though only the cursor is kept between two pieces."""
    schedules, span_ms = TIMETABLES[name]
    # The last part of the range is empty: going backwards, a crowd comes after a void.
    timetable = Timetable(schedules, "job", end_ms=START_MS + span_ms // 2)
    from_ms, to_ms = START_MS, START_MS + span_ms
    found: list[int] = []
    at_ms: int | None = None
    pieces = 0
    walk = order(timetable, from_ms, to_ms)
    while not walk.exhausted:
        pieces += 1
        left = itertools.count(budget, -1)
        walk = order(timetable, from_ms, to_ms, at_ms)
        found += itertools.islice(walk.take(lambda left=left: next(left) > 0), room)
        at_ms = int.from_bytes(walk.cursor, "big")
    expected = all_of(timetable, from_ms, to_ms)
    assert pieces <= 10 + 4 * len(expected)
    assert found == (expected if order is Forwards else expected[::-1])
