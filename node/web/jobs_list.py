"""The list of jobs, cut down by the filters in its address, and what is done to many of them at once."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from horologe.node.local_calls import LocalCallError
from horologe.node.web.job_results import Dot, dots_of
from horologe.node.web.view import FormError, View, Web
from horologe.v1 import (
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    namespace_service_pb2,
    namespace_service_pb2_grpc,
)

PAGE_SIZE = 50
RESULTS = 10
"""Dots for each job."""
FILL_SECONDS = 0.05
"""So long more calls are made for a page that is not full: what matches little comes in short pages."""
NAMESPACES_MAX = 1_000
SELECTED_MAX = 200
AT_A_TIME = 10
"""Calls of one bulk action that are under way together."""
ACTIONS: Mapping[str, str] = {"pause": "job.pause", "resume": "job.pause", "run": "job.run"}
"""What can be done to many jobs, and the right that it takes."""
STATES = ("active", "paused", "finished")
EVERYWHERE = "-"
"""In place of a namespace: all of them."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What the address says about which jobs to show. Empty parts ask nothing."""

    name: str = ""
    """A part of the name; with `*` at the end, how it begins."""
    namespace: str = ""
    state: str = ""
    label: str = ""
    """`key=value`, several of them with commas between."""
    owner: str = ""
    queue: str = ""
    schedule: str = ""
    page: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filters:
        return cls(**{field: query.get(field, "").strip() for field in cls.__slots__})

    def request(self, namespace: str) -> job_service_pb2.ListJobsRequest:
        """Raises FormError for what cannot be asked."""
        if self.state and self.state not in STATES:
            raise FormError(f"{self.state!r} is not a state of a job: {', '.join(STATES)}")
        labels = {}
        for pair in filter(None, (part.strip() for part in self.label.split(","))):
            key, is_pair, value = pair.partition("=")
            if not is_pair:
                raise FormError(f"a label is written key=value, not {pair!r}")
            labels[key.strip()] = value.strip()
        is_prefix = self.name.endswith("*")
        return job_service_pb2.ListJobsRequest(
            parent=f"namespaces/{namespace}",
            page_token=self.page,
            name_prefix=self.name[:-1] if is_prefix else "",
            name_contains="" if is_prefix else self.name,
            state=job_pb2.Job.State.Value(f"STATE_{self.state.upper()}") if self.state else 0,  # type: ignore[arg-type]
            labels=labels,
            owner=self.owner,
            queue=self.queue,
            schedule=self.schedule,
            result_count=RESULTS,
        )


@dataclass(frozen=True, slots=True)
class Line:
    """One job of the list."""

    job: job_pb2.Job
    dots: list[Dot]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one job of a bulk action."""

    name: str
    reason: str = ""
    """Empty: it was done."""
    text: str = ""
    execution: str = ""


def router(web: Web) -> APIRouter:
    """`/jobs`, `/jobs/bulk`"""
    routes = APIRouter()

    @routes.get("/jobs")
    async def jobs(request: Request) -> Response:
        view = web.view(request)
        filters = Filters.of(request.query_params)
        namespaces = await readable_namespaces(view)
        namespace = await _namespace(view, filters, namespaces)
        lines, next_token = await _page(view, filters, namespace)
        reader = await view.reader()
        return await view.page(
            "jobs.html",
            filters=filters,
            namespace="" if namespace == EVERYWHERE else namespace,
            namespaces=namespaces,
            states=STATES,
            lines=lines,
            next_token=next_token,
            selected=frozenset(request.query_params.getlist("selected")),
            actions=[action for action, verb in ACTIONS.items() if reader.may_somewhere(verb)],
        )

    @routes.post("/jobs/bulk")
    async def bulk(request: Request) -> Response:
        view = web.view(request)
        form = await view.form()
        action, reason = str(form.get("action", "")), str(form.get("reason", ""))
        names = list(dict.fromkeys(str(name) for name in form.getlist("selected")))
        if action not in ACTIONS:
            raise FormError(f"{action!r} is nothing that is done to many jobs: {', '.join(ACTIONS)}")
        if not names or len(names) > SELECTED_MAX:
            raise FormError(f"select 1 to {SELECTED_MAX} jobs first; these are {len(names)}")
        if not form.get("confirmed"):
            return await view.page("jobs_bulk.html", action=action, names=names, request_id=str(uuid.uuid4()))
        outcomes = await _do_all(view, action, names, reason, _uuid(str(form.get("request_id", ""))))
        done = [outcome for outcome in outcomes if not outcome.reason]
        refused = [outcome for outcome in outcomes if outcome.reason]
        return await view.page("jobs_bulk_done.html", action=action, done=done, refused=refused)

    return routes


async def readable_namespaces(view: View) -> list[str]:
    """Those whose jobs the reader may see."""
    stub = namespace_service_pb2_grpc.NamespaceServiceStub(view.channel)
    answer = await stub.ListNamespaces(namespace_service_pb2.ListNamespacesRequest(page_size=NAMESPACES_MAX))
    return [each.name.rpartition("/")[2] for each in answer.namespaces]


async def _namespace(view: View, filters: Filters, namespaces: list[str]) -> str:
    """Which namespace is listed: what the address says, or all of them, or the first one that the reader may see."""
    if filters.namespace:
        return filters.namespace
    reader = await view.reader()
    return EVERYWHERE if reader.may("job.read") or not namespaces else namespaces[0]


async def _page(view: View, filters: Filters, namespace: str) -> tuple[list[Line], str]:
    """One page of jobs, and the token of the next one."""
    stub = job_service_pb2_grpc.JobServiceStub(view.channel)
    request = filters.request(namespace)
    lines: list[Line] = []
    ends_at = time.monotonic() + FILL_SECONDS
    while True:
        request.page_size = PAGE_SIZE - len(lines)
        answer = await stub.ListJobs(request)
        lines += (
            Line(job, dots_of(job.name, results.rows)) for job, results in zip(answer.jobs, answer.results, strict=True)
        )
        request.page_token = answer.next_page_token
        if not request.page_token or len(lines) >= PAGE_SIZE or time.monotonic() >= ends_at:
            return lines, request.page_token


async def _do_all(view: View, action: str, names: list[str], reason: str, request_id: uuid.UUID) -> list[Outcome]:
    """Each job by a call of its own, whose request id makes it safe to send the form twice."""
    stub = job_service_pb2_grpc.JobServiceStub(view.channel)
    turns = asyncio.Semaphore(AT_A_TIME)
    calls: Mapping[str, Callable[[str, str], Awaitable[Any]]] = {
        "pause": lambda name, own: stub.PauseJob(
            job_service_pb2.PauseJobRequest(name=name, reason=reason, request_id=own)
        ),
        "resume": lambda name, own: stub.ResumeJob(job_service_pb2.ResumeJobRequest(name=name, request_id=own)),
        "run": lambda name, own: stub.RunJob(job_service_pb2.RunJobRequest(name=name, request_id=own)),
    }

    async def one(name: str) -> Outcome:
        async with turns:
            try:
                answer = await calls[action](name, str(uuid.uuid5(request_id, name)))
            except LocalCallError as error:
                return Outcome(name, error.reason, str(error))
        return Outcome(name, execution=answer.execution.name if action == "run" else "")

    return list(await asyncio.gather(*map(one, names)))


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise FormError("this form has lost its number; go back, load the list again and repeat it") from None
