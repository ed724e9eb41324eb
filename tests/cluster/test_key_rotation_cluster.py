"""All nodes get new data keys under load, each by itself, and the replicas stay equal; a state that one sends brings its keys."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

from support.keys import key_numbers_in

from horologe.chaos.cluster import ChaosCluster, eventually
from horologe.chaos.recording_worker import NOOP
from horologe.client import jobs
from horologe.client.async_client import AsyncClient

WRITERS = 8
FEW_ENTRIES = {"log_entries_kept": 20}


async def _create(client: AsyncClient, prefix: str, number: int) -> None:
    await client.create_job(jobs.job(f"{prefix}-{number}", jobs.manual(), jobs.python(NOOP), description="x" * 500))


async def _settled(cluster: ChaosCluster) -> dict[str, set[int]]:
    """The keys of each node, when none rotates any more."""

    async def nobody_rotates() -> bool:
        return not any([(await cluster.on(name).get_encryption()).rotating for name in cluster.names])

    await eventually(nobody_rotates, 60, "all rotations are over")
    return {name: {key.number for key in (await cluster.on(name).get_encryption()).keys} for name in cluster.names}


async def _digests(cluster: ChaosCluster) -> set[bytes]:
    revision = await cluster.client.take_checkpoint()
    return {(await cluster.on(name).state_digest(revision)).digest for name in cluster.names}


async def test_all_nodes_rotate_under_load_and_stay_equal(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path) as cluster:
        cluster.add_worker("w1").start()
        await cluster.wait_workers("w1")
        await cluster.client.batch_create_jobs(
            [jobs.job(f"job-{number}", jobs.every("1s"), jobs.python(NOOP)) for number in range(100)]
        )
        numbers, writing = count(), True

        async def write() -> None:
            while writing:
                await _create(cluster.client, "written", next(numbers))

        writers = [asyncio.create_task(write()) for _ in range(WRITERS)]
        try:
            assert len(await _digests(cluster)) == 1
            before = await _settled(cluster)
            for name in cluster.names:
                await cluster.on(name).rotate_keys()
            assert len(await _digests(cluster)) == 1
            after = await _settled(cluster)
            assert len(await _digests(cluster)) == 1
        finally:
            writing = False
            await asyncio.gather(*writers)
        assert all(len(keys) == 1 for keys in after.values())
        assert len({key for keys in (*before.values(), *after.values()) for key in keys}) == 6
        found = {job.name.rpartition("/")[2] async for job in cluster.client.list_jobs()}
        assert {f"written-{number}" for number in range(next(numbers))} <= found
        cluster.local.kill()
        for name in cluster.names:
            assert key_numbers_in(cluster.node(name).folder, name) == after[name], name


async def test_a_state_that_is_sent_brings_its_keys_and_a_rotation_makes_it_ones_own(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path, 3, FEW_ENTRIES) as cluster:
        leader = await cluster.wait_leader()
        behind = next(name for name in cluster.names if name != leader)
        cluster.node(behind).kill()
        for number in range(100):
            await _create(cluster.client, "missed", number)
        await asyncio.to_thread(cluster.node(behind).start)
        await cluster.wait_caught_up(behind)
        assert (await cluster.on(behind).get_job("missed-99")).name.endswith("missed-99")
        keys = {name: {key.number for key in (await cluster.on(name).get_encryption()).keys} for name in cluster.names}
        assert keys[behind] & (keys[leader] | set().union(*(keys[name] for name in cluster.names if name != behind)))
        # It wraps them with its own key-encryption key: the next life reads what came.
        cluster.node(behind).kill()
        await asyncio.to_thread(cluster.node(behind).start)
        await cluster.wait_caught_up(behind)
        assert (await cluster.on(behind).get_job("missed-0")).name.endswith("missed-0")
        await cluster.on(behind).rotate_keys()
        after = await _settled(cluster)
        assert len(after[behind]) == 1
        assert not after[behind] & set().union(*keys.values())
        assert len(await _digests(cluster)) == 1
        cluster.local.kill()
        assert key_numbers_in(cluster.node(behind).folder, behind) == after[behind]
