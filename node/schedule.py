"""One schedule as the API carries it: is it valid, when is it due, what does it mean.

Pure functions over `horologe.v1.Schedule`: no clock, no randomness; `now_ms` and the job's identity come from the caller,
all times are milliseconds since 1970. How cron expressions become instants is in `cron`; what a job makes of several schedules,
bounds and calendars is in `timetable`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from horologe.node import cron, cron_preview, cron_sentence
from horologe.node.cron import CronRule
from horologe.node.cron_every import is_every, read_every
from horologe.node.cron_fields import uses_hash
from horologe.node.cron_syntax import read_expression
from horologe.node.cron_words import CronError, DayMatch, Dialect, GapPolicy, OverlapPolicy
from horologe.node.zones import instant_from_ms, load_zone, ms_from_instant
from horologe.v1.job_pb2 import CronSchedule, FixedDelaySchedule, IntervalSchedule, OnceSchedule, Schedule

SECOND_MS: Final = 1_000
DAY_MS: Final = 86_400 * SECOND_MS
INTERVAL_MIN_MS: Final = SECOND_MS
INTERVAL_MAX_MS: Final = 366 * DAY_MS
LATEST_MS: Final = ms_from_instant(datetime(9999, 12, 31, tzinfo=UTC))
_NANOSECONDS_IN_MS: Final = 1_000_000

_GAP_POLICIES: Final = {
    CronSchedule.GAP_POLICY_UNSPECIFIED: GapPolicy.RUN_AFTER,
    CronSchedule.GAP_POLICY_RUN_AFTER: GapPolicy.RUN_AFTER,
    CronSchedule.GAP_POLICY_SKIP: GapPolicy.SKIP,
}
_OVERLAP_POLICIES: Final = {
    CronSchedule.OVERLAP_POLICY_UNSPECIFIED: OverlapPolicy.FIRST,
    CronSchedule.OVERLAP_POLICY_FIRST: OverlapPolicy.FIRST,
    CronSchedule.OVERLAP_POLICY_SECOND: OverlapPolicy.SECOND,
    CronSchedule.OVERLAP_POLICY_BOTH: OverlapPolicy.BOTH,
}
_DAY_MATCHES: Final = {
    CronSchedule.DAY_MATCH_UNSPECIFIED: DayMatch.EITHER,
    CronSchedule.DAY_MATCH_EITHER: DayMatch.EITHER,
    CronSchedule.DAY_MATCH_BOTH: DayMatch.BOTH,
}
_DIALECTS: Final = {
    CronSchedule.DIALECT_UNSPECIFIED: Dialect.UNIX,
    CronSchedule.DIALECT_UNIX: Dialect.UNIX,
    CronSchedule.DIALECT_UNIX_SECONDS_FIRST: Dialect.UNIX_SECONDS_FIRST,
    CronSchedule.DIALECT_UNIX_SECONDS_LAST: Dialect.UNIX_SECONDS_LAST,
    CronSchedule.DIALECT_QUARTZ: Dialect.QUARTZ,
    CronSchedule.DIALECT_KUBERNETES: Dialect.KUBERNETES,
}


class Violation(NamedTuple):
    """One thing wrong with a request."""

    field: str
    """Where, for example `job.schedules[0].cron.expression`."""
    description: str
    """The value, the rule, and what to do."""


# Is it valid?


def validate(schedule: Schedule, path: str, now_ms: int, identity: str) -> list[Violation]:
    """All that is wrong with a schedule in a request; `path` is where it stands there, for example `job.schedules[0]`."""
    kind = schedule.WhichOneof("kind")
    if kind == "cron":
        return list(_cron_violations(schedule.cron, f"{path}.cron", now_ms, identity))
    if kind == "interval":
        return list(_interval_violations(schedule.interval, f"{path}.interval"))
    if kind == "once":
        return list(_once_violations(schedule.once, f"{path}.once", now_ms))
    if kind == "fixed_delay":
        return list(_fixed_delay_violations(schedule.fixed_delay, f"{path}.fixed_delay"))
    if kind in ("manual", "after"):
        # What `after` names is judged with the rest of the job: see dependencies.py.
        return []
    kinds = "cron, interval, once, fixed_delay, after and manual"
    return [Violation(path, f"the schedule has no kind; set exactly one of {kinds}")]


def _cron_violations(schedule: CronSchedule, path: str, now_ms: int, identity: str) -> Iterable[Violation]:
    enums = (
        ("dialect", schedule.dialect, _DIALECTS, "use DIALECT_UNIX, DIALECT_QUARTZ or another one of the API"),
        ("dst_gap", schedule.dst_gap, _GAP_POLICIES, "use GAP_POLICY_RUN_AFTER or GAP_POLICY_SKIP"),
        ("dst_overlap", schedule.dst_overlap, _OVERLAP_POLICIES, "use OVERLAP_POLICY_FIRST, _SECOND or _BOTH"),
        ("day_match", schedule.day_match, _DAY_MATCHES, "use DAY_MATCH_EITHER or DAY_MATCH_BOTH"),
    )
    violations = [
        Violation(f"{path}.{field}", f"{value} is not a known value; {hint}")
        for field, value, known, hint in enums
        if value not in known
    ]
    try:
        load_zone(schedule.time_zone)
    except CronError as error:
        violations.append(Violation(f"{path}.time_zone", str(error)))
    try:
        if is_every(schedule.expression):
            read_every(schedule.expression)
        elif not violations:
            cron.check_rule(cron_rule(schedule, identity), now_ms)
        elif schedule.dialect in _DIALECTS:
            read_expression(schedule.expression, _DIALECTS[schedule.dialect], identity)
    except CronError as error:
        violations.append(Violation(f"{path}.expression", str(error)))
    return violations


def _interval_violations(schedule: IntervalSchedule, path: str) -> Iterable[Violation]:
    every_ms = duration_ms(schedule.every)
    if not schedule.HasField("every"):
        yield Violation(f"{path}.every", "the period is missing; give from 1 second to 366 days")
        return
    if not INTERVAL_MIN_MS <= every_ms <= INTERVAL_MAX_MS:
        yield Violation(f"{path}.every", f"{_seconds_text(schedule.every)} is outside 1 second to 366 days")
        return
    if not _is_whole_ms(schedule.every):
        yield Violation(f"{path}.every", f"{_seconds_text(schedule.every)} is not a whole number of milliseconds")
    if schedule.HasField("anchor"):
        if schedule.HasField("phase"):
            yield Violation(f"{path}.anchor", "`phase` is given too; both place the due times, so give one of them")
        elif not 0 <= timestamp_ms(schedule.anchor) <= LATEST_MS:
            yield Violation(
                f"{path}.anchor", f"{schedule.anchor.seconds} seconds since 1970 is outside the years 1970 to 9999"
            )
        return
    if not schedule.HasField("phase"):
        return
    if not _is_whole_ms(schedule.phase):
        yield Violation(f"{path}.phase", f"{_seconds_text(schedule.phase)} is not a whole number of milliseconds")
    elif not 0 <= duration_ms(schedule.phase) < every_ms:
        given, period = _seconds_text(schedule.phase), _seconds_text(schedule.every)
        yield Violation(f"{path}.phase", f"{given} is outside the period; give from 0 s to less than {period}")


def _once_violations(schedule: OnceSchedule, path: str, now_ms: int) -> Iterable[Violation]:
    has_time, has_delay = schedule.HasField("time"), schedule.HasField("delay")
    if has_time == has_delay:
        found = "both are set" if has_time else "neither is set"
        yield Violation(path, f"{found}; set exactly one of time and delay")
        return
    if has_delay:
        delay_ms = duration_ms(schedule.delay)
        if delay_ms <= 0:
            yield Violation(f"{path}.delay", f"{_seconds_text(schedule.delay)} is not after now; give at least 0.001 s")
        elif now_ms + delay_ms > LATEST_MS:
            yield Violation(f"{path}.delay", f"{_seconds_text(schedule.delay)} ends after the year 9999")
        return
    time_ms = timestamp_ms(schedule.time)
    if not 0 < time_ms <= LATEST_MS:
        # The state counts milliseconds since 1970 without a sign, and 0 stands for "none".
        yield Violation(f"{path}.time", f"{schedule.time.seconds} seconds since 1970 is outside the years 1970 to 9999")
    elif time_ms < now_ms and not schedule.allow_past:
        time = cron_preview.utc_text(instant_from_ms(time_ms))
        yield Violation(f"{path}.time", f"{time} has passed; give a later time, or set allow_past to run at once")


def _fixed_delay_violations(schedule: FixedDelaySchedule, path: str) -> Iterable[Violation]:
    if not schedule.HasField("delay"):
        yield Violation(f"{path}.delay", "the delay is missing; give from 1 second to 366 days")
    elif not INTERVAL_MIN_MS <= duration_ms(schedule.delay) <= INTERVAL_MAX_MS:
        yield Violation(f"{path}.delay", f"{_seconds_text(schedule.delay)} is outside 1 second to 366 days")
    elif not _is_whole_ms(schedule.delay):
        yield Violation(f"{path}.delay", f"{_seconds_text(schedule.delay)} is not a whole number of milliseconds")


def normalise(schedule: Schedule, now_ms: int) -> Schedule:
    """A copy as it is stored: defaults written out, `delay` turned into `time`, `anchor` into `phase`, in whole milliseconds.

    The macro `@every` becomes the interval that it is. An absent `phase` stays absent: it follows from the job's identity.
    Expects a schedule that passed `validate`.
    """
    stored = Schedule()
    stored.CopyFrom(schedule)
    normalise_in_place(stored, now_ms)
    return stored


def normalise_in_place(stored: Schedule, now_ms: int) -> None:
    """The same of what is nobody else's."""
    kind = stored.WhichOneof("kind")
    if kind == "cron" and is_every(stored.cron.expression):
        stored.interval.every.FromMilliseconds(read_every(stored.cron.expression))
    elif kind == "cron":
        stored.cron.expression = stored.cron.expression.strip(" \t")
        stored.cron.time_zone = stored.cron.time_zone or "UTC"
        stored.cron.dialect = stored.cron.dialect or CronSchedule.DIALECT_UNIX
        stored.cron.dst_gap = stored.cron.dst_gap or CronSchedule.GAP_POLICY_RUN_AFTER
        stored.cron.dst_overlap = stored.cron.dst_overlap or CronSchedule.OVERLAP_POLICY_FIRST
        stored.cron.day_match = stored.cron.day_match or CronSchedule.DAY_MATCH_EITHER
    elif kind == "interval" and stored.interval.HasField("anchor"):
        phase_ms = timestamp_ms(stored.interval.anchor) % duration_ms(stored.interval.every)
        stored.interval.ClearField("anchor")
        stored.interval.phase.FromMilliseconds(phase_ms)
    elif kind == "once":
        once = stored.once
        time_ms = now_ms + duration_ms(once.delay) if once.HasField("delay") else timestamp_ms(once.time)
        once.ClearField("delay")
        once.time.FromMilliseconds(time_ms)


