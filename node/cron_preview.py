"""Cron schedules for people: the next times with what daylight saving did to them, and warnings.

Nothing here decides when a job is due. `@every` is read too, because people write it where a cron expression is expected; it
is elapsed time, counted here from 1970, where a job counts from a phase of its own. What an expression means in English is in
`cron_sentence`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from horologe.node.cron import CronClock, CronRule, check_rule, compile_rule, next_due_ms
from horologe.node.cron_days import longest_month
from horologe.node.cron_dialects import DAY_OF_MONTH, YEAR
from horologe.node.cron_every import is_every, next_every_ms, read_every
from horologe.node.cron_fields import uses_hash
from horologe.node.cron_syntax import CronFields, read_expression
from horologe.node.cron_words import DayMatch, Dialect, OverlapPolicy
from horologe.node.zones import clock_change_at, clock_changes, instant_from_ms, load_zone, ms_from_instant, utc_offsets

_SECOND: Final = timedelta(seconds=1)
_YEAR: Final = timedelta(days=366)


class Occurrence(NamedTuple):
    """One due time of a preview."""

    instant: datetime
    """In UTC."""
    local: datetime
    """In the zone of the schedule."""
    note: str
    """What daylight saving did to it; empty when nothing."""


def due_times(rule: CronRule, after_ms: int, count: int) -> Iterator[int]:
    """The next `count` due times strictly after `after_ms`, fewer when there are no more. Raises CronError."""
    if is_every(rule.expression):
        load_zone(rule.time_zone)
        period_ms = read_every(rule.expression)
        first_ms = next_every_ms(period_ms, after_ms)
        yield from range(first_ms, first_ms + period_ms * count, period_ms)
        return
    check_rule(rule, after_ms)
    due_ms = next_due_ms(rule, after_ms)
    while due_ms is not None and count > 0:
        yield due_ms
        due_ms = next_due_ms(rule, due_ms)
        count -= 1


def occurrences(rule: CronRule, after_ms: int, count: int) -> Iterator[Occurrence]:
    """As `due_times`, with what the clocks show and why."""
    zone = load_zone(rule.time_zone)
    clock = None if is_every(rule.expression) else compile_rule(rule)
    for due_ms in due_times(rule, after_ms, count):
        instant = instant_from_ms(due_ms)
        yield Occurrence(instant, instant.astimezone(zone), "" if clock is None else _note(clock, instant))


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
        return f"merged: {_clock_text(left_out)} does not exist, and {_clock_text(gap.end)} is due anyway"
    return f"moved: {_clock_text(left_out)} does not exist"


def _clock_text(wall: datetime) -> str:
    return f"{wall:%H:%M:%S}" if wall.second else f"{wall:%H:%M}"


def warnings(rule: CronRule, now_ms: int) -> list[str]:
    """What the author of the expression may not expect, in the year after `now_ms`. Raises CronError."""
    if is_every(rule.expression):
        return ["a job counts its period from a phase of its own, not from 1970, unless it is given one"]
    fields = read_expression(rule.expression, rule.dialect, rule.identity)
    return [
        *_dialect_warnings(rule, fields),
        *_day_warnings(rule, fields),
        *_step_warnings(rule.dialect, fields),
        *_clock_warnings(rule, now_ms),
    ]


def _dialect_warnings(rule: CronRule, fields: CronFields) -> Iterator[str]:
    if uses_hash(rule.expression) and not rule.identity:
        yield "`H` is another value for each job; name one (--identity) to see its times"
    if rule.dialect is Dialect.KUBERNETES and (uses_hash(rule.expression) or "7" in fields.text_of("day of week")):
        yield "Kubernetes itself reads neither `H` nor 7 for Sunday"


def _day_warnings(rule: CronRule, fields: CronFields) -> Iterator[str]:
    if fields.restricts_both_days and rule.day_match is DayMatch.EITHER:
        yield (
            "day of month and day of week are both restricted: a day that fits either of them matches "
            "(day_match=both asks for both)"
        )
        return
    month_text, week_text = fields.text_of("day of month"), fields.text_of("day of week")
    if (month_text.startswith("*/") and week_text != "*") or (week_text.startswith("*/") and month_text != "*"):
        yield "a day field that begins with `*` counts as unrestricted: a day must fit both day fields to match"
    shortest = min(28 if month == 2 else longest_month(month) for month in fields.months)
    if fields.days_of_month and fields.days_of_month[0] > shortest and not fields.counted_days:
        last = "" if rule.dialect is Dialect.KUBERNETES else "; `L` is the last day of every month"
        yield f"months that have no day {fields.days_of_month[0]} are passed over{last}"


def _step_warnings(dialect: Dialect, fields: CronFields) -> Iterator[str]:
    for field, text in fields.texts:
        size = field.last - field.lowest + 1
        for item in text.split(","):
            base, slash, step_text = item.partition("/")
            if not slash or base[:1] in ("h", "H") or field is YEAR:
                continue
            step, is_every_value = int(step_text), base in ("", "*", "?")
            if is_every_value and step >= size:
                yield (
                    f"{item} in the {field.name} field: the step is as large as the field, so that only {field.lowest} matches"
                )
            elif is_every_value and (size % step or (field is DAY_OF_MONTH and step > 1)):
                yield f"{item} in the {field.name} field starts again at {field.lowest}, so that the last distance differs"
            elif not is_every_value and "-" not in base and dialect not in (Dialect.QUARTZ, Dialect.KUBERNETES):
                yield f"{item} in the {field.name} field runs from {base} to its end; some other crons read just {base}"


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
        clock_time = _clock_text(wall)
        if not change.forward:
            passes = "both times" if rule.overlap is OverlapPolicy.BOTH else f"the {rule.overlap} time"
            yield f"{where}: {clock_time} comes twice and is due {passes} (dst_overlap={rule.overlap})"
        elif clock.runs_after_gap:
            yield f"{where}: {clock_time} does not exist and is due at {_clock_text(change.end)} instead (dst_gap={rule.gap})"
        else:
            yield f"{where}: {clock_time} does not exist and is not due (dst_gap={rule.gap})"


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
