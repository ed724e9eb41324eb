"""Every page of the dashboard, as it is registered: nobody reads one without a session, nobody sends a form without proof."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from secure_harness import SecureNode
from service_harness import FakeNode
from web_harness import Browser, browser

from horologe.node.web.pages import PAGES

PARAMETERS = {"number": "1", "operation": "1", "action": "purge"}
"""What addresses have in these places; anywhere else a name is right."""
FOR_ANYBODY = {"/sign-in", "/sign-in/provider", "/sign-in/callback"} | {"/docs", "/docs/messages", "/docs/{service}"}
"""The second ones tell what the API is, as the proto does, and nothing of this cluster."""


def _pages(reader: Browser, method: str) -> list[str]:
    """Addresses of all pages, with something in the place of each parameter."""
    routes = [route for module in PAGES for route in module.router(reader.web).routes]
    paths = {route.path for route in routes if isinstance(route, APIRoute) and method in route.methods} - FOR_ANYBODY
    return sorted(re.sub(r"{(\w+)(:\w+)?}", lambda name: PARAMETERS.get(name[1], "a"), path) for path in paths)


@pytest.fixture
async def node(tmp_path: Path):
    async with SecureNode(tmp_path, insecure=False).serve() as served:
        yield served


async def test_no_page_without_a_session(node: SecureNode) -> None:
    async with browser(node) as reader:
        pages = _pages(reader, "GET")
        assert {"/", "/live"} <= set(pages)
        for page in pages:
            node.clock.now_ms += 10_000  # who tries often is slowed down
            answer = await reader.get(page, headers={"accept": "text/html"})
            assert answer.status_code == 303, page
            assert answer.headers["location"] == f"/sign-in?next={page}", page
            part = await reader.part(page)
            assert (part.status_code, part.text) == (401, ""), page
            assert part.headers["hx-redirect"].startswith("/sign-in?next="), page
            assert (await reader.get(page, headers={"accept": "text/event-stream"})).status_code == 401, page


async def test_no_page_with_a_wrong_session(node: SecureNode) -> None:
    async with browser(node, node.admin[:-1] + ("a" if node.admin[-1] != "a" else "b")) as reader:
        for page in _pages(reader, "GET"):
            node.clock.now_ms += 10_000
            assert (await reader.get(page)).status_code == 303, page


async def test_no_form_without_proof(node: SecureNode) -> None:
    commands = len(node.commands)
    async with browser(node, node.admin) as reader, browser(node) as stranger:
        forms = _pages(reader, "POST")
        assert "/sign-out" in forms
        for form in forms:
            assert (await reader.post(form)).status_code == 400, form
            assert (await stranger.post(form)).status_code == 401, form
    assert len(node.commands) == commands


async def test_no_form_from_elsewhere(node: SecureNode) -> None:
    """Not even with the right proof."""
    commands = len(node.commands)
    async with browser(node, node.admin) as reader:
        await reader.get("/")
        for form in [*_pages(reader, "POST"), "/sign-in"]:
            for headers in (
                {"origin": "https://evil.example"},
                {"origin": "null"},
                {"origin": "https://["},
                {"origin": "https://127.0.0.1:7701"},
                {"sec-fetch-site": "cross-site"},
                {"sec-fetch-site": "same-site"},
                {"content-length": str(5 << 20)},
            ):
                answer = await reader.post(form, headers=headers)
                assert answer.status_code == 400, (form, headers)
    assert len(node.commands) == commands


async def test_a_large_form_of_a_stranger_is_not_read(node: SecureNode) -> None:
    pieces = []

    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            pieces.append(1)
            yield b"&a=" * 1_000

    headers = {"content-type": "application/x-www-form-urlencoded", "content-length": str(300_000)}
    for session in ("", "hlg_nobody"):
        async with browser(node, session) as reader:
            answer = await reader.http.post("/sign-in", content=body(), headers=headers)
            assert answer.status_code == 401
    assert len(pieces) <= 2


async def test_every_answer_is_secured(node: SecureNode) -> None:
    async with browser(node, node.admin) as reader:
        for page in [*_pages(reader, "GET"), "/sign-in", "/nothing", "/static/nothing"]:
            if page == "/live":
                continue  # it has no end; see tests/integration/test_dashboard_live.py
            headers = (await reader.get(page)).headers
            assert "frame-ancestors 'none'" in headers["content-security-policy"], page
            assert headers["x-content-type-options"] == "nosniff", page
            assert headers["referrer-policy"] == "same-origin", page
            assert headers["cross-origin-opener-policy"] == "same-origin", page
            if "text/html" in headers["content-type"]:
                assert headers["cache-control"] == "no-store", page


async def test_a_node_without_security_answers_to_its_own_names_only(tmp_path: Path) -> None:
    async with FakeNode(tmp_path).serve() as node, browser(node) as reader:
        for host in ("127.0.0.1:7700", "localhost:7700", "LOCALHOST", "[::1]:7700", "127.9.9.9"):
            assert (await reader.get("/", headers={"host": host})).status_code == 200, host
        for host in ("evil.example", "evil.example:7700", "127.0.0.1.evil.example", "10.0.0.1:7700", "", "[::1"):
            for path in ("/", "/static/horologe.css", "/v1/jobs"):
                answer = await reader.get(path, headers={"host": host})
                assert answer.status_code == 421, (host, path)
                assert "127.0.0.1 or localhost" in answer.text


async def test_a_node_without_security_that_others_reach_answers_to_any_name(tmp_path: Path) -> None:
    async with FakeNode(tmp_path, http_listen="0.0.0.0:7700").serve() as node, browser(node) as reader:
        assert (await reader.get("/", headers={"host": "scheduler.example:7700"})).status_code == 200
