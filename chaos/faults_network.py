"""Faults of the network: who hears whom no more, and links that are slow or lose connections."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from horologe.chaos.cluster import ChaosCluster
from horologe.chaos.nemesis import Fault
from horologe.chaos.proxy import CLEAR, Weather

FLAP_SECONDS = (0.2, 1.5)


class _Cut(Fault):
    """Some do not hear some others. Network calls are quick, but may block for a moment."""

    family = "network"
    seconds = (2.0, 8.0)

    @classmethod
    def obstacle(cls, cluster: ChaosCluster) -> str:
        return "" if cluster.network.can_partition else cluster.network.description

    async def silence(self, listener: str, speakers: Iterable[str]) -> None:
        """One way."""
        await asyncio.to_thread(self.cluster.unhear, listener, [one for one in speakers if one != listener])

    async def separate(self, here: Iterable[str], there: Iterable[str]) -> None:
        """Both ways."""
        for one in here:
            await self.silence(one, there)
        for one in there:
            await self.silence(one, here)

    async def end(self) -> None:
        await asyncio.to_thread(self.cluster.network.hear_all)


class PartitionHalves(_Cut):
    """The nodes fall into a minority and a majority; the leader is in either."""

    name = "partition-halves"

    async def begin(self) -> str:
        names = self.chance.sample(self.cluster.names, len(self.cluster.names))
        half = len(names) // 2
        here, there = names[:half], names[half:]
        await self.separate(here, there)
        return f"{'+'.join(sorted(here))} | {'+'.join(sorted(there))}"


class PartitionRing(_Cut):
    """Each node hears a majority, and each another one."""

    name = "partition-ring"

    async def begin(self) -> str:
        names = self.chance.sample(self.cluster.names, len(self.cluster.names))
        count = len(names)
        heard = range(1, count // 2 + 1)
        for position, name in enumerate(names):
            neighbours = {names[(position + step) % count] for step in heard}
            await self.silence(name, [one for one in names if one != name and one not in neighbours])
        return f"each hears only the next {len(heard)} of {' '.join(names)}"


class OneWay(_Cut):
    """A node speaks and is heard, but hears nothing of the others; or the other way round."""

    name = "partition-one-way"

    async def begin(self) -> str:
        victim = self.chance.choice([await self.leader(), self.chance.choice(self.cluster.names)])
        others = [name for name in self.cluster.names if name != victim]
        if self.chance.random() < 0.5:
            await self.silence(victim, others)
            return f"{victim} hears no other node"
        for other in others:
            await self.silence(other, [victim])
        return f"no other node hears {victim}"


class SingleLink(_Cut):
    """Two nodes do not hear each other; all others hear both."""

    name = "partition-single-link"

    async def begin(self) -> str:
        here, there = self.chance.sample(self.cluster.names, 2)
        await self.separate([here], [there])
        return f"{here} | {there}"


class Flapping(_Cut):
    """A node is cut off and connected again, many times."""

    name = "partition-flapping"
    seconds = (4.0, 10.0)

    async def begin(self) -> str:
        victim = self.chance.choice([await self.leader(), self.chance.choice(self.cluster.names)])
        self._flaps = 0
        self._flapping = asyncio.create_task(self._flap(victim))
        return f"{victim} is cut off and back, again and again"

    async def _flap(self, victim: str) -> None:
        others = [name for name in self.cluster.names if name != victim]
        while True:
            await self.separate([victim], others)
            await asyncio.sleep(self.chance.uniform(*FLAP_SECONDS))
            await asyncio.to_thread(self.cluster.network.hear_all)
            await asyncio.sleep(self.chance.uniform(*FLAP_SECONDS))

    async def end(self) -> None:
        self._flapping.cancel()
        await asyncio.gather(self._flapping, return_exceptions=True)
        await super().end()


class IsolateLeader(_Cut):
    """The leader and some workers hear only each other, for more than a lease; callers reach both sides."""

    name = "isolate-leader"
    seconds = (4.0, 10.0)

    async def begin(self) -> str:
        leader = await self.leader()
        others = [name for name in self.cluster.names if name != leader]
        kept = self.chance.sample(list(self.scene.workers), max(1, len(self.scene.workers) // 2))
        rest = [name for name in self.scene.workers if name not in kept]
        await self.separate([leader, *kept], [*others, *rest])
        return f"{leader} with {', '.join(kept)} | the others"


class IsolateWorker(_Cut):
    """A worker hears no node, for less than its lease or for more."""

    name = "isolate-worker"
    seconds = (1.0, 8.0)

    async def begin(self) -> str:
        victim = self.chance.choice(self.scene.workers)
        await self.separate([victim], self.cluster.names)
        return f"{victim} | all nodes"


class _BadWeather(Fault):
    """Links between nodes in bad weather."""

    family = "network"
    seconds = (3.0, 8.0)

    @classmethod
    def obstacle(cls, cluster: ChaosCluster) -> str:
        return "" if cluster.links else "the nodes' links need namespaces of their own, and so root"

    def weather(self) -> Weather:
        """What strikes every link."""
        raise NotImplementedError

    async def begin(self) -> str:
        weather = self.weather()
        self.cluster.set_weather(weather)
        return ", ".join(f"{key} {value:.3g}" for key, value in vars_of(weather).items() if value)

    async def end(self) -> None:
        self.cluster.set_weather(CLEAR)


def vars_of(weather: Weather) -> dict[str, float]:
    """By name."""
    return {name: getattr(weather, name) for name in Weather.__slots__}


class Delay(_BadWeather):
    """What nodes say to each other comes late, and irregularly."""

    name = "delay"

    def weather(self) -> Weather:
        return Weather(delay_ms=self.chance.uniform(10, 80), jitter_ms=self.chance.uniform(0, 80))


class Loss(_BadWeather):
    """Connections between nodes break."""

    name = "loss"

    def weather(self) -> Weather:
        return Weather(losses_per_second=self.chance.uniform(0.3, 2), jitter_ms=self.chance.uniform(0, 30))


class SlowClose(_BadWeather):
    """Connections break, and one side hears of it much later."""

    name = "slow-close"

    def weather(self) -> Weather:
        return Weather(losses_per_second=0.3, close_seconds=self.chance.uniform(1, 5))


NETWORK_FAULTS: tuple[type[Fault], ...] = (
    PartitionHalves, PartitionRing, OneWay, SingleLink, Flapping, IsolateLeader, IsolateWorker, Delay, Loss, SlowClose,
)  # fmt: skip
