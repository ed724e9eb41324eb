"""The leader is killed again and again while work goes on: is anything lost or doubled, and how long does nothing start?

`horologe chaos kill-leader` runs it on a cluster of its own and judges both. Tests run it shorter and judge only what is
lost or doubled: how long anything takes depends on the machine.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from horologe.chaos.checker import Verdict, longest_gap_seconds
from horologe.chaos.cluster import ChaosCluster
from horologe.chaos.evidence import Kind, Mark
from horologe.chaos.under_load import Course, Say, run_under_load, wait_past, wait_steady

GAP_WINDOW_SECONDS = 5.0
"""A gap belongs to the kill if it begins within this time after it."""


@dataclass(slots=True)
class KillReport:
    """What came of it."""

    course: Course[list[int]]
    gaps_seconds: list[float]
    """From each kill to the first start for a due time after it, which another leader must have fired."""
    silences_seconds: list[float]
    """The longest time without any start around each kill."""

    @property
    def verdict(self) -> Verdict:
        """What became of the due times."""
        return self.course.verdict

    @property
    def acknowledged_missing(self) -> list[str]:
        """What callers were promised and is not there."""
        return self.course.acknowledged_missing

    @property
    def is_sound(self) -> bool:
        """Nothing lost, nothing doubled, and enough happened to say so."""
        return self.course.is_sound

    def summary(self) -> str:
        """A few lines for people."""
        return "\n".join(
            [
                self.course.summary(),
                f"from each kill to the next start, seconds: {_seconds(self.gaps_seconds)}",
                f"longest time without a start around each kill, seconds: {_seconds(self.silences_seconds)}",
            ]
        )


def _seconds(values: Sequence[float]) -> str:
    each = ", ".join(f"{value:.2f}" for value in values)
    return f"median {statistics.median(values):.2f}, max {max(values):.2f} ({each})"


async def run(folder: Path, rounds: int, rate: float, period_seconds: float, nodes: int, say: Say) -> KillReport:
    """Kills the leader `rounds` times under `rate` executions per second."""

    async def kill_rounds(cluster: ChaosCluster) -> list[int]:
        return [await _kill_leader(cluster, number, say) for number in range(1, rounds + 1)]

    course = await run_under_load(folder, rate, period_seconds, nodes, kill_rounds, say)
    window_ns = int(GAP_WINDOW_SECONDS * 1e9)
    silences = [longest_gap_seconds(course.marks, kill, kill + window_ns) for kill in course.done]
    return KillReport(course, [_gap_seconds(course.marks, kill) for kill in course.done], silences)


def _gap_seconds(marks: list[Mark], kill_ns: int) -> float:
    """From a kill to the first start for a due time after it; marks are in the order in which they happened."""
    for mark in marks:
        due_ns = mark.monotonic_ns - int(mark.delay_ms * 1e6)
        if mark.kind == Kind.STARTED and due_ns > kill_ns:
            return (mark.monotonic_ns - kill_ns) / 1e9
    return math.inf


async def _kill_leader(cluster: ChaosCluster, number: int, say: Say) -> int:
    """When it was, on the monotonic clock, in nanoseconds."""
    await wait_steady(cluster)
    leader = await cluster.wait_leader()
    killed_ns = time.monotonic_ns()
    cluster.node(leader).kill()
    await cluster.wait_leader()
    led_seconds = (time.monotonic_ns() - killed_ns) / 1e9
    await asyncio.to_thread(cluster.node(leader).start)
    await cluster.wait_caught_up(leader)
    say(f"kill {number}: {leader}, another leads after {led_seconds:.2f} s")
    await wait_past(killed_ns + int(GAP_WINDOW_SECONDS * 1e9))
    return killed_ns
