"""Whether a node lives, and whether it is of use now: for whoever starts processes again, and for whoever sends them work."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from metrics_harness import scraper
from secure_harness import SecureNode
from service_harness import FakeNode

from horologe.chaos.cluster import eventually
from horologe.node.config import MemberConfig, NodeConfig
from horologe.node.http import health
from horologe.node.local_cluster import free_ports
from horologe.node.node import Node


def reasons(answer: Any) -> list[str]:
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert all(len(each["message"]) > 10 for each in told["reasons"])
    assert (answer.status_code, told["status"] in ("ok", "ready")) in ((200, True), (503, False))
    return [each["reason"] for each in told["reasons"]]


async def test_a_node_that_serves(node: FakeNode) -> None:
    async with scraper(node) as watcher:
        for path in ("/healthz", "/readyz"):
            answer = await watcher.get(path)
            assert (answer.status_code, reasons(answer)) == (200, [])
            assert (await watcher.http.head(path)).status_code == 200


async def test_nobody_is_asked_who_they_are(tmp_path: Path) -> None:
    async with SecureNode(tmp_path).serve() as node, scraper(node) as watcher:
        for path in ("/healthz", "/readyz"):
            answer = await watcher.get(path)
            assert answer.status_code == 200
            # Nothing about the cluster.
            assert set(answer.json()) == {"status", "reasons"}


@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        ({"leader": ""}, "NO_LEADER"),
        ({"may_serve": False}, "NO_QUORUM"),
        ({"leader_commit_index": 10_000}, "BEHIND"),
    ],
)
async def test_one_that_cannot_serve(node: FakeNode, standing: dict[str, Any], reason: str) -> None:
    status = node.status()
    values = {name: getattr(status, name) for name in status.__slots__} | standing
    node.context.status = lambda: SimpleNamespace(**values)  # type: ignore[return-value,assignment]
    async with scraper(node) as watcher:
        assert reasons(await watcher.get("/readyz")) == [reason]
        # To start it again would not help.
        assert reasons(await watcher.get("/healthz")) == []


async def test_one_that_stops(node: FakeNode) -> None:
    node.context.is_draining = True
    async with scraper(node) as watcher:
        assert reasons(await watcher.get("/readyz")) == ["STOPPING"]
        assert reasons(await watcher.get("/healthz")) == []


async def test_one_whose_steps_are_stuck(node: FakeNode) -> None:
    node.context.metrics.stepped(0.0, node.clock.monotonic(), wrote=True)
    async with scraper(node) as watcher:
        node.clock.now_ms += int(health.STUCK_SECONDS * 1000)
        assert reasons(await watcher.get("/healthz")) == []
        node.clock.now_ms += 1
        assert reasons(await watcher.get("/healthz")) == ["STUCK"]
        assert reasons(await watcher.get("/readyz")) == ["STUCK"]


async def test_a_real_node_whose_others_are_away(tmp_path: Path) -> None:
    """One of three: it lives, and is not ready."""
    ports = free_ports(6)
    members = tuple(MemberConfig(name=f"n{i}", peer_address=f"127.0.0.1:{ports[i]}") for i in (1, 2, 3))
    node = Node(
        NodeConfig(
            name="n1",
            data_dir=tmp_path,
            insecure=True,
            members=members,
            listen=f"127.0.0.1:{ports[4]}",
            peer_listen=f"127.0.0.1:{ports[1]}",
            http_listen="",
            drain_seconds=0.1,
        )
    )
    await node.start()
    try:

        async def stepped() -> bool:
            return node.context.metrics.stepped_at is not None

        await eventually(stepped, 60, "the node steps")
        assert health.illnesses(node.context) == []
        assert [each["reason"] for each in health.obstacles(node.context)] == ["NO_LEADER"]
        page = await asyncio.to_thread(node.context.metrics.page, "")
        assert b"horologe_raft_has_leader 0.0" in page[0]
        assert b"horologe_raft_reachable_voters 1.0" in page[0]
    finally:
        await node.stop()
    assert [each["reason"] for each in health.obstacles(node.context)] == ["STOPPING", "NO_LEADER"]
