"""Due times found the slow and obvious way: by looking at a local clock once a minute, or once a second.

The yardstick of the property tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from horologe.node.cron import CronRule
from horologe.node.cron_words import DayMatch, GapPolicy, OverlapPolicy

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
# Far enough around a window to see both instants of every repeated time, and where every gap begins.
MARGIN = timedelta(hours=26)


class Expected(NamedTuple):
    """An expression together with what it was made from; nothing of this was read from its text."""

    expression: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days_of_month: frozenset[int]
    months: frozenset[int]
    days_of_week: frozenset[int]
    day_fields_are_alternatives: bool
    follows_elapsed_time: bool
    seconds: frozenset[int] = frozenset({0})

    def names(self, wall: datetime, day_match: DayMatch) -> bool:
        """True when the expression names this wall time."""
        in_month, in_week = wall.day in self.days_of_month, wall.isoweekday() % 7 in self.days_of_week
        either = self.day_fields_are_alternatives and day_match is DayMatch.EITHER
        day = (in_month or in_week) if either else (in_month and in_week)
        time_of_day = wall.hour in self.hours and wall.minute in self.minutes and wall.second in self.seconds
        return day and wall.month in self.months and time_of_day


class Moment(NamedTuple):
    """What the clock showed when it was looked at."""

    instant: datetime
    wall: datetime
    times_shown: int
    is_first: bool
    left_out: tuple[datetime, ...]
    """The wall times that the clock jumped over just before."""


@lru_cache(maxsize=64)
def watch_clock(
    zone_name: str, start: datetime, end: datetime, step: timedelta = MINUTE, margin: timedelta = MARGIN
) -> list[Moment]:
    """Every minute, or another step, in (start, end]."""
    zone = ZoneInfo(zone_name)
    instants = []
    instant = start - margin
    while instant <= end + margin:
        instants.append(instant)
        instant += step
    walls = [instant.astimezone(zone).replace(tzinfo=None, fold=0) for instant in instants]
    shown = Counter(walls)
    seen: set[datetime] = set()
    moments = []
    for position, (instant, wall) in enumerate(zip(instants, walls, strict=True)):
        left_out = []
        if position:
            missing = walls[position - 1] + step
            while missing < wall:
                left_out.append(missing)
                missing += step
        if start < instant <= end:
            moments.append(Moment(instant, wall, shown[wall], wall not in seen, tuple(left_out)))
        seen.add(wall)
    return moments


def scan(
    expected: Expected,
    rule: CronRule,
    start: datetime,
    end: datetime,
    step: timedelta = MINUTE,
    margin: timedelta = MARGIN,
) -> list[datetime]:
    """The due instants in (start, end], after the words of the policies."""

    def names(wall: datetime) -> bool:
        return expected.names(wall, rule.day_match)

    return [
        moment.instant
        for moment in watch_clock(rule.time_zone, start, end, step, margin)
        if _is_due_itself(expected, rule, moment, names)
        or (
            rule.gap is GapPolicy.RUN_AFTER
            and not expected.follows_elapsed_time
            and any(names(wall) for wall in moment.left_out)
        )
    ]


def _is_due_itself(expected: Expected, rule: CronRule, moment: Moment, names: Callable[[datetime], bool]) -> bool:
    if not names(moment.wall):
        return False
    if moment.times_shown == 1 or expected.follows_elapsed_time or rule.overlap is OverlapPolicy.BOTH:
        return True
    return moment.is_first == (rule.overlap is OverlapPolicy.FIRST)


def utc(*parts: int) -> datetime:
    """An instant in UTC."""
    year, month, day, *rest = parts
    hour, minute = (*rest, 0, 0)[:2]
    return datetime(year, month, day, hour, minute, tzinfo=UTC)
