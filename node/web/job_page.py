"""The page of one job: what it is, when it is due, what became of its due times, and its versions.

What is done to it from there is in `job_actions`, the form for its definition in `job_form`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
from fastapi import APIRouter, Request, Response
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from horologe.node.local_calls import LocalCallError
from horologe.node.web import job_results, job_text, words
from horologe.node.web.view import FormError, Reader, View, Web
from horologe.v1 import (
    definition_service_pb2,
    definition_service_pb2_grpc,
    execution_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    story_service_pb2,
    story_service_pb2_grpc,
)

DUE_TIMES = 10
RECENT = 15
CHARTED = 150
"""Executions whose durations and delays are drawn."""
NOT_RUN = 15
VERSIONS = 50
"""As many as are kept."""
STATISTICS_CALLS_MAX = 4
"""Each counts 5,000 due times."""
DONE = {
    "created": "The job was created.",
    "changed": "The job was changed.",
    "paused": "The job was paused.",
    "resumed": "The job follows its schedule again.",
    "reverted": "The job has its earlier definition again, as a new version.",
}
"""What the page says after something was done: a word in its address."""


@dataclass(frozen=True, slots=True)
class May:
    """What the reader may do with this job."""

    write: bool
    run: bool
    pause: bool

    @classmethod
    def of(cls, reader: Reader, namespace: str, job: job_pb2.Job) -> May:
        write = reader.may("job.write", namespace)
        own = write and bool(reader.principal) and job.run_as == reader.principal
        return cls(write, reader.may("job.run", namespace), own or reader.may("job.pause", namespace))


@dataclass(frozen=True, slots=True)
class Due:
    """One of the next due times."""

    time: Timestamp
    local: str
    starts: Timestamp | None
    """With jitter."""


def router(web: Web) -> APIRouter:
    """`/jobs/{namespace}/{job}` and its parts: `/now`, `/calendar`, `/why`, `/versions`"""
    routes = APIRouter()

    @routes.get("/jobs/{namespace}/{job}")
    async def page(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        name = job_name(namespace, job)
        found = await read_job(view, name)
        executions = await _executions(view, name, CHARTED)
        at = request.query_params.get("at")
        return await view.page(
            "job.html",
            **await _now(view, namespace, found, executions[:RECENT]),
            due=await _next_due(view, found),
            charts=_charts(executions),
            not_run=await _not_run(view, found),
            at=at or "",
            why=None if at is None else await _why(view, name, at),
            policies=job_text.policies(found),
            yaml=job_text.to_yaml(found),
            done=DONE.get(request.query_params.get("done", ""), ""),
            request_id=str(uuid.uuid4()),
        )

    @routes.get("/jobs/{namespace}/{job}/now")
    async def now(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        name = job_name(namespace, job)
        found = await read_job(view, name)
        return await view.page(
            "job_now.html", **await _now(view, namespace, found, await _executions(view, name, RECENT))
        )

    @routes.get("/jobs/{namespace}/{job}/calendar")
    async def calendar(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        name = job_name(namespace, job)
        squares, counted_from = await _calendar(view, name)
        template = "job_calendar.html" if view.wants_part else "job_calendar_page.html"
        return await view.page(template, name=name, squares=squares, counted_from=counted_from)

    @routes.get("/jobs/{namespace}/{job}/why")
    async def why(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        answer = await _why(view, job_name(namespace, job), request.query_params.get("at", ""))
        return await view.page("job_why.html", why=answer)

    @routes.get("/jobs/{namespace}/{job}/versions")
    async def versions(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        name = job_name(namespace, job)
        found = await read_job(view, name)
        return await view.page(
            "job_versions.html",
            job=found,
            may=May.of(await view.reader(), namespace, found),
            **_compared(await read_versions(view, name), dict(request.query_params)),
        )

    return routes


def job_name(namespace: str, job: str) -> str:
    """The name of the job that an address is about."""
    return f"namespaces/{namespace}/jobs/{job}"


async def read_job(view: View, name: str) -> job_pb2.Job:
    """Raises LocalCallError if there is none."""
    stub = job_service_pb2_grpc.JobServiceStub(view.channel)
    return (await stub.GetJob(job_service_pb2.GetJobRequest(name=name))).job


async def need(view: View, verb: str, namespace: str = "") -> None:
    """Raises LocalCallError unless the reader has the right there, or anywhere: a form is shown only to those who may send it."""
    reader = await view.reader()
    if not (reader.may(verb, namespace) if namespace else reader.may_somewhere(verb)):
        code = grpc.StatusCode.PERMISSION_DENIED.value[0]
        text = f"{reader.principal} has no right {verb} there; ask an administrator for it"
        raise LocalCallError(status_pb2.Status(code=code, message=text))


async def read_versions(view: View, name: str) -> Sequence[definition_service_pb2.JobVersion]:
    """Newest first."""
    stub = definition_service_pb2_grpc.DefinitionServiceStub(view.channel)
    request = definition_service_pb2.ListJobVersionsRequest(parent=name, page_size=VERSIONS)
    return (await stub.ListJobVersions(request)).versions


async def _now(
    view: View, namespace: str, job: job_pb2.Job, executions: Sequence[execution_pb2.Execution]
) -> dict[str, Any]:
    """What changes while one looks at it."""
    return {
        "job": job,
        "namespace": namespace,
        "executions": executions,
        "may": May.of(await view.reader(), namespace, job),
    }


async def _executions(view: View, name: str, count: int) -> Sequence[execution_pb2.Execution]:
    stub = execution_service_pb2_grpc.ExecutionServiceStub(view.channel)
    request = execution_service_pb2.ListExecutionsRequest(parent=name, page_size=count)
    return (await stub.ListExecutions(request)).executions


async def _next_due(view: View, job: job_pb2.Job) -> dict[str, Any]:
    """The next due times and the schedules in words, or why nobody knows them."""
    stub = job_service_pb2_grpc.JobServiceStub(view.channel)
    try:
        answer = await stub.PreviewSchedule(job_service_pb2.PreviewScheduleRequest(definition=job, count=DUE_TIMES))
    except LocalCallError as error:
        return {"description": "", "zone": "UTC", "times": [], "error": str(error)}
    zone = next((each.cron.time_zone for each in job.schedules if each.cron.time_zone), "UTC")
    times = due_times(answer, zone)
    return {"description": answer.description, "zone": zone, "times": times, "error": ""}


def due_times(answer: job_service_pb2.PreviewScheduleResponse, zone: str) -> list[Due]:
    """With the clocks of a zone."""
    starts: list[Timestamp | None] = [*answer.fire_times] or [None] * len(answer.due_times)
    return [
        Due(moment, job_text.local_time(moment, zone), start)
        for moment, start in zip(answer.due_times, starts, strict=True)
    ]


async def _not_run(view: View, job: job_pb2.Job) -> dict[str, Any]:
    """The latest due times that made no execution of their own."""
    counters = job.counters
    if not counters.skipped + counters.missed + counters.coalesced:
        return {"rows": [], "more": False}
    stub = execution_service_pb2_grpc.ExecutionServiceStub(view.channel)
    row = execution_service_pb2.LedgerRow
    request = execution_service_pb2.ListLedgerRequest(
        parent=job.name,
        page_size=NOT_RUN,
        outcomes=[row.OUTCOME_SKIPPED, row.OUTCOME_MISSED, row.OUTCOME_COALESCED],
        latest_first=True,
    )
    answer = await stub.ListLedger(request)
    rows = [(each, job_results.why_url(job.name, words.rfc3339(each.last_due_time))) for each in answer.rows]
    return {"rows": rows, "more": bool(answer.next_page_token)}


async def _why(view: View, name: str, at: str) -> dict[str, Any]:
    """What became of an instant; of the latest due time if none is given."""
    request = story_service_pb2.ExplainDueTimeRequest(name=name)
    if at.strip():
        try:
            now = datetime.fromtimestamp(view.web.parts.context.clock.wall_ms() / 1000, UTC)
            request.time.CopyFrom(job_text.moment(at, now=now))
        except ValueError as error:
            return {"answer": None, "error": str(error)}
    stub = story_service_pb2_grpc.StoryServiceStub(view.channel)
    return {"answer": await stub.ExplainDueTime(request), "error": ""}


async def _calendar(view: View, name: str) -> tuple[list[job_results.Square], Timestamp | None]:
    """The last weeks, and since when all due times were counted if that is not all of them."""
    now = datetime.fromtimestamp(view.web.parts.context.clock.wall_ms() / 1000, UTC)
    start = datetime.combine(job_results.first_day(now), datetime.min.time(), UTC)
    request = job_service_pb2.GetJobStatisticsRequest(name=name)
    request.start_time.FromDatetime(start)
    stub = job_service_pb2_grpc.JobServiceStub(view.channel)
    days: list[job_service_pb2.JobDay] = []
    for _ in range(STATISTICS_CALLS_MAX):
        answer = await stub.GetJobStatistics(request)
        days += answer.days
        if not answer.HasField("counted_from"):
            return job_results.calendar(days, now), None
        request.end_time.CopyFrom(answer.counted_from)
    return job_results.calendar(days, now), request.end_time


def _charts(executions: Sequence[execution_pb2.Execution]) -> list[dict[str, Any]]:
    """How long executions took and how late they started, as horologe.js draws it, with the same in a sentence."""
    ended = [each for each in reversed(executions) if each.HasField("start_time") and each.HasField("end_time")]
    started = [each for each in reversed(executions) if each.HasField("start_time")]
    completed = execution_pb2.Execution.STATE_COMPLETED
    durations = [words.epoch_seconds(each.end_time) - words.epoch_seconds(each.start_time) for each in ended]
    delays = [
        words.epoch_seconds(each.start_time)
        - words.epoch_seconds(each.planned_time if each.HasField("planned_time") else each.due_time)
        for each in started
    ]
    good = [value if each.state == completed else None for each, value in zip(ended, durations, strict=True)]
    bad = [None if each.state == completed else value for each, value in zip(ended, durations, strict=True)]
    return [
        _chart("Duration", ended, durations, [("completed", good, "chart-3"), ("not completed", bad, "chart-2")]),
        _chart("Start delay", started, delays, [("delay", delays, "chart-1")]),
    ]


def _chart(
    title: str,
    executions: Sequence[execution_pb2.Execution],
    values: Sequence[float],
    series: Sequence[tuple[str, Sequence[float | None], str]],
) -> dict[str, Any]:
    order = sorted(range(len(executions)), key=lambda position: words.epoch_seconds(executions[position].start_time))
    data = {
        "x": [words.epoch_seconds(executions[position].start_time) for position in order],
        "unit": "s",
        "series": [
            {"label": label, "values": [points[position] for position in order], "ink": ink}
            for label, points, ink in series
        ],
    }
    return {"title": title, "data": data, "summary": _summary(values)}


def _summary(values: Sequence[float]) -> str:
    if not values:
        return "nothing yet"
    ordered = sorted(values)
    middle, most = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]
    return (
        f"of the last {len(ordered)}: half within {words.duration_text(middle)}, 95 % within {words.duration_text(most)}, "
        f"the longest {words.duration_text(ordered[-1])}"
    )


def _compared(versions: Sequence[definition_service_pb2.JobVersion], query: dict[str, str]) -> dict[str, Any]:
    """All versions with what each changed, and the differences between two of them."""
    lines = [
        (version, job_text.changed_fields(older.job, version.job) if older is not None else None)
        for version, older in zip(versions, [*versions[1:], None], strict=False)
    ]
    by_revision = {version.revision: version for version in versions}
    after = by_revision.get(_revision(query, "to"), versions[0] if versions else None)
    older = [version for version in versions if after is not None and version.revision < after.revision]
    before = by_revision.get(_revision(query, "from"), older[0] if older else None)
    difference = job_text.differences(before.job, after.job) if before is not None and after is not None else []
    return {"versions": lines, "before": before, "after": after, "difference": difference}


def _revision(query: dict[str, str], field: str) -> int:
    text = query.get(field, "")
    if text and not text.isdecimal():
        raise FormError(f"{text!r} is not the number of a version")
    return int(text or 0)
