"""A worker that keeps no rules: what it says late, or of others' attempts, is refused, and the refusal is counted.

Workers that keep them, and die or freeze or are cut off, are in test_scenarios_workers.py.
"""

from __future__ import annotations

from pathlib import Path

from rude_worker import RudeWorker, attempt_id
from scenes import held

from horologe.chaos.cluster import ChaosCluster, eventually
from horologe.client import names
from horologe.v1.execution_pb2 import Attempt, Execution


async def test_late_and_foreign_results_are_refused_and_counted(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path) as cluster:
        client = cluster.client
        await client.create_job(held("wanted", "rude"))
        # Each word comes through another node than the one before.
        here, there, elsewhere = cluster.local.addresses
        async with RudeWorker(here, "rude", queue="rude") as silent:
            execution = names.execution_number((await client.run_job("wanted")).name)
            lost = await silent.take_assignment()
            assert lost.execution == execution

            async def expired() -> bool:
                return (await client.get_execution(execution)).attempts[0].state == Attempt.STATE_LOST

            await eventually(expired, 60, "the silent worker's attempt lost")
        refused_before = (await client.cluster_status()).refused_token_count
        async with RudeWorker(there, "polite", queue="rude", renews=True) as polite:
            current = await polite.take_assignment()
            assert (current.execution, current.attempt) == (execution, 2)
            assert current.fencing_token > lost.fencing_token
            async with RudeWorker(elsewhere, "rude", queue="nothing", renews=True, held=[attempt_id(lost)]) as late:
                assert [one.fencing_token for one in late.welcome.revoked_attempts] == [lost.fencing_token]
                acks = await late.report(lost)
                assert [one.fencing_token for one in acks.lease_lost] == [lost.fencing_token] and not acks.recorded
                # The token of somebody else's attempt is as good as none, and so is one that was never granted.
                acks = await late.report(current)
                assert [one.fencing_token for one in acks.lease_lost] == [current.fencing_token] and not acks.recorded
                acks = await late.report(current, token=current.fencing_token + 1)
                assert acks.lease_lost and not acks.recorded
                assert (await client.get_execution(execution)).state == Execution.STATE_RUNNING
                acks = await polite.report(current)
                assert [one.fencing_token for one in acks.recorded] == [current.fencing_token]
                # Said again, as after a lost answer, it is the same word; another word comes too late.
                assert (await polite.report(current)).recorded
                assert (await late.report(lost)).lease_lost
        # The workers' nodes have it; the one that this client asks may be a moment behind.
        ended = await client.wait_execution(execution, timeout=60)
        assert ended.state == Execution.STATE_COMPLETED
        assert [attempt.state for attempt in ended.attempts] == [Attempt.STATE_LOST, Attempt.STATE_SUCCEEDED]

        async def on_record() -> bool:
            return (await client.cluster_status()).refused_token_count - refused_before >= 3

        await eventually(on_record, 60, "three refusals on record")
