"""Members come and go while work goes on: is anything lost or doubled, and how late does anything start?

`horologe chaos members` runs it on a cluster of its own and judges both. Tests run it with less load and judge only what is
lost or doubled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from horologe.chaos.changes import QUIET_SECONDS, Change, latest_starts_ms, lines_of, make_change
from horologe.chaos.cluster import ChaosCluster, eventually
from horologe.chaos.under_load import Course, Say, run_under_load

NODES = 3
NEWCOMERS = 3


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
        return "\n".join([self.course.summary(), *lines_of(self.course.done, self.max_delays_ms)])


async def run(folder: Path, rate: float, period_seconds: float, say: Say) -> MembersReport:
    """Adds a fourth and a fifth node, replaces a dead one, and removes the leader, under `rate` executions per second."""
    course = await run_under_load(
        folder, rate, period_seconds, NODES, lambda cluster: _changes(cluster, say), say, newcomers=NEWCOMERS
    )
    return MembersReport(course, latest_starts_ms(course.marks, course.done))


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
    return [await make_change(cluster, name, step, say) for name, step in steps]
