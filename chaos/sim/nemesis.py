"""Faults by dice: at random moments something breaks, and after a while it is mended. At the end everything is mended.

Each class of faults has one function, which breaks something and answers how to mend it. A fault that finds nothing to break
(no second node, say) answers None and is not counted.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from functools import partial

from horologe.chaos.evidence import Kind
from horologe.chaos.sim.disk import DiskFault, flip_log_entry, tear
from horologe.chaos.sim.nodes import SimNode
from horologe.chaos.sim.operators import Operator
from horologe.chaos.sim.workers import SimWorker
from horologe.chaos.sim.world import World
from horologe.log.v1 import log_pb2
from horologe.raft.commands import OUTCOME, Outcome
from horologe.raft.step import Inbox

Mend = Callable[[], None]
PAUSE_SECONDS = (0.2, 2.0)
SHORT_SECONDS, LONG_SECONDS = (0.3, 6.0), (6.0, 20.0)
LONG_SHARE = 0.3
"""Most faults are over before anybody gives up; some last longer than any lease."""
FLAPS = 6
JUMP_MS_MAX = 400


def _nothing_to_mend() -> None:
    """It was over when it was done."""


class Nemesis:
    """Torments one world."""

    def __init__(self, world: World, randomness: random.Random, off: frozenset[str] = frozenset()) -> None:
        """`off`: classes of faults that shall not happen."""
        self._world = world
        self._random = randomness
        self._classes = [name for name in FAULTS if name not in off]
        self._mends: dict[int, Mend] = {}
        self._number = 0
        self._is_over = False
        self._operator = Operator(world)

    def begin(self) -> None:
        """From now on something breaks every few seconds."""
        if self._classes:
            self._world.timeline.after(self._random.uniform(*PAUSE_SECONDS), self._strike)

    def end(self) -> None:
        """Mends everything, for good."""
        self._is_over = True
        for number in list(self._mends):
            self._mend(number)
        world = self._world
        world.heal()
        world.network.faults.repeated = world.network.faults.swallowed = world.network.faults.damaged = 0.0
        for name in [*world.nodes, *world.workers]:
            world.resume(name)
        for node in world.nodes.values():
            node.disk.next_fault = None
            node.disk.commit_seconds = (0.0005, 0.003)
        self._revive()

    @property
    def is_idle(self) -> bool:
        """Whether nothing that was begun is still under way."""
        return not self._mends and not self._operator.is_busy

    def _revive(self) -> None:
        """Whoever is down for whatever reason begins a new life."""
        machines: list[SimNode | SimWorker] = [*self._world.nodes.values(), *self._world.workers.values()]
        for one in machines:
            if not one.is_up:
                one.start()

    def _strike(self) -> None:
        if self._is_over:
            return
        name = self._random.choice(self._classes)
        mend = FAULTS[name](self)
        if mend is not None:
            self._world.count(f"fault: {name}")
            self._world.tell("nemesis", name)
            self._number += 1
            self._mends[self._number] = mend
            lasts = LONG_SECONDS if self._random.random() < LONG_SHARE else SHORT_SECONDS
            self._world.timeline.after(self._random.uniform(*lasts), partial(self._mend, self._number))
        self._world.timeline.after(self._random.uniform(*PAUSE_SECONDS), self._strike)

    def _mend(self, number: int) -> None:
        mend = self._mends.pop(number, None)
        if mend is not None:
            mend()

    # Whom

    def _node(self) -> SimNode | None:
        up = [node for node in self._world.nodes.values() if node.is_up]
        return self._random.choice(up) if up else None

    def _leader(self) -> SimNode | None:
        leader = self._world.leader()
        return self._world.nodes[leader] if leader is not None else None

    def _worker(self) -> SimWorker | None:
        up = [worker for worker in self._world.workers.values() if worker.is_up]
        return self._random.choice(up) if up else None

    def _start_again(self, one: SimNode | SimWorker) -> Mend:
        def mend() -> None:
            if not one.is_up and one.name not in self._world.retired:
                self._world.tell(one.name, "started")
                one.start()

        return mend

    # Processes

    def node_killed(self) -> Mend | None:
        node = self._node()
        if node is None:
            return None
        self._world.crash(node.name)
        return self._start_again(node)

    def leader_killed(self) -> Mend | None:
        node = self._leader()
        if node is None:
            return None
        self._world.crash(node.name)
        return self._start_again(node)

    def all_killed(self) -> Mend | None:
        nodes = [node for node in self._world.nodes.values() if node.is_up]
        for node in nodes:
            self._world.crash(node.name)

        def mend() -> None:
            for node in nodes:
                self._start_again(node)()

        return mend

    def machine_dark(self) -> Mend | None:
        node = self._node()
        if node is None:
            return None
        self._world.crash(node.name, silently=True)
        return self._start_again(node)

    def node_stopped(self) -> Mend | None:
        """SIGTERM, as in a rolling restart."""
        node = self._node()
        if node is None:
            return None
        node.stop()

        def mend() -> None:
            node.kill()
            self._start_again(node)()

        return mend

    def node_frozen(self) -> Mend | None:
        node = self._node()
        if node is None:
            return None
        self._world.pause(node.name)
        return partial(self._world.resume, node.name)

    def worker_killed(self) -> Mend | None:
        worker = self._worker()
        if worker is None:
            return None
        self._world.crash(worker.name, silently=self._random.random() < 0.5)
        return self._start_again(worker)

    def worker_frozen(self) -> Mend | None:
        worker = self._worker()
        if worker is None:
            return None
        self._world.pause(worker.name)
        return partial(self._world.resume, worker.name)

    def worker_drained(self) -> Mend | None:
        worker = self._worker()
        if worker is None:
            return None
        worker.drain()

        def mend() -> None:
            worker.kill()
            self._start_again(worker)()

        return mend

    # Members

    def member_replaced(self) -> Mend | None:
        node = self._node()
        if node is None or len(self._world.nodes) < 3 or not self._operator.replace(node.name):
            return None
        if self._random.random() < 0.5:
            self._world.crash(node.name)
        return self._start_again(node)

    def folder_lost(self) -> Mend | None:
        """A node comes back under its name and knows nothing: it must do no harm, and is replaced."""
        node = self._node()
        if node is None or len(self._world.nodes) < 3 or not self._operator.replace(node.name):
            return None
        self._world.crash(node.name)
        self._world.lose_folder(node.name)
        node.start()
        return lambda: None

    # The network

    def split_in_halves(self) -> Mend | None:
        everybody = self._everybody()
        self._random.shuffle(everybody)
        middle = max(1, len(everybody) // 2)
        return self._cut(everybody[:middle], everybody[middle:])

    def leader_isolated(self) -> Mend | None:
        leader = self._leader()
        if leader is None:
            return None
        everybody = self._everybody()
        # Workers and callers on its side: the old leader must not be able to do harm with them.
        others = [name for name in everybody if name in self._world.nodes and name != leader.name]
        loyal = [name for name in everybody if name not in self._world.nodes and self._random.random() < 0.8]
        return self._cut([leader.name, *loyal], others)

    def gateway_isolated(self) -> Mend | None:
        """A node and the workers that are connected to it: what they report waits there, perhaps until its lease has ended."""
        gateways = [
            node for node in self._world.nodes.values() if node.is_up and node.node and node.node.gateway.numbers()
        ]
        if not gateways or len(self._world.nodes) < 2:
            return None
        gateway = self._random.choice(gateways)
        others = [name for name in self._world.nodes if name != gateway.name]
        return self._cut([gateway.name, *self._world.workers], others)

    def one_way(self) -> Mend | None:
        nodes = list(self._world.nodes)
        if len(nodes) < 2:
            return None
        self._random.shuffle(nodes)
        return self._cut(nodes[:1], nodes[1:], one_way=self._random.random() < 0.7)

    def ring(self) -> Mend | None:
        """Every node sees only its neighbours: each another majority, if there are enough of them."""
        nodes = list(self._world.nodes)
        if len(nodes) < 4:
            return None
        self._random.shuffle(nodes)
        for position, name in enumerate(nodes):
            neighbours = {nodes[position - 1], nodes[(position + 1) % len(nodes)], name}
            self._world.network.isolate([name], [other for other in nodes if other not in neighbours])
        return self._world.heal

    def one_link(self) -> Mend | None:
        nodes = list(self._world.nodes)
        if len(nodes) < 2:
            return None
        one, other = self._random.sample(nodes, 2)
        return self._cut([one], [other])

    def flapping(self) -> Mend | None:
        nodes = list(self._world.nodes)
        if len(nodes) < 2:
            return None
        one, other = self._random.sample(nodes, 2)
        is_on = True

        def flap(turn: int) -> None:
            if is_on and turn % 2:
                self._world.network.heal(one, other)
            elif is_on:
                self._world.network.block(one, other)

        when = self._world.timeline.now
        for turn in range(FLAPS):
            self._world.timeline.at(when, partial(flap, turn))
            when += self._random.uniform(0.1, 1.0)

        def mend() -> None:
            nonlocal is_on
            is_on = False
            self._world.network.heal(one, other)

        return mend

    def worker_cut_off(self) -> Mend | None:
        worker = self._worker()
        return self._cut([worker.name], list(self._world.nodes)) if worker is not None else None

    def worker_unheard(self) -> Mend | None:
        """It hears the nodes, and what it says comes late: perhaps after its lease has ended."""
        worker = self._worker()
        if worker is None:
            return None
        return self._cut([worker.name], list(self._world.nodes), one_way=True)

    def slow_links(self) -> Mend | None:
        everybody = self._everybody()
        slow = self._random.choice(everybody)
        longest = self._random.choice([0.05, 0.4, 5.0])
        for other in everybody:
            self._world.network.slow_down(slow, other, self._random.uniform(0.01, longest))
            self._world.network.slow_down(other, slow, self._random.uniform(0.01, longest))
        return self._world.heal

    def connections_reset(self) -> Mend | None:
        everybody = self._everybody()
        one = self._random.choice(everybody)
        for other in everybody:
            if other != one:
                self._world.network.break_connections(one, other)
        return lambda: None

    def messages_repeated(self) -> Mend | None:
        faults = self._world.network.faults
        faults.repeated = 0.2
        return lambda: setattr(faults, "repeated", 0.0)

    def messages_swallowed(self) -> Mend | None:
        faults = self._world.network.faults
        faults.swallowed = 0.02
        return lambda: setattr(faults, "swallowed", 0.0)

    def snapshots_damaged(self) -> Mend | None:
        faults = self._world.network.faults
        faults.damaged = 0.9
        return lambda: setattr(faults, "damaged", 0.0)

    def _everybody(self) -> list[str]:
        return [*self._world.nodes, *self._world.workers, *self._world.clients]

    def _cut(self, group: list[str], others: list[str], *, one_way: bool = False) -> Mend:
        self._world.partition(group, others, one_way=one_way)

        def mend() -> None:
            for one in group:
                for other in others:
                    self._world.network.heal(one, other)
                    self._world.network.heal(other, one)
            self._world.tell("network", f"healed between {','.join(group)} and {','.join(others)}")

        return mend

    # Disks

    def _disk_fault(self, fault: DiskFault) -> Mend | None:
        node = self._leader() if self._random.random() < 0.5 else self._node()
        if node is None:
            return None
        node.disk.next_fault = fault

        def mend() -> None:
            node.disk.next_fault = None
            self._start_again(node)()

        return mend

    def power_cut_before_commit(self) -> Mend | None:
        return self._disk_fault(DiskFault.CUT_BEFORE)

    def power_cut_after_commit(self) -> Mend | None:
        return self._disk_fault(DiskFault.CUT_AFTER)

    def commit_fails(self) -> Mend | None:
        return self._disk_fault(DiskFault.WRITE_FAILS)

    def disk_full(self) -> Mend | None:
        return self._disk_fault(DiskFault.FULL)

    def slow_disk(self) -> Mend | None:
        node = self._node()
        if node is None:
            return None
        before = node.disk.commit_seconds
        node.disk.commit_seconds = self._random.choice([(0.05, 0.2), (0.3, 1.5), (2.0, 5.0)])
        return lambda: setattr(node.disk, "commit_seconds", before)

    def bits_flipped(self) -> Mend | None:
        return self._damaged(flipped=True)

    def file_torn(self) -> Mend | None:
        return self._damaged(flipped=False)

    def _damaged(self, *, flipped: bool) -> Mend | None:
        """While a node is down, its file changes. It must refuse to start; then the file is brought back as it was."""
        node = self._node()
        if node is None or node.store is None:
            return None
        self._world.crash(node.name)
        path = node.store.folder / "data.mdb"
        whole = path.with_name("whole")
        shutil.copy(path, whole)
        if not (flip_log_entry(path, node.store, self._random) if flipped else tear(path, self._random)):
            whole.unlink()
            return self._start_again(node)
        node.is_damaged = True
        node.start()

        def mend() -> None:
            node.kill()
            node.is_damaged = False
            whole.replace(path)
            self._start_again(node)()

        return mend

    # Lies

    def outcome_made_up(self) -> Mend | None:
        """Somebody reports an outcome under a token that nobody was given: it is refused, and nothing changes."""
        node, started = self._node(), [mark for mark in self._world.marks if mark.kind == Kind.STARTED]
        if node is None or node.node is None or node.process is None or not started:
            return None
        mark, context = self._random.choice(started), node.node.context
        outcome = OUTCOME.pack(mark.execution, mark.token - 1, mark.attempt, Outcome.SUCCEEDED, 0, 0, 0, 0, 0)
        command = log_pb2.Command(complete=log_pb2.Complete(outcomes=outcome))
        node.process.deliver(lambda: context.submit(Inbox(commands=[command])))
        return _nothing_to_mend

    # Clocks

    def wall_clock_jumps(self) -> Mend | None:
        node = self._node()
        if node is None:
            return None
        before = node.clock.wall_error_ms
        self._world.set_wall_error(node.name, self._random.randint(-JUMP_MS_MAX, JUMP_MS_MAX))
        return partial(self._world.set_wall_error, node.name, before)


FAULTS: Mapping[str, Callable[[Nemesis], Mend | None]] = {
    name.replace("_", "-"): function
    for name, function in vars(Nemesis).items()
    if callable(function) and not name.startswith("_") and name not in ("begin", "end", "is_idle")
}
"""All classes of faults by name."""
