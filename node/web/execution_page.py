"""The page of one execution: its times, its story, its result, what it printed, and what can be done with it."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value

from horologe.node.local_calls import LocalCallError
from horologe.node.web import timeline
from horologe.node.web.reading import execution_name, job_name, run_path
from horologe.node.web.view import FormError, Reader, View, Web
from horologe.node.web.words import url
from horologe.raft.access import Verb
from horologe.v1 import (
    dead_letter_service_pb2,
    dead_letter_service_pb2_grpc,
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
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)

State = execution_pb2.Execution
FINAL_STATES = frozenset(
    {State.STATE_COMPLETED, State.STATE_FAILED, State.STATE_CANCELLED, State.STATE_DEAD, State.STATE_SKIPPED}
)
VERSIONS_MAX = 100
JSON_CHARACTERS_MAX = 20_000
ATTEMPTS_SHOWN_MAX = 30
STORY_ENTRIES_MAX = 100
PATH = "/executions/{namespace}/{job}/{number}"


def router(web: Web) -> APIRouter:
    """`/executions/{namespace}/{job}/{number}`, and what is done there"""
    routes = APIRouter()

    @routes.get(PATH)
    async def page(request: Request, namespace: str, job: str, number: str) -> Response:
        view = web.view(request)
        name = execution_name(namespace, job, number)
        stories = story_service_pb2_grpc.StoryServiceStub(view.channel)
        story = await stories.GetExecutionStory(story_service_pb2.GetExecutionStoryRequest(name=name))
        execution = story.execution
        if execution.name != name:
            # By its number alone, or by another name of it.
            return RedirectResponse(url(execution.name), 303)
        now_ms = web.parts.context.clock.wall_ms()
        values: dict[str, Any] = {
            "execution": execution,
            "entries": story.entries[-STORY_ENTRIES_MAX:],
            "attempts": execution.attempts[-ATTEMPTS_SHOWN_MAX:],
            "picture": timeline.picture_of(execution, now_ms),
            "result": pretty(execution.result) if execution.HasField("result") else "",
            "is_over": execution.state in FINAL_STATES,
        }
        if view.wants_part:
            return await view.page("execution_part.html", **values)
        return await view.page("execution.html", **values, **await _beside(view, execution))

    _add_actions(routes, web)
    return routes


def _add_actions(routes: APIRouter, web: Web) -> None:
    @routes.get(PATH + "/actions")
    async def actions(request: Request, namespace: str, job: str, number: str) -> Response:
        """What can be done by now; nothing if that is as the page has it."""
        view = web.view(request)
        executions = execution_service_pb2_grpc.ExecutionServiceStub(view.channel)
        wanted = execution_service_pb2.GetExecutionRequest(name=execution_name(namespace, job, number))
        execution = (await executions.GetExecution(wanted)).execution
        if request.query_params.get("seen") == seen(execution):
            return Response(status_code=204)
        values = await _beside(view, execution)
        return await view.page(
            "execution_actions.html", execution=execution, is_over=execution.state in FINAL_STATES, **values
        )

    @routes.post(PATH + "/cancel")
    async def cancel(request: Request, namespace: str, job: str, number: str) -> Response:
        view = web.view(request)
        form = await view.form()
        executions = execution_service_pb2_grpc.ExecutionServiceStub(view.channel)
        order = execution_service_pb2.CancelExecutionRequest(
            name=execution_name(namespace, job, number),
            reason=str(form.get("reason", "")).strip(),
            request_id=_request_id(form.get("request_id")),
        )
        answer = await executions.CancelExecution(order)
        return RedirectResponse(url(answer.execution.name), 303)

    @routes.post(PATH + "/run")
    async def run(request: Request, namespace: str, job: str, number: str) -> Response:
        view = web.view(request)
        form = await view.form()
        jobs = job_service_pb2_grpc.JobServiceStub(view.channel)
        order = job_service_pb2.RunJobRequest(
            name=job_name(namespace, job), request_id=_request_id(form.get("request_id"))
        )
        answer = await jobs.RunJob(order)
        return RedirectResponse(url(answer.execution.name), 303)

    @routes.post(PATH + "/rerun")
    async def rerun(request: Request, namespace: str, job: str, number: str) -> Response:
        view = web.view(request)
        form = await view.form()
        workflows = workflow_service_pb2_grpc.WorkflowServiceStub(view.channel)
        order = workflow_service_pb2.RerunExecutionRequest(
            name=execution_name(namespace, job, number), request_id=_request_id(form.get("request_id"))
        )
        answer = await workflows.RerunExecution(order)
        return RedirectResponse(run_path(answer.run.name), 303)

    @routes.post(PATH + "/redrive")
    async def redrive(request: Request, namespace: str, job: str, number: str) -> Response:
        view = web.view(request)
        form = await view.form()
        letters = dead_letter_service_pb2_grpc.DeadLetterServiceStub(view.channel)
        order = dead_letter_service_pb2.RedriveDeadLetterRequest(
            name=execution_name(namespace, job, number), request_id=_request_id(form.get("request_id"))
        )
        payload = changed_payload(form.get("payload"), form.get("payload_before"))
        if payload is not None:
            order.payload.CopyFrom(payload)
        answer = await letters.RedriveDeadLetter(order)
        return RedirectResponse(url(answer.execution.name), 303)

    @routes.post(PATH + "/purge")
    async def purge(request: Request, namespace: str, job: str, number: str) -> Response:
        view = web.view(request)
        form = await view.form()
        letters = dead_letter_service_pb2_grpc.DeadLetterServiceStub(view.channel)
        name = execution_name(namespace, job, number)
        order = dead_letter_service_pb2.PurgeDeadLetterRequest(
            name=name, request_id=_request_id(form.get("request_id"))
        )
        await letters.PurgeDeadLetter(order)
        return RedirectResponse(url(name), 303)


async def _beside(view: View, execution: execution_pb2.Execution) -> dict[str, Any]:
    """What the page shows beside the execution: its job, the definition that it ran with, its dead letter, what may be done."""
    reader = await view.reader()
    parent = execution.name.rpartition("/executions/")[0]
    job, version, letter = await asyncio.gather(
        _job(view, parent), _version(view, parent, execution), _dead_letter(view, execution)
    )
    return {
        "job": job,
        "version": version,
        "letter": letter,
        "payload": pretty(letter.payload) if letter is not None and letter.HasField("payload") else "",
        "may": may(reader, execution, job),
        "seen": seen(execution),
        "request_id": str(uuid.uuid4()),
        "run": run_path(execution.root) if execution.root else "",
    }


def seen(execution: execution_pb2.Execution) -> str:
    """What the actions depend on, as a word."""
    return f"{execution.state}{'c' if execution.cancel_requested else ''}"


def may(reader: Reader, execution: execution_pb2.Execution, job: job_pb2.Job | None) -> frozenset[str]:
    """What to offer to the reader."""
    namespace = execution.name.split("/")[1]
    found = {
        word
        for word, verb in (("cancel", Verb.JOB_CANCEL), ("run", Verb.JOB_RUN), ("purge", Verb.DEAD_LETTER_PURGE))
        if reader.may(verb, namespace)
    }
    is_own = job is not None and bool(reader.principal) and job.run_as == reader.principal
    if is_own and reader.may(Verb.JOB_WRITE, namespace):
        found.add("cancel")
    if reader.may(Verb.OUTPUT_READ, namespace):
        found.add("output")
    return frozenset(found)


async def _job(view: View, name: str) -> job_pb2.Job | None:
    """None if it is deleted."""
    jobs = job_service_pb2_grpc.JobServiceStub(view.channel)
    try:
        return (await jobs.GetJob(job_service_pb2.GetJobRequest(name=name))).job
    except LocalCallError:
        return None


async def _version(
    view: View, parent: str, execution: execution_pb2.Execution
) -> definition_service_pb2.JobVersion | None:
    """The definition that was in force when the last attempt began, or when it was made; None if it is not kept any more."""
    definitions = definition_service_pb2_grpc.DefinitionServiceStub(view.channel)
    when = execution.attempts[-1].assign_time if execution.attempts else execution.create_time
    try:
        answer = await definitions.ListJobVersions(
            definition_service_pb2.ListJobVersionsRequest(parent=parent, page_size=VERSIONS_MAX)
        )
    except LocalCallError:
        return None
    before = [each for each in answer.versions if each.create_time.ToNanoseconds() <= when.ToNanoseconds()]
    return max(before, key=lambda each: each.revision, default=None)


async def _dead_letter(view: View, execution: execution_pb2.Execution) -> dead_letter_service_pb2.DeadLetter | None:
    """None unless it lies in the dead letter queue."""
    if execution.state != State.STATE_DEAD:
        return None
    letters = dead_letter_service_pb2_grpc.DeadLetterServiceStub(view.channel)
    try:
        wanted = dead_letter_service_pb2.GetDeadLetterRequest(name=execution.name)
        return (await letters.GetDeadLetter(wanted)).dead_letter
    except LocalCallError:
        # It was purged.
        return None


def pretty(value: Value) -> str:
    """JSON for people: what would not be seen is written by its number, and what is very long is cut."""
    text = json.dumps(json_format.MessageToDict(value), indent=2, ensure_ascii=False)
    text = "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)
    cut = len(text) - JSON_CHARACTERS_MAX
    return text if cut <= 0 else f"{text[:JSON_CHARACTERS_MAX]}\n… {cut} more characters; the API has all of it"


def changed_payload(text: Any, before: Any) -> Value | None:
    """What was written into the form; None if it is what the form began with. Raises FormError."""
    if not isinstance(text, str) or not text.strip() or _lines(text) == _lines(str(before or "")):
        return None
    try:
        return json_format.ParseDict(json.loads(text, parse_constant=_no_number), Value())
    except (ValueError, RecursionError, json_format.ParseError) as error:
        raise FormError(f"payload: it is no JSON: {error}") from error


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _lines(text: str) -> list[str]:
    """Browsers end lines in their own way."""
    return text.strip().splitlines()


def _request_id(given: Any) -> str:
    """The one that the form carries, so that a form that is sent twice does it once."""
    return str(given) if given else str(uuid.uuid4())
