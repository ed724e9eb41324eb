"""Who strikes: chooses faults from a seed, lets each last a while, ends it, and waits until work is steady again.

The faults are in faults_process.py, faults_network.py, faults_disk.py and faults_clock.py, one class each. What the machine
cannot do is told, with the reason, and never left out in silence.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from horologe.chaos.cluster import ChaosCluster, NotInTimeError, eventually
from horologe.chaos.evidence import Kind, read_latest
from horologe.chaos.history import Phase, Skew

STEADY_DELAY_MS = 500.0
STEADY_SILENCE_MS = 500.0
STEADY_SECONDS_MAX = 90.0
"""A lease may have to run out first, and a node to fetch the state."""
PAIR_SHARE = 0.2
"""So often two faults of different families strike at once."""
LAST_TO_END = "membership"
"""This family is never the second of a pair, which ends first: a change of members can only end when the other fault has."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """A worker process that was stopped from outside."""

    worker: str
    from_ns: int
    until_ns: int


@dataclass(slots=True)
class Scene:
    """What a fault has to work with, and where it leaves what the judgement must know."""

    cluster: ChaosCluster
    chance: random.Random
    workers: Sequence[str]
    leader: str = ""
    """The last one that a fault asked for."""
    freezes: list[Freeze] = field(default_factory=list)
    skews: list[Skew] = field(default_factory=list)


class Fault(ABC):
    """One blow. `begin` strikes, `end` undoes what does not undo itself; both are called once."""

    name: ClassVar[str]
    family: ClassVar[str]
    seconds: ClassVar[tuple[float, float]] = (2.0, 6.0)
    """How long it lasts, from and to."""
    ends_nodes: ClassVar[bool] = False
    """Whether nodes are expected to end by themselves."""
    outcome: str = ""
    """What its end adds to the line of the timeline."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.cluster = scene.cluster
        # Of its own: how often a fault asks for chance depends on time, and must not change which fault comes next.
        self.chance = random.Random(scene.chance.random())

    async def leader(self) -> str:
        """The node that leads, or the last one that is known to have led: faults strike in pairs, and cannot wait."""
        self.scene.leader = await self.cluster.leader() or self.scene.leader or self.chance.choice(self.cluster.names)
        return self.scene.leader

    @classmethod
    def obstacle(cls, cluster: ChaosCluster) -> str:
        """Why this machine, or this cluster, cannot do it; empty if it can."""
        del cluster
        return ""

    @abstractmethod
    async def begin(self) -> str:
        """Strikes; answers a line for the timeline."""

    @abstractmethod
    async def end(self) -> None:
        """Undoes it."""


@dataclass(slots=True)
class Strike:
    """One fault that has been."""

    fault: str
    line: str
    begin_ns: int
    end_ns: int = 0
    steady_ns: int = 0
    """0: work did not become steady again in time."""


