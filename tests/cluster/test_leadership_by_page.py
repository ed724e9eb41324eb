"""The page of a node that does not lead: how all members stand, in their own words, and leadership handed over from there."""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path

import httpx

from horologe.chaos.cluster import eventually
from horologe.client import AsyncClient
from horologe.node.local_cluster import TLS_FOLDER, TOKEN_FILE, LocalCluster, option_of
from horologe.node.tls_folder import CA_FILE

SECONDS = 60


async def test_a_follower_asks_the_leader_to_hand_over(tmp_path: Path) -> None:
    cluster = LocalCluster.prepare(tmp_path / "cluster", 3, usual_ports=False, secure=True)
    try:
        cluster.start()
        await eventually(lambda: _exists(cluster.folder / TOKEN_FILE), SECONDS, "the administrator's token")
        async with AsyncClient(context_file=cluster.context_file) as client:
            leader = await eventually(lambda: _leader(client, len(cluster.nodes)), SECONDS, "a leader with followers")
            follower = next(node for node in cluster.nodes if node.name != leader)
            trusted = ssl.create_default_context(cafile=cluster.folder / TLS_FOLDER / CA_FILE)
            address = f"https://{option_of(follower, 'http_listen')}"
            async with httpx.AsyncClient(verify=trusted, base_url=address, timeout=20) as browser:
                token = (cluster.folder / TOKEN_FILE).read_text().strip()
                fields = {"csrf": _proof((await browser.get("/sign-in")).text), "token": token}
                assert (await browser.post("/sign-in", data=fields)).status_code == 303
                everybody = "a page for which each member has answered"
                page = await eventually(lambda: _page(browser, len(cluster.nodes)), SECONDS, everybody)
                fields = {"csrf": _proof(page), "target": follower.name}
                answer = await browser.post("/cluster/transfer-leader", data=fields)
                assert answer.status_code == 303, answer.text
            # The old leader was asked, and has heard so; another node may hear a moment later who leads now.
            await eventually(lambda: _leads(client, follower.name), SECONDS, f"{follower.name} leads")
    finally:
        cluster.kill()


async def _exists(path: Path) -> bool:
    return await asyncio.to_thread(path.exists)


async def _leader(client: AsyncClient, count: int) -> str:
    """Empty until somebody leads, and all are there."""
    members = [member async for member in client.list_members()]
    leader = (await client.cluster_status()).leader
    return leader if len(members) == count and all(member.reachable for member in members) else ""


async def _page(browser: httpx.AsyncClient, count: int) -> str:
    """That of the cluster; empty unless so many members have said how they stand, for which each has a second."""
    page = (await browser.get("/cluster")).text
    return page if page.count(" GiB</td>") == count else ""


async def _leads(client: AsyncClient, name: str) -> bool:
    return (await client.cluster_status()).leader == name


def _proof(page: str) -> str:
    """What its forms count with."""
    found = re.search(r'x-csrf-token": "(\w*)"', page)
    assert found is not None
    return found[1]
