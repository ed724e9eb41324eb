"""What pages of lists have in common: which namespaces their reader sees, filters from the URL, and pages that are full."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from starlette.datastructures import QueryParams

from horologe.node.web.view import FormError, View
from horologe.node.web.words import id_of, job_of, namespace_of, with_query
from horologe.raft.access import Verb
from horologe.v1 import namespace_service_pb2, namespace_service_pb2_grpc

EVERY_NAMESPACE = "-"
NAMESPACES_MAX = 1_000
CALLS_PER_PAGE_MAX = 5
SECONDS_PER_PAGE_MAX = 0.05
"""A call that finds little looks at a bounded number of rows. So many more are made to fill a page, while there is time."""
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Those that the reader sees, and the one that the page is about."""

    names: list[str]
    chosen: str
    """EVERY_NAMESPACE for all."""
    may_see_all: bool


async def read_namespaces(view: View, *, verb: Verb = Verb.JOB_READ) -> Namespaces:
    """The one that the URL says; else all, or the first one of a reader who may not see all."""
    reader = await view.reader()
    stub = namespace_service_pb2_grpc.NamespaceServiceStub(view.channel)
    answer = await stub.ListNamespaces(namespace_service_pb2.ListNamespacesRequest(page_size=NAMESPACES_MAX))
    names = [each.name.removeprefix("namespaces/") for each in answer.namespaces]
    may_see_all = reader.may(verb)
    chosen = view.request.query_params.get("namespace", "")
    if not chosen:
        chosen = EVERY_NAMESPACE if may_see_all or not names else names[0]
    return Namespaces(names, chosen, may_see_all)


async def full_page(
    call: Callable[[Any], Awaitable[Any]], request: Any, field: str, size: int
) -> tuple[list[Any], str]:
    """About `size` items from as many calls as it takes, within limits, and the token of what follows."""
    found: list[Any] = []
    time = asyncio.get_running_loop().time
    ends_at = time() + SECONDS_PER_PAGE_MAX
    for _ in range(CALLS_PER_PAGE_MAX):
        answer = await call(request)
        found += getattr(answer, field)
        request.page_token = answer.next_page_token
        if len(found) >= size or not answer.next_page_token or time() >= ends_at:
            break
    return found, request.page_token


def instant(query: QueryParams, field: str, now_ms: int) -> Timestamp | None:
    """`2026-11-26T20:00Z`, in UTC if no offset is given, or so long ago: `90m`, `7d`. Raises FormError."""
    text = query.get(field, "").strip()
    if not text:
        return None
    try:
        if text[:-1].isdigit() and text[-1] in _UNITS:
            when = datetime.fromtimestamp(now_ms / 1_000, UTC) - timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]])
        else:
            when = datetime.fromisoformat(text)
            when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
        found = Timestamp()
        found.FromDatetime(when)
        return found
    except (ValueError, OverflowError) as error:
        example = "write an instant as 2026-11-26T20:00Z, or how long ago it is as 90m, 24h, 7d"
        raise FormError(f"{field}: {text[:60]!r} is no time; {example}") from error


def pair(text: str, field: str) -> dict[str, str]:
    """`key=value`, several of them with commas between. Raises FormError."""
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise FormError(f"{field}: {part[:60]!r} is not KEY=VALUE")
        found[key.strip()] = value.strip()
    return found


def job_name(namespace: str, job: str) -> str:
    """As the API calls it."""
    return f"namespaces/{namespace}/jobs/{job}"


def execution_name(namespace: str, job: str, number: str) -> str:
    """As the API calls it."""
    return f"{job_name(namespace, job)}/executions/{number}"


def run_path(root: str) -> str:
    """The page of a run, by the execution that began it."""
    return with_query(f"/workflows/{namespace_of(root)}/{job_of(root)}", None, run=id_of(root))
