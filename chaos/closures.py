"""At which times a calendar closes, read beside the code that fires jobs: every question is a look at the local clock.

Slow and simple, for `horologe verify`: dates and hours begin and end at full minutes, and openings are found minute by minute.
All times are milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from horologe.node import cron
from horologe.node.schedule import cron_rule
from horologe.v1.calendar_pb2 import Calendar, WeeklyHours

MINUTE_MS = 60_000
MINUTES_LOOKED_AT = 60 * 24 * 40
"""40 days: a second's work."""
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class ClosedTooLongError(Exception):
    """Nothing opens within the time that is looked at."""


class Closure:
    """One calendar."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._zone = ZoneInfo(calendar.time_zone or "UTC")

    def covers(self, at_ms: int) -> bool:
        """Whether the instant is closed."""
        local = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(self._zone)
        return (
            any(_is_in_dates(text, local) for text in self._calendar.dates)
            or any(_is_in_hours(hours, local) for hours in self._calendar.hours)
            or self._is_in_spans(at_ms)
        )

    def _is_in_spans(self, at_ms: int) -> bool:
        for span in self._calendar.spans:
            rule = cron_rule(span.cron, self._calendar.name)
            begun_ms = cron.next_due_ms(rule, at_ms - span.duration.ToMilliseconds())
            if begun_ms is not None and begun_ms <= at_ms:
                return True
        return False

    def next_look_ms(self, at_ms: int) -> int:
        """The first instant at which a part that covers this one may be over."""
        found = [at_ms - at_ms % MINUTE_MS + MINUTE_MS]
        for span in self._calendar.spans:
            duration_ms = span.duration.ToMilliseconds()
            begun_ms = cron.next_due_ms(cron_rule(span.cron, self._calendar.name), at_ms - duration_ms)
            if begun_ms is not None and begun_ms <= at_ms:
                found.append(begun_ms + duration_ms)
        return min(found)


def is_closed(closures: Sequence[Closure], at_ms: int) -> bool:
    return any(closure.covers(at_ms) for closure in closures)


def opening(closures: Sequence[Closure], at_ms: int) -> int:
    """The first instant from this one on at which nothing is closed. Raises ClosedTooLongError."""
    for _ in range(MINUTES_LOOKED_AT):
        if not is_closed(closures, at_ms):
            return at_ms
        at_ms = min(closure.next_look_ms(at_ms) for closure in closures)
    raise ClosedTooLongError


def check_reach(from_ms: int, at_ms: int) -> None:
    """Raises ClosedTooLongError when a search for something open has come too far from where it began."""
    if at_ms - from_ms > MINUTES_LOOKED_AT * MINUTE_MS:
        raise ClosedTooLongError


def closing(closures: Sequence[Closure], at_ms: int) -> int:
    """An open instant from which on it is closed up to this one; the instant itself if it is open. Raises ClosedTooLongError."""
    for _ in range(MINUTES_LOOKED_AT):
        if not is_closed(closures, at_ms):
            return at_ms
        at_ms = at_ms - at_ms % MINUTE_MS - 1
    raise ClosedTooLongError


def _is_in_dates(text: str, local: datetime) -> bool:
    first, _, last = text.partition("/")
    last = last or first
    if first.startswith("*"):
        day = f"*-{local:%m-%d}"
        return first <= day <= last if first <= last else day >= first or day <= last
    return first <= f"{local:%Y-%m-%d}" <= last


def _is_in_hours(hours: WeeklyHours, local: datetime) -> bool:
    start = getattr(hours, "from") or "00:00"
    end = hours.to or "24:00"
    clock = f"{local:%H:%M}"
    if start < end:
        return start <= clock < end and _is_day(hours, local)
    return (clock >= start and _is_day(hours, local)) or (clock < end and _is_day(hours, local - timedelta(days=1)))


def _is_day(hours: WeeklyHours, local: datetime) -> bool:
    day = local.weekday()
    if not hours.days:
        return True
    for text in hours.days:
        first, _, last = text.lower().partition("-")
        start, end = _DAYS.index(first), _DAYS.index(last or first)
        if (start <= day <= end) if start <= end else (day >= start or day <= end):
            return True
    return False
