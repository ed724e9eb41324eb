"""The first page: what it shows, where its figures lead, and to whom it shows nothing."""

from __future__ import annotations

import json
import re

from secure_harness import Role, SecureNode
from service_harness import FakeNode, interval_job
from web_harness import browser

from horologe.raft.commands import Outcome
from horologe.v1 import job_service_pb2


async def _create(node: FakeNode) -> int:
    job = interval_job()
    job.retry.max_attempts = 1
    request = job_service_pb2.CreateJobRequest(parent="namespaces/default", job=job, job_id="hello")
    await node.jobs.CreateJob(request)
    return node.counters().last_job


def _card(page: str, name: str) -> tuple[str, str]:
    """Where a figure leads, and the figure."""
    cards = re.findall(
        r'<a class="card[^"]*" href="([^"]*)"><span class="figure">(.*?)</span> <span class="name">(.*?)</span></a>',
        page,
    )
    target, figure = next((target, figure) for target, figure, text in cards if text.startswith(name))
    return target.replace("&amp;", "&"), re.sub("<[^>]*>", "", figure)


async def test_a_cluster_that_does_nothing(node: FakeNode) -> None:
    async with browser(node) as reader:
        page = (await reader.get("/")).text
    assert _card(page, "leader, term 3, with quorum") == ("/cluster", "n1")
    assert _card(page, "running") == ("/executions?state=running", "0")
    assert _card(page, "start delay, half within")[1] == "–"
    assert page.count("None lately") == 2
    assert 'role="alert"' not in page


async def test_figures_lead_to_their_lists(node: FakeNode) -> None:
    session = node.open_session()
    job = await _create(node)
    node.context.observations.begin(node.clock.now_ms)
    good = node.fire(job, session)
    node.complete(good)
    node.clock.now_ms += 68_000
    bad = node.fire(job, session)
    node.complete(bad, Outcome.FAILED, error="<script>alert(1)</script>\u202e")
    running = node.fire(job, session)
    node.fire(job)
    node.clock.now_ms += 1_000
    async with browser(node) as reader:
        page = (await reader.get("/")).text
        assert _card(page, "running") == ("/executions?state=running", "1")
        assert _card(page, "queued") == ("/executions?state=queued", "0")
        assert _card(page, "failed in 5 minutes") == ("/executions?state=failed&state=dead&from=5m", "1")
        assert _card(page, "late in 5 minutes (more than 5 s)")[0] == "#late"
        assert _card(page, "dead letters") == ("/dead-letters", "1")
        assert _card(page, "workers") == ("/workers", "1")
        assert _card(page, "jobs") == ("/jobs", "1")
        # Two starts in the 130 s that the node has seen.
        assert _card(page, "started a second") == ("/executions?from=5m", "0.0154")
        assert f'href="/executions/default/hello/{bad}">hello #{bad}</a>' in page
        assert f"hello #{running}" not in page.partition("Failed lately")[2].partition("</section>")[0]
        assert "<script>alert" not in page
        for target in ("/executions?state=running", "/executions?state=failed&state=dead&from=5m"):
            assert (await reader.get(target)).status_code == 200


async def test_charts_have_a_point_for_every_five_seconds(node: FakeNode) -> None:
    session = node.open_session()
    job = await _create(node)
    node.context.observations.begin(node.clock.now_ms)
    node.fire(job, session)
    node.clock.now_ms += 20_000
    async with browser(node) as reader:
        page = (await reader.get("/")).text
    rates, delays = (json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', page))
    assert {series["label"] for series in rates["series"]} == {"started", "ended well", "failed"}
    assert all(b - a == 5 for a, b in zip(rates["x"], rates["x"][1:], strict=False))
    assert sum(rates["series"][0]["values"]) * 5 == 1
    assert len(rates["x"]) == len(rates["series"][0]["values"]) == len(delays["series"][1]["values"])
    assert None in delays["series"][1]["values"], "where nothing started there is no delay"


async def test_the_part_alone_for_those_that_follow(node: FakeNode) -> None:
    async with browser(node) as reader:
        part = (await reader.part("/")).text
    assert part.strip().startswith('<div id="overview" hx-get="/" hx-trigger="sse:changed" hx-swap="outerHTML">')
    assert "<html" not in part


async def test_without_a_leader_it_says_so(node: FakeNode) -> None:
    node.leader = ""
    async with browser(node) as reader:
        page = (await reader.get("/")).text
    assert "This node knows of no leader" in page
    assert _card(page, "leader, term 3, no quorum") == ("/cluster", "none")


async def test_nobody_sees_what_they_may_not(tmp_path) -> None:
    async with SecureNode(tmp_path, insecure=False).serve() as node:
        async with browser(node, node.token("zoe")) as reader:
            answer = await reader.get("/")
            assert answer.status_code == 200
            assert "You may not see the cluster" in answer.text
            assert 'class="card' not in answer.text
        assert await node.denied() == [], "what is not shown is not asked for"
        node.grant("ann", "blue", Role.ROLE_VIEWER)
        async with browser(node, node.token("ann")) as reader:
            assert _card((await reader.get("/")).text, "running")[1] == "0"
