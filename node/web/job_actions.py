"""What is done to one job from its page: run, pause, resume, revert, backfill, delete.

Forms carry a request id where it matters, so that one that is sent twice does it once.
"""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from horologe.node.local_calls import LocalCallError
from horologe.node.web import job_text, words
from horologe.node.web.job_page import job_name, need, read_job
from horologe.node.web.view import FormError, View, Web
from horologe.v1 import (
    backfill_service_pb2,
    backfill_service_pb2_grpc,
    definition_service_pb2,
    definition_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
)

Backfill = backfill_service_pb2.BackfillJobRequest
REVISION_DIGITS_MAX = 18


def router(web: Web) -> APIRouter:
    """`/jobs/{namespace}/{job}/run`, `/pause`, `/resume`, `/revert`, `/delete`, `/backfill`"""
    routes = APIRouter()
    _add_runs(web, routes)
    _add_deletion(web, routes)
    _add_backfill(web, routes)
    return routes


def _add_runs(web: Web, routes: APIRouter) -> None:
    @routes.post("/jobs/{namespace}/{job}/run")
    async def run(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        form = await view.form()
        order = job_service_pb2.RunJobRequest(
            name=job_name(namespace, job), force="force" in form, request_id=str(form.get("request_id", ""))
        )
        answer = await _stub(view).RunJob(order)
        return RedirectResponse(words.url(answer.execution.name), 303)

    @routes.post("/jobs/{namespace}/{job}/pause")
    async def pause(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        form = await view.form()
        name = job_name(namespace, job)
        order = job_service_pb2.PauseJobRequest(
            name=name, reason=str(form.get("reason", "")), request_id=str(form.get("request_id", ""))
        )
        await _stub(view).PauseJob(order)
        return _back(name, "paused")

    @routes.post("/jobs/{namespace}/{job}/resume")
    async def resume(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        form = await view.form()
        name = job_name(namespace, job)
        order = job_service_pb2.ResumeJobRequest(
            name=name, catchup="catchup" in form, request_id=str(form.get("request_id", ""))
        )
        await _stub(view).ResumeJob(order)
        return _back(name, "resumed")

    @routes.post("/jobs/{namespace}/{job}/revert")
    async def revert(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        form = await view.form()
        name, to = job_name(namespace, job), str(form.get("to", ""))
        if not (to.isascii() and to.isdecimal() and len(to) <= REVISION_DIGITS_MAX):
            raise FormError(f"{to!r} is not the number of a version")
        versions = definition_service_pb2_grpc.DefinitionServiceStub(view.channel)
        wanted = await versions.GetJobVersion(
            definition_service_pb2.GetJobVersionRequest(name=name, job_revision=int(to))
        )
        earlier = job_pb2.Job()
        earlier.CopyFrom(wanted.version.job)
        # Of what was shown, not of the version: nobody may have come in between.
        earlier.etag = str(form.get("etag", ""))
        order = job_service_pb2.UpdateJobRequest(job=earlier, request_id=str(form.get("request_id", "")))
        order.update_mask.paths.append("*")
        await _stub(view).UpdateJob(order)
        return _back(name, "reverted")


def _add_deletion(web: Web, routes: APIRouter) -> None:
    @routes.get("/jobs/{namespace}/{job}/delete")
    async def ask(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        await need(view, "job.write", namespace)
        found = await read_job(view, job_name(namespace, job))
        return await view.page("job_delete.html", job=found, request_id=str(uuid.uuid4()))

    @routes.post("/jobs/{namespace}/{job}/delete")
    async def delete(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        form = await view.form()
        order = job_service_pb2.DeleteJobRequest(
            name=job_name(namespace, job),
            etag=str(form.get("etag", "")),
            cancel_running="cancel_running" in form,
            request_id=str(form.get("request_id", "")),
        )
        await _stub(view).DeleteJob(order)
        return RedirectResponse(words.with_query("/jobs", namespace=namespace), 303)


def _add_backfill(web: Web, routes: APIRouter) -> None:
    @routes.get("/jobs/{namespace}/{job}/backfill")
    async def ask(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        await need(view, "job.run", namespace)
        found = await read_job(view, job_name(namespace, job))
        return await _backfill_page(view, found, {}, {})

    @routes.post("/jobs/{namespace}/{job}/backfill")
    async def backfill(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        form = await view.form()
        given = {key: value for key, value in form.items() if isinstance(value, str)}
        found = await read_job(view, job_name(namespace, job))
        order, mistakes = _read_backfill(found.name, given)
        if mistakes:
            return await _backfill_page(view, found, given, mistakes, 422)
        # Looked at first, begun by the button beside what it would do.
        order.validate_only = "begin" not in given
        stub = backfill_service_pb2_grpc.BackfillServiceStub(view.channel)
        try:
            answer = await stub.BackfillJob(order)
        except LocalCallError as error:
            if error.reason != "INVALID_FIELD":
                raise
            return await _backfill_page(view, found, given, {"": str(error)}, 422)
        if order.validate_only:
            return await _backfill_page(view, found, given, {}, planned=answer)
        return await view.page("job_backfill_begun.html", job=found, operation=answer.operation)


async def _backfill_page(
    view: View,
    job: job_pb2.Job,
    given: dict[str, str],
    mistakes: dict[str, str],
    status: int = 200,
    planned: backfill_service_pb2.BackfillJobResponse | None = None,
) -> Response:
    return await view.page(
        "job_backfill.html",
        status,
        job=job,
        given=given,
        mistakes=mistakes,
        planned=planned,
        orders=job_text.words_of(Backfill.Order),
        onlys=job_text.words_of(Backfill.Only),
        request_id=str(uuid.uuid4()),
    )


def _read_backfill(name: str, given: dict[str, str]) -> tuple[Backfill, dict[str, str]]:
    """The order, and what is wrong with its fields."""
    order = Backfill(name=name, request_id=given.get("request_id", ""))
    mistakes: dict[str, str] = {}
    readers: dict[str, Any] = {
        "start_time": lambda text: order.start_time.CopyFrom(job_text.moment(text)),
        "end_time": lambda text: order.end_time.CopyFrom(job_text.moment(text)),
        "order": lambda text: setattr(order, "order", job_text.number_of(Backfill.Order, text)),
        "only": lambda text: setattr(order, "only", job_text.number_of(Backfill.Only, text)),
        "max_running": lambda text: setattr(order, "max_running", int(text)),
    }
    for field, read in readers.items():
        text = given.get(field, "").strip()
        try:
            if text:
                read(text)
            elif field.endswith("_time"):
                raise ValueError("say when, as 2026-11-26T02:00:00Z, or -7d")
        except ValueError as error:
            mistakes[field] = str(error)
    return order, mistakes


def _stub(view: View) -> job_service_pb2_grpc.JobServiceAsyncStub:
    return job_service_pb2_grpc.JobServiceStub(view.channel)


def _back(name: str, done: str) -> Response:
    return RedirectResponse(words.with_query(words.url(name), done=done), 303)
