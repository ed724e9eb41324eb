"""A cluster under a load whose due times are known by arithmetic, while something is done to it; and the judgement of both.

What is done is for the caller: kill_leader.py kills, members.py lets members come and go, upgrade.py replaces programs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from horologe.chaos.checker import Verdict, check, check_schedule
from horologe.chaos.cluster import ChaosCluster, Setting, eventually
from horologe.chaos.evidence import Kind, Mark, read_folder
from horologe.chaos.nemesis import is_steady
from horologe.chaos.recording_worker import FAIL, NOOP
from horologe.chaos.workload import Callers, RecurringJobs, read_outcomes
from horologe.client import jobs
from horologe.node.local_cluster import listen_of
from horologe.v1.job_pb2 import Action

SETTLE_SECONDS = 60.0
WORKERS = ("w1", "w2")
CALLERS = 2

Say = Callable[[str], None]
Done = TypeVar("Done")


@dataclass(slots=True)
class Course(Generic[Done]):
    """What a run was, and what came of it."""

    done: Done
    """What the caller's part has answered."""
    verdict: Verdict
    marks: list[Mark]
    operations: dict[str, int]
    acknowledged_missing: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Nothing lost, nothing doubled, and enough happened to say so."""
        return self.verdict.is_sound and not self.acknowledged_missing and self.operations.get("ok", 0) > 0

    def summary(self) -> str:
        """A few lines for people."""
        return (
            f"{self.verdict.summary()}\noperations of callers: {self.operations}\n"
            f"acknowledged but missing: {self.acknowledged_missing or 'none'}"
        )


async def run_under_load(
    folder: Path,
    rate: float,
    period_seconds: float,
    nodes: int,
    act: Callable[[ChaosCluster], Awaitable[Done]],
    say: Say,
    *,
    newcomers: int = 0,
    command: tuple[str, ...] = (),
    failing_each: int = 0,
) -> Course[Done]:
    """Runs `act` on a cluster that has `rate` executions per second, and judges every due time.

    `newcomers`: so many nodes are made ready to join, and the workers know their addresses.
    `command`: the program that the nodes run; empty: this one.
    `failing_each`: each so manieth job fails once for each due time, and is tried again; 0: none does.
    """
    work = RecurringJobs(round(rate * period_seconds), round(period_seconds * 1000), action=_action(failing_each))
    callers = Callers()
    stop = asyncio.Event()
    async with ChaosCluster(folder, nodes, setting=Setting(command=command)) as cluster:
        names = [await cluster.new_node() for _ in range(newcomers)]
        addresses = [*cluster.local.addresses, *(listen_of(cluster.node(name)) for name in names)]
        for name in WORKERS:
            cluster.add_worker(name, addresses=addresses).start()
        await cluster.wait_workers(*WORKERS)
        await work.create(cluster.client)
        from_ms = _next_second_ms()
        say(f"{work.count} jobs every {period_seconds:g} s: {rate:g} executions/s")
        asking = asyncio.create_task(callers.keep_asking(cluster.client, CALLERS, stop))
        try:
            done = await act(cluster)
        finally:
            stop.set()
            await asyncio.wait_for(asking, SETTLE_SECONDS)
        until_ms = _next_second_ms()
        expected = work.expected(from_ms, until_ms)
        await _settle(cluster, len(expected), from_ms, until_ms)
        marks = read_folder(cluster.evidence)
        verdict = await _judge(cluster, work, marks, from_ms, until_ms)
        missing = await _missing(cluster, callers)
    return Course(done, verdict, marks, dict(callers.counts), missing)


def _action(failing_each: int) -> Callable[[int], Action]:
    def action(number: int) -> Action:
        if failing_each and number % failing_each == 0:
            return jobs.python(FAIL, {"failures": 1})
        return jobs.python(NOOP)

    return action


async def wait_steady(cluster: ChaosCluster) -> None:
    """Until what starts is what is due now, so that each blow meets a cluster that has recovered from the one before."""

    async def steady() -> bool:
        return is_steady(cluster)

    await eventually(steady, SETTLE_SECONDS, "steady work", poll_seconds=0.2)


async def wait_past(monotonic_ns: int) -> None:
    """Until an instant of the monotonic clock."""
    await asyncio.sleep(max(0.0, (monotonic_ns - time.monotonic_ns()) / 1e9))


async def _settle(cluster: ChaosCluster, expected: int, from_ms: int, until_ms: int) -> None:
    """Until every due time has had a start, or until nothing can be expected any more; the checker says which."""

    async def all_started() -> bool:
        marks = read_folder(cluster.evidence)
        seen = {(mark.job, mark.due_ms) for mark in marks if mark.kind == Kind.STARTED and mark.job < 1_000_000}
        return sum(from_ms <= due_ms < until_ms for _, due_ms in seen) >= expected

    with suppress(AssertionError):
        await eventually(all_started, SETTLE_SECONDS, "all due times started", poll_seconds=0.5)

    async def recorded() -> bool:
        # What is due later goes on: only what was due in the measured time must have ended.
        before = await cluster.client.cluster_status()
        return before.running_count + before.queued_count < 1_000

    await eventually(recorded, SETTLE_SECONDS, "the backlog worked off")


async def _judge(cluster: ChaosCluster, work: RecurringJobs, marks: list[Mark], from_ms: int, until_ms: int) -> Verdict:
    expected = work.expected(from_ms, until_ms)
    wanted = {(due.job, due.due_ms) for due in expected}
    starts: dict[int, int] = {}
    for mark in marks:
        if mark.kind == Kind.STARTED and (mark.job, mark.due_ms) in wanted:
            starts[mark.execution] = starts.get(mark.execution, 0) + 1
    ledger = await work.ledger(cluster.client)
    outcomes = await read_outcomes(cluster.client, [number for number, count in starts.items() if count > 1])
    verdict = check(marks, expected, ledger, outcomes)
    own = [mark for mark in marks if mark.job < 1_000_000]
    check_schedule(verdict, own, expected, from_ms, until_ms)
    return verdict


async def _missing(cluster: ChaosCluster, callers: Callers) -> list[str]:
    """What was acknowledged to the callers and is not there."""
    there = {job.name.rpartition("/")[2] async for job in cluster.client.list_jobs(page_size=1_000)}
    executions = {outcome.execution: outcome for outcome in await read_outcomes(cluster.client)}
    missing = [f"job {job}" for job in sorted(callers.created - there)]
    missing += [f"execution {number}" for number in sorted(callers.run) if number not in executions]
    return missing


def _next_second_ms() -> int:
    return (int(time.time()) + 1) * 1000
