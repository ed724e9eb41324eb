"""From a cron expression to instants: which days it names, which times on them, and when local clocks show those.

The only file that imports croniter, which finds days that are far away; near days are a walk, and the times of a day are two
sorted lists. Everything about time zones is ours, because croniter's own answers around daylight saving differ from the
meanings that jobs may rely on here:

- a local time that exists once is due once;
- one that daylight saving leaves out is due at the first instant after the gap (`run_after`), together with whatever is due
  there anyway, or not at all (`skip`);
- one that daylight saving repeats is due at the `first`, the `second` or `both` of its instants;
- an expression whose hour field is `*` or a step of `*` follows elapsed time: nothing extra for the gap, both in the overlap.

Not here: reading expressions (`cron_syntax`), zones as such (`zones`), schedules of other kinds (`schedule`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter

from horologe.node.cron_syntax import CronError, CronFields, DayMatch, GapPolicy, OverlapPolicy, quoted, read_expression
from horologe.node.zones import clock_change_at, instant_from_ms, instant_of, load_zone, ms_from_instant, utc_offsets

HORIZON_YEARS: Final = 50

# Within these, every instant and its neighbours fit a datetime in every zone.
EARLIEST_MS: Final = ms_from_instant(datetime(1, 2, 1, tzinfo=UTC))
LATEST_MS: Final = ms_from_instant(datetime(9940, 1, 1, tzinfo=UTC))

_MINUTE_MS: Final = 60_000
# The last offset with seconds in it ended in January 1972 (Liberia): from here on, due times are whole minutes of UTC.
_WHOLE_MINUTES_FROM_MS: Final = ms_from_instant(datetime(1973, 1, 1, tzinfo=UTC))
_SECOND: Final = timedelta(seconds=1)
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)
# Enough for eleven months passed over and all days of the twelfth.
_NEAR_STEPS: Final = 45
_LEAP_YEAR: Final = 2000


class CronRule(NamedTuple):
    """All that decides the due times of a cron schedule. Equal rules share their computations."""

    expression: str
    time_zone: str = "UTC"
    gap: GapPolicy = GapPolicy.RUN_AFTER
    overlap: OverlapPolicy = OverlapPolicy.FIRST
    day_match: DayMatch = DayMatch.EITHER


def next_due_ms(rule: CronRule, after_ms: int) -> int | None:
    """The first due time strictly after `after_ms`; None when there is none within 50 years. Raises CronError."""
    if after_ms >= LATEST_MS:
        return None
    after_ms = max(after_ms, EARLIEST_MS)
    if after_ms >= _WHOLE_MINUTES_FROM_MS:
        after_ms -= (
            after_ms % _MINUTE_MS
        )  # nothing is due between here and there, and more callers ask the same question
    return _shared_next_due_ms(rule, after_ms)


def check_rule(rule: CronRule, now_ms: int) -> None:
    """Raise CronError when the rule cannot be read, or when it would never be due."""
    fields = read_expression(rule.expression)
    load_zone(rule.time_zone)
    if not _days_exist(fields) and (rule.day_match is DayMatch.BOTH or not fields.restricts_both_days):
        longest = max(_days_in(month) for month in fields.months)
        raise CronError(
            f"{quoted(rule.expression)} is never due: no month it names has a day {fields.days_of_month[0]} "
            f"(the longest has {longest})"
        )
    if now_ms < LATEST_MS and next_due_ms(rule, now_ms) is None:
        raise CronError(
            f"{quoted(rule.expression)} is not due within {HORIZON_YEARS} years: each of its times in {rule.time_zone or 'UTC'} "
            "is left out by daylight saving; use dst_gap=run_after or another hour"
        )


@lru_cache(maxsize=16_384)
def _shared_next_due_ms(rule: CronRule, after_ms: int) -> int | None:
    found = compile_rule(rule).next_instant(instant_from_ms(after_ms))
    return None if found is None else ms_from_instant(found)


@lru_cache(maxsize=4096)
def compile_rule(rule: CronRule) -> CronClock:
    """The rule with its expression read and its zone loaded. Raises CronError."""
    fields = read_expression(rule.expression)
    return CronClock(
        zone=load_zone(rule.time_zone),
        hours=fields.hours,
        minutes=fields.minutes,
        days=_day_pattern(fields, rule.day_match),
        follows_elapsed_time=fields.follows_elapsed_time,
        runs_after_gap=rule.gap is GapPolicy.RUN_AFTER and not fields.follows_elapsed_time,
        runs_first=rule.overlap is not OverlapPolicy.SECOND or fields.follows_elapsed_time,
        runs_second=rule.overlap is not OverlapPolicy.FIRST or fields.follows_elapsed_time,
    )


@dataclass(frozen=True, slots=True)
class CronClock:
    """A rule ready to be asked."""

    zone: ZoneInfo
    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    days: DayPattern
    follows_elapsed_time: bool
    runs_after_gap: bool
    runs_first: bool
    runs_second: bool

    def next_instant(self, after: datetime) -> datetime | None:
        """The first due instant strictly after `after`, in UTC."""
        local = after.astimezone(self.zone)
        wall = local.replace(tzinfo=None, fold=0)
        latest = wall.year + HORIZON_YEARS
        before, later = utc_offsets(self.zone, wall)
        if before > later:
            found, wall = self._next_in_overlap(wall, in_second_pass=local.fold == 1)
            if found is not None:
                return found
        while (due := self.next_wall(wall)) is not None and due.year <= latest:
            before, later = utc_offsets(self.zone, due)
            wall = due
            if before == later:
                found = instant_of(due, before)
            elif before > later:
                found = instant_of(due, before if self.runs_first else later)
            else:
                gap = clock_change_at(self.zone, due)
                assert gap is not None, "offsets that differ have a change between them"
                found = gap.instant if self.runs_after_gap else None
                wall = gap.end - _SECOND
            if found is not None and found > after:
                return found
        return None

    def _next_in_overlap(self, wall: datetime, in_second_pass: bool) -> tuple[datetime | None, datetime]:
        """What is still due between `wall`, which exists twice, and the end of the repeated span; else where to go on."""
        overlap = clock_change_at(self.zone, wall)
        assert overlap is not None, "a wall time that exists twice lies beside a change"
        before, later = utc_offsets(self.zone, wall)
        passes = []
        if self.runs_first and not in_second_pass:
            passes.append((wall, before))
        if self.runs_second:
            passes.append((wall if in_second_pass else overlap.start - _SECOND, later))
        for start, offset in passes:
            due = self.next_wall(start)
            if due is not None and due < overlap.end:
                return instant_of(due, offset), wall
        return None, overlap.end - _SECOND

    def next_wall(self, after: datetime) -> datetime | None:
        """The first wall time strictly after `after` that the expression names, whether or not clocks ever show it."""
        earliest = after.replace(second=0, microsecond=0) + _MINUTE
        today = earliest.date()
        day = next_day(self.days, today)
        if day is None:
            return None
        if day == today:
            time_of_day = self._time_from(earliest.hour, earliest.minute)
            if time_of_day is not None:
                return datetime.combine(day, time_of_day)
            day = next_day(self.days, today + timedelta(days=1))
            if day is None:
                return None
        return datetime.combine(day, time(self.hours[0], self.minutes[0]))

    def _time_from(self, hour: int, minute: int) -> time | None:
        """The first time of day at or after the given one."""
        position = bisect_left(self.hours, hour)
        if position < len(self.hours) and self.hours[position] == hour:
            minute_position = bisect_left(self.minutes, minute)
            if minute_position < len(self.minutes):
                return time(hour, self.minutes[minute_position])
        position = bisect_right(self.hours, hour)
        return time(self.hours[position], self.minutes[0]) if position < len(self.hours) else None


class DayPattern(NamedTuple):
    """Which days an expression names, in numbers only; Sunday is 0."""

    days_of_month: frozenset[int]
    months: frozenset[int]
    days_of_week: frozenset[int]
    either: bool

    def names(self, day: date) -> bool:
        """True when the pattern has this day."""
        in_month, in_week = day.day in self.days_of_month, day.isoweekday() % 7 in self.days_of_week
        return day.month in self.months and (in_month or in_week if self.either else in_month and in_week)


def next_day(pattern: DayPattern, earliest: date) -> date | None:
    """The first day of the pattern at or after `earliest`; None when there is none within the horizon.

    Nearly all days are near: a short walk, which passes over other months in one step, finds them in a few microseconds, where
    croniter takes hundreds. The rest, such as a 29th of February that is a Monday, is left to croniter.
    """
    day = earliest
    for _ in range(_NEAR_STEPS):
        if pattern.names(day):
            return day
        day = day + _DAY if day.month in pattern.months else date(day.year + day.month // 12, day.month % 12 + 1, 1)
    return _find_far_day(pattern, day)


@lru_cache(maxsize=4096)
def _find_far_day(pattern: DayPattern, earliest: date) -> date | None:
    days_of_month = _list_or_star(pattern.days_of_month, 31)
    months = _list_or_star(pattern.months, 12)
    days_of_week = _list_or_star(pattern.days_of_week, 7)
    searcher = croniter(
        # Numbers and plain stars only, so that nothing depends on how croniter reads names, ranges and steps.
        f"0 0 {days_of_month} {months} {days_of_week}",
        datetime.combine(earliest, time()) - _SECOND,
        datetime,
        day_or=pattern.either,
        max_years_between_matches=HORIZON_YEARS,
    )
    try:
        return searcher.get_next(datetime).date()
    except CroniterBadDateError:
        return None


def _day_pattern(fields: CronFields, day_match: DayMatch) -> DayPattern:
    """Vixie's rule: days of month and of week are alternatives only when neither field starts with `*`."""
    return DayPattern(
        frozenset(fields.days_of_month),
        frozenset(fields.months),
        frozenset(fields.days_of_week),
        either=day_match is DayMatch.EITHER and fields.restricts_both_days,
    )


def _list_or_star(numbers: frozenset[int], count_of_all: int) -> str:
    return "*" if len(numbers) == count_of_all else ",".join(map(str, sorted(numbers)))


def _days_exist(fields: CronFields) -> bool:
    """True when at least one of the months has at least one of the days, in a leap year."""
    return any(_days_in(month) >= fields.days_of_month[0] for month in fields.months)


def _days_in(month: int) -> int:
    return monthrange(_LEAP_YEAR, month)[1]
