"""systemd's calendar events (`OnCalendar=`) to cron expressions and instants, where these say exactly the same.

What cron cannot say (a step that crosses fields, fractions of seconds, years together with weekdays and days) is refused with
the reason. See systemd.time(7) for the form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from horologe.client import jobs, times
from horologe.v1.job_pb2 import Schedule

__all__ = ["read_calendar"]

_SHORTHANDS = {
    "minutely": "*-*-* *:*:00",
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
    "weekly": "Mon *-*-* 00:00:00",
    "yearly": "*-01-01 00:00:00",
    "annually": "*-01-01 00:00:00",
    "quarterly": "*-01,04,07,10-01 00:00:00",
    "semiannually": "*-01,07-01 00:00:00",
}
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FULL_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEKDAYS = re.compile(r"[A-Za-z]{3,9}(?:(?:\.\.|,|-)[A-Za-z]{3,9})*,?")
_DATE = re.compile(r"(?:([^-~\s:]+)-)?([^-~\s:]+)([-~])([^-~\s:]+)")
_TIME = re.compile(r"([^:\s]+):([^:\s]+)(?::([^:\s]+))?")
_ITEM = re.compile(r"(\*|\d{1,4})(?:\.\.(\d{1,4}))?(?:/(\d{1,4}))?", re.ASCII)
_ITEMS_MAX = 100


@dataclass(frozen=True, slots=True)
class _Parts:
    """An event, taken apart; nothing is checked yet."""

    weekdays: str
    year: str
    month: str
    day: str
    is_from_end: bool
    hour: str
    minute: str
    second: str
    zone: str


def read_calendar(text: str, time_zone: str) -> Schedule:
    """The schedule that an event means; `time_zone` where it names none. ValueError says why there is none."""
    parts = _take_apart(text, time_zone)
    weekdays = _weekdays(parts.weekdays)
    second = _field("second", parts.second, 0, 59)
    minute = _field("minute", parts.minute, 0, 59)
    hour = _field("hour", parts.hour, 0, 23)
    month = _field("month", parts.month, 1, 12)
    day = _last_day(parts.day) if parts.is_from_end else _field("day", parts.day, 1, 31)
    if parts.year == "*":
        if second == "0":
            return jobs.cron(
                f"{minute} {hour} {day} {month} {weekdays}", time_zone=parts.zone, dialect="unix", day_match="both"
            )
        return jobs.cron(
            f"{second} {minute} {hour} {day} {month} {weekdays}",
            time_zone=parts.zone,
            dialect="unix-seconds-first",
            day_match="both",
        )
    year = _field("year", parts.year, 1970, 2099)
    if all(value.isdigit() for value in (year, month, day, hour, minute, second)) and weekdays == "*":
        written = f"{year}-{month:0>2}-{day:0>2}T{hour:0>2}:{minute:0>2}:{second:0>2}"
        return jobs.once(times.parse(written, parts.zone or "UTC"))
    if weekdays != "*" and day != "*":
        raise ValueError("says years, weekdays and days of the month together, which no cron expression can")
    days = f"{day} {month} ?" if weekdays == "*" else f"? {month} {weekdays}"
    return jobs.cron(f"{second} {minute} {hour} {days} {year}", time_zone=parts.zone, dialect="quartz")


def _take_apart(text: str, time_zone: str) -> _Parts:
    words = text.split()
    if words and _is_zone(words[-1]):
        time_zone = words.pop()
    if len(words) == 1 and words[0].lower() in _SHORTHANDS:
        words = _SHORTHANDS[words[0].lower()].split()
    weekdays = words.pop(0) if words and _WEEKDAYS.fullmatch(words[0]) else "*"
    date = _DATE.fullmatch(words[0]) if words else None
    if date is not None:
        words.pop(0)
    time = _TIME.fullmatch(words[0]) if words else None
    if time is not None:
        words.pop(0)
    if words or (date is None and time is None and weekdays == "*"):
        raise ValueError(f"{text[:60]!r} is not a calendar event that is known here")
    return _Parts(
        weekdays,
        (date[1] or "*") if date else "*",
        date[2] if date else "*",
        date[4] if date else "*",
        date is not None and date[3] == "~",
        time[1] if time else "0",
        time[2] if time else "0",
        (time[3] or "0") if time else "0",
        time_zone,
    )


def _is_zone(word: str) -> bool:
    """`Europe/Berlin` or `UTC`; other names of three letters or so may be weekdays."""
    if re.fullmatch(r"UTC|[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)+", word) is None:
        return False
    try:
        times.zone(word)
    except ValueError:
        return False
    return True


def _weekdays(text: str) -> str:
    if text == "*":
        return text
    items: list[str] = []
    for item in text.rstrip(",").split(","):
        # Both forms are legal, the second one is deprecated.
        first, dots, last = item.partition("..") if ".." in item else item.partition("-")
        ends = [_weekday(first), _weekday(last)] if dots else [_weekday(first)]
        if len(ends) == 2 and _DAYS.index(ends[0]) > _DAYS.index(ends[1]):
            raise ValueError(f"the weekdays {item} run backwards")
        if len(ends) == 2 and ends[1] == "sun":
            # Cron's week begins with Sunday.
            items += _DAYS[_DAYS.index(ends[0]) :]
        else:
            items.append("-".join(ends))
    return ",".join(items)


def _weekday(text: str) -> str:
    word = text.lower()
    if word in _FULL_DAYS:
        return _DAYS[_FULL_DAYS.index(word)]
    if word in _DAYS:
        return word
    raise ValueError(f"{text!r} is not a weekday")


def _field(name: str, text: str, low: int, high: int) -> str:
    items = text.split(",")
    if len(items) > _ITEMS_MAX:
        raise ValueError(f"the {name} has more than {_ITEMS_MAX} values")
    return ",".join(_item(name, item, low, high) for item in items)


def _item(name: str, text: str, low: int, high: int) -> str:
    match = _ITEM.fullmatch(text)
    if match is None:
        whole = re.fullmatch(r"(\d+)\.0+", text, re.ASCII)
        if whole is None:
            raise ValueError(
                f"the {name} {text!r} cannot be said in cron: only *, numbers, lists, ranges (..) and steps (/) can"
            )
        return _item(name, whole[1], low, high)
    first, last, step = match[1], match[2], match[3]
    numbers = [int(number) for number in (first, last) if number not in (None, "*")]
    if any(not low <= number <= high for number in numbers) or (last and first == "*") or (step and int(step) == 0):
        raise ValueError(f"the {name} {text!r} is outside {low} to {high}, or no range")
    if last and int(first) > int(last):
        raise ValueError(f"the {name} range {text} runs backwards")
    if not step:
        return "*" if first == "*" else f"{int(first)}-{int(last)}" if last else str(int(first))
    begin = low if first == "*" else int(first)
    return f"{begin}-{int(last) if last else high}/{int(step)}"


def _last_day(text: str) -> str:
    """`~1` is the last day of the month, `~3` the third last."""
    if not re.fullmatch(r"0?[1-9]|[12]\d|3[01]", text, re.ASCII):
        raise ValueError(f"the day ~{text} cannot be said in cron: only a single day counted from the end can")
    return "L" if int(text) == 1 else f"L-{int(text) - 1}"
