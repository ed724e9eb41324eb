"""Cron schedules for people: a sentence, the next times with what daylight saving did to them, and warnings.

Nothing here decides when a job is due. Expects rules that can be read (`cron.check_rule`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from typing import Final, NamedTuple

from horologe.node.cron import CronClock, CronRule, compile_rule, next_due_ms
from horologe.node.cron_syntax import CronFields, DayMatch, OverlapPolicy, read_expression
from horologe.node.zones import clock_change_at, clock_changes, instant_from_ms, load_zone, ms_from_instant, utc_offsets

_SECOND: Final = timedelta(seconds=1)
_YEAR: Final = timedelta(days=366)
_UNITS: Final = (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1_000), ("millisecond", 1))
# How many values each field has, in the order of an expression, with the field's name and first value.
_FIELDS: Final = (("minute", 0, 60), ("hour", 0, 24), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))


class Occurrence(NamedTuple):
    """One due time of a preview."""

    instant: datetime
    """In UTC."""
    local: datetime
    """In the zone of the schedule."""
    note: str
    """What daylight saving did to it; empty when nothing."""


def occurrences(rule: CronRule, after_ms: int, count: int) -> Iterator[Occurrence]:
    """The next `count` due times strictly after `after_ms`, fewer when there are no more. Raises CronError."""
    clock = compile_rule(rule)
    due_ms = next_due_ms(rule, after_ms)
    while due_ms is not None and count > 0:
        instant = instant_from_ms(due_ms)
        yield Occurrence(instant, instant.astimezone(clock.zone), _note(clock, instant))
        due_ms = next_due_ms(rule, due_ms)
        count -= 1


def _note(clock: CronClock, instant: datetime) -> str:
    local = instant.astimezone(clock.zone)
    wall = local.replace(tzinfo=None, fold=0)
    before, later = utc_offsets(clock.zone, wall)
    if before > later:
        return f"repeated local time, {'second' if local.fold else 'first'}"
    if not clock.runs_after_gap:
        return ""
    just_before = (instant - _SECOND).astimezone(clock.zone).replace(tzinfo=None, fold=0)
    gap = clock_change_at(clock.zone, just_before + _SECOND)
    if gap is None or gap.instant != instant:
        return ""
    left_out = clock.next_wall(gap.start - _SECOND)
    if left_out is None or left_out >= gap.end:
        return ""
    if clock.next_wall(gap.end - _SECOND) == gap.end:
        return f"merged: {left_out:%H:%M} does not exist, and {gap.end:%H:%M} is due anyway"
    return f"moved: {left_out:%H:%M} does not exist"


def warnings(rule: CronRule, now_ms: int) -> list[str]:
    """What the author of the expression may not expect, in the year after `now_ms`. Raises CronError."""
    fields = read_expression(rule.expression)
    return [*_day_warnings(rule, fields), *_step_warnings(fields), *_clock_warnings(rule, now_ms)]


def _day_warnings(rule: CronRule, fields: CronFields) -> Iterator[str]:
    if fields.restricts_both_days and rule.day_match is DayMatch.EITHER:
        yield (
            "day of month and day of week are both restricted: a day that fits either of them matches "
            "(day_match=both asks for both)"
        )


def _step_warnings(fields: CronFields) -> Iterator[str]:
    for text, (name, first, size) in zip(fields.texts, _FIELDS, strict=True):
        for item in text.split(","):
            base, slash, step_text = item.partition("/")
            if not slash:
                continue
            step = int(step_text)
            if base == "*" and step >= size:
                yield f"{item} in the {name} field: the step is as large as the field, so that only {first} matches"
            elif base == "*" and (size % step or (name == "day of month" and step > 1)):
                yield f"{item} in the {name} field starts again at {first}, so that the last distance differs"
            elif base != "*" and "-" not in base:
                yield f"{item} in the {name} field runs from {base} to its end; some other crons read just {base}"


def _clock_warnings(rule: CronRule, now_ms: int) -> Iterator[str]:
    clock = compile_rule(rule)
    if clock.follows_elapsed_time:
        return
    now = instant_from_ms(now_ms)
    for change in clock_changes(clock.zone, now, now + _YEAR):
        wall = clock.next_wall(change.start - _SECOND)
        if wall is None or wall >= change.end:
            continue
        where = f"on {wall:%Y-%m-%d} clocks in {rule.time_zone or 'UTC'} move {'forward' if change.forward else 'back'}"
        if not change.forward:
            passes = "both times" if rule.overlap is OverlapPolicy.BOTH else f"the {rule.overlap} time"
            yield f"{where}: {wall:%H:%M} comes twice and is due {passes} (dst_overlap={rule.overlap})"
        elif clock.runs_after_gap:
            yield f"{where}: {wall:%H:%M} does not exist and is due at {change.end:%H:%M} instead (dst_gap={rule.gap})"
        else:
            yield f"{where}: {wall:%H:%M} does not exist and is not due (dst_gap={rule.gap})"


@lru_cache(maxsize=1024)
def describe_cron(rule: CronRule) -> str:
    """The rule as an English sentence with a 24-hour clock, and its zone. Raises CronError."""
    # Loaded here because it is heavy, and only people ask for sentences.
    from cron_descriptor import ExpressionDescriptor, Options  # type: ignore[import-untyped]

    load_zone(rule.time_zone)
    fields = read_expression(rule.expression)
    options = Options(locale_code="en_US", use_24hour_time_format=True)
    sentence = ExpressionDescriptor(_plain_expression(fields), options).get_description()
    if rule.day_match is DayMatch.BOTH or not fields.restricts_both_days:
        sentence = sentence.replace(", or on ", ", but only on ").replace(", or ", ", but only ")
    return f"{sentence} ({rule.time_zone or 'UTC'})"


def _plain_expression(fields: CronFields) -> str:
    """An equal expression without names and uneven steps, which the library would describe as if they were even."""
    values = (fields.minutes, fields.hours, fields.days_of_month, fields.months, fields.days_of_week)
    return " ".join(
        _plain_field(text, numbers, name, size)
        for text, numbers, (name, _, size) in zip(fields.texts, values, _FIELDS, strict=True)
    )


def _plain_field(text: str, numbers: tuple[int, ...], name: str, size: int) -> str:
    if len(numbers) == size:
        return "*"
    star, _, step = text.partition("/")
    if star == "*" and step.isdigit() and size % int(step) == 0 and int(step) < size and not name.startswith("day"):
        return f"*/{int(step)}"
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


def utc_text(instant: datetime) -> str:
    """RFC 3339 in UTC, with milliseconds only when there are any."""
    precision = "milliseconds" if instant.microsecond else "seconds"
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def instant_from_text(text: str) -> datetime:
    """Read RFC 3339; a time without an offset from UTC is refused. Raises ValueError."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("the offset from UTC is missing")
    return instant.astimezone(UTC)


def ms_from_text(text: str) -> int:
    """As `instant_from_text`, in milliseconds since 1970."""
    return ms_from_instant(instant_from_text(text))
