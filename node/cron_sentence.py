"""What a cron expression means, as an English sentence.

cron_descriptor has the words for times, plain days, months and years. Days that are counted within a month are put into words
here, because it knows only one of them at a time. The clock has 24 hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Final

from horologe.node.cron import CronRule
from horologe.node.cron_days import LAST, MonthDay, MonthWeekday
from horologe.node.cron_dialects import DAY_OF_MONTH, HOUR, MINUTE, MONTH, SECOND, Field
from horologe.node.cron_every import is_every, read_every
from horologe.node.cron_fields import uses_hash
from horologe.node.cron_syntax import CronFields, read_expression
from horologe.node.cron_words import DayMatch
from horologe.node.zones import load_zone

_UNITS: Final = (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1_000), ("millisecond", 1))
_NTH: Final = {LAST: "last", 1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}
_WEEKDAYS: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_EVERY: Final = "*"


@lru_cache(maxsize=1024)
def describe_cron(rule: CronRule) -> str:
    """The rule as an English sentence, and its zone. Raises CronError."""
    zone_name = rule.time_zone or "UTC"
    if uses_hash(rule.expression) and not rule.identity:
        zone_name += "; `H` as of a job without a name"
    load_zone(rule.time_zone)
    if is_every(rule.expression):
        return f"every {duration_text(read_every(rule.expression))}"
    fields = read_expression(rule.expression, rule.dialect, rule.identity)
    is_both = rule.day_match is DayMatch.BOTH or not fields.restricts_both_days
    if fields.counted_days or fields.counted_weekdays:
        return f"{_sentence_with_counted_days(fields, is_both)} ({zone_name})"
    sentence = _describe(
        fields,
        days_of_month=_plain_field(fields, DAY_OF_MONTH, fields.days_of_month),
        months=_plain_field(fields, MONTH, fields.months),
        days_of_week=_EVERY if len(fields.days_of_week) == 7 else _as_list(fields.days_of_week),
        years=_as_list(fields.years),
    )
    if is_both:
        sentence = sentence.replace(", or on ", ", but only on ").replace(", or ", ", but only ")
    return f"{sentence} ({zone_name})"


def _sentence_with_counted_days(fields: CronFields, is_both: bool) -> str:
    """The library's sentence about times, months and years, with our own about the days between."""
    times = _describe(fields)
    whole = _describe(fields, months=_plain_field(fields, MONTH, fields.months), years=_as_list(fields.years))
    parts = []
    if fields.counted_days or len(fields.days_of_month) < DAY_OF_MONTH.last:
        named = [f"day {day}" for day in fields.days_of_month]
        parts.append(
            f"on {_enumerate([*named, *map(_day_text, sorted(fields.counted_days, key=_place_in_month))])} of the month"
        )
    if fields.counted_weekdays or len(fields.days_of_week) < len(_WEEKDAYS):
        named = [f"every {_WEEKDAYS[weekday]}" for weekday in fields.days_of_week]
        weekdays = sorted(fields.counted_weekdays, key=_place_in_month)
        counted = [f"the {_NTH[each.nth]} {_WEEKDAYS[each.weekday]} of the month" for each in weekdays]
        parts.append(f"on {_enumerate([*named, *counted])}")
    days = (", but only " if is_both else ", or ").join(parts)
    return f"{times}, {days}{whole.removeprefix(times)}"


def _place_in_month(day: MonthDay | MonthWeekday) -> tuple[bool, int, int]:
    """What is counted from the beginning goes before what is counted from the end."""
    if isinstance(day, MonthDay):
        return day.from_end, -day.number if day.from_end else day.number, not day.nearest_working_day
    return day.nth == LAST, day.nth, day.weekday


def _day_text(day: MonthDay) -> str:
    if not day.from_end:
        return f"the weekday nearest day {day.number}"
    if day.number:
        before = f"the day {day.number} day{'s' if day.number != 1 else ''} before the last"
        return f"the weekday nearest {before}" if day.nearest_working_day else before
    return "the last weekday" if day.nearest_working_day else "the last day"


def _enumerate(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _describe(
    fields: CronFields, days_of_month: str = _EVERY, months: str = _EVERY, days_of_week: str = _EVERY, years: str = ""
) -> str:
    # Loaded here because it is heavy, and only people ask for sentences.
    from cron_descriptor import ExpressionDescriptor, Options  # type: ignore[import-untyped]

    parts = [
        _plain_field(fields, MINUTE, fields.minutes),
        _plain_field(fields, HOUR, fields.hours),
        *(days_of_month, months, days_of_week),
    ]
    if fields.seconds != (0,) or years:
        parts.insert(0, _plain_field(fields, SECOND, fields.seconds))
    if years:
        parts.append(years)
    options = Options(locale_code="en_US", use_24hour_time_format=True)
    return str(ExpressionDescriptor(" ".join(parts), options).get_description())


def _plain_field(fields: CronFields, field: Field, numbers: Sequence[int]) -> str:
    """An equal text without names and uneven steps, which the library would describe as if they were even."""
    size = field.last - field.lowest + 1
    if len(numbers) == size:
        return _EVERY
    star, _, step = fields.text_of(field.name).partition("/")
    is_step = star in ("", "*", "?") and step.isdigit() and field is not DAY_OF_MONTH
    if is_step and size % int(step) == 0 and int(step) < size:
        return f"*/{int(step)}"
    return _as_list(numbers)


def _as_list(numbers: Sequence[int]) -> str:
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)


def duration_text(duration_ms: int) -> str:
    """For example `minute`, `5 minutes`, `1 hour 30 minutes`."""
    parts = []
    for name, unit_ms in _UNITS:
        number, duration_ms = divmod(duration_ms, unit_ms)
        if number:
            parts.append(f"{number} {name}{'s' if number != 1 else ''}")
    return " ".join(parts) or "0 seconds"
