"""Members come and go while work goes on: is anything lost or doubled, and how late does anything start?

`horologe chaos members` runs it on a cluster of its own and judges both. Tests run it with less load and judge only what is
lost or doubled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from horologe.chaos.cluster import ChaosCluster, eventually
from horologe.chaos.delays import first_starts
from horologe.chaos.under_load import Course, Say, run_under_load, wait_past, wait_steady

QUIET_SECONDS = 3.0
"""After each change: what is due in this time still counts to it."""
NODES = 3
NEWCOMERS = 3


@dataclass(frozen=True, slots=True)
class Change:
    """One change, and when it was: wall clock, in milliseconds, from its begin to the begin of the next."""

    name: str
    from_ms: int
    done_ms: int
    until_ms: int


@dataclass(slots=True)
class MembersReport:
    """What came of it."""

    course: Course[list[Change]]
    max_delays_ms: dict[str, float]
    """By change: of what was due meanwhile, the latest start."""

    @property
    def is_sound(self) -> bool:
        """Nothing lost, nothing doubled, and enough happened to say so."""
        return self.course.is_sound

    def summary(self) -> str:
        """A few lines for people."""
        lines = [self.course.summary(), "change, how long it took, and the latest start of what was due meanwhile:"]
        for change in self.course.done:
            seconds = (change.done_ms - change.from_ms) / 1000
            lines.append(f"  {change.name:<28} {seconds:6.2f} s  {self.max_delays_ms[change.name]:8.1f} ms")
        return "\n".join(lines)


async def run(folder: Path, rate: float, period_seconds: float, say: Say) -> MembersReport:
    """Adds a fourth and a fifth node, replaces a dead one, and removes the leader, under `rate` executions per second."""
    course = await run_under_load(
        folder, rate, period_seconds, NODES, lambda cluster: _changes(cluster, say), say, newcomers=NEWCOMERS
    )
    starts = first_starts(course.marks)
    delays = {
        change.name: max(
            (mark.delay_ms for mark in starts if mark.due_ms and change.from_ms <= mark.due_ms < change.until_ms),
            default=0.0,
        )
        for change in course.done
    }
    return MembersReport(course, delays)


async def _changes(cluster: ChaosCluster, say: Say) -> list[Change]:
    fourth, fifth, sixth = cluster.others

    async def replace_dead() -> None:
        dead = (await cluster.followers())[0]
        cluster.node(dead).kill()
        await cluster.join(sixth)
        await cluster.remove(dead)

    async def remove_leader() -> None:
        leader = await cluster.wait_leader()
        await cluster.remove(leader)

        async def has_stopped() -> bool:
            return not cluster.node(leader).is_running

        await eventually(has_stopped, QUIET_SECONDS * 10, f"{leader} stops")
        if code := cluster.node(leader).wait_stopped():
            raise AssertionError(f"{leader} was removed and ended with {code}: {cluster.node(leader).last_words()}")

    steps: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        ("no change", lambda: asyncio.sleep(0)),
        ("a fourth node joins", lambda: cluster.join(fourth)),
        ("a fifth node joins", lambda: cluster.join(fifth)),
        ("a dead node is replaced", replace_dead),
        ("the leader is removed", remove_leader),
    ]
    done: list[Change] = []
    for name, step in steps:
        await wait_steady(cluster)
        from_ms = _now_ms()
        await step()
        done_ms = _now_ms()
        say(f"{name}: {(done_ms - from_ms) / 1000:.2f} s")
        await wait_past(time.monotonic_ns() + int(QUIET_SECONDS * 1e9))
        done.append(Change(name, from_ms, done_ms, _now_ms()))
    return done


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
