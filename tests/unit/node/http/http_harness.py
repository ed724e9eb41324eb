"""The HTTP API of a node without Raft, asked by a program."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc.aio
import httpx
from service_harness import FakeNode

from horologe.node.http.app import make_app
from horologe.node.http.parts import HttpParts
from horologe.node.http.problems import MEDIA_TYPE
from horologe.node.local_calls import LocalCalls

JOB = {"schedules": [{"manual": {}}], "action": {"shell": {"argv": ["true"]}}}


def app_of(node: FakeNode) -> Any:
    calls = LocalCalls(node.interceptors())
    node.add_all_services(cast(grpc.aio.Server, calls))
    return make_app(HttpParts(node.context, calls))


@asynccontextmanager
async def http_client(node: FakeNode, token: str = "", **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """`node` must be served."""
    scheme = "http" if node.config.insecure else "https"
    if token:
        headers["authorization"] = f"Bearer {token}"
    transport = httpx.ASGITransport(app_of(node))
    async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://127.0.0.1:7700", headers=headers) as http:
        yield http


def problem(answer: httpx.Response, status: int, reason: str) -> dict[str, Any]:
    """The problem document, which must be this one."""
    assert answer.headers["content-type"] == MEDIA_TYPE, answer.text
    found = answer.json()
    assert (answer.status_code, found["status"], found["reason"]) == (status, status, reason), found
    return cast(dict[str, Any], found)


async def create(http: httpx.AsyncClient, name: str, **changes: Any) -> dict[str, Any]:
    answer = await http.post(f"/v1/namespaces/default/jobs?job_id={name}", json={**JOB, **changes})
    assert answer.status_code == 200, answer.text
    return cast(dict[str, Any], answer.json()["job"])
