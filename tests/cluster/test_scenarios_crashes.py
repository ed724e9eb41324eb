"""All nodes are killed at once under load and start again: what was acknowledged is there, what was due is made up for."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

from horologe.chaos.checker import Verdict, check, check_attempts
from horologe.chaos.cluster import ChaosCluster, NotInTimeError, eventually
from horologe.chaos.evidence import Kind, read_folder
from horologe.chaos.history import FINAL_STATES
from horologe.chaos.workload import Callers, RecurringJobs, read_outcomes

CALLERS = 8
ROUNDS = 2


async def test_scenario_34_all_nodes_are_killed_at_once_under_load(tmp_path: Path) -> None:
    callers = Callers()
    work = RecurringJobs(count=200, period_ms=1_000)
    async with ChaosCluster(tmp_path) as cluster:
        cluster.add_worker("w1", slots=10_000).start()
        await cluster.wait_workers("w1")
        await work.create(cluster.client)
        from_ms = (int(time.time()) + 1) * 1000
        for _ in range(ROUNDS):
            await _ask_and_kill(cluster, callers)
            await cluster.wait_ready()
            await cluster.wait_workers("w1")
        until_ms = (int(time.time()) + 1) * 1000
        expected = work.expected(from_ms, until_ms)

        finished: dict[int, str] = {}

        async def settled() -> bool:
            finished.update({one.execution: one.state for one in await read_outcomes(cluster.client)})
            ledger = {(line.job, line.due_ms) for line in await work.ledger(cluster.client)}
            wanted = (set(callers.run) - _long_ones(callers)) | callers.cancelled | _ended(cluster, until_ms)
            return all((due.job, due.due_ms) in ledger for due in expected) and all(
                finished.get(number) in FINAL_STATES for number in wanted
            )

        with suppress(NotInTimeError):
            # What is missing then, the checks below say better.
            await eventually(settled, 60, "everything settled", poll_seconds=0.5)
        outcomes = await read_outcomes(cluster.client)
        states = {outcome.execution: outcome.state for outcome in outcomes}
        marks = read_folder(cluster.evidence)
        verdict = check(marks, expected, await work.ledger(cluster.client), outcomes)
        ended = _ended(cluster, until_ms)
        jobs = {job.name.rpartition("/")[2] async for job in cluster.client.list_jobs(page_size=1_000)}

    print(verdict.summary(), callers.counts, callers.errors)
    assert callers.created <= jobs, f"lost jobs: {sorted(callers.created - jobs)[:10]}"
    assert set(callers.run) <= set(states), f"lost executions: {sorted(set(callers.run) - set(states))[:10]}"
    for number in callers.cancelled:
        assert states[number] == "CANCELLED", f"execution {number} is {states[number]} after its cancellation"
    # A worker reports what ended until it is recorded, so each of these was acknowledged to it.
    open_ones = {number for number in ended if states.get(number) not in ("COMPLETED", "CANCELLED")}
    assert not open_ones, f"ended, and yet not recorded: {sorted(open_ones)[:10]}"
    asked = Verdict()
    check_attempts(asked, [mark for mark in marks if mark.execution in callers.run])
    assert not asked.violations, asked.summary()
    assert verdict.is_sound, verdict.summary()
    assert len(callers.cancelled) > 10 and len(callers.run) > 50, f"too little happened: {callers.counts}"


def _ended(cluster: ChaosCluster, until_ms: int) -> set[int]:
    """Executions due before an instant whose handler came to its end."""
    marks = read_folder(cluster.evidence)
    return {mark.execution for mark in marks if mark.kind == Kind.ENDED and mark.due_ms < until_ms}


def _long_ones(callers: Callers) -> set[int]:
    """Executions that last, whether or not anybody has cancelled them."""
    return {number for number, job in callers.run.items() if int(job.rpartition("-")[2]) % 1_000_000 % 3 == 0}


async def _ask_and_kill(cluster: ChaosCluster, callers: Callers) -> None:
    """Lets callers work until enough is acknowledged, then kills everything in the middle of it, and starts it again."""
    stop = asyncio.Event()
    callers.prefix += "x"
    before = callers.counts["ok"]
    asking = asyncio.create_task(callers.keep_asking(cluster.client.with_timeout(5.0), CALLERS, stop))

    async def enough() -> bool:
        return callers.counts["ok"] > before + 400

    await eventually(enough, 60, "enough acknowledged operations")
    for name in cluster.names:
        process = cluster.node(name).process
        assert process is not None
        process.kill()
    stop.set()
    cluster.local.kill()
    await asyncio.to_thread(cluster.local.start)
    await asyncio.wait_for(asking, 60)
