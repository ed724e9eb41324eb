"""Workers that die, freeze, or are cut off: their attempts end LOST, come again under a higher token, and no late word counts."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from rude_worker import RudeWorker, attempt_id

from horologe.chaos.checker import Verdict, check_attempts
from horologe.chaos.cluster import ChaosCluster, RecordingWorker, eventually
from horologe.chaos.evidence import Kind, Mark, read_folder
from horologe.chaos.proxy import Proxy
from horologe.chaos.recording_worker import HOLD, NOOP
from horologe.client import jobs, names
from horologe.v1.execution_pb2 import Attempt, Execution
from horologe.v1.job_pb2 import Job

# Longer than it takes to see that it runs, shorter than a lease: a frozen attempt is past its end when it thaws.
HOLD_SECONDS = 1.5
Fault = Callable[[RecordingWorker], Awaitable[None]]


def _job(name: str, queue: str, **policy: str) -> Job:
    return jobs.job(name, jobs.manual(), jobs.python(HOLD, {"seconds": HOLD_SECONDS}), queue=queue, **policy)


async def _started(cluster: ChaosCluster, execution: int, count: int = 1) -> list[Mark]:
    async def starts() -> list[Mark] | None:
        found = [one for one in read_folder(cluster.evidence) if one.execution == execution]
        found = [one for one in found if one.kind == Kind.STARTED]
        return found if len(found) >= count else None

    return await eventually(starts, 30, f"{count} starts of execution {execution}")


async def _lose_a_worker(cluster: ChaosCluster, fault_name: str, addresses: list[str], fault: Fault) -> list[int]:
    """Runs one attempt of each policy on a worker, strikes, and sees both through. Answers the executions."""
    victim = cluster.add_worker(f"{fault_name}-victim", queue=fault_name, addresses=addresses)
    victim.start()
    await cluster.wait_workers(victim.name)
    client = cluster.client
    await client.batch_create_jobs(
        [_job(f"{fault_name}-again", fault_name), _job(f"{fault_name}-once", fault_name, on_lease_loss="fail")]
    )
    again = names.execution_number((await client.run_job(f"{fault_name}-again")).name)
    once = names.execution_number((await client.run_job(f"{fault_name}-once")).name)
    await _started(cluster, again)
    await _started(cluster, once)
    await fault(victim)
    rescuer = cluster.add_worker(f"{fault_name}-rescuer", queue=fault_name)
    rescuer.start()
    failed = await client.wait_execution(once, timeout=30)
    assert failed.state == Execution.STATE_FAILED, failed
    assert [attempt.state for attempt in failed.attempts] == [Attempt.STATE_LOST], failed
    ended = await client.wait_execution(again, timeout=30)
    assert ended.state == Execution.STATE_COMPLETED, ended
    assert [attempt.state for attempt in ended.attempts] == [Attempt.STATE_LOST, Attempt.STATE_SUCCEEDED], ended
    assert ended.attempts[1].fencing_token > ended.attempts[0].fencing_token
    assert [attempt.worker for attempt in ended.attempts] == [victim.name, rescuer.name]
    assert failed.reason, "nobody is told why it failed"
    return [again, once]


async def test_attempts_of_workers_that_are_killed_frozen_or_cut_off(
    tmp_path: Path, short_lease: dict[str, str | int | float]
) -> None:
    async with ChaosCluster(tmp_path, 3, short_lease) as cluster, AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy(address)) for address in cluster.local.addresses]

        async def kill(victim: RecordingWorker) -> None:
            victim.kill()

        async def freeze(victim: RecordingWorker) -> None:
            victim.signal(signal.SIGSTOP)

        async def cut_off(victim: RecordingWorker) -> None:
            for proxy in proxies:
                proxy.fall_silent()

        direct = cluster.local.addresses
        killed, frozen, cut = await asyncio.gather(
            _lose_a_worker(cluster, "killed", direct, kill),
            _lose_a_worker(cluster, "frozen", direct, freeze),
            _lose_a_worker(cluster, "cut", [proxy.address for proxy in proxies], cut_off),
        )
        # They come back to life: what they still have to say must change nothing, and they take work again.
        cluster.workers["frozen-victim"].signal(signal.SIGCONT)
        for proxy in proxies:
            proxy.speak()
        await cluster.wait_workers("frozen-victim", "cut-victim")
        executions = [*killed, *frozen, *cut]
        states = {number: (await cluster.client.get_execution(number)).state for number in executions}
        assert list(states.values()) == [Execution.STATE_COMPLETED, Execution.STATE_FAILED] * 3
        for name in ("frozen-victim", "cut-victim"):
            assert await cluster.workers[name].stop() == 0
        marks = [mark for mark in read_folder(cluster.evidence) if mark.execution in executions]

    verdict = Verdict()
    check_attempts(verdict, marks, frozenset(frozen))
    assert not verdict.violations, verdict.summary()
    assert verdict.retried == 3
    for again, once in (killed, frozen, cut):
        assert len([mark for mark in marks if mark.execution == again and mark.kind == Kind.STARTED]) == 2
        assert len([mark for mark in marks if mark.execution == once and mark.kind == Kind.STARTED]) == 1


async def test_a_cut_off_worker_stops_before_anybody_else_begins(
    tmp_path: Path, short_lease: dict[str, str | int | float]
) -> None:
    async with ChaosCluster(tmp_path, 3, short_lease) as cluster, Proxy(cluster.local.addresses[0]) as proxy:
        cluster.add_worker("lonely", addresses=[proxy.address]).start()
        await cluster.wait_workers("lonely")
        await cluster.client.create_job(jobs.job("long", jobs.manual(), jobs.python(HOLD, {"seconds": 600})))
        execution = names.execution_number((await cluster.client.run_job("long")).name)
        await _started(cluster, execution)
        proxy.fall_silent()
        cluster.add_worker("other").start()
        first, second = await _started(cluster, execution, 2)
        stops = [
            mark for mark in read_folder(cluster.evidence) if mark.kind == Kind.STOPPED and mark.token == first.token
        ]
        assert stops, "the worker without a lease went on"
        assert stops[0].monotonic_ns < second.monotonic_ns
        print(f"stopped {(second.monotonic_ns - stops[0].monotonic_ns) / 1e6:.0f} ms before the next attempt began")
        assert second.token > first.token
        await cluster.client.cancel_execution(execution)
        ended = await cluster.client.wait_execution(execution, timeout=20)
        assert ended.state == Execution.STATE_CANCELLED


async def test_a_short_interruption_costs_nothing(tmp_path: Path, short_lease: dict[str, str | int | float]) -> None:
    async with ChaosCluster(tmp_path, 3, short_lease) as cluster, AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy(address)) for address in cluster.local.addresses]
        cluster.add_worker("w1", addresses=[proxy.address for proxy in proxies]).start()
        await cluster.wait_workers("w1")
        await cluster.client.create_job(_job("held", "default"))
        execution = names.execution_number((await cluster.client.run_job("held")).name)
        await _started(cluster, execution)
        for proxy in proxies:
            proxy.cut()
        ended = await cluster.client.wait_execution(execution, timeout=20)
        assert ended.state == Execution.STATE_COMPLETED
        assert [attempt.state for attempt in ended.attempts] == [Attempt.STATE_SUCCEEDED]
        assert len(await _started(cluster, execution)) == 1


async def test_late_and_foreign_results_are_refused_and_counted(
    tmp_path: Path, short_lease: dict[str, str | int | float]
) -> None:
    async with ChaosCluster(tmp_path, 3, short_lease) as cluster:
        client = cluster.client
        await client.create_job(_job("wanted", "rude"))
        # Each word comes through another node than the one before.
        here, there, elsewhere = cluster.local.addresses
        async with RudeWorker(here, "rude", queue="rude") as silent:
            execution = names.execution_number((await client.run_job("wanted")).name)
            lost = await silent.take_assignment()
            assert lost.execution == execution

            async def expired() -> bool:
                return (await client.get_execution(execution)).attempts[0].state == Attempt.STATE_LOST

            await eventually(expired, 20, "the silent worker's attempt lost")
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
        ended = await client.wait_execution(execution, timeout=20)
        assert ended.state == Execution.STATE_COMPLETED
        assert [attempt.state for attempt in ended.attempts] == [Attempt.STATE_LOST, Attempt.STATE_SUCCEEDED]

        async def on_record() -> bool:
            return (await client.cluster_status()).refused_token_count - refused_before >= 3

        await eventually(on_record, 20, "three refusals on record")


async def test_another_process_under_the_same_name_fences_the_first(
    tmp_path: Path, short_lease: dict[str, str | int | float]
) -> None:
    async with ChaosCluster(tmp_path, 3, short_lease) as cluster:
        client = cluster.client
        here, there, _ = cluster.local.addresses
        await client.create_job(_job("wanted", "rude"))
        async with RudeWorker(here, "twin", queue="rude", renews=True) as first:
            execution = names.execution_number((await client.run_job("wanted")).name)
            taken = await first.take_assignment()
            async with RudeWorker(there, "twin", queue="rude", renews=True) as second:
                # The old session is renewed no more, however it asks; the new one gets the next attempt.
                again = await second.take_assignment()
                assert (again.execution, again.attempt) == (execution, 2)
                assert again.fencing_token > taken.fencing_token
                assert (await second.report(again)).recorded
        await client.create_job(jobs.job("next", jobs.manual(), jobs.python(NOOP), queue="rude"))
        async with RudeWorker(there, "other", queue="rude", renews=True) as third:
            await client.run_job("next")
            assert (await third.report(await third.take_assignment())).recorded
