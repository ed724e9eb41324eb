"""Streams over HTTP: server-sent events and lines, where they go on, and how they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from http_harness import app_of, create, http_client, problem
from secure_harness import Role, SecureNode
from service_harness import FakeNode

from horologe.chaos.cluster import eventually
from horologe.node.http import streams
from horologe.node.http.server import HttpServer

EVENTS = "/v1/namespaces/-/jobs/-/events:watch"
AS_EVENTS = {"accept": "text/event-stream"}


@asynccontextmanager
async def served(node: FakeNode, token: str = "") -> AsyncIterator[httpx.AsyncClient]:
    server = HttpServer(app_of(node), "127.0.0.1:0", None)
    await server.start()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", headers=headers, timeout=60) as http:
            yield http
    finally:
        await server.stop()


class Listener:
    """Reads server-sent events."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()

    async def next(self) -> dict[str, str]:
        found: dict[str, str] = {}
        async for line in self._lines:
            if not line and found:
                return found
            name, colon, value = line.partition(": ")
            if colon and name:
                found[name] = value
        return found

    async def event_of(self, kind: str) -> dict[str, Any]:
        """The first event of that kind in a message, with the id of the message."""
        while True:
            message = await self.next()
            for event in json.loads(message["data"])["events"]:
                if event["kind"] == kind:
                    return {**event, "id": message["id"]}


async def test_events_are_followed_and_gone_on_with(node: FakeNode):
    async with served(node) as http:
        async with http.stream("GET", EVENTS, headers=AS_EVENTS) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert (answer.headers["horologe-node"], answer.headers["cache-control"]) == ("n1", "no-store")
            listener = Listener(answer)
            await listener.next()
            await create(http, "a")
            event = await listener.event_of("KIND_JOB_CREATED")
            assert event["job"] == "namespaces/default/jobs/a"
        await http.post("/v1/namespaces/default/jobs/a:pause")
        async with http.stream("GET", EVENTS, headers={**AS_EVENTS, "last-event-id": event["id"]}) as answer:
            assert (await Listener(answer).event_of("KIND_JOB_PAUSED"))["job"] == "namespaces/default/jobs/a"


async def test_lines_are_what_others_get(node: FakeNode):
    async with served(node) as http:
        for accept in ("*/*", "application/x-ndjson", "text/event-stream;q=0.5, application/x-ndjson"):
            async with http.stream("GET", EVENTS, headers={"accept": accept}) as answer:
                assert answer.headers["content-type"] == "application/x-ndjson"
                assert answer.headers["content-encoding"] == "identity", "packed, a line could wait for the next one"
                line = await anext(answer.aiter_lines())
                assert json.loads(line)["resume_token"]


async def test_what_is_wrong_from_the_beginning_has_a_status(node: FakeNode):
    async with served(node) as http:
        problem(await http.get(EVENTS, headers={"accept": "text/html"}), 406, "NOT_ACCEPTABLE")
        problem(await http.get(EVENTS, headers={**AS_EVENTS, "last-event-id": "x"}), 400, "INVALID_FIELD")
        output = "/v1/namespaces/-/jobs/-/executions/7/output"
        problem(await http.get(output, headers=AS_EVENTS), 404, "EXECUTION_NOT_FOUND")
        problem(await http.get(output, headers={**AS_EVENTS, "last-event-id": "x"}), 400, "INVALID_HEADER")


async def test_a_stream_that_is_over_says_so(tmp_path: Path):
    async with SecureNode(tmp_path, insecure=False).serve() as node, served(node, node.admin) as http:
        await create(http, "a")
        async with http.stream("GET", "/v1/auditRecords:export", headers=AS_EVENTS) as answer:
            listener = Listener(answer)
            messages = []
            while (message := await listener.next()).get("event") != "end":
                messages.append(json.loads(message["data"]))
        assert [record["sequence"] for each in messages for record in each["records"]][:2] == [1, 2]
        assert messages[-1]["checkpoint"]["node"] == "n1"
        headers = {"last-event-id": "1"}
        lines = (await http.get("/v1/auditRecords:export", headers=headers)).text.splitlines()
        assert json.loads(lines[0])["records"][0]["sequence"] == 2


async def test_who_may_no_longer_listen_hears_it(tmp_path: Path):
    async with SecureNode(tmp_path, insecure=False).serve() as node:
        node.grant("ann", "default", Role.ROLE_VIEWER)
        token = node.token("ann")
        async with served(node, token) as http:
            events = http.stream("GET", EVENTS.replace("/-/", "/default/", 1), headers=AS_EVENTS)
            lines = http.stream("GET", EVENTS.replace("/-/", "/default/", 1))
            async with events as first, lines as second:
                listener, iterator = Listener(first), second.aiter_lines()
                await listener.next()
                await anext(iterator)
                node.revoke(token)
                node.control.streams.look()
                error = await listener.next()
                assert (error["event"], json.loads(error["data"])["status"]) == ("error", 401)
                assert await listener.next() == {}
                rest = [json.loads(line) async for line in iterator]
                assert rest[-1]["problem"]["reason"] == "UNAUTHENTICATED"


async def test_the_call_ends_when_the_listener_goes(tmp_path: Path):
    async with SecureNode(tmp_path, insecure=False).serve() as node, served(node, node.admin) as http:
        async with http.stream("GET", EVENTS, headers=AS_EVENTS) as answer:
            await Listener(answer).next()
            assert node.control.streams.count("admin") == 1

        async def is_over() -> bool:
            return not node.control.streams.count("admin")

        await eventually(is_over, 60, "the call is over")


async def test_a_node_stops_while_somebody_listens(node: FakeNode):
    server = HttpServer(app_of(node), "127.0.0.1:0", None)
    await server.start()
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as http,
        http.stream("GET", EVENTS, headers=AS_EVENTS) as answer,
    ):
        await Listener(answer).next()
        async with asyncio.timeout(60):
            await server.stop()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "http stream"]


async def test_silence_is_filled(node: FakeNode, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streams, "KEEP_ALIVE_SECONDS", 0.05)
    async with served(node) as http, http.stream("GET", EVENTS, headers=AS_EVENTS) as answer:
        comments = 0
        async for line in answer.aiter_lines():
            comments += line == ": still here"
            if comments == 2:
                break


async def test_a_large_body_of_a_stranger_is_not_read(tmp_path: Path) -> None:
    pieces = []

    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            pieces.append(1)
            yield b" " * 4_000

    async with SecureNode(tmp_path, insecure=False).serve() as node, http_client(node, "hlg_nobody") as http:
        for length in ({"content-length": "400000"}, {"transfer-encoding": "chunked"}):
            headers = {"content-type": "application/json", **length}
            answer = await http.post("/v1/namespaces/default/jobs?job_id=a", content=body(), headers=headers)
            problem(answer, 401, "UNAUTHENTICATED")
    assert len(pieces) <= 2
