"""One seed: a world made by dice, tormented for a while, then left in peace, in which everything must drain and agree."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

from horologe.chaos.checker import Verdict
from horologe.chaos.delays import Delays
from horologe.chaos.sim.clocks import START_MS
from horologe.chaos.sim.judge import has_operations, judge, unfinished
from horologe.chaos.sim.nemesis import Nemesis
from horologe.chaos.sim.observer import InvariantBrokenError
from horologe.chaos.sim.workload import Workload
from horologe.chaos.sim.world import World, WorldOptions
from horologe.raft.core import Protections

RECOVERY_SECONDS = 30.0
"""After the last fault: elections, snapshots, the end of every lease, retries and catching up."""
DRAIN_SECONDS = 90.0
"""After the last due time everything must have ended."""
NODES_MAX = 7


@dataclass(frozen=True, slots=True)
class SeedOptions:
    """What is not left to the dice of a seed.

    Attributes:
        seconds: How long faults happen; the calm afterwards comes on top.
        nodes, workers: 0 leaves it to the dice.
        off: Classes of faults that do not happen (see nemesis.FAULTS).
        quiet: A few jobs and no callers.
        protections: Switches of the Raft core; by default all on.
        keep_story: Keep what happened, line by line.
    """

    seconds: float = 60.0
    nodes: int = 0
    workers: int = 0
    off: frozenset[str] = frozenset()
    quiet: bool = False
    protections: Protections | None = None
    keep_story: bool = False


@dataclass(slots=True)
class SeedResult:
    """What came of a seed."""

    seed: int
    options: SeedOptions
    nodes: int = 0
    simulated_seconds: float = 0.0
    real_seconds: float = 0.0
    cpu_seconds: float = 0.0
    trace_hash: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    delays_ms: Delays | None = None
    invariant: str = ""
    """Which one was broken; empty if none."""
    text: str = ""
    failed_at: float = 0.0
    story: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Nothing was broken."""
        return not self.invariant


def run_seed(seed: int, options: SeedOptions) -> SeedResult:
    """Lives through one seed."""
    result = SeedResult(seed, options)
    began, began_cpu = time.perf_counter(), time.process_time()
    dice = random.Random(f"horologe {seed}")
    world_options = _world_options(dice, options)
    result.nodes = world_options.nodes
    with World(dice.getrandbits(64), world_options) as world:
        workload = Workload(world, random.Random(dice.getrandbits(64)))
        nemesis = Nemesis(world, random.Random(dice.getrandbits(64)), options.off)
        try:
            verdict = _live(world, workload, nemesis, dice, options)
            result.delays_ms = verdict.delays_ms
            result.counts.update(_counts_of(verdict))
        except InvariantBrokenError as problem:
            result.invariant, result.text, result.failed_at = problem.invariant, str(problem), world.timeline.now
        result.simulated_seconds = world.timeline.now
        result.trace_hash = world.trace_hash
        result.counts.update(world.all_counts())
        result.story = world.story
    result.real_seconds = time.perf_counter() - began
    result.cpu_seconds = time.process_time() - began_cpu
    return result


def _world_options(dice: random.Random, options: SeedOptions) -> WorldOptions:
    nodes = options.nodes or dice.choices(range(1, NODES_MAX + 1), weights=[1, 1, 8, 2, 5, 1, 2])[0]
    workers = options.workers or dice.randint(1, 3)
    heartbeat_ms = dice.choice([50, 100])
    shortest_ms = heartbeat_ms * dice.choice([4, 5, 6])
    longest_ms = shortest_ms * 2
    drift = dice.choice([0.0, 0.01, 0.03])
    # As short as the configuration allows, so that leases really end.
    lease_ms = max(2_000, int(longest_ms * (1 + drift) / (0.2 - drift) * dice.choice([1.1, 1.5])))
    return WorldOptions(
        nodes=nodes,
        workers=workers,
        spares=dice.choice([0, 2]) if nodes >= 3 else 0,
        slots=dice.choice([2, 10]),
        clock_drift=drift,
        wall_error_ms_max=dice.choice([0, 50, 200]),
        node_options={
            "heartbeat_ms": heartbeat_ms,
            "election_timeout_ms_min": shortest_ms,
            "election_timeout_ms_max": longest_ms,
            "lease_term_ms": lease_ms,
            "log_entries_kept": dice.choice([10, 50, 500]),
        },
        protections=options.protections,
        keep_story=options.keep_story,
    )


def _live(world: World, workload: Workload, nemesis: Nemesis, dice: random.Random, options: SeedOptions) -> Verdict:
    world.start()
    workload.begin(
        recurring=3 if options.quiet else dice.randint(3, 12),
        callers=0 if options.quiet else dice.randint(1, 3),
        workflows=0 if options.quiet else dice.randint(0, 2),
    )
    world.run(1.0)
    nemesis.begin()
    world.run(options.seconds)
    nemesis.end()
    world.run(RECOVERY_SECONDS)
    until_ms = START_MS + int(world.timeline.now * 1000) - 2 * world.wall_error_ms_max - 1
    world.run_until(lambda: nemesis.is_idle, DRAIN_SECONDS, "that members are replaced")
    workload.end()
    world.run_until(partial(_is_drained, world, workload), DRAIN_SECONDS, "that everything ends")
    world.run_until(world.is_converged, DRAIN_SECONDS, "that all nodes have the same entries")
    world.compare_states()
    _let_watcher_see(world, workload)
    _let_listener_hear(world, workload)
    return judge(world, workload, until_ms)


def _let_watcher_see(world: World, workload: Workload) -> None:
    """Until whoever follows has seen the end."""
    watcher = workload.watcher
    revision = max(node.status.revision for node in world.nodes.values() if node.status is not None)
    if watcher.revision:
        world.run_until(lambda: watcher.revision >= revision, DRAIN_SECONDS, "that a watcher sees everything")


def _let_listener_hear(world: World, workload: Workload) -> None:
    """Until whoever wants to be told of failures has been told, or will be, of all of them."""
    listener = workload.listener
    if listener is None:
        return

    def has_heard() -> bool:
        node = next(node for node in world.nodes.values() if node.is_up and node.store is not None)
        assert node.store is not None
        with node.store.read() as tables:
            return listener.has_rule and listener.has_heard_of_all(tables)

    world.run_until(has_heard, DRAIN_SECONDS, "that all failures are told")
    world.events["notifications received"] += len(world.outside.received)


def _is_drained(world: World, workload: Workload) -> bool:
    if not workload.is_drained:
        return False
    for node in world.nodes.values():
        if not node.is_up or node.store is None:
            return False
        with node.store.read() as tables:
            if unfinished(tables) or has_operations(tables):
                return False
    return True


def _counts_of(verdict: Verdict) -> Counter[str]:
    counts = Counter(
        {
            "due times judged": verdict.due,
            "executions started": verdict.executions,
            "executions tried again": verdict.retried,
            "runs of workflows": verdict.runs,
            "overlaps with frozen workers (a documented limit)": verdict.frozen_overlaps,
        }
    )
    for outcome, count in verdict.not_run.items():
        counts[f"due times left out: {outcome}"] += count
    return counts
