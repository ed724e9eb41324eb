"""The list of executions: its filters, its pages, who sees what."""

from __future__ import annotations

import html
import re

import pytest
from runs_harness import HOSTILE, create, die, fail
from secure_harness import Role, SecureNode
from web_harness import browser

from horologe.node.web import executions_list
from horologe.raft.commands import Outcome


def listed(text: str) -> list[int]:
    """The numbers of the executions on a page, from top to bottom."""
    return [int(number) for number in re.findall(r'href="/executions/[\w-]+/[\w-]+/(\d+)"', text)]


async def test_newest_first_with_how_each_stands(node) -> None:
    await create(node)
    await create(node, "tock")
    session = node.open_session()
    node.fire(1, session)
    node.complete(1, exit_code=0)
    node.fire(1, session)
    fail(node, 2, HOSTILE, retry_ms=5_000)
    node.fire(2, session)
    async with browser(node) as reader:
        text = (await reader.get("/executions")).text
        assert listed(text) == [3, 2, 1]
        for word in ("running", "scheduled", "completed"):
            assert f'<span class="badge {word}">{word}</span>' in text
        assert 'hx-trigger="sse:changed"' in text
        part = (await reader.part("/executions")).text
        assert listed(part) == [3, 2, 1]
        assert "<html" not in part


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("state=dead", [2]),
        ("state=DEAD,running", [3, 2]),
        ("state=dead&state=running", [3, 2]),
        ("job=ti*", [3, 2, 1]),
        ("job=to*", []),
        ("namespace=default&job=tick", [3, 2, 1]),
        ("worker=w1", [3, 2, 1]),
        ("worker=w2", []),
        ("queue=default", [3, 2, 1]),
        ("queue=other", []),
        ("label=team=a", [3, 2, 1]),
        ("label=team=b", []),
        ("owner=nobody", []),
        ("from=2027-01-15T08:02:30Z", [3]),
        ("to=2027-01-15T08:01:30", [1]),
        ("from=90s", [3, 2]),
    ],
)
async def test_the_filter_is_the_address(node, query, numbers) -> None:
    await create(node, labels={"team": "a"})
    node.fire(1, node.open_session())
    node.complete(1, exit_code=0)
    die(node)
    node.fire(1, node.open_session())
    async with browser(node) as reader:
        assert listed((await reader.get(f"/executions?{query}")).text) == numbers


@pytest.mark.parametrize("query", ["state=odd", "from=yesterday", "label=team", "from=999999999999w", "page=odd"])
async def test_a_filter_that_cannot_be_read(node, query) -> None:
    async with browser(node) as reader:
        answer = await reader.get(f"/executions?{query}")
        assert answer.status_code == 400
        assert 'role="alert"' in answer.text


async def test_pages_follow_one_another(node, monkeypatch) -> None:
    monkeypatch.setattr(executions_list, "PAGE_SIZE", 2)
    await create(node)
    for _ in range(5):
        number = node.fire(1, node.open_session())
        node.complete(number, Outcome.SUCCEEDED)
    async with browser(node) as reader:
        found, address = [], "/executions?from=1h"
        while address:
            text = (await reader.get(address)).text
            found += listed(text)
            link = re.search(r'rel="next" href="([^"]+)"', text)
            address = html.unescape(link[1]) if link else ""
            # Time goes on between two pages.
            node.clock.now_ms += 10_000
        assert found == [5, 4, 3, 2, 1]


async def test_readers_see_the_namespaces_that_they_may(tmp_path) -> None:
    async with SecureNode(tmp_path, insecure=False).serve() as node:
        await create(node)
        await create(node, parent="namespaces/shop")
        session = node.open_session()
        node.fire(1, session)
        node.fire(2, session)
        node.grant("ann", "shop", Role.ROLE_VIEWER)
        async with browser(node, node.token("ann")) as reader:
            text = (await reader.get("/executions")).text
            assert re.findall(r"/executions/(\w+)/tick/", text) == ["shop"]
            assert (await reader.get("/executions?namespace=default")).status_code == 403
        async with browser(node, node.admin) as reader:
            text = (await reader.get("/executions")).text
            assert re.findall(r"/executions/(\w+)/tick/", text) == ["shop", "default"]
        async with browser(node, node.token("bob")) as reader:
            assert (await reader.get("/executions")).status_code == 403
