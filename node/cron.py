"""From a cron expression to instants: which times it names, and when local clocks show those.

The only file that imports croniter, which finds days that are far away; near days are looked up month by month, and the times
of a day are three sorted lists. Everything about time zones is ours, because croniter's own answers around daylight saving
differ from the meanings that jobs may rely on here:

- a local time that exists once is due once;
- one that daylight saving leaves out is due at the first instant after the gap (`run_after`), together with whatever is due
  there anyway, or not at all (`skip`);
- one that daylight saving repeats is due at the `first`, the `second` or `both` of its instants;
- an expression whose hour field is `*` or a step of `*` follows elapsed time: nothing extra for the gap, both in the overlap.

Not here: reading expressions (`cron_syntax`), the days that they name (`cron_days`), zones as such (`zones`), schedules of other
kinds (`schedule`).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter

from horologe.node import cron_syntax
from horologe.node.cron_days import HORIZON_YEARS, DayCalendar, DayPattern, longest_month
from horologe.node.cron_fields import uses_hash
from horologe.node.cron_syntax import CronFields, read_expression
from horologe.node.cron_words import CronError, DayMatch, Dialect, GapPolicy, OverlapPolicy, quoted
from horologe.node.zones import clock_change_at, instant_from_ms, instant_of, load_zone, ms_from_instant, utc_offsets

# Within these, every instant and its neighbours fit a datetime in every zone.
EARLIEST_MS: Final = ms_from_instant(datetime(1, 2, 1, tzinfo=UTC))
LATEST_MS: Final = ms_from_instant(datetime(9940, 1, 1, tzinfo=UTC))

_SECOND_MS: Final = 1_000
_MINUTE_MS: Final = 60_000
# The last offset with seconds in it ended in January 1972 (Liberia): from here on, whole local minutes are whole minutes of UTC.
_WHOLE_MINUTES_FROM_MS: Final = ms_from_instant(datetime(1973, 1, 1, tzinfo=UTC))
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
# Enough for everything that happens once a year.
_NEAR_YEARS: Final = 1


class CronRule(NamedTuple):
    """All that decides the due times of a cron schedule. Equal rules share their computations."""

    expression: str
    time_zone: str = "UTC"
    gap: GapPolicy = GapPolicy.RUN_AFTER
    overlap: OverlapPolicy = OverlapPolicy.FIRST
    day_match: DayMatch = DayMatch.EITHER
    dialect: Dialect = Dialect.UNIX
    identity: str = ""
    """Of the job, for `H`: give what stays the same for the life of the job. Rules without `H` are shared among jobs."""


def next_due_ms(rule: CronRule, after_ms: int) -> int | None:
    """The first due time strictly after `after_ms`; None when there is none within 50 years. Raises CronError.

    An expression that names years is searched to the last of them.
    """
    if after_ms >= LATEST_MS:
        return None
    rule = _shareable(rule)
    after_ms = max(after_ms, EARLIEST_MS)
    # Nothing is due between here and there, and more callers ask the same question.
    after_ms -= after_ms % (compile_rule(rule).grain_ms if after_ms >= _WHOLE_MINUTES_FROM_MS else _SECOND_MS)
    return _shared_next_due_ms(rule, after_ms)


def check_rule(rule: CronRule, now_ms: int) -> None:
    """Raise CronError when the rule cannot be read, or when it would never be due."""
    clock = compile_rule(_shareable(rule))
    if now_ms >= LATEST_MS or next_due_ms(rule, now_ms) is not None:
        return
    raise CronError(f"{quoted(rule.expression)} is {_why_never(rule, clock, instant_from_ms(now_ms))}")


def _why_never(rule: CronRule, clock: CronClock, now: datetime) -> str:
    pattern = clock.calendar.pattern
    if pattern.years and pattern.years[-1] < now.astimezone(clock.zone).year:
        return f"never due: its years have passed (the last is {pattern.years[-1]})"
    if not clock.calendar.has_days():
        first, longest = min(pattern.days_of_month, default=1), max(map(longest_month, pattern.months))
        if first > longest and not pattern.counted_days:
            return f"never due: no month it names has a day {first} (the longest has {longest})"
        return "never due: no month it names has such a day"
    if clock.next_wall(now.astimezone(clock.zone).replace(tzinfo=None)) is None:
        if pattern.years:
            return "never due: none of the years it names has such a day ahead"
        return f"not due within {HORIZON_YEARS} years: no year has such a day"
    return (
        f"not due within {HORIZON_YEARS} years: each of its times in {rule.time_zone or 'UTC'} "
        "is left out by daylight saving; use dst_gap=run_after or another hour"
    )


def _shareable(rule: CronRule) -> CronRule:
    """The rule without the identity of its job, unless that matters."""
    return rule._replace(identity="") if rule.identity and not uses_hash(rule.expression) else rule


@lru_cache(maxsize=16_384)
def _shared_next_due_ms(rule: CronRule, after_ms: int) -> int | None:
    found = compile_rule(rule).next_instant(instant_from_ms(after_ms))
    return None if found is None else ms_from_instant(found)


@lru_cache(maxsize=4096)
def compile_rule(rule: CronRule) -> CronClock:
    """The rule with its expression read and its zone loaded. Raises CronError."""
    fields = read_expression(rule.expression, rule.dialect, rule.identity)
    return CronClock(
        zone=load_zone(rule.time_zone),
        hours=fields.hours,
        minutes=fields.minutes,
        seconds=fields.seconds,
        calendar=DayCalendar(_day_pattern(fields, rule.day_match)),
        follows_elapsed_time=fields.follows_elapsed_time,
        runs_after_gap=rule.gap is GapPolicy.RUN_AFTER and not fields.follows_elapsed_time,
        runs_first=rule.overlap is not OverlapPolicy.SECOND or fields.follows_elapsed_time,
        runs_second=rule.overlap is not OverlapPolicy.FIRST or fields.follows_elapsed_time,
    )


def forget() -> None:
    """Forget all that was computed, for measurements of what it costs; answers do not change."""
    for remembered in (_shared_next_due_ms, compile_rule, _find_far_day):
        remembered.cache_clear()
    cron_syntax.forget()


@dataclass(frozen=True, slots=True)
class CronClock:
    """A rule ready to be asked."""

    zone: ZoneInfo
    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]
    calendar: DayCalendar
    follows_elapsed_time: bool
    runs_after_gap: bool
    runs_first: bool
    runs_second: bool

    @property
    def grain_ms(self) -> int:
        """All due times are multiples of this, where offsets from UTC are whole minutes."""
        return _MINUTE_MS if self.seconds == (0,) else _SECOND_MS

    def next_instant(self, after: datetime) -> datetime | None:
        """The first due instant strictly after `after`, in UTC."""
        local = after.astimezone(self.zone)
        wall = local.replace(tzinfo=None, fold=0)
        latest = self.calendar.pattern.last_year(wall.year)
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
        earliest = after.replace(microsecond=0) + _SECOND
        today = earliest.date()
        day = next_day(self.calendar, today)
        if day == today:
            time_of_day = self._first_time(earliest.time())
            if time_of_day is not None:
                return datetime.combine(day, time_of_day)
            day = next_day(self.calendar, today + _DAY)
        if day is None:
            return None
        return datetime.combine(day, time(self.hours[0], self.minutes[0], self.seconds[0]))

    def _first_time(self, earliest: time) -> time | None:
        """The first time of day at or after `earliest`."""
        for hour in self.hours[bisect_left(self.hours, earliest.hour) :]:
            if hour > earliest.hour:
                return time(hour, self.minutes[0], self.seconds[0])
            for minute in self.minutes[bisect_left(self.minutes, earliest.minute) :]:
                if minute > earliest.minute:
                    return time(hour, minute, self.seconds[0])
                position = bisect_left(self.seconds, earliest.second)
                if position < len(self.seconds):
                    return time(hour, minute, self.seconds[position])
        return None


def next_day(calendar: DayCalendar, earliest: date) -> date | None:
    """The first day of a calendar at or after `earliest`; None when there is none within the horizon.

    Nearly all days are near, and found in a few microseconds. The rest, such as a 29th of February that is a Monday, is left to
    croniter as far as it has words for it.
    """
    near = calendar.first_day(earliest, earliest.year + _NEAR_YEARS)
    if near is not None or not calendar.has_days():
        return near
    pattern = calendar.pattern
    if pattern.is_plain:
        return _find_far_day(pattern, earliest)
    return calendar.first_day(earliest, pattern.last_year(earliest.year))


@lru_cache(maxsize=4096)
def _find_far_day(pattern: DayPattern, earliest: date) -> date | None:
    days_of_month = _list_or_star(pattern.days_of_month, 31)
    months = _list_or_star(frozenset(pattern.months), 12)
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
    """Vixie's rule: days of month and of week are alternatives only when both of them are restricted."""
    return DayPattern(
        days_of_month=frozenset(fields.days_of_month),
        counted_days=fields.counted_days,
        months=fields.months,
        days_of_week=frozenset(fields.days_of_week),
        counted_weekdays=fields.counted_weekdays,
        years=fields.years,
        either=day_match is DayMatch.EITHER and fields.restricts_both_days,
    )


def _list_or_star(numbers: frozenset[int], count_of_all: int) -> str:
    return "*" if len(numbers) == count_of_all else ",".join(map(str, sorted(numbers)))
