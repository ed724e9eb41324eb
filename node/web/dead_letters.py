"""Dead letters: counted by their errors, one by one, driven again and purged, and the operations that do so with many."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import FormData, QueryParams

from horologe.node.web.execution_page import changed_payload, pretty
from horologe.node.web.reading import EVERY_NAMESPACE, full_page, job_name, read_namespaces
from horologe.node.web.view import FormError, View, Web
from horologe.node.web.words import with_query
from horologe.raft.access import Verb
from horologe.v1 import (
    dead_letter_service_pb2,
    dead_letter_service_pb2_grpc,
    operation_pb2,
    operation_service_pb2,
    operation_service_pb2_grpc,
)

Letters = dead_letter_service_pb2
PAGE_SIZE = 50
NAMESPACES_COUNTED_MAX = 20
"""Without a choice, so many namespaces are counted; each is a call."""
GROUPS_SHOWN_MAX, GROUPS_SHOWN_OF_EACH = 100, 10
"""Of one namespace; of each where there are several."""
OPERATIONS_SHOWN_MAX = 10
_KINDS = (operation_pb2.Operation.KIND_REDRIVE, operation_pb2.Operation.KIND_PURGE)


@dataclass(frozen=True, slots=True)
class Counted:
    """The dead letters of one namespace."""

    namespace: str
    groups: list[dead_letter_service_pb2.DeadLetterGroup]
    count: int
    is_incomplete: bool


def router(web: Web) -> APIRouter:
    """`/dead-letters`, and below it one namespace and what is done with its letters"""
    routes = APIRouter()

    @routes.get("/dead-letters")
    async def groups(request: Request) -> Response:
        view = web.view(request)
        namespaces = await read_namespaces(view)
        names = namespaces.names if namespaces.chosen == EVERY_NAMESPACE else [namespaces.chosen]
        counted = await asyncio.gather(*(_count(view, name) for name in names[:NAMESPACES_COUNTED_MAX]))
        return await view.page(
            "dead_letters_part.html" if view.wants_part else "dead_letters.html",
            namespaces=namespaces,
            counted=[each for each in counted if each.groups or namespaces.chosen == each.namespace],
            uncounted=names[NAMESPACES_COUNTED_MAX:],
            operations=await _operations(view, namespaces.chosen),
            groups_max=GROUPS_SHOWN_MAX if len(counted) == 1 else GROUPS_SHOWN_OF_EACH,
        )

    @routes.get("/dead-letters/{namespace}")
    async def letters(request: Request, namespace: str) -> Response:
        view = web.view(request)
        query = request.query_params
        wanted = Letters.ListDeadLettersRequest(
            parent=f"namespaces/{namespace}",
            page_size=PAGE_SIZE,
            page_token=query.get("page", ""),
            filter=filter_of(namespace, query),
        )
        stub = dead_letter_service_pb2_grpc.DeadLetterServiceStub(view.channel)
        found, token = await full_page(stub.ListDeadLetters, wanted, "dead_letters", PAGE_SIZE)
        return await view.page(
            "dead_letter_list.html",
            namespace=namespace,
            letters=found,
            next_token=token,
            may=await _may(view, namespace),
            filters=chosen_filters(query),
        )

    _add_actions(routes, web)
    return routes


def _add_actions(routes: APIRouter, web: Web) -> None:
    @routes.get("/dead-letters/{namespace}/{action}")
    async def ask(request: Request, namespace: str, action: str) -> Response:
        """What is about to be done, and to how many; nothing is done yet."""
        view = web.view(request)
        query = request.query_params
        _check_action(action)
        names = _names_in(query)
        payload, count = "", len(names)
        stub = dead_letter_service_pb2_grpc.DeadLetterServiceStub(view.channel)
        if not names:
            wanted = Letters.ListDeadLetterGroupsRequest(
                parent=f"namespaces/{namespace}", filter=filter_of(namespace, query)
            )
            answer = await stub.ListDeadLetterGroups(wanted)
            count = sum(group.count for group in answer.groups)
            if answer.groups and answer.groups[0].sample.HasField("payload"):
                payload = pretty(answer.groups[0].sample.payload)
        return await view.page(
            "dead_letter_action.html",
            namespace=namespace,
            action=action,
            names=names,
            count=count,
            payload=payload,
            filters=chosen_filters(query),
            may=await _may(view, namespace),
            request_id=str(uuid.uuid4()),
        )

    @routes.post("/dead-letters/{namespace}/redrive")
    async def redrive(request: Request, namespace: str) -> Response:
        view = web.view(request)
        form = await view.form()
        order = Letters.RedriveDeadLettersRequest(
            parent=f"namespaces/{namespace}",
            names=_names_in(form),
            filter=filter_of(namespace, form),
            rate=rate_of(form),
            request_id=str(form.get("request_id", "")),
        )
        payload = changed_payload(form.get("payload"), "")
        if payload is not None:
            order.payload.CopyFrom(payload)
        await dead_letter_service_pb2_grpc.DeadLetterServiceStub(view.channel).RedriveDeadLetters(order)
        return RedirectResponse(with_query("/dead-letters", None, namespace=namespace), 303)

    @routes.post("/dead-letters/{namespace}/purge")
    async def purge(request: Request, namespace: str) -> Response:
        view = web.view(request)
        form = await view.form()
        order = Letters.PurgeDeadLettersRequest(
            parent=f"namespaces/{namespace}",
            names=_names_in(form),
            filter=filter_of(namespace, form),
            request_id=str(form.get("request_id", "")),
        )
        await dead_letter_service_pb2_grpc.DeadLetterServiceStub(view.channel).PurgeDeadLetters(order)
        return RedirectResponse(with_query("/dead-letters", None, namespace=namespace), 303)

    @routes.post("/dead-letters/{namespace}/operations/{operation}/cancel")
    async def cancel(request: Request, namespace: str, operation: str) -> Response:
        view = web.view(request)
        form = await view.form()
        stub = operation_service_pb2_grpc.OperationServiceStub(view.channel)
        await stub.CancelOperation(
            operation_service_pb2.CancelOperationRequest(
                name=f"namespaces/{namespace}/operations/{operation}", request_id=str(form.get("request_id", ""))
            )
        )
        return RedirectResponse(with_query("/dead-letters", None, namespace=namespace), 303)


def filter_of(namespace: str, fields: QueryParams | FormData) -> dead_letter_service_pb2.DeadLetterFilter:
    """From the query of an address, or the same fields in a form."""
    job = str(fields.get("job") or "").strip()
    return Letters.DeadLetterFilter(
        job=job_name(namespace, job) if job else "", fingerprint=str(fields.get("fingerprint") or "").strip()
    )


def chosen_filters(query: QueryParams) -> dict[str, str]:
    """Those that are in the query."""
    return {field: query[field].strip() for field in ("job", "fingerprint") if query.get(field, "").strip()}


def rate_of(form: FormData) -> float:
    """So many a second; 0 if as fast as it goes. Raises FormError."""
    text = str(form.get("rate") or "").strip()
    try:
        return float(text) if text else 0.0
    except ValueError as error:
        raise FormError(f"rate: {text[:60]!r} is no number; write how many a second, or nothing") from error


def _names_in(fields: QueryParams | FormData) -> list[str]:
    """Those that were selected. Raises FormError if some were to be, and none is: no names mean all."""
    names = [str(name) for name in fields.getlist("name")]
    if fields.get("selected") and not names:
        raise FormError("nothing is selected; go back, and choose some dead letters")
    return names


def _check_action(action: str) -> None:
    if action not in ("redrive", "purge"):
        raise FormError(f"dead letters cannot be {action[:60]!r}; they can be redriven and purged")


async def _count(view: View, namespace: str) -> Counted:
    stub = dead_letter_service_pb2_grpc.DeadLetterServiceStub(view.channel)
    answer = await stub.ListDeadLetterGroups(Letters.ListDeadLetterGroupsRequest(parent=f"namespaces/{namespace}"))
    count = sum(group.count for group in answer.groups)
    return Counted(namespace, list(answer.groups), count, answer.incomplete)


async def _operations(view: View, namespace: str) -> list[operation_pb2.Operation]:
    """The latest ones that work on dead letters."""
    stub = operation_service_pb2_grpc.OperationServiceStub(view.channel)
    answer = await stub.ListOperations(operation_service_pb2.ListOperationsRequest(parent=f"namespaces/{namespace}"))
    return [each for each in answer.operations if each.kind in _KINDS][:OPERATIONS_SHOWN_MAX]


async def _may(view: View, namespace: str) -> dict[str, bool]:
    """Which actions to offer there."""
    reader = await view.reader()
    return {
        "redrive": reader.may(Verb.JOB_RUN, namespace),
        "purge": reader.may(Verb.DEAD_LETTER_PURGE, namespace),
    }
