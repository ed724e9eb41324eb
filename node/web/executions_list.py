"""The list of executions: what runs, what went wrong, newest first. The filter is the query of the URL."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from google.protobuf.timestamp_pb2 import Timestamp
from starlette.datastructures import QueryParams

from horologe.node.web.reading import EVERY_NAMESPACE, Namespaces, full_page, instant, pair, read_namespaces
from horologe.node.web.view import FormError, Web
from horologe.node.web.words import rfc3339, with_query
from horologe.v1 import execution_pb2, execution_service_pb2, execution_service_pb2_grpc

PAGE_SIZE = 50
STATES = [name.removeprefix("STATE_").lower() for name, number in execution_pb2.Execution.State.items() if number]
RANGE = ("from", "to")


def router(web: Web) -> APIRouter:
    """`/executions`"""
    routes = APIRouter()

    @routes.get("/executions")
    async def executions(request: Request) -> Response:
        view = web.view(request)
        query = request.query_params
        namespaces = await read_namespaces(view)
        now_ms = web.parts.context.clock.wall_ms()
        wanted = request_of(query, namespaces, now_ms)
        stub = execution_service_pb2_grpc.ExecutionServiceStub(view.channel)
        found, token = await full_page(stub.ListExecutions, wanted, "executions", PAGE_SIZE)
        return await view.page(
            "executions_part.html" if view.wants_part else "executions.html",
            executions=found,
            namespaces=namespaces,
            states=STATES,
            chosen_states=states_in(query),
            next_token=token,
            # So long ago is another instant for the next page: it goes on from the one that was meant here.
            next_page=with_query(
                request.scope["path"], query, page=token, **{field: _fixed(query, field, now_ms) for field in RANGE}
            ),
        )

    return routes


def request_of(query: QueryParams, namespaces: Namespaces, now_ms: int) -> execution_service_pb2.ListExecutionsRequest:
    """What the URL asks for. Raises FormError."""
    job = query.get("job", "").strip()
    # A whole id in one namespace is the quick way; `bill*`, and any text in all of them, is the beginning of one.
    is_whole = bool(job) and not job.endswith("*") and namespaces.chosen != EVERY_NAMESPACE
    return execution_service_pb2.ListExecutionsRequest(
        parent=f"namespaces/{namespaces.chosen}/jobs/{job if is_whole else EVERY_NAMESPACE}",
        page_size=PAGE_SIZE,
        page_token=query.get("page", ""),
        states=[execution_pb2.Execution.State.Value(f"STATE_{state.upper()}") for state in states_in(query)],
        name_prefix="" if is_whole else job.rstrip("*"),
        labels=pair(query.get("label", ""), "label"),
        owner=query.get("owner", "").strip(),
        queue=query.get("queue", "").strip(),
        worker=query.get("worker", "").strip(),
        created_from=instant(query, "from", now_ms),
        created_before=instant(query, "to", now_ms),
    )


def states_in(query: QueryParams) -> list[str]:
    """`state=failed&state=dead`, or `state=failed,dead`. Raises FormError."""
    found = [word.strip().lower() for text in query.getlist("state") for word in text.split(",") if word.strip()]
    for word in found:
        if word not in STATES:
            raise FormError(f"state: {word[:60]!r} is no state; there are {', '.join(STATES)}")
    return found


def _fixed(query: QueryParams, field: str, now_ms: int) -> str:
    found: Timestamp | None = instant(query, field, now_ms)
    return rfc3339(found)
