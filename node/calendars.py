"""Calendars: what they cover, and whether a definition of one is valid.

Pure functions over `horologe.v1.Calendar`, but for `exclusions_of`, which finds the calendars of a job. What becomes of a due
time that a calendar covers is in `timetable`. Dates and hours are those of local clocks: where daylight saving repeats an hour
that is covered, both are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from horologe.node import cron, schedule
from horologe.node.cron import CronRule
from horologe.node.cron_words import CronError
from horologe.node.names import shorten
from horologe.node.schedule import Violation
from horologe.node.timetable import Span
from horologe.node.zones import instant_from_ms, load_zone, ms_from_instant
from horologe.raft.calendars import calendar_names, find_calendar
from horologe.raft.tables import Tables
from horologe.v1.calendar_pb2 import Calendar, WeeklyHours
from horologe.v1.job_pb2 import Job, Schedule

DATES_MAX: Final = 1_000
HOURS_MAX: Final = 100
SPANS_MAX: Final = 20
DESCRIPTION_BYTES_MAX: Final = 4 << 10

_DATE: Final = re.compile(r"(\d{4}|\*)-(\d{2})-(\d{2})")
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LEAP_YEAR: Final = 2000
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Days:
    """From a day to another one, both included; of every year if `is_yearly`, and then it may pass the end of the year."""

    first: date
    last: date
    is_yearly: bool

    def around(self, day: date) -> tuple[date, date] | None:
        """The first day and the first day after the end, if this contains the day."""
        if not self.is_yearly:
            return (self.first, self.last + _DAY) if self.first <= day <= self.last else None
        for year in (day.year, day.year - 1):
            start = _in_year(self.first, year)
            after = self.last + _DAY
            end = _in_year(after, year + (self.last < self.first) + (after.year > self.last.year))
            if start <= day < end:
                return start, end
        return None


@dataclass(frozen=True, slots=True)
class Hours:
    """Minutes of a day, from midnight, on some days of the week; the end may lie on the next day."""

    days: frozenset[int]
    from_minute: int
    to_minute: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """A calendar ready to be asked; an `Exclusion` of timetable.py."""

    zone: ZoneInfo
    days: tuple[Days, ...]
    hours: tuple[Hours, ...]
    spans: tuple[tuple[CronRule, int], ...]
    """When each begins, and how many milliseconds it lasts."""

    def span_at(self, at_ms: int) -> Span | None:
        """A covered span that contains the instant; None if it is not covered."""
        return next(self._spans_at(at_ms), None)

    def _spans_at(self, at_ms: int) -> Iterator[Span]:
        today = instant_from_ms(at_ms).astimezone(self.zone).date()
        for days in self.days:
            around = days.around(today)
            if around is not None:
                yield Span(self._instant_ms(around[0], 0), self._instant_ms(around[1], 0, fold=1))
        for hours in self.hours:
            for day in (today, today - _DAY):
                if day.weekday() in hours.days:
                    span = Span(
                        self._instant_ms(day, hours.from_minute), self._instant_ms(day, hours.to_minute, fold=1)
                    )
                    if span.start_ms <= at_ms < span.end_ms:
                        yield span
        for rule, duration_ms in self.spans:
            start_ms = cron.next_due_ms(rule, at_ms - duration_ms)
            if start_ms is not None and start_ms <= at_ms:
                yield Span(start_ms, start_ms + duration_ms)

    def _instant_ms(self, day: date, minute: int, *, fold: int = 0) -> int:
        wall = datetime.combine(day, time()) + timedelta(minutes=minute)
        return ms_from_instant(wall.replace(tzinfo=self.zone, fold=fold))


def exclusions_of(tables: Tables, job: Job) -> list[Coverage]:
    """What the calendars of a job cover, as the state has them."""
    if not job.calendars:
        return []
    records = (find_calendar(tables, name) for name in calendar_names(job.name, job.calendars))
    return [coverage_of(record.calendar) for record in records if record is not None]


def revisions_of(tables: Tables, job: Job) -> list[int]:
    """The revisions of a job's calendars, in their order; 0 for one that does not exist."""
    if not job.calendars:
        return []
    records = (find_calendar(tables, name) for name in calendar_names(job.name, job.calendars))
    return [0 if record is None else record.revision for record in records]


def coverage_of(calendar: Calendar) -> Coverage:
    """Of a calendar as it is stored."""
    return _shared_coverage(calendar.SerializeToString(deterministic=True))


@lru_cache(maxsize=1024)
def _shared_coverage(serialized: bytes) -> Coverage:
    calendar = Calendar.FromString(serialized)
    return Coverage(
        load_zone(calendar.time_zone),
        tuple(_read_days(text) for text in calendar.dates),
        tuple(_read_hours(hours) for hours in calendar.hours),
        tuple(
            (schedule.cron_rule(span.cron, calendar.name), schedule.duration_ms(span.duration))
            for span in calendar.spans
        ),
    )


