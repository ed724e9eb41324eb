"""Workers that die, freeze, or are cut off, at every point of an attempt: what the cluster makes of it, and what really ran.

Evidence is what handlers and scripts wrote themselves. The numbers are those of the list of scenarios that are promised.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from rude_worker import RudeWorker
from scenes import HOLD_SECONDS, Played, ended, held, over, playing, run, started, starts_of

from horologe.chaos.checker import Rule, Verdict, check_attempts
from horologe.chaos.cluster import ChaosCluster, RecordingWorker, eventually
from horologe.chaos.disk import FailingCalls
from horologe.chaos.evidence import Kind, read_folder
from horologe.chaos.proxy import Proxy
from horologe.client import jobs
from horologe.node.local_cluster import LocalProcess
from horologe.v1.job_pb2 import Job

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _two_policies(cluster: ChaosCluster, queue: str, seconds: float = HOLD_SECONDS) -> tuple[int, int]:
    """One execution that is tried again when its worker is lost, and one that is not."""
    again = await run(cluster, held(f"{queue}-again", queue, seconds))
    once = await run(cluster, held(f"{queue}-once", queue, seconds, on_lease_loss="fail"))
    return again, once


async def _victim(cluster: ChaosCluster, queue: str, addresses: list[str] | None = None) -> RecordingWorker:
    worker = cluster.add_worker(f"{queue}-victim", queue=queue, addresses=addresses)
    worker.start()
    await cluster.wait_workers(worker.name)
    return worker


def _rescue(cluster: ChaosCluster, queue: str) -> None:
    cluster.add_worker(f"{queue}-rescuer", queue=queue).start()


async def _lost_while_it_ran(cluster: ChaosCluster, again: int, once: int) -> None:
    """Both attempts were lost: one came again under a higher token, the other did not."""
    failed = await ended(cluster, once, "FAILED", "LOST")
    assert failed.reason, "nobody is told why it failed"
    await ended(cluster, again, "COMPLETED", "LOST SUCCEEDED")
    assert len(starts_of(cluster, again)) == 2
    assert len(starts_of(cluster, once)) == 1
    verdict = Verdict()
    check_attempts(verdict, [mark for mark in read_folder(cluster.evidence) if mark.execution in (again, once)])
    assert set(verdict.violations) <= {Rule.OVERLAP}


async def dies_before_the_dispatch(cluster: ChaosCluster) -> None:
    victim = await _victim(cluster, "s1")
    # It stands still, so that what is sent to it is never read; then it dies.
    victim.signal(signal.SIGSTOP)
    execution = await run(cluster, held("s1-job", "s1", 0.1))
    victim.kill()
    _rescue(cluster, "s1")
    found = await over(cluster, execution)
    assert found.attempts[-1].worker == "s1-rescuer"
    assert len(starts_of(cluster, execution)) == 1


async def dies_after_the_receipt(cluster: ChaosCluster) -> None:
    here = cluster.local.addresses[0]
    async with RudeWorker(here, "s2-victim", queue="s2") as victim:
        again, once = await _two_policies(cluster, "s2", 0.1)
        taken = {(await victim.take_assignment()).execution}
        while taken != {again, once}:
            taken.add((await victim.take_assignment()).execution)
    _rescue(cluster, "s2")
    await ended(cluster, once, "FAILED", "LOST")
    await ended(cluster, again, "COMPLETED", "LOST SUCCEEDED")
    assert (len(starts_of(cluster, again)), len(starts_of(cluster, once))) == (1, 0)


def _script(file: Path, seconds: float) -> str:
    """Says that it began, and under which token, and that it ended."""
    return (
        f'echo "begin $HOROLOGE_FENCING_TOKEN" >> {file}; sleep {seconds}; echo "end $HOROLOGE_FENCING_TOKEN" >> {file}'
    )


def _lines(file: Path) -> list[str]:
    """What scripts have written so far: a file is there before its first line is, and only whole lines count."""
    return [line for line in file.read_text().splitlines(True) if line.endswith("\n")] if file.exists() else []


def _shell(name: str, file: Path, seconds: float, **policy: str) -> Job:
    # Where a worker puts programs into namespaces of their own, they see this folder only if it is theirs to start in.
    action = jobs.shell(_script(file, seconds), cwd=str(file.parent))
    return jobs.job(name, jobs.manual(), action, queue=name.partition("-")[0], **policy)


async def _shell_worker(cluster: ChaosCluster, stack: AsyncExitStack, name: str, queue: str) -> LocalProcess:
    worker = cluster.local.worker(name, "--queue", queue)
    stack.callback(worker.kill)
    await asyncio.to_thread(worker.start)
    await cluster.wait_workers(name)
    return worker


async def dies_before_the_code_begins(cluster: ChaosCluster) -> None:
    """The worker has taken it, and is about to start the program: every `execve` of its children is held up."""
    file = cluster.folder / "s3.txt"
    async with AsyncExitStack() as stack:
        victim = await _shell_worker(cluster, stack, "s3-victim", "s3")
        slow = FailingCalls(victim.pid, "execve", "delay_enter=5000000")
        await slow.begin()
        execution = await run(cluster, _shell("s3-job", file, 0, on_lease_loss="fail"))

        async def about_to_start() -> bool:
            return bool(psutil.Process(victim.pid).children())

        await eventually(about_to_start, 60, "the worker is about to start a program")
        victim.kill()
        await slow.end()
        await ended(cluster, execution, "FAILED", "LOST")
        assert not file.exists(), "code ran although its worker had died before"


async def dies_while_it_runs(cluster: ChaosCluster) -> None:
    file = cluster.folder / "s4.txt"
    async with AsyncExitStack() as stack:
        shell = await _shell_worker(cluster, stack, "s4-shell", "s4shell")
        victim = await _victim(cluster, "s4")
        # It would be through before the loss of its worker is settled.
        program = await run(cluster, _shell("s4shell-job", file, HOLD_SECONDS * 3, on_lease_loss="fail"))
        again, once = await _two_policies(cluster, "s4")
        await started(cluster, again)
        await started(cluster, once)

        async def begun() -> bool:
            return bool(_lines(file))

        await eventually(begun, 60, "the program has begun")
        victim.kill()
        shell.kill()
        _rescue(cluster, "s4")
        await _lost_while_it_ran(cluster, again, once)
        found = await ended(cluster, program, "FAILED", "LOST")
        assert file.read_text().splitlines() == [f"begin {found.attempts[0].fencing_token}"], "it survived its worker"


async def dies_before_it_reports(cluster: ChaosCluster) -> None:
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy(address)) for address in cluster.local.addresses]
        victim = await _victim(cluster, "s5", [proxy.address for proxy in proxies])
        again, once = await _two_policies(cluster, "s5")
        await started(cluster, again)
        await started(cluster, once)
        for proxy in proxies:
            proxy.fall_silent()

        async def over() -> bool:
            over = {mark.execution for mark in read_folder(cluster.evidence) if mark.kind == Kind.ENDED}
            return {again, once} <= over

        await eventually(over, 60, "both have come to their end, and cannot say so")
        victim.kill()
        _rescue(cluster, "s5")
        # Nobody can know that they had ended: one may have run twice, the other is FAILED although it ran.
        await _lost_while_it_ran(cluster, again, once)


async def is_cut_off_for_longer_than_its_lease(cluster: ChaosCluster) -> None:
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy(address)) for address in cluster.local.addresses]
        victim = await _victim(cluster, "s6", [proxy.address for proxy in proxies])
        again, once = await _two_policies(cluster, "s6", 600)
        await started(cluster, again)
        await started(cluster, once)
        for proxy in proxies:
            proxy.fall_silent()
        _rescue(cluster, "s6")
        first, second = await started(cluster, again, 2)
        await ended(cluster, once, "FAILED", "LOST")
        stops = [mark for mark in read_folder(cluster.evidence) if mark.kind == Kind.STOPPED]
        stopped = [mark for mark in stops if mark.token == first.token and mark.execution == again]
        assert stopped and stopped[0].monotonic_ns < second.monotonic_ns, "the worker without a lease went on"
        assert second.token > first.token
        for proxy in proxies:
            proxy.speak()
        await cluster.wait_workers(victim.name)
        await cluster.client.cancel_execution(again)
        await ended(cluster, again, "CANCELLED", "LOST CANCELLED")


async def is_cut_off_for_a_moment(cluster: ChaosCluster) -> None:
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy(address)) for address in cluster.local.addresses]
        await _victim(cluster, "s7", [proxy.address for proxy in proxies])
        again, once = await _two_policies(cluster, "s7")
        await started(cluster, again)
        await started(cluster, once)
        for proxy in proxies:
            proxy.cut()
        await ended(cluster, again, "COMPLETED", "SUCCEEDED")
        await ended(cluster, once, "COMPLETED", "SUCCEEDED")
        assert (len(starts_of(cluster, again)), len(starts_of(cluster, once))) == (1, 1)


async def stands_still_for_longer_than_its_lease(cluster: ChaosCluster) -> None:
    victim = await _victim(cluster, "s8")
    again, once = await _two_policies(cluster, "s8")
    await started(cluster, again)
    await started(cluster, once)
    victim.signal(signal.SIGSTOP)
    _rescue(cluster, "s8")
    await _lost_while_it_ran(cluster, again, once)
    # It comes back to life: what it still has to say must change nothing, and it takes work again.
    victim.signal(signal.SIGCONT)
    await cluster.wait_workers(victim.name)
    await ended(cluster, again, "COMPLETED", "LOST SUCCEEDED")
    await ended(cluster, once, "FAILED", "LOST")
    assert await victim.stop() == 0


async def sleeps_with_its_host(cluster: ChaosCluster) -> None:
    """All of a worker's processes stand still for longer than the lease, its supervisor and the program too."""
    file = cluster.folder / "s9.txt"
    async with AsyncExitStack() as stack:
        victim = await _shell_worker(cluster, stack, "s9-victim", "s9")
        execution = await run(cluster, _shell("s9-job", file, 600))

        async def begun() -> bool:
            return bool(_lines(file))

        await eventually(begun, 60, "the program has begun")
        processes = [psutil.Process(victim.pid), *psutil.Process(victim.pid).children(recursive=True)]
        assert len(processes) >= 3, "worker, supervisor, program"
        for process in processes:
            os.kill(process.pid, signal.SIGSTOP)
        rescuer = await _shell_worker(cluster, stack, "s9-rescuer", "s9")

        async def two_begun() -> bool:
            return len(_lines(file)) == 2

        await eventually(two_begun, 60, "the next attempt has begun")
        for process in processes:
            # Whoever woke up first may have killed the program already, as it should.
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
        _, gone = await asyncio.to_thread(psutil.wait_procs, processes[2:], 20)
        assert not gone, f"still there after the host woke up: {gone}"
        found = await cluster.client.get_execution(execution)
        tokens = [attempt.fencing_token for attempt in found.attempts]
        assert file.read_text().splitlines() == [f"begin {token}" for token in tokens]
        assert rescuer.is_running


