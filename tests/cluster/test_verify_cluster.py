"""`horologe verify` against three nodes: under load, when a leader dies, with a node away, and with one that differs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.keys import store_of

from horologe.chaos.cluster import ChaosCluster, eventually
from horologe.chaos.recording_worker import NOOP
from horologe.chaos.verify import verify
from horologe.client import jobs

GRACE_MS = 3_000


async def test_a_cluster_is_verified_and_a_member_that_differs_is_found(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path) as cluster:
        cluster.add_worker("w1").start()
        await cluster.wait_workers("w1")
        await cluster.client.batch_create_jobs(
            [jobs.job(f"job-{i}", jobs.every("1s"), jobs.python(NOOP)) for i in range(50)]
        )

        async def fired(count: int) -> None:
            before = (await cluster.client.cluster_status()).fired_count

            async def more() -> bool:
                return (await cluster.client.cluster_status()).fired_count >= before + count

            await eventually(more, 60, f"{count} executions more")

        await fired(300)
        found = await verify(cluster.client, GRACE_MS)
        assert found.is_sound and found.is_complete, (found.wrong, found.members, found.unread)
        assert [member.name for member in found.members] == cluster.names
        assert found.jobs == 50
        assert found.due >= 50

        leader = await cluster.wait_leader()
        cluster.node(leader).kill()
        await fired(300)
        found = await verify(cluster.client, GRACE_MS)
        assert found.is_sound, (found.wrong, found.unsound and found.unsound[0].findings)
        assert not found.is_complete
        assert [member.name for member in found.members if member.error] == [leader]

        # What a node holds, and nobody gave it.
        store = store_of(cluster.folder / "cluster" / leader, leader)
        assert list(store.log_get_all()), "not the folder of the node"
        store.tables.worker_name.put(b"\xff\xff\xff\xff", b"nobody")
        store.commit()
        store.close()
        await asyncio.to_thread(cluster.node(leader).start)
        await cluster.wait_caught_up(leader)
        found = await verify(cluster.client, GRACE_MS)
        assert found.is_complete, found.members
        assert not found.is_sound
        assert not found.wrong
        digests = {member.name: member.digest for member in found.members}
        different = digests.pop(leader)
        assert len(set(digests.values())) == 1
        assert different not in digests.values()
