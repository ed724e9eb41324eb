"""As test_every_call_refused.py, over HTTP: every route of a secure node, asked by those who may not. It is refused, nothing is
changed, and it is written down. The requests are the same, put where each route has them.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from google.protobuf import json_format, message_factory, text_format
from google.protobuf.message import Message
from support.governed_node import governed_node
from test_every_call_refused import OF_NO_NAMESPACE, READS, REQUESTS, SecureCluster, prepare

from horologe.node import authentication
from horologe.node.http.endpoints import Endpoint, Router
from horologe.node.http.problems import MEDIA_TYPE
from horologe.node.http.routes import WHOLE
from horologe.node.tls_folder import CA_FILE

ENDPOINTS = {
    endpoint.name: endpoint for endpoint in Router().endpoints if endpoint.template.text == endpoint.route.template
}


def http_request(endpoint: Endpoint, message: Message) -> dict[str, Any]:
    """Method, path, parameters and body for a request of the API: what node/http/endpoints.py does, backwards."""
    values = json_format.MessageToDict(message, preserving_proto_field_name=True)
    path = endpoint.template.text
    for field in endpoint.template.fields:
        holder, *names = values, *field.split(".")
        for name in names[:-1]:
            holder = holder[name]
        start = path.index(f"{{{field}=")
        # `job_revision` may be 0, which is not there.
        path = path[:start] + quote(str(holder.pop(names[-1], 0))) + path[path.index("}", start) + 1 :]
    body = values if endpoint.route.body == WHOLE else values.pop(endpoint.route.body, None)
    return {"method": endpoint.verb, "url": path, "params": {} if body is values else values, "json": body}


class HttpCluster(SecureCluster):
    """The same over HTTP."""

    def __init__(self, governed: Any, http: httpx.AsyncClient) -> None:
        super().__init__(governed)
        self.http = http

    async def ask(self, name: str, token: str) -> httpx.Response:
        endpoint = ENDPOINTS[name]
        message = message_factory.GetMessageClass(endpoint.input)()
        text_format.Parse(REQUESTS[name].replace("{token}", self.admin.split("_")[1]), message)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return await self.http.request(**http_request(endpoint, message), headers=headers)


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpCluster]:
    # Here all failures shall be seen, and not that there are many.
    monkeypatch.setattr(authentication, "FAILURES_BURST", 1e6)
    async with governed_node(tmp_path) as node:
        settings = ssl.create_default_context(cafile=str(node.config.data_dir / "tls" / CA_FILE))
        async with httpx.AsyncClient(
            base_url=f"https://{node.config.http_listen}", verify=settings, timeout=60
        ) as http:
            cluster = HttpCluster(node, http)
            await prepare(cluster)
            yield cluster


def test_every_route_has_a_request():
    assert ENDPOINTS.keys() <= REQUESTS.keys()


async def test_every_request_of_those_who_may_not_is_refused_changes_nothing_and_is_written_down(cluster: HttpCluster):
    names = set(ENDPOINTS)
    cases = (
        ("nobody", names, 401, "UNAUTHENTICATED"),
        ("viewer", names - READS, 403, "PERMISSION_DENIED"),
        ("red", names - OF_NO_NAMESPACE, 403, "PERMISSION_DENIED"),
        ("late", names, 401, "UNAUTHENTICATED"),
        ("gone", names, 401, "UNAUTHENTICATED"),
    )
    before = cluster.digest()
    for who, calls, status, reason in cases:
        for name in sorted(calls):
            answer = await cluster.ask(name, cluster.tokens[who])
            assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE), (
                f"{name} by {who}: {answer.text}"
            )
            assert answer.json()["reason"] == reason
            assert ("www-authenticate" in answer.headers) is (status == 401)
    assert cluster.digest() == before
    found = {(each.method, each.principal, each.token, each.reason) for each in await cluster.governed.refusals()}
    for who, calls, status, reason in cases:
        principal = who if status == 403 else ""
        id_ = cluster.tokens[who].split("_")[1] if cluster.tokens[who] else ""
        missing = {(name, principal, id_, reason) for name in calls} - found
        assert not missing, missing


async def test_what_they_may_is_not_refused(cluster: HttpCluster):
    """So that the refusals above mean something: who may, gets another answer."""
    for who, calls in (("viewer", READS), ("red", OF_NO_NAMESPACE)):
        for name in sorted(calls & ENDPOINTS.keys()):
            if not ENDPOINTS[name].is_stream:
                answer = await cluster.ask(name, cluster.tokens[who])
                assert answer.status_code in (200, 404), f"{name} by {who}: {answer.text}"
