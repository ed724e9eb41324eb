"""Callers across a change of leader: through any node, again with the same id, and what they hear when nobody can answer."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from pathlib import Path

import pytest

from horologe.chaos.cluster import ChaosCluster, eventually
from horologe.chaos.recording_worker import NOOP
from horologe.client import jobs
from horologe.client.errors import HorologeError, InvalidArgument, OutcomeUnknown, Unavailable
from horologe.node.firing import ON_TIME_MS
from horologe.v1.execution_service_pb2 import LedgerRow
from horologe.v1.job_pb2 import Job


def _manual(name: str) -> Job:
    return jobs.job(name, jobs.manual(), jobs.python(NOOP))


async def test_scenario_29_the_same_request_gives_one_job_and_one_run_whichever_node_is_asked(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path) as cluster:
        create_id, run_id = str(uuid.uuid4()), str(uuid.uuid4())
        first = await cluster.client.create_job(_manual("once"), request_id=create_id)
        run = await cluster.client.run_job("once", request_id=run_id)
        killed = await cluster.wait_leader()
        cluster.node(killed).kill()
        # Asked again of everybody at once, while a leader is being elected.
        alive = [name for name in cluster.names if name != killed]
        answers = await asyncio.gather(
            *(cluster.on(name).create_job(_manual("once"), request_id=create_id) for name in alive * 3),
            *(cluster.on(name).run_job("once", request_id=run_id) for name in alive * 3),
        )
        await asyncio.to_thread(cluster.node(killed).start)
        await cluster.wait_caught_up(killed)
        answers.append(await cluster.on(killed).create_job(_manual("once"), request_id=create_id))
        answers.append(await cluster.on(killed).run_job("once", request_id=run_id))
        assert {answer.name for answer in answers} == {first.name, run.name}
        assert {answer.etag for answer in answers if isinstance(answer, Job)} == {first.etag}
        assert [execution.name async for execution in cluster.client.list_executions("once")] == [run.name]
        status = await cluster.client.cluster_status()
        assert (status.job_count, status.fired_count) == (1, 1)
        with pytest.raises(InvalidArgument) as reused:
            await cluster.client.create_job(_manual("another"), request_id=create_id)
        assert reused.value.reason == "REQUEST_ID_REUSED"


async def test_scenario_29_a_retry_that_began_before_the_leader_died_ends_as_one_job(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path) as cluster:
        leader = await cluster.wait_leader()
        follower = (await cluster.followers())[0]
        # Sent through a follower, so that the command dies with the leader on its way, or does not: both must end well.
        ids = [str(uuid.uuid4()) for _ in range(40)]
        asking = [
            asyncio.create_task(cluster.on(follower).create_job(_manual(f"job-{number}"), request_id=request_id))
            for number, request_id in enumerate(ids)
        ]
        cluster.node(leader).kill()
        created = await asyncio.gather(*asking)
        again = [
            await cluster.on(follower).create_job(_manual(f"job-{number}"), request_id=request_id)
            for number, request_id in enumerate(ids)
        ]
        assert [job.etag for job in again] == [job.etag for job in created]
        assert (await cluster.on(follower).cluster_status()).job_count == 40


async def test_writes_through_a_follower_are_read_there_and_everywhere(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path) as cluster:
        for follower in await cluster.followers():
            written = await cluster.on(follower).create_job(_manual(f"through-{follower}"))
            assert (await cluster.on(follower).get_job(f"through-{follower}")).etag == written.etag
            # Another client, told what revision to expect, sees it on every node.
            revision = cluster.on(follower).revision
            assert revision > 0
            for name in cluster.names:
                cluster.on(name)._saw(await cluster.on(follower).cluster_status())
                assert (await cluster.on(name).get_job(f"through-{follower}")).etag == written.etag


async def test_scenario_35_majority_is_lost(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path) as cluster:
        await cluster.client.create_job(_manual("before"))
        for policy in ("latest", "skip"):
            schedule = jobs.every("1s", phase="0s")
            await cluster.client.create_job(
                jobs.job(policy, schedule, jobs.python(NOOP), catchup=policy, overlap="allow")
            )
        survivor = await cluster.wait_leader()
        lost = [name for name in cluster.names if name != survivor]
        for name in lost:
            await cluster.wait_caught_up(name)
            cluster.node(name).kill()
        request_id = str(uuid.uuid4())
        lonely = cluster.on(survivor)

        async def without_leader() -> bool:
            status = await cluster.status(survivor)
            return status is not None and not status.leader and not status.has_quorum

        await eventually(without_leader, 60, "the survivor has noticed")
        with pytest.raises((Unavailable, OutcomeUnknown)) as refused:
            await lonely.with_timeout(2.0).create_job(_manual("during"), request_id=request_id)
        assert refused.value.reason in ("NO_LEADER", "OUTCOME_UNKNOWN")
        assert refused.value.request_id == request_id
        assert (await lonely.get_job("before")).name.endswith("/before")
        fired = (await lonely.cluster_status()).fired_count
        lost_at = time.monotonic()

        async def long_enough() -> bool:
            # From here on what was due is missed, and the policies decide.
            return time.monotonic() - lost_at > ON_TIME_MS / 1000 + 2

        await eventually(long_enough, 60, "more than late")
        assert (await lonely.cluster_status()).fired_count == fired, "it fired without a majority"
        await asyncio.to_thread(cluster.node(lost[0]).start)

        async def written() -> bool:
            await lonely.with_timeout(5.0).create_job(_manual("during"), request_id=request_id)
            return True

        await eventually(written, 60, "writes with two of three")
        await asyncio.to_thread(cluster.node(lost[1]).start)
        await cluster.wait_caught_up(lost[1])
        assert (await cluster.on(lost[1]).get_job("during")).name.endswith("/during")
        found = [job.name async for job in cluster.client.list_jobs()]
        assert len(found) == 4
        for policy, outcome in (("latest", LedgerRow.OUTCOME_COALESCED), ("skip", LedgerRow.OUTCOME_MISSED)):
            rows = [row async for row in cluster.client.list_ledger(policy)]
            assert sum(row.count for row in rows if row.outcome == outcome) >= 1, (policy, rows)
            times = [row.due_time.ToMilliseconds() for row in rows]
            counts = [row.count for row in rows]
            # Every second has one row, whatever came between.
            assert all(
                later - earlier == 1_000 * count
                for (earlier, later), count in zip(itertools.pairwise(times), counts, strict=False)
            ), rows


async def test_a_leader_cut_off_from_its_followers_is_not_believed(tmp_path: Path) -> None:
    """Both followers are frozen: the leader may not go on as if it led; thawed, they find together again."""
    import signal

    async with ChaosCluster(tmp_path) as cluster:
        leader = await cluster.wait_leader()
        frozen = [name for name in cluster.names if name != leader]
        for name in frozen:
            cluster.node(name).signal(signal.SIGSTOP)

        async def stepped_down() -> bool:
            status = await cluster.status(leader)
            return status is not None and not status.has_quorum

        await eventually(stepped_down, 60, "the leader steps down")
        with pytest.raises(HorologeError):
            await cluster.on(leader).with_timeout(1.5).create_job(_manual("lonely"))
        for name in frozen:
            cluster.node(name).signal(signal.SIGCONT)
        await cluster.wait_ready()
        await cluster.client.create_job(_manual("together"))