async def comes_twice_under_one_name(cluster: ChaosCluster) -> None:
    here, there, _ = cluster.local.addresses
    async with RudeWorker(here, "s37", queue="s37", renews=True) as first:
        execution = await run(cluster, held("s37-job", "s37"))
        taken = await first.take_assignment()
        async with RudeWorker(there, "s37", queue="s37", renews=True) as second:
            # The old session is renewed no more, however it asks; the new one gets the next attempt.
            again = await second.take_assignment()
            assert (again.execution, again.attempt) == (execution, 2)
            assert again.fencing_token > taken.fencing_token
            assert (await second.report(again)).recorded
            assert (await second.report(taken)).lease_lost
    await ended(cluster, execution, "COMPLETED", "LOST SUCCEEDED")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def played(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Played]:
    cluster = ChaosCluster(tmp_path_factory.mktemp("workers"))
    scenarios = (
        dies_before_the_dispatch, dies_after_the_receipt, dies_before_the_code_begins, dies_while_it_runs,
        dies_before_it_reports, is_cut_off_for_longer_than_its_lease, is_cut_off_for_a_moment,
        stands_still_for_longer_than_its_lease, sleeps_with_its_host, comes_twice_under_one_name,
    )  # fmt: skip
    async with playing(cluster, *scenarios) as played:
        yield played