# When is it due?


def next_due_ms(schedule: Schedule, after_ms: int, identity: str) -> int | None:
    """The first due time strictly after `after_ms`; None when there is none.

    `identity` places intervals without a phase, and `H`: give what stays the same for the life of the job.
    """
    kind = schedule.WhichOneof("kind")
    if kind == "cron":
        return cron.next_due_ms(cron_rule(schedule.cron, identity), after_ms)
    if kind == "interval":
        every_ms, phase_ms = period_and_phase_ms(schedule.interval, identity)
        due_ms = phase_ms + ((after_ms - phase_ms) // every_ms + 1) * every_ms
        return due_ms if due_ms <= LATEST_MS else None
    if kind == "once":
        time_ms = timestamp_ms(schedule.once.time)
        return time_ms if time_ms > after_ms else None
    return None


def cron_rule(schedule: CronSchedule, identity: str) -> CronRule:
    """The message as `cron` takes it, for the job of this identity. Raises KeyError for enum values that `validate` refuses."""
    return CronRule(
        expression=schedule.expression,
        time_zone=schedule.time_zone,
        gap=_GAP_POLICIES[schedule.dst_gap],
        overlap=_OVERLAP_POLICIES[schedule.dst_overlap],
        day_match=_DAY_MATCHES[schedule.day_match],
        dialect=_DIALECTS[schedule.dialect],
        identity=identity if uses_hash(schedule.expression) else "",
    )


def period_and_phase_ms(schedule: IntervalSchedule, identity: str) -> tuple[int, int]:
    """Of a schedule that passed `validate`."""
    every_ms = duration_ms(schedule.every)
    if schedule.HasField("phase"):
        return every_ms, duration_ms(schedule.phase)
    digest = hashlib.sha256(identity.encode("utf-8")).digest()
    return every_ms, int.from_bytes(digest[:8], "big") % every_ms


# What does it mean?


def describe(schedule: Schedule, identity: str = "") -> str:
    """The schedule in English, for example `At 02:00 (Europe/Berlin)` or `every 5 minutes`. Expects a valid schedule."""
    kind = schedule.WhichOneof("kind")
    if kind == "cron":
        return cron_sentence.describe_cron(cron_rule(schedule.cron, identity))
    if kind == "interval":
        text = f"every {cron_sentence.duration_text(duration_ms(schedule.interval.every))}"
        phase_ms = duration_ms(schedule.interval.phase)
        return f"{text}, shifted by {cron_sentence.duration_text(phase_ms)}" if phase_ms else text
    if kind == "fixed_delay":
        return f"{cron_sentence.duration_text(duration_ms(schedule.fixed_delay.delay))} after the end of each execution"
    if kind == "once":
        if schedule.once.HasField("delay"):
            return f"once, {cron_sentence.duration_text(duration_ms(schedule.once.delay))} after its creation"
        return f"once at {cron_preview.utc_text(instant_from_ms(timestamp_ms(schedule.once.time)))}"
    return "on request only"


# Durations and timestamps


def duration_ms(duration: Duration) -> int:
    """Whole milliseconds, rounded up, so that a delay is never over too early."""
    return duration.seconds * 1000 - (-duration.nanos // _NANOSECONDS_IN_MS)


def timestamp_ms(timestamp: Timestamp) -> int:
    """Whole milliseconds, rounded down."""
    return timestamp.seconds * 1000 + timestamp.nanos // _NANOSECONDS_IN_MS


def write_ms(span: Duration | Timestamp, span_ms: int) -> None:
    """What its FromMilliseconds does, for what is not negative and at a third of the price."""
    span.seconds, span.nanos = span_ms // 1000, span_ms % 1000 * _NANOSECONDS_IN_MS


def _is_whole_ms(duration: Duration) -> bool:
    return duration.nanos % _NANOSECONDS_IN_MS == 0


def _seconds_text(duration: Duration) -> str:
    total_nanos = duration.seconds * 1_000_000_000 + duration.nanos
    sign = "-" if total_nanos < 0 else ""
    seconds, nanos = divmod(abs(total_nanos), 1_000_000_000)
    fraction = f".{nanos:09d}".rstrip("0").rstrip(".")
    return f"{sign}{seconds}{fraction} s"
