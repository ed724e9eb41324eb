"""How often a schedule is due in each minute of a window: enumerated once for all jobs that share it.

Pure: no clock, no tables. A plain interval is never enumerated at all, a cron expression is laid over its local days as long as
no clock is moved near the window; everything else asks its timetable, due time by due time. When a job is due is decided in
`timetable` and `cron`, and tests compare. All times are milliseconds since 1970.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, MutableSequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from math import gcd
from typing import Final, NamedTuple, Protocol

from horologe.node.cron import CronClock, next_day
from horologe.node.timetable import Timetable
from horologe.node.zones import clock_changes, instant_from_ms, ms_from_instant

MINUTE_MS: Final = 60_000
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)


class Window(NamedTuple):
    """Whole minutes, one after the other."""

    start_ms: int
    """With the beginning of a minute."""
    minutes: int

    @property
    def end_ms(self) -> int:
        """Not part of it any more."""
        return self.start_ms + self.minutes * MINUTE_MS

    def minute_of(self, at_ms: int) -> int:
        return (at_ms - self.start_ms) // MINUTE_MS


class Pattern(Protocol):
    """How often something is due in each minute of a window."""

    def add_to(self, counts: MutableSequence[int], jobs: int) -> None:
        """Counts it in, for so many jobs; a negative number takes it out again."""

    def count_in(self, minute: int) -> int:
        """How often in one minute."""


@dataclass(frozen=True, slots=True)
class Periodic:
    """A plain interval that goes on for the whole window."""

    every_ms: int
    offset_ms: int
    """From the beginning of the window to the first due time."""

    def add_to(self, counts: MutableSequence[int], jobs: int) -> None:
        if self.every_ms < MINUTE_MS:
            for minute in range(len(counts)):
                counts[minute] += jobs * self.count_in(minute)
            return
        for at_ms in range(self.offset_ms, len(counts) * MINUTE_MS, self.every_ms):
            counts[at_ms // MINUTE_MS] += jobs

    def count_in(self, minute: int) -> int:
        return self._count_before((minute + 1) * MINUTE_MS) - self._count_before(minute * MINUTE_MS)

    def _count_before(self, at_ms: int) -> int:
        return max(0, -((self.offset_ms - at_ms) // self.every_ms))


def periodic(every_ms: int, due_ms: int, window: Window) -> Periodic:
    """Of an interval that is due at `due_ms`. Equal for all that are due equally often in every minute.

    Minutes and the period are multiples of their greatest common divisor, so it does not matter where between two such multiples
    the due times lie: thousands of intervals with phases of their own become a handful of patterns.
    """
    grain_ms = gcd(every_ms, MINUTE_MS)
    offset_ms = (due_ms - window.start_ms) % every_ms
    return Periodic(every_ms, offset_ms - offset_ms % grain_ms)


@dataclass(frozen=True, slots=True)
class Listed:
    """Due times that were enumerated."""

    minutes: array[int]
    """In order, one for each due time."""

    def add_to(self, counts: MutableSequence[int], jobs: int) -> None:
        for minute in self.minutes:
            counts[minute] += jobs

    def count_in(self, minute: int) -> int:
        return bisect_right(self.minutes, minute) - bisect_left(self.minutes, minute)


def cron_pattern(clock: CronClock, window: Window) -> Listed:
    """When a cron expression is due."""
    start, end = instant_from_ms(window.start_ms), instant_from_ms(window.end_ms)
    # A change that is near can leave out or repeat what lies in the window: whoever resolves that has the say.
    if next(clock_changes(clock.zone, start - _DAY, end + _DAY), None) is not None:
        return Listed(array("H", (window.minute_of(due_ms) for due_ms in _resolved(clock, window))))
    wall_start = start.astimezone(clock.zone).replace(tzinfo=None)
    minutes: array[int] = array("H")
    times = [hour * 60 + minute for hour in clock.hours for minute in clock.minutes]
    day = next_day(clock.calendar, wall_start.date())
    while day is not None:
        midnight = (datetime.combine(day, time()) - wall_start) // _MINUTE
        if midnight >= window.minutes:
            break
        for minute in times:
            if 0 <= midnight + minute < window.minutes:
                minutes.extend([midnight + minute] * len(clock.seconds))
        day = next_day(clock.calendar, day + _DAY)
    return Listed(minutes)


def _resolved(clock: CronClock, window: Window) -> Iterator[int]:
    end = instant_from_ms(window.end_ms)
    due = clock.next_instant(instant_from_ms(window.start_ms - 1))
    while due is not None and due < end:
        yield ms_from_instant(due)
        due = clock.next_instant(due)


def timetable_pattern(timetable: Timetable, window: Window, count_max: int) -> Listed | None:
    """When a job starts by its whole timetable, with its jitter; None if there is more than `count_max` to look at."""
    minutes: list[int] = []
    due_ms = timetable.next_after(window.start_ms - timetable.jitter_ms - 1)
    while due_ms is not None and due_ms < window.end_ms:
        if count_max <= 0:
            return None
        count_max -= 1
        next_ms = timetable.next_after(due_ms)
        fire_ms = timetable.fire_before_ms(due_ms, next_ms) if timetable.jitter_ms else due_ms
        if window.start_ms <= fire_ms < window.end_ms:
            minutes.append(window.minute_of(fire_ms))
        due_ms = next_ms
    return Listed(array("H", sorted(minutes)))
