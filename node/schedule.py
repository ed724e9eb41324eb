"""Schedules as the API carries them: are they valid, when are they due, which due times were missed.

Pure functions over `horologe.v1.Schedule`: no clock, no randomness; `now_ms` and the job's identity come from the caller,
all times are milliseconds since 1970. A job's due times are the union of those of its schedules. How cron expressions become
instants is in `cron`; how the answers are acted on (ledger, catch-up) is decided elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from horologe.node import cron, cron_preview, cron_sentence
from horologe.node.cron import CronRule
from horologe.node.cron_syntax import read_expression
from horologe.node.cron_words import CronError, DayMatch, GapPolicy, OverlapPolicy
from horologe.node.zones import instant_from_ms, load_zone, ms_from_instant
from horologe.v1.job_pb2 import CronSchedule, IntervalSchedule, OnceSchedule, Schedule

SECOND_MS: Final = 1_000
DAY_MS: Final = 86_400 * SECOND_MS
INTERVAL_MIN_MS: Final = SECOND_MS
INTERVAL_MAX_MS: Final = 366 * DAY_MS
CATCHUP_WINDOW_MIN_MS: Final = 60 * SECOND_MS
CATCHUP_WINDOW_MAX_MS: Final = DAY_MS
CATCHUP_WINDOW_ONCE_MS: Final = 365 * DAY_MS

# Where the period of a schedule is measured when the caller has no better place: a Monday, so that working hours are usual ones.
_PERIOD_MEASURED_AT_MS: Final = ms_from_instant(datetime(2024, 1, 1, tzinfo=UTC))
_LATEST_MS: Final = ms_from_instant(datetime(9999, 12, 31, tzinfo=UTC))
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
_DIALECTS: Final = frozenset({CronSchedule.DIALECT_UNSPECIFIED, CronSchedule.DIALECT_UNIX})


class Violation(NamedTuple):
    """One thing wrong with a request."""

    field: str
    """Where, for example `job.schedules[0].cron.expression`."""
    description: str
    """The value, the rule, and what to do."""


@dataclass(frozen=True, slots=True)
class MissedRun:
    """The due times in a range. When there are none, `first_ms` and `last_ms` are the range itself: go on after `last_ms`."""

    count: int
    first_ms: int
    last_ms: int
    complete: bool
    """False when the limit was reached: there are more after `last_ms`."""


# Is it valid?


def validate(schedule: Schedule, path: str, now_ms: int) -> list[Violation]:
    """All that is wrong with a schedule in a request; `path` is where it stands there, for example `job.schedules[0]`."""
    kind = schedule.WhichOneof("kind")
    if kind == "cron":
        return list(_cron_violations(schedule.cron, f"{path}.cron", now_ms))
    if kind == "interval":
        return list(_interval_violations(schedule.interval, f"{path}.interval"))
    if kind == "once":
        return list(_once_violations(schedule.once, f"{path}.once", now_ms))
    if kind == "manual":
        return []
    return [Violation(path, "the schedule has no kind; set exactly one of cron, interval, once and manual")]


def _cron_violations(schedule: CronSchedule, path: str, now_ms: int) -> Iterable[Violation]:
    enums = (
        ("dialect", schedule.dialect, _DIALECTS, "this release reads DIALECT_UNIX"),
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
        read_expression(schedule.expression)
        if not violations:
            cron.check_rule(cron_rule(schedule), now_ms)
    except CronError as error:
        violations.append(Violation(f"{path}.expression", str(error)))
    return violations


def _interval_violations(schedule: IntervalSchedule, path: str) -> Iterable[Violation]:
    if schedule.HasField("anchor"):
        yield Violation(f"{path}.anchor", "this is not in this release; give `phase`")
    every_ms = _duration_ms(schedule.every)
    every_text = _seconds_text(schedule.every)
    if not schedule.HasField("every"):
        yield Violation(f"{path}.every", "the period is missing; give from 1 second to 366 days")
        return
    if not INTERVAL_MIN_MS <= every_ms <= INTERVAL_MAX_MS:
        yield Violation(f"{path}.every", f"{every_text} is outside 1 second to 366 days")
        return
    if not _is_whole_ms(schedule.every):
        yield Violation(f"{path}.every", f"{every_text} is not a whole number of milliseconds")
    if not schedule.HasField("phase"):
        return
    phase_text = _seconds_text(schedule.phase)
    if not _is_whole_ms(schedule.phase):
        yield Violation(f"{path}.phase", f"{phase_text} is not a whole number of milliseconds")
    elif not 0 <= _duration_ms(schedule.phase) < every_ms:
        yield Violation(f"{path}.phase", f"{phase_text} is outside the period; give from 0 s to less than {every_text}")


def _once_violations(schedule: OnceSchedule, path: str, now_ms: int) -> Iterable[Violation]:
    has_time, has_delay = schedule.HasField("time"), schedule.HasField("delay")
    if has_time == has_delay:
        found = "both are set" if has_time else "neither is set"
        yield Violation(path, f"{found}; set exactly one of time and delay")
        return
    if has_delay:
        delay_ms = _duration_ms(schedule.delay)
        if delay_ms <= 0:
            yield Violation(f"{path}.delay", f"{_seconds_text(schedule.delay)} is not after now; give at least 0.001 s")
        elif now_ms + delay_ms > _LATEST_MS:
            yield Violation(f"{path}.delay", f"{_seconds_text(schedule.delay)} ends after the year 9999")
        return
    time_ms = _timestamp_ms(schedule.time)
    if not 0 < time_ms <= _LATEST_MS:
        # The state counts milliseconds since 1970 without a sign, and 0 stands for "none".
        yield Violation(f"{path}.time", f"{schedule.time.seconds} seconds since 1970 is outside the years 1970 to 9999")
    elif time_ms < now_ms and not schedule.allow_past:
        time = cron_preview.utc_text(instant_from_ms(time_ms))
        yield Violation(f"{path}.time", f"{time} has passed; give a later time, or set allow_past to run at once")


def normalise(schedule: Schedule, now_ms: int) -> Schedule:
    """A copy as it is stored: defaults written out, `delay` turned into `time`, times in whole milliseconds.

    An absent `phase` stays absent: it follows from the job's identity. Expects a schedule that passed `validate`.
    """
    stored = Schedule()
    stored.CopyFrom(schedule)
    kind = stored.WhichOneof("kind")
    if kind == "cron":
        stored.cron.expression = stored.cron.expression.strip(" \t")
        stored.cron.time_zone = stored.cron.time_zone or "UTC"
        stored.cron.dialect = stored.cron.dialect or CronSchedule.DIALECT_UNIX
        stored.cron.dst_gap = stored.cron.dst_gap or CronSchedule.GAP_POLICY_RUN_AFTER
        stored.cron.dst_overlap = stored.cron.dst_overlap or CronSchedule.OVERLAP_POLICY_FIRST
        stored.cron.day_match = stored.cron.day_match or CronSchedule.DAY_MATCH_EITHER
    elif kind == "once":
        once = stored.once
        time_ms = now_ms + _duration_ms(once.delay) if once.HasField("delay") else _timestamp_ms(once.time)
        once.ClearField("delay")
        once.time.FromMilliseconds(time_ms)
    return stored


# When is it due?


def next_due_ms(schedules: Sequence[Schedule], after_ms: int, identity: str) -> int | None:
    """The first due time of the union strictly after `after_ms`; None when there is none.

    `identity` places intervals without a phase: give what stays the same for the life of the job.
    """
    due_times = [due_ms for schedule in schedules if (due_ms := _next_of_one(schedule, after_ms, identity)) is not None]
    return min(due_times, default=None)


def first_due_ms(schedules: Sequence[Schedule], now_ms: int, identity: str) -> int | None:
    """The first due time of a job that is created at `now_ms`.

    As `next_due_ms`, but a `once` that has passed is due at its own time. After such a due time, go on with `next_due_ms` from
    `now_ms`, not from the past: the other schedules owe nothing from before the creation.
    """
    due_times = [_timestamp_ms(schedule.once.time) for schedule in schedules if schedule.WhichOneof("kind") == "once"]
    next_ms = next_due_ms(schedules, now_ms, identity)
    if next_ms is not None:
        due_times.append(next_ms)
    return min(due_times, default=None)


def _next_of_one(schedule: Schedule, after_ms: int, identity: str) -> int | None:
    kind = schedule.WhichOneof("kind")
    if kind == "cron":
        return cron.next_due_ms(cron_rule(schedule.cron), after_ms)
    if kind == "interval":
        every_ms, phase_ms = _period_and_phase_ms(schedule.interval, identity)
        due_ms = phase_ms + ((after_ms - phase_ms) // every_ms + 1) * every_ms
        return due_ms if due_ms <= _LATEST_MS else None
    if kind == "once":
        time_ms = _timestamp_ms(schedule.once.time)
        return time_ms if time_ms > after_ms else None
    return None


def cron_rule(schedule: CronSchedule) -> CronRule:
    """The message as the key of shared computations. Raises KeyError for enum values that `validate` refuses."""
    return CronRule(
        expression=schedule.expression,
        time_zone=schedule.time_zone,
        gap=_GAP_POLICIES[schedule.dst_gap],
        overlap=_OVERLAP_POLICIES[schedule.dst_overlap],
        day_match=_DAY_MATCHES[schedule.day_match],
    )


def _period_and_phase_ms(schedule: IntervalSchedule, identity: str) -> tuple[int, int]:
    every_ms = _duration_ms(schedule.every)
    if schedule.HasField("phase"):
        return every_ms, _duration_ms(schedule.phase)
    digest = hashlib.sha256(identity.encode("utf-8")).digest()
    return every_ms, int.from_bytes(digest[:8], "big") % every_ms


# What was missed?


def missed(schedules: Sequence[Schedule], from_ms: int, to_ms: int, identity: str, limit: int) -> MissedRun:
    """The due times from `from_ms` to `to_ms`, both included.

    A single interval is counted by arithmetic, however many there are. All else is enumerated, at most `limit` (1 or more)
    due times: when the answer is not complete, ask again from `last_ms + 1`.
    """
    if len(schedules) == 1 and schedules[0].WhichOneof("kind") == "interval":
        return _missed_of_interval(schedules[0].interval, from_ms, to_ms, identity)
    first_ms = next_due_ms(schedules, from_ms - 1, identity)
    if first_ms is None or first_ms > to_ms:
        return MissedRun(0, from_ms, to_ms, complete=True)
    count, last_ms = 1, first_ms
    while (due_ms := next_due_ms(schedules, last_ms, identity)) is not None and due_ms <= to_ms:
        if count >= limit:
            return MissedRun(count, first_ms, last_ms, complete=False)
        count, last_ms = count + 1, due_ms
    return MissedRun(count, first_ms, last_ms, complete=True)


def _missed_of_interval(schedule: IntervalSchedule, from_ms: int, to_ms: int, identity: str) -> MissedRun:
    every_ms, phase_ms = _period_and_phase_ms(schedule, identity)
    first_ms = phase_ms + -((phase_ms - from_ms) // every_ms) * every_ms
    last_ms = phase_ms + ((to_ms - phase_ms) // every_ms) * every_ms
    if last_ms < first_ms:
        return MissedRun(0, from_ms, to_ms, complete=True)
    return MissedRun((last_ms - first_ms) // every_ms + 1, first_ms, last_ms, complete=True)


def default_catchup_window_ms(
    schedules: Sequence[Schedule], identity: str, after_ms: int = _PERIOD_MEASURED_AT_MS
) -> int:
    """How far back missed due times are caught up when the job does not say.

    1 year for `once`; otherwise the schedule's own period (the distance of its next two due times after `after_ms`), at least
    60 s and at most 1 day. With several schedules, the longest of these.
    """
    return max(
        (_catchup_window_of_one(schedule, identity, after_ms) for schedule in schedules), default=CATCHUP_WINDOW_MIN_MS
    )


def _catchup_window_of_one(schedule: Schedule, identity: str, after_ms: int) -> int:
    kind = schedule.WhichOneof("kind")
    if kind == "once":
        return CATCHUP_WINDOW_ONCE_MS
    if kind not in ("cron", "interval"):
        return CATCHUP_WINDOW_MIN_MS
    one_ms = _next_of_one(schedule, after_ms, identity)
    other_ms = None if one_ms is None else _next_of_one(schedule, one_ms, identity)
    if one_ms is None or other_ms is None:
        return CATCHUP_WINDOW_MAX_MS
    return min(max(other_ms - one_ms, CATCHUP_WINDOW_MIN_MS), CATCHUP_WINDOW_MAX_MS)


# What does it mean?


def describe(schedule: Schedule) -> str:
    """The schedule in English, for example `At 02:00 (Europe/Berlin)` or `every 5 minutes`. Expects a valid schedule."""
    kind = schedule.WhichOneof("kind")
    if kind == "cron":
        return cron_sentence.describe_cron(cron_rule(schedule.cron))
    if kind == "interval":
        text = f"every {cron_sentence.duration_text(_duration_ms(schedule.interval.every))}"
        phase_ms = _duration_ms(schedule.interval.phase)
        return f"{text}, shifted by {cron_sentence.duration_text(phase_ms)}" if phase_ms else text
    if kind == "once":
        if schedule.once.HasField("delay"):
            return f"once, {cron_sentence.duration_text(_duration_ms(schedule.once.delay))} after its creation"
        return f"once at {cron_preview.utc_text(instant_from_ms(_timestamp_ms(schedule.once.time)))}"
    return "on request only"


# Durations and timestamps


def _duration_ms(duration: Duration) -> int:
    """Whole milliseconds, rounded up, so that a delay is never over too early."""
    return duration.seconds * 1000 - (-duration.nanos // _NANOSECONDS_IN_MS)


def _timestamp_ms(timestamp: Timestamp) -> int:
    """Whole milliseconds, rounded down."""
    return timestamp.seconds * 1000 + timestamp.nanos // _NANOSECONDS_IN_MS


def _is_whole_ms(duration: Duration) -> bool:
    return duration.nanos % _NANOSECONDS_IN_MS == 0


def _seconds_text(duration: Duration) -> str:
    total_nanos = duration.seconds * 1_000_000_000 + duration.nanos
    sign = "-" if total_nanos < 0 else ""
    seconds, nanos = divmod(abs(total_nanos), 1_000_000_000)
    fraction = f".{nanos:09d}".rstrip("0").rstrip(".")
    return f"{sign}{seconds}{fraction} s"
