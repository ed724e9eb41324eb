"""A follower that the log no longer reaches takes over the leader's whole state, and only if it is whole."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path

from state_digest import digest_of

from horologe.chaos.cluster import ChaosCluster, eventually
from horologe.chaos.workload import Callers, RecurringJobs, each, read_outcomes
from horologe.client import jobs

FEW_ENTRIES = {"log_entries_kept": 20}


def _log_of(cluster: ChaosCluster, node: str) -> list[dict[str, object]]:
    # The last line may be one that is being written.
    lines = (cluster.node(node).folder / "node.log").read_text().rpartition("\n")[0].splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def _events(cluster: ChaosCluster, node: str, event: str) -> int:
    return sum(line.get("event") == event for line in _log_of(cluster, node))


async def _fill(cluster: ChaosCluster, prefix: str, count: int = 150) -> None:
    """So many entries that the log of before is gone."""

    async def create(number: int) -> None:
        await cluster.client.create_job(
            jobs.job(f"{prefix}-{number}", jobs.manual(), jobs.shell(["true"]), description="x" * 2_000),
            request_id=str(uuid.uuid4()),
        )

    await each(range(1, count + 1), create, in_flight=4)


async def _all_equal(cluster: ChaosCluster, scratch: Path) -> None:
    """Stops the cluster and compares the states; nodes may stand at different revisions, those at one must be the same."""

    async def quiet() -> bool:
        return len({(await cluster.on(name).cluster_status()).revision for name in cluster.names}) == 1

    await eventually(quiet, 60, "all nodes at one revision")
    cluster.local.kill()
    digests = {name: digest_of(cluster.node(name).folder, name, scratch / name) for name in cluster.names}
    assert len(set(digests.values())) == 1, digests


async def test_a_follower_that_fell_behind_fetches_the_state_and_may_lead(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    async with ChaosCluster(tmp_path, 3, FEW_ENTRIES) as cluster:
        cluster.add_worker("w1").start()
        await cluster.wait_workers("w1")
        work = RecurringJobs(count=20, period_ms=1_000)
        await work.create(cluster.client)
        behind = (await cluster.followers())[0]
        cluster.node(behind).kill()
        await _fill(cluster, "while-away")
        await asyncio.to_thread(cluster.node(behind).start)
        await cluster.wait_caught_up(behind)

        async def told() -> bool:
            # The log goes on meanwhile: what comes after the state may be gone too, and then it takes the state once more.
            return _events(cluster, behind, "snapshot installed") >= 1

        # It stands where the others do a moment before it says how it got there.
        await eventually(told, 60, "a snapshot was installed")
        # It serves reads of its own, and takes writes.
        assert (await cluster.on(behind).get_job("while-away-150")).description
        await cluster.on(behind).create_job(jobs.job("from-behind", jobs.manual(), jobs.shell(["true"])))

        async def leads() -> bool:
            leader = await cluster.wait_leader()
            if leader != behind:
                await cluster.on(leader).transfer_leader(behind)
            return await cluster.leader() == behind

        await eventually(leads, 60, f"{behind} leads", poll_seconds=0.5)
        before = (await cluster.client.cluster_status()).completed_count

        async def fires() -> bool:
            return (await cluster.client.cluster_status()).completed_count > before + 40

        await eventually(fires, 60, "executions under the new leader", poll_seconds=0.2)
        # And after a restart it goes on from what it took over.
        cluster.node(behind).kill()
        await asyncio.to_thread(cluster.node(behind).start)
        await cluster.wait_caught_up(behind)
        assert await cluster.workers["w1"].stop() == 0
        for number in range(1, work.count + 1):
            await cluster.client.pause_job(f"{work.prefix}-{number}")
        await _all_equal(cluster, scratch)


async def test_a_node_that_dies_while_it_takes_over_a_snapshot_is_none_the_worse(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path, 3, FEW_ENTRIES) as cluster:
        behind = (await cluster.followers())[0]
        callers = Callers()
        stop = asyncio.Event()
        asking = asyncio.create_task(callers.keep_asking(cluster.client, 2, stop))
        folder = cluster.node(behind).folder
        for attempt in range(4):
            cluster.node(behind).kill()
            await _fill(cluster, f"round-{attempt}")
            before = _events(cluster, behind, "fetching a snapshot")
            await asyncio.to_thread(cluster.node(behind).start)

            async def fetching(before: int = before) -> bool:
                return _events(cluster, behind, "fetching a snapshot") > before

            await eventually(fetching, 60, "a snapshot on its way", poll_seconds=0.001)
            # A little later each time: while it arrives, when it is whole, while it is put in place.
            await asyncio.sleep(attempt * 0.015)
        cluster.node(behind).kill()
        (folder / "incoming").mkdir(exist_ok=True)
        (folder / "incoming" / "data.mdb").write_bytes(b"left over from an earlier life")
        await asyncio.to_thread(cluster.node(behind).start)
        stop.set()
        await asking
        await cluster.wait_caught_up(behind)
        there = {outcome.execution for outcome in await read_outcomes(cluster.on(behind))}
        assert set(callers.run) <= there
        assert callers.counts["ok"] > 50 and not callers.counts["failed"], callers.errors
        await _all_equal(cluster, tmp_path / "scratch")