# Is it valid?


def complete_calendar(calendar: Calendar, path: str, now_ms: int) -> tuple[Calendar, list[Violation]]:
    """The definition as it is stored, with its defaults, and all that is wrong with it; its name is a checked one."""
    complete = Calendar(
        name=calendar.name,
        description=calendar.description,
        time_zone=calendar.time_zone or "UTC",
        dates=calendar.dates,
        hours=calendar.hours,
        spans=calendar.spans,
    )
    return complete, list(_violations(complete, path, now_ms))


def _violations(calendar: Calendar, path: str, now_ms: int) -> Iterator[Violation]:
    for field, most in (("dates", DATES_MAX), ("hours", HOURS_MAX), ("spans", SPANS_MAX)):
        count = len(getattr(calendar, field))
        if count > most:
            yield Violation(f"{path}.{field}", f"{count} are too many; a calendar has at most {most}")
            return
    size = len(calendar.description.encode())
    if size > DESCRIPTION_BYTES_MAX:
        yield Violation(f"{path}.description", f"{size} bytes are too many; at most {DESCRIPTION_BYTES_MAX} are kept")
    try:
        load_zone(calendar.time_zone)
    except CronError as error:
        yield Violation(f"{path}.time_zone", str(error))
    for position, text in enumerate(calendar.dates):
        try:
            _read_days(text)
        except ValueError as error:
            yield Violation(f"{path}.dates[{position}]", f"{shorten(text)}: {error}")
    for position, hours in enumerate(calendar.hours):
        try:
            _read_hours(hours)
        except ValueError as error:
            yield Violation(f"{path}.hours[{position}]", str(error))
    for position, span in enumerate(calendar.spans):
        where = f"{path}.spans[{position}]"
        span.cron.time_zone = span.cron.time_zone or calendar.time_zone
        found = schedule.validate(Schedule(cron=span.cron), where, now_ms, calendar.name)
        yield from found
        if not found:
            span.cron.CopyFrom(schedule.normalise(Schedule(cron=span.cron), now_ms).cron)
        duration_ms = schedule.duration_ms(span.duration)
        if not schedule.INTERVAL_MIN_MS <= duration_ms <= schedule.INTERVAL_MAX_MS:
            yield Violation(f"{where}.duration", f"{duration_ms / 1000:g} s is outside 1 second to 366 days")


# Reading


def _read_days(text: str) -> Days:
    """`2026-12-25`, `*-12-25`, or from one to another one of the same kind. Raises ValueError."""
    first_text, slash, last_text = text.partition("/")
    first, is_yearly = _read_date(first_text)
    last, last_is_yearly = _read_date(last_text) if slash else (first, is_yearly)
    if is_yearly != last_is_yearly:
        raise ValueError("one end has a year and the other is of every year; give both of one kind")
    if last < first and not is_yearly:
        raise ValueError("it ends before it begins")
    return Days(first, last, is_yearly)


def _read_date(text: str) -> tuple[date, bool]:
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError(
            "dates are written 2026-12-25, or *-12-25 for every year, ranges with a slash between two of them"
        )
    is_yearly = match[1] == "*"
    return date(_LEAP_YEAR if is_yearly else int(match[1]), int(match[2]), int(match[3])), is_yearly


def _read_hours(hours: WeeklyHours) -> Hours:
    # `from` is a keyword of Python, and so has no attribute.
    start: str = getattr(hours, "from")
    from_minute = _read_clock(start, "from") if start else 0
    to_minute = _read_clock(hours.to, "to") if hours.to else 24 * 60
    if to_minute <= from_minute:
        to_minute += 24 * 60
    return Hours(_read_weekdays(hours.days), from_minute, to_minute)


def _read_clock(text: str, what: str) -> int:
    if not _CLOCK.fullmatch(text) or (text == "24:00" and what == "from"):
        raise ValueError(f"{what}: {shorten(text)} is no time of day; write HH:MM")
    hour, _, minute = text.partition(":")
    return int(hour) * 60 + int(minute)


def _read_weekdays(texts: Iterable[str]) -> frozenset[int]:
    found: set[int] = set()
    for name in map(str.lower, texts):
        first, dash, last = name.partition("-")
        if first not in _DAYS or (dash and last not in _DAYS):
            raise ValueError(f"days: {shorten(name)} is no day; write mon to sun, or a range such as mon-fri")
        start, end = _DAYS.index(first), _DAYS.index(last if dash else first)
        found.update(day % 7 for day in range(start, end + 1 + 7 * (end < start)))
    return frozenset(found or range(7))


def _in_year(day: date, year: int) -> date:
    """29 February is 1 March in years that do not have it."""
    if (day.month, day.day) == (2, 29) and not _is_leap(year):
        return date(year, 3, 1)
    return day.replace(year=year)


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
