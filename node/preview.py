"""When a job would be due, for somebody who has not created it yet."""

from __future__ import annotations

from collections.abc import Sequence

from horologe.node import errors, schedule, views
from horologe.node.bounds import calendar_violations, complete_bounds
from horologe.node.calendars import exclusions_of
from horologe.node.timetable import Exclusion, Timetable, timetable_of
from horologe.node.validation import SCHEDULES_MAX
from horologe.raft.calendars import unknown_calendar
from horologe.raft.model import Code, Result
from horologe.raft.tables import Tables
from horologe.v1 import job_pb2, job_service_pb2


def exclusions_for(tables: Tables, job: job_pb2.Job) -> Sequence[Exclusion]:
    """What the calendars that a definition names cover. Raises an ApiError if there is none of a name."""
    violations = list(calendar_violations(job, "definition"))
    if violations:
        raise errors.invalid(violations)
    unknown = unknown_calendar(tables, job.name, job.calendars)
    if unknown:
        raise errors.of_result(Result(Code.CALENDAR_NOT_FOUND, text=unknown))
    return exclusions_of(tables, job)


def preview(
    request: job_service_pb2.PreviewScheduleRequest,
    identity: str,
    exclusions: Sequence[Exclusion],
    times_ms: tuple[int, int],
    count: int,
) -> job_service_pb2.PreviewScheduleResponse:
    """The first `count` due times; `times_ms`: now, and the instant after which they are asked for.

    `identity` is that of a single schedule. Raises an ApiError for all that is wrong with the definition.
    """
    now_ms, from_ms = times_ms
    job = _definition(request, identity, now_ms)
    timetable = timetable_of(job, exclusions, from_ms)
    response = job_service_pb2.PreviewScheduleResponse(
        description="; ".join(schedule.describe(each, job.name) for each in job.schedules)
    )
    for due_ms in _due_times(timetable, from_ms, count):
        response.due_times.append(views.timestamp(due_ms))
        if timetable.jitter_ms:
            response.fire_times.append(views.timestamp(timetable.fire_ms(due_ms)))
    return response


def next_due_times(timetable: Timetable, first_ms: int, count: int) -> list[int]:
    """The due time `first_ms` and those that follow it, at most `count` in all."""
    return [first_ms, *_due_times(timetable, first_ms, count - 1)] if first_ms else []


def _due_times(timetable: Timetable, after_ms: int, count: int) -> list[int]:
    found: list[int] = []
    due_ms = timetable.next_after(after_ms)
    while due_ms is not None and len(found) < count:
        found.append(due_ms)
        due_ms = timetable.next_after(due_ms)
    return found


def _definition(request: job_service_pb2.PreviewScheduleRequest, identity: str, now_ms: int) -> job_pb2.Job:
    """What decides when the job is due, as it would be stored."""
    job = job_pb2.Job(name=identity)
    job.MergeFrom(request.definition)
    is_one = request.HasField("schedule")
    if is_one == request.HasField("definition"):
        raise errors.invalid_field("schedule", "give either a schedule or a definition")
    if is_one:
        job.schedules.append(request.schedule)
    if not 1 <= len(job.schedules) <= SCHEDULES_MAX:
        raise errors.invalid_field("definition.schedules", f"give 1 to {SCHEDULES_MAX} schedules")
    violations = list(complete_bounds(job, "definition"))
    for position, each in enumerate(job.schedules):
        if each.WhichOneof("kind") == "once":
            each.once.allow_past = True  # An instant that has passed is due no more, and no mistake.
        path = "schedule" if is_one else f"definition.schedules[{position}]"
        violations += schedule.validate(each, path, now_ms, job.name)
    if violations:
        raise errors.invalid(violations)
    for each in job.schedules:
        each.CopyFrom(schedule.normalise(each, now_ms))
    return job
