"""The leader is killed again and again while work goes on: is anything lost or doubled, and how long does nothing start?

`horologe chaos kill-leader` runs it on a cluster of its own and judges both. Tests run it shorter and judge only what is
lost or doubled: how long anything takes depends on the machine.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from horologe.chaos.checker import Verdict, check, check_schedule, longest_gap_seconds
from horologe.chaos.cluster import ChaosCluster, eventually
from horologe.chaos.evidence import Kind, Mark, read_folder
from horologe.chaos.nemesis import is_steady
from horologe.chaos.workload import Callers, RecurringJobs, read_outcomes

GAP_SECONDS_MAX = 2.0
SETTLE_SECONDS = 60.0
GAP_WINDOW_SECONDS = 5.0
"""A gap belongs to the kill if it begins within this time after it."""
WORKERS = ("w1", "w2")
CALLERS = 2

Say = Callable[[str], None]


@dataclass(slots=True)
class KillReport:
    """What came of it."""

    verdict: Verdict
    gaps_seconds: list[float]
    """From each kill to the first start for a due time after it, which another leader must have fired."""
    silences_seconds: list[float]
    """The longest time without any start around each kill."""
    operations: dict[str, int]
    acknowledged_missing: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Nothing lost, nothing doubled, and enough happened to say so."""
        return self.verdict.is_sound and not self.acknowledged_missing and self.operations.get("ok", 0) > 0

    def summary(self) -> str:
        """A few lines for people."""
        return "\n".join(
            [
                self.verdict.summary(),
                f"operations of callers: {self.operations}",
                f"acknowledged but missing: {self.acknowledged_missing or 'none'}",
                f"from each kill to the next start, seconds: {_seconds(self.gaps_seconds)}",
                f"longest time without a start around each kill, seconds: {_seconds(self.silences_seconds)}",
            ]
        )


def _seconds(values: Sequence[float]) -> str:
    each = ", ".join(f"{value:.2f}" for value in values)
    return f"median {statistics.median(values):.2f}, max {max(values):.2f} ({each})"


async def run(folder: Path, rounds: int, rate: float, period_seconds: float, nodes: int, say: Say) -> KillReport:
    """Kills the leader `rounds` times under `rate` executions per second."""
    work = RecurringJobs(count=round(rate * period_seconds), period_ms=round(period_seconds * 1000))
    callers = Callers()
    stop = asyncio.Event()
    async with ChaosCluster(folder, nodes) as cluster:
        for name in WORKERS:
            cluster.add_worker(name).start()
        await cluster.wait_workers(*WORKERS)
        await work.create(cluster.client)
        from_ms = _next_second_ms()
        say(f"{work.count} jobs every {period_seconds:g} s: {rate:g} executions/s")
        asking = asyncio.create_task(callers.keep_asking(cluster.client, CALLERS, stop))
        try:
            kills = await _kill_rounds(cluster, rounds, say)
        finally:
            stop.set()
            await asyncio.wait_for(asking, SETTLE_SECONDS)
        until_ms = _next_second_ms()
        expected = work.expected(from_ms, until_ms)
        await _settle(cluster, len(expected), from_ms, until_ms)
        marks = read_folder(cluster.evidence)
        verdict = await _judge(cluster, work, marks, from_ms, until_ms)
        missing = await _missing(cluster, callers)
    window_ns = int(GAP_WINDOW_SECONDS * 1e9)
    silences = [longest_gap_seconds(marks, kill, kill + window_ns) for kill in kills]
    return KillReport(verdict, [_gap_seconds(marks, kill) for kill in kills], silences, dict(callers.counts), missing)


def _gap_seconds(marks: list[Mark], kill_ns: int) -> float:
    """From a kill to the first start for a due time after it; marks are in the order in which they happened."""
    for mark in marks:
        due_ns = mark.monotonic_ns - int(mark.delay_ms * 1e6)
        if mark.kind == Kind.STARTED and due_ns > kill_ns:
            return (mark.monotonic_ns - kill_ns) / 1e9
    return math.inf


async def _kill_rounds(cluster: ChaosCluster, rounds: int, say: Say) -> list[int]:
    kills: list[int] = []
    for number in range(1, rounds + 1):
        await _wait_steady(cluster)
        leader = await cluster.wait_leader()
        kills.append(time.monotonic_ns())
        cluster.node(leader).kill()
        await cluster.wait_leader()
        led_seconds = (time.monotonic_ns() - kills[-1]) / 1e9
        await asyncio.to_thread(cluster.node(leader).start)
        await cluster.wait_caught_up(leader)
        say(f"kill {number}: {leader}, another leads after {led_seconds:.2f} s")
        await _wait_past(kills[-1] + int(GAP_WINDOW_SECONDS * 1e9))
    return kills


async def _wait_steady(cluster: ChaosCluster) -> None:
    """So that each kill meets a cluster that has recovered from the one before."""

    async def steady() -> bool:
        return is_steady(cluster)

    await eventually(steady, SETTLE_SECONDS, "steady work", poll_seconds=0.2)


async def _wait_past(monotonic_ns: int) -> None:
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
