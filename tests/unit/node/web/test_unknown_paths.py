"""What a browser, a program and a probe get where no page is, and what is asked for without its body."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from secure_harness import SecureNode
from service_harness import FakeNode
from web_harness import browser

HTML = {"accept": "text/html,application/xhtml+xml"}


async def test_head_is_get_without_its_body(node: FakeNode) -> None:
    async with browser(node) as reader:
        for path in ("/", "/jobs", "/healthz", "/openapi.json", "/metrics", "/docs"):
            whole, head = await reader.get(path), await reader.http.head(path)
            assert (head.status_code, head.content) == (200, b""), path
            assert head.headers["content-type"] == whole.headers["content-type"], path
        # Ends at once, although the stream behind it does not.
        live = await asyncio.wait_for(reader.http.head("/live"), 60)
        assert live.headers["content-type"].startswith("text/event-stream")
        # The table of routes says what the API takes.
        assert (await reader.http.head("/v1/cluster")).status_code == 405
        counted = [line for line in (await reader.get("/metrics")).text.splitlines() if 'method="HEAD"' in line]
        assert any('route="/jobs"' in line for line in counted), counted


@pytest.mark.parametrize("path", ["/v1", "/jobs/", "/nothing/here", "/nothing"])
async def test_no_redirect_that_the_host_header_makes(node: FakeNode, path: str) -> None:
    async with browser(node) as reader:
        answer = await reader.http.get(path, headers={"host": "localhost:1"})
        assert answer.status_code == 404
        assert "location" not in answer.headers
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["reason"] == "PATH_NOT_FOUND"


async def test_a_browser_gets_a_page(tmp_path: Path) -> None:
    async with SecureNode(tmp_path, insecure=False).serve() as node, browser(node, node.admin) as reader:
        answer = await reader.get("/nothing/<b>", headers=HTML)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "PATH_NOT_FOUND" in answer.text
        assert "/nothing/&lt;b&gt;" in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        wrong = await reader.http.delete("/jobs", headers=HTML)
        assert (wrong.status_code, "METHOD_NOT_ALLOWED" in wrong.text) == (405, True)
    async with SecureNode(tmp_path / "other", insecure=False).serve() as node, browser(node) as stranger:
        answer = await stranger.get("/nothing", headers=HTML)
        assert (answer.status_code, "Sign in" in answer.text) == (404, True)