@dataclass(slots=True)
class Nemesis:
    """Strikes until it is told to stop."""

    scene: Scene
    kinds: Sequence[type[Fault]]
    pause_seconds: float
    say: Callable[[str], None]
    strikes: list[Strike] = field(default_factory=list)
    not_recovered: list[str] = field(default_factory=list)
    ended_alone: list[str] = field(default_factory=list)
    """Nodes that ended by themselves under a fault that is no reason to end."""

    async def torment(self, until_ns: int) -> None:
        """Strikes from now until a monotonic instant; everything is whole and steady when it returns, if it can be."""
        turns = self._turns()
        while time.monotonic_ns() < until_ns:
            await self._strike(self._next(turns))
            await asyncio.sleep(self.pause_seconds * self.scene.chance.uniform(0.5, 1.5))

    def _turns(self) -> Iterator[type[Fault]]:
        """Every kind once, in an order by chance, and again."""
        while True:
            yield from self.scene.chance.sample(list(self.kinds), len(self.kinds))

    def _next(self, turns: Iterator[type[Fault]]) -> list[type[Fault]]:
        first = next(turns)
        others = [kind for kind in self.kinds if kind.family not in (first.family, LAST_TO_END)]
        if others and self.scene.chance.random() < PAIR_SHARE:
            return [first, self.scene.chance.choice(others)]
        return [first]

    async def _strike(self, kinds: list[type[Fault]]) -> None:
        faults = [kind(self.scene) for kind in kinds]
        begun: list[Fault] = []
        strike = Strike(" + ".join(kind.name for kind in kinds), "", time.monotonic_ns())
        self.strikes.append(strike)
        try:
            lines = []
            for fault in faults:
                begun.append(fault)
                lines.append(await fault.begin())
            strike.line = "; ".join(lines)
            await asyncio.sleep(self.scene.chance.uniform(*faults[0].seconds))
        finally:
            for fault in reversed(begun):
                await self._end(fault, strike)
        if not any(fault.ends_nodes for fault in faults):
            dead = [node.name for node in self.scene.cluster.local.nodes if not node.is_running]
            self.ended_alone += [f"{name} under {strike.fault} ({strike.line})" for name in dead]
        strike.end_ns = time.monotonic_ns()
        await self._recover(strike)

    async def _end(self, fault: Fault, strike: Strike) -> None:
        try:
            await fault.end()
        except NotInTimeError as error:
            self.not_recovered.append(f"{strike.fault} ({strike.line}): {error}")
            self.say(f"NOT ENDED {fault.name}: {strike.line}: {error}")
        if fault.outcome:
            strike.line += f"; {fault.outcome}"

    async def _recover(self, strike: Strike) -> None:
        try:
            await make_whole(self.scene)
            await wait_steady(self.scene)
        except NotInTimeError as error:
            self.not_recovered.append(f"{strike.fault} ({strike.line}): {error}")
            self.say(f"NOT RECOVERED {strike.fault}: {strike.line}: {error}")
            return
        strike.steady_ns = time.monotonic_ns()
        lasted, recovered = (strike.end_ns - strike.begin_ns) / 1e9, (strike.steady_ns - strike.end_ns) / 1e9
        self.say(f"{strike.fault}: {strike.line}; {lasted:.1f} s, steady after {recovered:.1f} s")

    def phases(self, from_ns: int, until_ns: int) -> list[Phase]:
        """The run cut into quiet times, faults and recoveries."""
        found: list[Phase] = []
        position = from_ns
        for strike in self.strikes:
            end_ns = strike.end_ns or until_ns
            found.append(Phase("quiet", position, strike.begin_ns))
            found.append(Phase(strike.fault, strike.begin_ns, end_ns))
            position = strike.steady_ns or until_ns
            found.append(Phase("recovery", end_ns, position))
        found.append(Phase("quiet", position, until_ns))
        return [phase for phase in found if phase.from_ns < phase.until_ns]


async def revive(scene: Scene, names: Iterable[str]) -> None:
    """Starts nodes that are down; those that another fault has started, or that are members no more, are left alone."""
    for name in names:
        if name in scene.cluster.names and not scene.cluster.node(name).is_running:
            await asyncio.to_thread(scene.cluster.node(name).start)


async def make_whole(scene: Scene) -> None:
    """Every process that is down is started."""
    await revive(scene, list(scene.cluster.names))
    for name in scene.workers:
        worker = scene.cluster.workers[name]
        if not worker.is_running:
            worker.kill()
            worker.start()


async def wait_steady(scene: Scene, seconds: float = STEADY_SECONDS_MAX) -> None:
    """Until all nodes follow one leader, all workers are there, and what starts is what is due now.

    Raises NotInTimeError.
    """
    deadline = time.monotonic() + seconds
    await scene.cluster.wait_ready(seconds)
    await scene.cluster.wait_workers(*scene.workers, seconds=max(1.0, deadline - time.monotonic()))

    async def steady() -> bool:
        return is_steady(scene.cluster)

    await eventually(steady, max(1.0, deadline - time.monotonic()), "steady work", poll_seconds=0.1)


def is_steady(cluster: ChaosCluster) -> bool:
    """Whether first attempts start, and start in time."""
    starts = [mark for mark in read_latest(cluster.evidence, 30) if mark.kind == Kind.STARTED and mark.attempt == 1]
    now_us = time.time_ns() // 1000
    recent = [mark for mark in starts if now_us - mark.wall_us < STEADY_SILENCE_MS * 1000]
    return bool(recent) and all(mark.delay_ms < STEADY_DELAY_MS for mark in recent)
