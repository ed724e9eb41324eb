"""Random faults for the deterministic world: a storm that follows from its seed, then calm in which all must agree."""

from __future__ import annotations

import random
from dataclasses import dataclass

from world import Duties, InvariantViolationError, World

from horologe.raft.core import Protections
from horologe.raft.membership import Configuration, Member

STEP_SECONDS = 0.02


@dataclass(frozen=True)
class Storm:
    """How hard it blows. Probabilities are per step of 20 ms.

    Attributes:
        append_bytes_max: Small, so that a follower that is behind needs many messages.
        acknowledge_first_bytes: Small, so that followers put off what they have to apply.
        repeat: Probability that a message is delivered twice.
        compact: Whether logs are compacted now and then, so that followers fall behind them.
        change: Probability per step of a leader that it changes the members.
    """

    seconds: float = 20.0
    append_bytes_max: int = 300
    acknowledge_first_bytes: int = 100
    disconnect: float = 0.02
    hold: float = 0.03
    release: float = 0.03
    slow: float = 0.01
    pause: float = 0.005
    crash: float = 0.01
    repeat: float = 0.0
    compact: bool = False
    change: float = 0.0


def run_storm(
    seed: int, names: str, storm: Storm, protections: Protections | None = None, duties: Duties | None = None
) -> World:
    """Run one seed to its end and check it. Raises InvariantViolationError with the seed in its notes."""
    weather = _Weather(seed, names, storm, protections, duties)
    try:
        weather.blow()
        weather.calm()
    except InvariantViolationError as error:
        error.add_note(f"seed {seed}, members {names}, {storm}")
        raise
    return weather.world


class Changer:
    """Changes the members by dice: adds, promotes, removes, one at a time as the core allows it."""

    def __init__(self, world: World, randomness: random.Random) -> None:
        self._world = world
        self._random = randomness
        self._new_names = iter("uvwxyz")

    def change(self, leader: str) -> None:
        """A leader proposes a change, if the dice find a legal one."""
        configuration = self._world.core(leader).configuration
        after = self._random.choice([self._added, self._promoted, self._removed])(leader, configuration)
        if after is not None:
            self._world.change(leader, after)

    def _added(self, leader: str, configuration: Configuration) -> Configuration | None:
        known = set(configuration.by_name) | set(configuration.removed)
        waiting = [name for name in self._world.names if name not in known]
        if not waiting:
            name = next(self._new_names, None)
            if name is None:
                return None
            self._world.join(name)
            waiting = [name]
        return configuration.with_member(Member(self._random.choice(waiting), is_voter=False))

    def _promoted(self, leader: str, configuration: Configuration) -> Configuration | None:
        learners = sorted(set(configuration.by_name) - configuration.voters)
        ready = [name for name in learners if self._world.core(leader).has_caught_up(name)]
        return configuration.with_member(Member(self._random.choice(ready))) if ready else None

    def _removed(self, leader: str, configuration: Configuration) -> Configuration | None:
        others = sorted(set(configuration.by_name) - {leader})
        if len(configuration.voters) <= 2:
            return None
        return configuration.without(self._random.choice(others))


