"""SIGTERM: a node leaves in good order, exits 0, and nobody has to wait for an election."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

from horologe.chaos.checker import check, longest_gap_seconds
from horologe.chaos.cluster import ChaosCluster, NotInTimeError, eventually
from horologe.chaos.evidence import read_folder
from horologe.chaos.workload import RecurringJobs, read_outcomes
from horologe.client.errors import Unavailable

ROUNDS = 3


async def test_leaders_that_are_told_to_stop_hand_over_and_exit_0(
    tmp_path: Path, patient_elections: dict[str, str | int | float]
) -> None:
    work = RecurringJobs(count=200, period_ms=1_000)
    stops_ns: list[int] = []
    async with ChaosCluster(tmp_path, 3, patient_elections) as cluster:
        for name in ("w1", "w2"):
            cluster.add_worker(name).start()
        await cluster.wait_workers("w1", "w2")
        await work.create(cluster.client)
        from_ms = (int(time.time()) + 1) * 1000
        for _ in range(ROUNDS):
            leader = await cluster.wait_leader()
            term = (await cluster.client.cluster_status()).term
            stops_ns.append(time.monotonic_ns())
            code = await asyncio.to_thread(cluster.node(leader).stop)
            assert code == 0, cluster.node(leader).last_words()
            assert not (cluster.node(leader).folder / "node.pid").exists()
            next_leader = await cluster.wait_leader()
            assert next_leader != leader
            # Handed over: one election that was asked for, and none that somebody had to call because nobody led.
            assert (await cluster.on(next_leader).cluster_status()).term == term + 1
            await asyncio.to_thread(cluster.node(leader).start)
            await cluster.wait_ready()
        until_ms = (int(time.time()) + 1) * 1000
        expected = work.expected(from_ms, until_ms)

        async def judged() -> bool:
            marks = read_folder(cluster.evidence)
            verdict = check(marks, expected, await work.ledger(cluster.client), await read_outcomes(cluster.client))
            return verdict.is_sound

        try:
            await eventually(judged, 60, "all due times accounted for", poll_seconds=0.5)
        except NotInTimeError:
            print("not sound; see below")
        marks = read_folder(cluster.evidence)
        verdict = check(marks, expected, await work.ledger(cluster.client), await read_outcomes(cluster.client))
        refused = (await cluster.client.cluster_status()).refused_token_count
    gaps = [longest_gap_seconds(marks, stop, stop + 3_000_000_000) for stop in stops_ns]
    print(verdict.summary())
    print("longest time without a start after each SIGTERM, ms:", [round(gap * 1000) for gap in gaps])
    assert verdict.is_sound, verdict.summary()
    assert verdict.retried == 0
    assert refused == 0


async def test_all_nodes_told_to_stop_exit_0_and_come_back(
    tmp_path: Path, patient_elections: dict[str, str | int | float]
) -> None:
    work = RecurringJobs(count=50, period_ms=1_000)
    # They are back before a lease ends, however long they take to start.
    async with ChaosCluster(tmp_path, 3, patient_elections) as cluster:
        cluster.add_worker("w1").start()
        await cluster.wait_workers("w1")
        await work.create(cluster.client)

        async def some_ran() -> bool:
            return (await cluster.client.cluster_status()).completed_count > 100

        await eventually(some_ran, 60, "executions")
        codes = await asyncio.to_thread(cluster.local.stop)
        assert codes == [0, 0, 0], [node.last_words() for node in cluster.local.nodes]
        try:
            await cluster.client.with_timeout(1.0).create_job(work.job(1))
            raise AssertionError("a write was taken by a cluster that is not there")
        except Unavailable as error:
            assert "no node answers" in str(error)
        await asyncio.to_thread(cluster.local.start)
        await cluster.wait_ready()
        before = (await cluster.client.cluster_status()).completed_count
        assert before > 100

        async def goes_on() -> bool:
            return (await cluster.client.cluster_status()).completed_count > before + 100

        await eventually(goes_on, 60, "executions after the restart")
        status = await cluster.client.cluster_status()
        assert status.refused_token_count == 0


async def test_the_last_node_without_a_majority_still_stops_in_time(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path, 3, {"drain_seconds": 2.0}) as cluster:
        leader = await cluster.wait_leader()
        for name in cluster.names:
            if name != leader:
                cluster.node(name).kill()
        cluster.node(leader).signal(signal.SIGTERM)
        assert await asyncio.to_thread(cluster.node(leader).wait_stopped) == 0
