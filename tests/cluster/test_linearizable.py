"""Linearizable reads on an old leader that was stopped while the cluster went on without it, and state digests under load."""

from __future__ import annotations

import asyncio
import signal
import uuid
from pathlib import Path

from horologe.chaos.cluster import ChaosCluster, eventually
from horologe.chaos.recording_worker import NOOP
from horologe.client import jobs
from horologe.client.errors import HorologeError

ROUNDS = 4


async def test_a_read_is_never_older_than_a_write_that_was_acknowledged_before_it(tmp_path: Path) -> None:
    """The old leader wakes up and still believes that it leads: what it answers then is new, or is no answer."""
    answered = 0
    async with ChaosCluster(tmp_path) as cluster:
        for number in range(ROUNDS):
            old = await cluster.wait_leader()
            others = [name for name in cluster.names if name != old]
            reader = cluster.on(old).linearizable().with_timeout(10)
            cluster.node(old).signal(signal.SIGSTOP)
            try:
                name = f"job-{number}"
                write, request_id = jobs.job(name, jobs.manual(), jobs.python(NOOP)), str(uuid.uuid4())
                await eventually(
                    lambda: cluster.on(others[0]).with_timeout(10).create_job(write, request_id=request_id),  # noqa: B023
                    60,
                    "a write without the old leader",
                )
                # Asked while it is stopped, so that it is the first thing it does when it wakes up.
                reading = asyncio.create_task(reader.get_job(name))
            finally:
                cluster.node(old).signal(signal.SIGCONT)
            try:
                assert (await reading).name.endswith(name)
                answered += 1
            except HorologeError as error:
                assert error.reason in ("BEHIND", "NO_LEADER", "OUTCOME_UNKNOWN"), error
            await cluster.wait_ready()
            assert (await reader.get_job(name)).name.endswith(name)
    assert answered


async def test_all_members_have_one_digest_at_one_revision_under_load(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path) as cluster:
        cluster.add_worker("w1").start()
        await cluster.wait_workers("w1")
        definitions = [jobs.job(f"job-{i}", jobs.every("1s"), jobs.python(NOOP)) for i in range(100)]
        await cluster.client.batch_create_jobs(definitions)
        revisions = []
        for _ in range(5):
            before = (await cluster.client.cluster_status()).fired_count

            async def goes_on(before: int = before) -> bool:
                return (await cluster.client.cluster_status()).fired_count > before + 50

            await eventually(goes_on, 60, "50 executions more")
            revision = await cluster.client.take_checkpoint()
            digests = await asyncio.gather(*(cluster.on(name).state_digest(revision) for name in cluster.names))
            assert [digest.node for digest in digests] == cluster.names
            assert len({digest.digest for digest in digests}) == 1, digests
            assert {digest.revision for digest in digests} == {revision}
            revisions.append(revision)
        assert len(set(revisions)) == 5