async def test_scenario_01_worker_dies_before_it_received_the_dispatch(played: Played) -> None:
    await played[dies_before_the_dispatch]


async def test_scenario_02_worker_dies_after_the_receipt(played: Played) -> None:
    await played[dies_after_the_receipt]


async def test_scenario_03_worker_dies_before_the_code_begins(played: Played) -> None:
    await played[dies_before_the_code_begins]


async def test_scenario_04_worker_dies_while_code_runs(played: Played) -> None:
    await played[dies_while_it_runs]


async def test_scenario_05_worker_dies_before_it_reports(played: Played) -> None:
    await played[dies_before_it_reports]


async def test_scenario_06_worker_is_cut_off_for_longer_than_its_lease(played: Played) -> None:
    await played[is_cut_off_for_longer_than_its_lease]


async def test_scenario_07_worker_is_cut_off_for_a_moment(played: Played) -> None:
    await played[is_cut_off_for_a_moment]


async def test_scenario_08_worker_stands_still_for_longer_than_its_lease(played: Played) -> None:
    await played[stands_still_for_longer_than_its_lease]


async def test_scenario_09_host_of_a_worker_sleeps(played: Played) -> None:
    await played[sleeps_with_its_host]


async def test_scenario_37_worker_comes_twice_under_one_name(played: Played) -> None:
    await played[comes_twice_under_one_name]
