"""The form for a new job, or for one that is there: fields for what is common, or the whole definition as a job file."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import grpc
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from horologe.node.local_calls import LocalCallError
from horologe.node.web import job_fields, job_text, words
from horologe.node.web.job_fields import Mistakes
from horologe.node.web.job_page import due_times, job_name, need, read_job
from horologe.node.web.jobs_list import readable_namespaces
from horologe.node.web.view import View, Web
from horologe.v1 import (
    definition_service_pb2,
    definition_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    secret_service_pb2,
    secret_service_pb2_grpc,
)

PREVIEW_COUNT = 10
NEW = "new-job"
"""What a job without a name yet is called in a preview."""
SECRETS_SHOWN = 100
TEXT_OF_NEW = """\
name: my-job
namespace: {namespace}
schedule: {{cron: "0 2 * * *", time_zone: UTC}}
action:
  shell:
    argv: [echo, hello]
"""
_REFUSED_AT_FIELDS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS)


@dataclass(slots=True)
class Filled:
    """A form as it came, and the job that it describes."""

    given: dict[str, str]
    job: job_pb2.Job
    mistakes: Mistakes
    source: job_text.JobText | None = None
    """Of the job file, if it was one."""

    @property
    def is_text(self) -> bool:
        return self.given.get("as") == "yaml"

    def refused(self, error: LocalCallError) -> None:
        """Notes what the API says of it."""
        if self.source is None:
            self.mistakes = job_fields.mistakes_of(error)
            return
        found = [f"line {self.source.line_of(path)}: {path}: {text}" for path, text in job_fields.violations_of(error)]
        self.mistakes = Mistakes(others=found or [str(error)])


def router(web: Web) -> APIRouter:
    """`/new-job`, `/new-job/preview`, `/jobs/{namespace}/{job}/edit`"""
    routes = APIRouter()
    _add_new(web, routes)
    _add_edit(web, routes)

    @routes.post("/new-job/preview")
    async def preview(request: Request) -> Response:
        view = web.view(request)
        form = await view.form()
        given = {key: value for key, value in form.items() if isinstance(value, str)}
        filled = await _read(view, given, None)
        return await view.page("job_preview.html", **await _preview(view, filled))

    return routes


def _add_new(web: Web, routes: APIRouter) -> None:
    @routes.get("/new-job")
    async def form(request: Request) -> Response:
        view = web.view(request)
        await need(view, "job.write")
        given = {**job_fields.EMPTY, **request.query_params}
        namespace = given.setdefault("namespace", "default")
        given.setdefault("yaml", TEXT_OF_NEW.format(namespace=namespace))
        return await _form_page(view, Filled(given, job_pb2.Job(), Mistakes()))

    @routes.post("/new-job")
    async def create(request: Request) -> Response:
        view = web.view(request)
        form = await view.form()
        given = {key: value for key, value in form.items() if isinstance(value, str)}
        filled = await _read(view, given, None)
        if filled.mistakes or "switch" in given:
            return await _form_page(view, filled)
        stub = job_service_pb2_grpc.JobServiceStub(view.channel)
        parent, _, job_id = filled.job.name.partition("/jobs/")
        order = job_service_pb2.CreateJobRequest(
            parent=parent, job_id=job_id, job=filled.job, request_id=given.get("request_id", "")
        )
        try:
            answer = await stub.CreateJob(order)
        except LocalCallError as error:
            if error.code not in _REFUSED_AT_FIELDS:
                raise
            filled.refused(error)
            return await _form_page(view, filled)
        return RedirectResponse(words.with_query(words.url(answer.job.name), done="created"), 303)


def _add_edit(web: Web, routes: APIRouter) -> None:
    @routes.get("/jobs/{namespace}/{job}/edit")
    async def form(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        await need(view, "job.write", namespace)
        stored = await read_job(view, job_name(namespace, job))
        fields = job_fields.to_fields(stored)
        given = {
            **(fields or {}),
            "yaml": job_text.to_yaml(stored),
            "etag": stored.etag,
            "as": "yaml" if fields is None else request.query_params.get("as", "fields"),
        }
        return await _form_page(view, Filled(given, stored, Mistakes()), stored)

    @routes.post("/jobs/{namespace}/{job}/edit")
    async def save(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        form = await view.form()
        given = {key: value for key, value in form.items() if isinstance(value, str)}
        stored = await read_job(view, job_name(namespace, job))
        filled = await _read(view, given, stored)
        if not filled.mistakes and filled.job.name != stored.name:
            filled.mistakes = Mistakes(others=[f"a job keeps its name: {stored.name}; make a new one for another name"])
        if filled.mistakes or "switch" in given:
            return await _form_page(view, filled, stored)
        filled.job.etag = given.get("etag", "")
        order = job_service_pb2.UpdateJobRequest(job=filled.job, request_id=given.get("request_id", ""))
        order.update_mask.paths.append("*")
        try:
            await job_service_pb2_grpc.JobServiceStub(view.channel).UpdateJob(order)
        except LocalCallError as error:
            if error.reason == "ETAG_MISMATCH":
                return await _conflict_page(view, filled, stored)
            if error.code not in _REFUSED_AT_FIELDS:
                raise
            filled.refused(error)
            return await _form_page(view, filled, stored)
        return RedirectResponse(words.with_query(words.url(stored.name), done="changed"), 303)


async def _read(view: View, given: dict[str, str], stored: job_pb2.Job | None) -> Filled:
    """The job that a form describes. Raises LocalCallError if the reader may write none."""
    namespace, name = given.get("namespace", "").strip() or "default", given.get("name", "").strip()
    if given.get("as") == "yaml":
        # Reading a job file takes time, which is not for everybody.
        await need(view, "job.write")
        try:
            text = await job_text.read(given.get("yaml", "").replace("\r\n", "\n"), namespace)
        except job_text.FileError as error:
            return Filled(given, job_pb2.Job(), Mistakes(others=error.problems))
        return Filled(given, text.job, Mistakes(), text)
    job, mistakes = job_fields.read_fields(given, stored)
    if stored is None:
        job.name = job_name(namespace, name)
        if not name and "switch" not in given:
            mistakes.add("name", "a job needs one")
    if "switch" in given and not mistakes:
        given = {**given, "as": "yaml", "yaml": job_text.to_yaml(job)}
    return Filled(given, job, mistakes)


async def _form_page(view: View, filled: Filled, stored: job_pb2.Job | None = None) -> Response:
    """The form, with what is wrong at its fields."""
    namespace = filled.given.get("namespace", "default")
    template, status = "job_form.html", 422 if filled.mistakes else 200
    return await view.page(
        template,
        status,
        given=filled.given,
        stored=stored,
        mistakes=filled.mistakes,
        is_text=filled.is_text,
        has_fields=stored is None or job_fields.to_fields(stored) is not None,
        namespaces=await readable_namespaces(view),
        secrets=await _secret_names(view, namespace),
        choices=job_fields,
        # A new one each time: what was refused counts as an answer too.
        request_id=str(uuid.uuid4()),
    )


async def _conflict_page(view: View, filled: Filled, stored: job_pb2.Job) -> Response:
    """Somebody else has changed the job since the form was loaded: what they changed, and what the reader wanted."""
    stub = definition_service_pb2_grpc.DefinitionServiceStub(view.channel)
    seen: job_pb2.Job | None = None
    etag = filled.given.get("etag", "")
    if etag.isdecimal():
        try:
            request = definition_service_pb2.GetJobVersionRequest(name=stored.name, job_revision=int(etag))
            seen = (await stub.GetJobVersion(request)).version.job
        except LocalCallError as error:
            if error.code is not grpc.StatusCode.NOT_FOUND:
                raise
    kept = {key: value for key, value in filled.given.items() if key not in ("csrf", "etag", "request_id")}
    return await view.page(
        "job_conflict.html",
        409,
        job=stored,
        kept=kept,
        theirs=None if seen is None else job_text.differences(seen, stored),
        ours=job_text.differences(stored, filled.job),
        request_id=str(uuid.uuid4()),
    )


async def _secret_names(view: View, namespace: str) -> list[str]:
    """Which secrets the job can name, if the reader may know that."""
    if not (await view.reader()).may("secret.list", namespace):
        return []
    stub = secret_service_pb2_grpc.SecretServiceStub(view.channel)
    try:
        request = secret_service_pb2.ListSecretsRequest(parent=f"namespaces/{namespace}", page_size=SECRETS_SHOWN)
        answer = await stub.ListSecrets(request)
    except LocalCallError:
        return []  # No such namespace, or no name of one: the form says so when it is sent.
    return [each.name.rpartition("/")[2] for each in answer.secrets]


async def _preview(view: View, filled: Filled) -> dict[str, Any]:
    """When the job would be due, or what is wrong with when."""
    job = filled.job
    nothing: dict[str, Any] = {"description": "", "zone": "UTC", "times": [], "kind": ""}
    problems = [*filled.mistakes.others]
    problems += [
        filled.mistakes.fields[name]
        for name in (*job_fields.KINDS, "kind", "time_zone")
        if name in filled.mistakes.fields
    ]
    if problems or not job.schedules:
        return {**nothing, "problems": problems}
    asked = job_pb2.Job(name=job.name, schedules=job.schedules, calendars=job.calendars, on_exclusion=job.on_exclusion)
    for name in ("start_time", "end_time", "jitter"):
        if job.HasField(name):
            getattr(asked, name).CopyFrom(getattr(job, name))
    if asked.name.endswith("/jobs/"):
        asked.name += NEW
    stub = job_service_pb2_grpc.JobServiceStub(view.channel)
    try:
        answer = await stub.PreviewSchedule(
            job_service_pb2.PreviewScheduleRequest(definition=asked, count=PREVIEW_COUNT)
        )
    except LocalCallError as error:
        return {**nothing, "problems": [text for _, text in job_fields.violations_of(error)] or [str(error)]}
    zone = next((each.cron.time_zone for each in job.schedules if each.cron.time_zone), "UTC")
    kind = job.schedules[0].WhichOneof("kind") or ""
    return {
        "description": answer.description,
        "zone": zone,
        "times": due_times(answer, zone),
        "kind": kind,
        "problems": [],
    }
