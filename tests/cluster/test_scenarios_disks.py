"""Disks that are slow, full, broken, or lose what was not synced: what was acknowledged stays, and what was due runs once.

Every node has a small file system of its own, and works all the time: recurring jobs, whose account must be sound after each
scenario, and callers, whose acknowledged jobs must be there. As root; the numbers are those of the list of scenarios.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import pytest_asyncio

from horologe.chaos.checker import Verdict, check
from horologe.chaos.cluster import ChaosCluster, NotInTimeError, Setting, eventually
from horologe.chaos.disk import FailingCalls, cut_power, fill
from horologe.chaos.evidence import read_folder
from horologe.chaos.workload import Callers, RecurringJobs, read_outcomes

pytestmark = pytest.mark.asyncio(loop_scope="module")

DISK_BYTES = 256 << 20
FREE_BYTES_MIN = 16 << 20
WORK = RecurringJobs(count=50, period_ms=1_000)
SYNCS = "fsync,fdatasync"
# The disks below are slower than this, and that of the machine itself is not, whatever else it has to do.
ELECTIONS = {"election_timeout_ms_min": 1_000, "election_timeout_ms_max": 2_000, "lease_term_ms": 30_000}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChaosCluster]:
    setting = Setting({"disk_free_bytes_min": FREE_BYTES_MIN, **ELECTIONS}, small_disk_bytes=DISK_BYTES)
    async with ChaosCluster(tmp_path_factory.mktemp("disks"), 3, setting=setting) as cluster:
        cluster.add_worker("w1").start()
        await cluster.wait_workers("w1")
        await WORK.create(cluster.client)
        yield cluster


@asynccontextmanager
async def under_load(cluster: ChaosCluster, name: str) -> AsyncIterator[None]:
    """Callers ask during the block; after it everything must be accounted for, and everything acknowledged be there."""
    callers, stop = Callers(prefix=name), asyncio.Event()
    from_ms = _next_second_ms()
    asking = asyncio.create_task(callers.keep_asking(cluster.client.with_timeout(5.0), 2, stop))

    async def answered() -> bool:
        return callers.counts["ok"] > 20

    try:
        await eventually(answered, 60, "callers are answered")
        yield
        for node in cluster.local.nodes:
            if not node.is_running:
                await asyncio.to_thread(node.start)
        await cluster.wait_ready()
        callers.counts.clear()
        await eventually(answered, 60, "callers are answered again")
    finally:
        stop.set()
        await asyncio.wait_for(asking, 40)
    until_ms = _next_second_ms()
    verdict = Verdict()

    async def sound() -> bool:
        nonlocal verdict
        expected = WORK.expected(from_ms, until_ms)
        marks = read_folder(cluster.evidence)
        verdict = check(marks, expected, await WORK.ledger(cluster.client), await read_outcomes(cluster.client))
        return verdict.is_sound

    with suppress(NotInTimeError):
        await eventually(sound, 60, "all accounted for", poll_seconds=0.5)
    assert verdict.is_sound, verdict.summary()
    jobs = {job.name.rpartition("/")[2] async for job in cluster.client.list_jobs(page_size=1_000)}
    assert callers.created <= jobs, f"lost: {sorted(callers.created - jobs)[:10]}"


def _next_second_ms() -> int:
    return (int(time.time()) + 1) * 1000


async def _stopped(cluster: ChaosCluster, name: str) -> None:
    async def gone() -> bool:
        return not cluster.node(name).is_running

    await eventually(gone, 60, f"{name} stops by itself")
    process = cluster.node(name).process
    assert process is not None and process.returncode != 0, "it ended as if all were well"
    assert "horologe: " in cluster.node(name).last_words(), "nobody is told why"


async def test_scenario_21_disk_of_the_leader_is_slow(cluster: ChaosCluster) -> None:
    async with under_load(cluster, "s21"):
        leader = await cluster.wait_leader()
        slow = FailingCalls(cluster.node(leader).pid, SYNCS, "delay_enter=5000000")
        await slow.begin()

        async def another() -> bool:
            return (await cluster.leader()) not in (None, leader)

        await eventually(another, 60, "another leader")
        await slow.end()


async def test_scenario_22_disk_of_a_follower_is_slow(cluster: ChaosCluster) -> None:
    async with under_load(cluster, "s22"):
        leader = await cluster.wait_leader()
        before = await cluster.on(leader).cluster_status()
        follower = (await cluster.followers())[0]
        slow = FailingCalls(cluster.node(follower).pid, SYNCS, "delay_enter=2500000")
        await slow.begin()

        async def goes_on() -> bool:
            status = await cluster.status(leader)
            return status is not None and status.completed_count > before.completed_count + 100

        await eventually(goes_on, 60, "the others go on")
        after = await cluster.on(leader).cluster_status()
        assert (after.leader, after.term) == (leader, before.term), "a slow follower cost the leader its office"
        await slow.end()


async def test_scenario_23_disk_is_full(cluster: ChaosCluster) -> None:
    async with under_load(cluster, "s23"):
        victim = await cluster.wait_leader()
        ballast = fill(cluster.data_folder(victim))
        done = (await cluster.client.cluster_status()).completed_count

        async def goes_on() -> bool:
            return (await cluster.client.cluster_status()).completed_count > done + 200

        try:
            await eventually(goes_on, 60, "work goes on, with the node that has no room or without it")
        finally:
            ballast.unlink()


async def test_scenario_24_disk_fails_to_sync(cluster: ChaosCluster) -> None:
    async with under_load(cluster, "s24"):
        for victim in (await cluster.wait_leader(), (await cluster.followers())[0]):
            failing = FailingCalls(cluster.node(victim).pid, SYNCS, "error=EIO:when=3")
            await failing.begin()
            await _stopped(cluster, victim)
            await failing.end()
            await asyncio.to_thread(cluster.node(victim).start)
            await cluster.wait_ready()


async def test_scenario_25_what_was_not_synced_is_lost(cluster: ChaosCluster) -> None:
    """All machines lose power at the same moment."""
    async with under_load(cluster, "s25"):
        cluster.local.kill()
        for name in cluster.names:
            await asyncio.to_thread(cut_power, cluster.data_folder(name))
        await asyncio.to_thread(cluster.local.start)