class _Weather:
    def __init__(
        self, seed: int, names: str, storm: Storm, protections: Protections | None, duties: Duties | None
    ) -> None:
        self.storm = storm
        self.random = random.Random(seed * 7919 + 1)
        self.world = World(
            names,
            seed,
            protections,
            duties,
            append_bytes_max=storm.append_bytes_max,
            acknowledge_first_bytes=storm.acknowledge_first_bytes,
        )
        self.world.network.delay_seconds = lambda sender, receiver, _: (
            self.slow.get((sender, receiver), 0.002) + self.random.random() * 0.02
        )
        self.world.network.repeated = lambda sender, receiver, _: self.random.random() < storm.repeat
        self.slow: dict[tuple[str, str], float] = {}
        self.paused_until: dict[str, float] = {}
        self.down_until: dict[str, float] = {}
        self.proposed = 0
        self.changer = Changer(self.world, random.Random(seed * 104_729 + 3))

    def blow(self) -> None:
        world = self.world
        end = world.now + self.storm.seconds
        while world.now < end:
            world.now = round(world.now + STEP_SECONDS, 6)
            self._fault()
            self._recover()
            for name in world.names:
                if name in world.nodes and self.paused_until.get(name, 0.0) <= world.now:
                    self._step(name)
            world.check()

    def calm(self) -> None:
        """All faults end. Whatever happened before, the cluster must agree, and soon."""
        world = self.world
        world.network.held.clear()
        self.slow.clear()
        for name in world.names:
            if name not in world.nodes:
                world.start(name)
        for one, other in world.pairs():
            world.connect(one, other)
        world.run(3.0, STEP_SECONDS)
        for _ in range(3):
            self._install_snapshots()
            world.run(1.0, STEP_SECONDS)
        world.run_until(lambda: world.leader() is not None and world.is_converged(), seconds=20.0)
        world.check_nothing_lost()

    def _step(self, name: str) -> None:
        world = self.world
        if self.random.random() < self.storm.crash / 4:
            world.step(name, commit=False)
            # What left before the commit, if anything did, arrives.
            world.run(2 * STEP_SECONDS, STEP_SECONDS, only=[other for other in world.names if other != name])
            if name in world.nodes:
                world.crash(name)
            self.down_until[name] = world.now + self.random.random() * 3
            return
        world.step(name)
        if name not in world.nodes:
            return
        if world.core(name).is_leader and self.random.random() < 0.25:
            for _ in range(self.random.choice([1, 1, 3, 12])):
                self.proposed += 1
                world.propose(name, b"command %d " % self.proposed + b"." * 60)
        if world.core(name).is_leader and self.random.random() < self.storm.change:
            self.changer.change(name)
        if self.storm.compact and self.random.random() < 0.02:
            core = world.core(name)
            core.compact(core.applied_index - self.random.choice([0, 5, 20]))
            world.stores[name].commit()
        self._install_snapshots()

    def _install_snapshots(self) -> None:
        for name in self.world.names:
            if name in self.world.nodes:
                self.world.install_offered_snapshot(name)

    def _fault(self) -> None:
        world, storm, chance = self.world, self.storm, self.random.random()
        for probability, happens in (
            (storm.disconnect, lambda: world.disconnect(*self.random.choice(world.pairs()))),
            (storm.hold, lambda: world.network.held.add(self._direction())),
            (storm.release, self._release),
            (storm.slow, self._slow_down),
            (storm.pause, self._pause),
            (storm.crash, self._crash),
        ):
            if chance < probability:
                happens()
                return
            chance -= probability

    def _release(self) -> None:
        if self.world.network.held:
            self.world.network.held.discard(self.random.choice(sorted(self.world.network.held)))

    def _slow_down(self) -> None:
        self.slow[self._direction()] = self.random.choice([0.002, 0.05, 0.15, 0.4, 1.0])

    def _direction(self) -> tuple[str, str]:
        names = self.world.names
        return self.random.choice([(one, other) for one in names for other in names if one != other])

    def _pause(self) -> None:
        self.paused_until[self.random.choice(self.world.names)] = self.world.now + self.random.random() * 2

    def _crash(self) -> None:
        world = self.world
        if len(world.nodes) > len(world.names) // 2:
            name = self.random.choice(sorted(world.nodes))
            world.crash(name)
            self.down_until[name] = world.now + self.random.random() * 3

    def _recover(self) -> None:
        world = self.world
        for name, until in list(self.down_until.items()):
            if until < world.now:
                del self.down_until[name]
                world.start(name)
        for one, other in world.pairs():
            if not world.network.is_connected(one, other) and self.random.random() < 0.05:
                world.connect(one, other)
