"""What of a definition bounds and moves its due times: is it valid, and how is it stored. Schedules are in `schedule`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from horologe.node.names import is_id, shorten
from horologe.node.schedule import DAY_MS, INTERVAL_MAX_MS, LATEST_MS, Violation, duration_ms, timestamp_ms
from horologe.v1 import job_pb2

CALENDARS_MAX: Final = 20
CATCHUP_MAX: Final = 1_000
"""Runs that one job may catch up at once; a backfill runs more, at a pace."""
CATCHUP_MAX_DEFAULT: Final = 100
DEADLINE_MIN_MS: Final = 100
_EXCLUSION_POLICIES: Final = frozenset(job_pb2.ExclusionPolicy.values())


def complete_bounds(job: job_pb2.Job, path: str) -> Iterator[Violation]:
    """All that is wrong; writes defaults out, and times in whole milliseconds."""
    for field in ("start_time", "end_time"):
        if job.HasField(field):
            yield from _complete_time(getattr(job, field), f"{path}.{field}")
    has_both = job.HasField("start_time") and job.HasField("end_time")
    if has_both and timestamp_ms(job.start_time) >= timestamp_ms(job.end_time):
        yield Violation(f"{path}.end_time", "it is not after start_time, so that the job would never be due")
    if job.max_executions < 0:
        yield Violation(f"{path}.max_executions", f"{job.max_executions} is less than 0; 0 is no end")
    yield from _complete_jitter(job, path)
    yield from _complete_calendars(job, path)
    if job.catchup == job_pb2.CATCHUP_POLICY_ALL:
        job.catchup_max = job.catchup_max or CATCHUP_MAX_DEFAULT
    if not 0 <= job.catchup_max <= CATCHUP_MAX:
        yield Violation(f"{path}.catchup_max", f"{job.catchup_max} is outside 1 to {CATCHUP_MAX}")


def _complete_jitter(job: job_pb2.Job, path: str) -> Iterator[Violation]:
    if job.HasField("deadline"):
        yield from _complete_span(job.deadline, DEADLINE_MIN_MS, f"{path}.deadline")
    if not job.HasField("jitter"):
        return
    yield from _complete_span(job.jitter, 0, f"{path}.jitter")
    if not duration_ms(job.jitter):
        job.ClearField("jitter")
    elif job.HasField("deadline") and duration_ms(job.jitter) >= duration_ms(job.deadline):
        yield Violation(
            f"{path}.jitter", "it is not less than `deadline`: some executions would start too late on purpose"
        )


def calendar_violations(job: job_pb2.Job, path: str) -> Iterator[Violation]:
    """What is wrong with the names of a job's calendars; whether there are such calendars, the state knows."""
    if len(job.calendars) > CALENDARS_MAX:
        yield Violation(f"{path}.calendars", f"{len(job.calendars)} are too many; a job names at most {CALENDARS_MAX}")
        return
    for position, name in enumerate(job.calendars):
        where = f"{path}.calendars[{position}]"
        if not is_id(name):
            yield Violation(where, f"{shorten(name)} is no id of a calendar of the job's namespace")
        elif name in job.calendars[:position]:
            yield Violation(where, f"{name} is named twice; name it once")


def _complete_calendars(job: job_pb2.Job, path: str) -> Iterator[Violation]:
    yield from calendar_violations(job, path)
    if job.on_exclusion not in _EXCLUSION_POLICIES:
        yield Violation(f"{path}.on_exclusion", f"{job.on_exclusion} is not a known value; use SKIP or NEXT_OPEN")
    if job.calendars:
        job.on_exclusion = job.on_exclusion or job_pb2.EXCLUSION_POLICY_SKIP


def _complete_time(time: Timestamp, where: str) -> Iterator[Violation]:
    time_ms = timestamp_ms(time)
    if not 0 < time_ms <= LATEST_MS:
        yield Violation(where, f"{time.seconds} seconds since 1970 is outside the years 1970 to 9999")
        return
    time.FromMilliseconds(time_ms)


def _complete_span(span: Duration, low_ms: int, where: str) -> Iterator[Violation]:
    span_ms = duration_ms(span)
    if not low_ms <= span_ms <= INTERVAL_MAX_MS:
        yield Violation(
            where, f"{span_ms / 1000:g} s is outside {low_ms / 1000:g} s to {INTERVAL_MAX_MS // DAY_MS} days"
        )
        return
    span.FromMilliseconds(span_ms)
