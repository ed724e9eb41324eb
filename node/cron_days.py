"""Which days a cron expression names: days of the month, days of the week, and days that are counted within a month.

Days look the same in every month of the same length that begins on the same weekday, and there are only 28 kinds of months:
each pattern works out its days once per kind. Not here: times of day and time zones (`cron`).
"""

from __future__ import annotations

from bisect import bisect_left
from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple

HORIZON_YEARS: Final = 50
"""How far ahead a day is looked for: no combination of day, month and weekday is rarer than every 40 years."""

LAST: Final = 0
"""In place of the n of an n-th weekday."""

_SATURDAY: Final = 6
_SUNDAY: Final = 0
_LEAP_YEAR: Final = 2000


class MonthKind(NamedTuple):
    """All that tells the days of one month from those of another."""

    first_weekday: int
    """Of the first day; Sunday is 0."""
    length: int

    def weekday(self, day: int) -> int:
        """Sunday is 0."""
        return (self.first_weekday + day - 1) % 7


class MonthDay(NamedTuple):
    """A day that is counted within its month: `L`, `L-3`, `15W`, `LW`."""

    number: int
    """From 1, or with `from_end` how many days before the last."""
    from_end: bool = False
    nearest_working_day: bool = False

    def day_in(self, kind: MonthKind) -> int | None:
        """The day; None when the month has none. The nearest working day never leaves the month."""
        day = kind.length - self.number if self.from_end else self.number
        if not 1 <= day <= kind.length:
            return None
        if self.nearest_working_day and kind.weekday(day) == _SATURDAY:
            return day - 1 if day > 1 else day + 2
        if self.nearest_working_day and kind.weekday(day) == _SUNDAY:
            return day + 1 if day < kind.length else day - 2
        return day


class MonthWeekday(NamedTuple):
    """A weekday that is counted within its month: `6#3`, `5L`."""

    weekday: int
    """Sunday is 0."""
    nth: int
    """From 1 to 5, or LAST."""

    def day_in(self, kind: MonthKind) -> int | None:
        """The day; None when the month has no fifth one."""
        first = 1 + (self.weekday - kind.first_weekday) % 7
        if self.nth == LAST:
            return first + (kind.length - first) // 7 * 7
        day = first + (self.nth - 1) * 7
        return day if day <= kind.length else None


class DayPattern(NamedTuple):
    """Which days an expression names, in numbers only."""

    days_of_month: frozenset[int]
    counted_days: frozenset[MonthDay]
    months: tuple[int, ...]
    days_of_week: frozenset[int]
    """Sunday is 0."""
    counted_weekdays: frozenset[MonthWeekday]
    years: tuple[int, ...]
    """Empty: all."""
    either: bool
    """True when a day of the month or a day of the week is enough."""

    @property
    def is_plain(self) -> bool:
        """True when days of month, months and days of week are all there is to it."""
        return not (self.counted_days or self.counted_weekdays or self.years)

    def last_year(self, from_year: int) -> int:
        """Where a search that begins in a year ends."""
        return self.years[-1] if self.years else from_year + HORIZON_YEARS

    def days_in(self, kind: MonthKind) -> tuple[int, ...]:
        """The days of the pattern in a month of this kind, in order; not every kind occurs in every month."""
        all_days = range(1, kind.length + 1)
        in_month = {day for day in self.days_of_month if day <= kind.length} | _days(self.counted_days, kind)
        in_week = {day for day in all_days if kind.weekday(day) in self.days_of_week}
        in_week |= _days(self.counted_weekdays, kind)
        return tuple(sorted(in_month | in_week if self.either else in_month & in_week))


def _days(counted: Iterable[MonthDay | MonthWeekday], kind: MonthKind) -> set[int]:
    return {day for each in counted if (day := each.day_in(kind)) is not None}


@dataclass(frozen=True, slots=True)
class DayCalendar:
    """A pattern ready to be asked; remembers its days for each kind of month."""

    pattern: DayPattern
    _known: dict[MonthKind, tuple[int, ...]] = field(default_factory=dict, compare=False, repr=False)

    def first_day(self, earliest: date, last_year: int) -> date | None:
        """The first day of the pattern from `earliest` to the end of `last_year`: one look at each month that it names."""
        months = self.pattern.months
        for year in self._years(earliest.year, last_year):
            from_month = earliest.month if year == earliest.year else 1
            for month in months[bisect_left(months, from_month) :]:
                days = self._days_of(year, month)
                from_day = earliest.day if year == earliest.year and month == earliest.month else 1
                position = bisect_left(days, from_day)
                if position < len(days):
                    return date(year, month, days[position])
        return None

    def has_days(self) -> bool:
        """False when no month of any year has a day of the pattern; which years it names is not looked at."""
        lengths = {longest_month(month) for month in self.pattern.months} | (
            {28} if 2 in self.pattern.months else set()
        )
        kinds = (MonthKind(first_weekday, length) for length in lengths for first_weekday in range(7))
        return any(self._days_in(kind) for kind in kinds)

    def _years(self, first: int, last: int) -> Iterable[int]:
        years = self.pattern.years
        return years[bisect_left(years, first) : bisect_left(years, last + 1)] if years else range(first, last + 1)

    def _days_of(self, year: int, month: int) -> tuple[int, ...]:
        first_weekday, length = monthrange(year, month)  # Monday is 0 here
        return self._days_in(MonthKind((first_weekday + 1) % 7, length))

    def _days_in(self, kind: MonthKind) -> tuple[int, ...]:
        days = self._known.get(kind)
        if days is None:
            days = self._known[kind] = self.pattern.days_in(kind)
        return days


def longest_month(month: int) -> int:
    """How many days a month has in a leap year."""
    return monthrange(_LEAP_YEAR, month)[1]
