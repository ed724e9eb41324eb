"""Leaders that die or are cut off, at every point of an execution: one due time, one start, one leader to be believed.

One cluster for all scenarios of this file, one after the other, on a network in which members can be cut off (as root; without
it the leader is stopped instead). The numbers are those of the list of scenarios.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from scenes import ended, held, over, run, started, starts_of

from horologe.chaos.cluster import ChaosCluster, eventually
from horologe.chaos.evidence import Kind, read_folder
from horologe.chaos.network import open_network
from horologe.chaos.recording_worker import NOOP
from horologe.client import jobs
from horologe.client.errors import HorologeError
from horologe.v1.execution_pb2 import Attempt

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChaosCluster]:
    with open_network() as network:
        async with ChaosCluster(tmp_path_factory.mktemp("leaders"), 3, network=network) as cluster:
            yield cluster


async def _kill_leader(cluster: ChaosCluster, leader: str) -> None:
    """Dead, and another leads."""
    cluster.node(leader).kill()
    await cluster.wait_leader()


async def _revive(cluster: ChaosCluster, node: str) -> None:
    await asyncio.to_thread(cluster.node(node).start)
    await cluster.wait_ready()


async def _worker_at(cluster: ChaosCluster, name: str, node: str) -> None:
    """A worker that prefers one node, on a queue of its own name."""
    address = cluster.local.addresses[cluster.names.index(node)]
    cluster.add_worker(name, queue=name, addresses=[address]).start()
    await cluster.wait_workers(name)


async def test_scenario_10_leader_dies_between_fire_and_assign(cluster: ChaosCluster) -> None:
    leader = await cluster.wait_ready()
    # Nobody serves its queue: it is fired, and waits.
    await cluster.client.create_job(jobs.job("s10", jobs.after_delay("500ms"), jobs.python(NOOP), queue="s10"))

    async def fired() -> int:
        return (await cluster.client.cluster_status()).queued_count

    await eventually(fired, 60, "the due time is fired")
    await _kill_leader(cluster, leader)
    cluster.add_worker("s10", queue="s10").start()
    (row,) = [row async for row in cluster.client.list_ledger("s10")]
    execution = int(row.execution.rpartition("/")[2])
    await ended(cluster, execution, "COMPLETED", "SUCCEEDED")
    assert len(starts_of(cluster, execution)) == 1
    await _revive(cluster, leader)
    assert len([row async for row in cluster.client.list_ledger("s10")]) == 1


async def test_scenario_11_leader_dies_between_assign_and_dispatch(cluster: ChaosCluster) -> None:
    leader = await cluster.wait_ready()
    gateway = (await cluster.followers())[0]
    await _worker_at(cluster, "s11", gateway)
    await cluster.client.create_job(held("s11", "s11", 0.2))
    # The gateway stands still: what is assigned to its worker is committed, and stays with it.
    cluster.node(gateway).signal(signal.SIGSTOP)
    execution = int((await cluster.on(leader).run_job("s11")).name.rpartition("/")[2])
    first = (await cluster.on(leader).get_execution(execution)).attempts
    await _kill_leader_while_the_gateway_stands(cluster, leader, gateway)
    found = await over(cluster, execution)
    (start,) = await started(cluster, execution)
    assert start.token == found.attempts[-1].fencing_token
    assert found.attempts[-1].state == Attempt.STATE_SUCCEEDED
    assert [one.fencing_token for one in first] == [one.fencing_token for one in found.attempts[: len(first)]]
    await _revive(cluster, leader)


async def _kill_leader_while_the_gateway_stands(cluster: ChaosCluster, leader: str, gateway: str) -> None:
    cluster.node(leader).kill()
    cluster.node(gateway).signal(signal.SIGCONT)
    await cluster.wait_leader()


async def test_scenario_12_leader_dies_while_its_worker_runs(cluster: ChaosCluster) -> None:
    leader = await cluster.wait_ready()
    worker = cluster.add_worker("s12", queue="s12")
    worker.start()
    await cluster.wait_workers("s12")
    execution = await run(cluster, held("s12", "s12", 2.0))
    await started(cluster, execution)
    await _kill_leader(cluster, leader)
    # The worker comes to another node with what it holds; nothing starts twice.
    await ended(cluster, execution, "COMPLETED", "SUCCEEDED")
    assert len(starts_of(cluster, execution)) == 1
    await _revive(cluster, leader)


async def test_scenario_15_leader_is_cut_off_with_its_workers(cluster: ChaosCluster) -> None:
    leader = await cluster.wait_ready()
    others = await cluster.followers()
    await _worker_at(cluster, "s15", leader)
    execution = await run(cluster, held("s15-job", "s15", 600))
    await started(cluster, execution)
    if cluster.network.can_partition:
        for one in (leader, "s15"):
            cluster.unhear(one, others)
        for other in others:
            cluster.unhear(other, [leader, "s15"])
    else:
        for name in (leader, "s15"):
            (cluster.node(name) if name == leader else cluster.workers[name]).signal(signal.SIGSTOP)
    address = cluster.local.addresses[cluster.names.index(others[0])]
    cluster.add_worker("s15-other", queue="s15", addresses=[address]).start()
    # What the old leader is asked, it cannot promise.
    with pytest.raises(HorologeError):
        await cluster.on(leader).with_timeout(1.5).create_job(jobs.job("s15-lonely", jobs.manual(), jobs.python(NOOP)))
    first, second = await started(cluster, execution, 2)
    assert second.token > first.token
    if cluster.network.can_partition:
        stops = [mark for mark in read_folder(cluster.evidence) if mark.kind == Kind.STOPPED]
        stopped = [mark for mark in stops if (mark.execution, mark.token) == (execution, first.token)]
        assert stopped and stopped[0].monotonic_ns < second.monotonic_ns, "two held the lease"
    cluster.network.hear_all()
    if not cluster.network.can_partition:
        for name in (leader, "s15"):
            (cluster.node(name) if name == leader else cluster.workers[name]).signal(signal.SIGCONT)
    await cluster.wait_ready()
    await cluster.wait_workers("s15", "s15-other")
    await cluster.client.cancel_execution(execution)
    await ended(cluster, execution, "CANCELLED", "LOST CANCELLED")
    # "s15-lonely" is there or not, and the same everywhere.
    found = [{job.name async for job in cluster.on(name).list_jobs(page_size=1_000)} for name in cluster.names]
    assert found[0] == found[1] == found[2]
