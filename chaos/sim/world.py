"""The world: a cluster of whole nodes, its workers and its callers, under observation. Everything follows from the seed.

    with World(seed=7, options=WorldOptions(nodes=3)) as world:
        world.start()
        world.run_until(lambda: world.leader() is not None)
        world.crash(world.leader())
        world.run(10)
        world.check()

A scenario drives it by hand with the methods below; nemesis.py drives it by dice. What must hold is checked while it runs (see
observer.py: `run` raises InvariantBrokenError), and, about what handlers saw and callers were told, at the end (judge.py).
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from horologe.chaos.evidence import Kind, Mark
from horologe.chaos.history import Operation
from horologe.chaos.sim.clients import SimClient
from horologe.chaos.sim.clocks import SimClock
from horologe.chaos.sim.network import Network
from horologe.chaos.sim.nodes import SimNode, node_config
from horologe.chaos.sim.observer import InvariantBrokenError, Observer, digest_of
from horologe.chaos.sim.outside import Outside
from horologe.chaos.sim.process import Process
from horologe.chaos.sim.rpc import Rpc
from horologe.chaos.sim.timeline import Timeline
from horologe.chaos.sim.workers import ZONE, SimWorker
from horologe.raft.core import Protections
from horologe.raft.replica import Replica

LOOK_SECONDS = 0.05
GARBAGE_SECONDS = 20.0
# Folders below it have names that nobody can guess.
SHARED_MEMORY = Path("/dev/shm")  # nosec B108


@dataclass(frozen=True, slots=True)
class WorldOptions:
    """What a world is made of.

    Attributes:
        nodes, workers: How many begin; they are called n1, n2... and w1, w2...
        spares: So many further nodes may join later; workers and callers know their addresses from the beginning.
        clock_drift: The rates of two clocks differ by at most this fraction, as the nodes are told.
        wall_error_ms_max: Wall clocks are off by at most this at the beginning.
        node_options: Further options of every node (see node.config.NodeConfig).
        protections: Switches of the Raft core; by default all on.
        keep_story: Keep every log line, with time and process, for a story to be told.
    """

    nodes: int = 3
    workers: int = 2
    slots: int = 10
    spares: int = 0
    clock_drift: float = 0.01
    wall_error_ms_max: int = 100
    node_options: dict[str, Any] = field(default_factory=dict)
    protections: Protections | None = None
    keep_story: bool = False


class World:
    """See the top of this file."""

    def __init__(self, seed: int, options: WorldOptions | None = None) -> None:
        self.seed = seed
        self.options = options or WorldOptions()
        self.random = random.Random(seed)
        """For those who torment the world; what it is made of has dice of its own."""
        self.timeline = Timeline()
        self.trace = hashlib.blake2b(digest_size=16)
        self.observer = Observer(
            lambda: {node.name: node.store for node in self.nodes.values() if node.store is not None}
        )
        self.network = Network(self.timeline, self._dice(), self.trace)
        self.rpc = Rpc(self.network, self._dice())
        self.folder = Path(
            tempfile.mkdtemp(prefix="horologe-sim-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)
        )
        self.nodes: dict[str, SimNode] = {}
        self.retired: dict[str, SimNode] = {}
        """Nodes that are no members any more; some may not know it yet."""
        self.workers: dict[str, SimWorker] = {}
        self.clients: dict[str, SimClient] = {}
        self.outside = Outside()
        self.marks: list[Mark] = []
        self.operations: list[Operation] = []
        self.events: Counter[str] = Counter()
        """Faults that were injected, and what the processes said of them."""
        self.story: list[str] = []
        self.problems: list[InvariantBrokenError] = []
        self.wall_error_ms_max = self.options.wall_error_ms_max
        """By how much a wall clock was wrong at most, so far."""
        self.frozen: set[int] = set()
        """Executions that ran in a process while it was stopped from outside."""
        self._running: dict[int, tuple[Process, int]] = {}
        self._processes: list[Process] = []
        self._garbage_at = GARBAGE_SECONDS
        self._quiet = _QuietLogs(self)
        self._quiet.begin()
        names = [f"n{number}" for number in range(1, self.options.nodes + 1)]
        self.spare_names = [f"n{len(names) + number}" for number in range(1, self.options.spares + 1)]
        """Names of nodes that may still join."""
        for name in names:
            self.add_node(name, names)
        for number in range(1, self.options.workers + 1):
            self.add_worker(f"w{number}", labels={ZONE: "a" if number == 1 else "b"})

    # Making

    def _dice(self) -> random.Random:
        return random.Random(self.random.getrandbits(64))

    def new_clock(self) -> SimClock:
        """A clock within the bounds of the options."""
        dice = self._dice()
        # Two clocks of which each is right within half the bound differ by at most the bound.
        rate = 1.0 + dice.uniform(-0.5, 0.5) * self.options.clock_drift * 0.98
        error = self.options.wall_error_ms_max
        return SimClock(self.timeline, rate, dice.uniform(10.0, 1e6), dice.randint(-error, error))

    def new_process(self, name: str, clock: SimClock) -> Process:
        process = Process(name, self.timeline, clock, self._noticed)
        self._processes.append(process)
        return process

    def add_node(self, name: str, members: Sequence[str], **options: Any) -> SimNode:
        """A machine with a node on it, not started yet."""
        settings = {"clock_drift": self.options.clock_drift} | self.options.node_options | options
        config = node_config(name, members, self.folder, **settings)
        self.nodes[name] = SimNode(self, config, self.new_clock(), self._dice())
        return self.nodes[name]

    def add_worker(self, name: str, **options: Any) -> SimWorker:
        """A machine with a worker on it, not started yet; for the options see SimWorker."""
        settings = {"slot_count": self.options.slots} | options
        self.workers[name] = SimWorker(self, name, self.addresses(), self.new_clock(), self._dice(), **settings)
        return self.workers[name]

    def add_client(self, name: str) -> SimClient:
        """A machine with a caller on it."""
        self.clients[name] = SimClient(self, name, self.addresses(), self.new_clock(), self._dice())
        return self.clients[name]

    def addresses(self) -> list[str]:
        """Where nodes are reached, or may be one day."""
        return [f"{name}:7400" for name in [*self.nodes, *self.spare_names]]

    def start(self) -> None:
        """Starts every node and every worker."""
        for node in self.nodes.values():
            node.start()
        for worker in self.workers.values():
            worker.start()

    # Time

    def run(self, seconds: float) -> None:
        """Lets time pass. Raises InvariantBrokenError as soon as something must not have happened."""
        end = self.timeline.now + seconds
        gc.disable()
        try:
            while self.timeline.now < end:
                self.timeline.run_until(min(end, self._garbage_at))
                if self.problems:
                    raise self.problems[0]
                if self.timeline.now >= self._garbage_at:
                    # At moments of our own choice, so that the same seed does the same.
                    self._garbage_at = self.timeline.now + GARBAGE_SECONDS
                    gc.collect(0)
        finally:
            gc.enable()

    def run_until(self, condition: Callable[[], bool], seconds: float = 30.0, what: str = "") -> None:
        """Lets time pass until something holds; that it does not come to hold in time is a broken invariant."""
        end = self.timeline.now + seconds
        while not condition():
            if self.timeline.now >= end:
                wanted = what or getattr(condition, "__name__", "it")
                raise InvariantBrokenError("liveness", f"{wanted} did not come to hold within {seconds:g} s")
            self.run(LOOK_SECONDS)

    def run_to(self, condition: Callable[[], bool], seconds: float = 30.0, what: str = "") -> None:
        """As `run_until`, but stops at the very event with which it comes to hold: nothing that follows has happened yet."""
        end = self.timeline.now + seconds
        while not condition():
            if self.problems:
                raise self.problems[0]
            if not self.timeline.run_next(end):
                wanted = what or getattr(condition, "__name__", "it")
                raise InvariantBrokenError("liveness", f"{wanted} did not come to hold within {seconds:g} s")

    # Faults

    def crash(self, name: str, *, silently: bool = False) -> None:
        """Kills a node or a worker; `silently`: with its machine, so that others learn it from silence only."""
        self.tell(name, "machine goes dark" if silently else "killed")
        self._one(name).kill(silently=silently)

    def restart(self, name: str) -> None:
        """Starts it again, after killing it if it runs."""
        one = self._one(name)
        one.kill()
        self.tell(name, "started")
        one.start()

    def lose_folder(self, name: str) -> None:
        """A node that is down loses its folder, and with it all that it promised."""
        self.tell(name, "lost its folder")
        self.nodes[name].lose_folder()

    def retire(self, name: str) -> None:
        """A node is no member any more, and nobody starts it again."""
        self.tell(name, "is retired")
        self.retired[name] = self.nodes.pop(name)

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        self.tell(name, "stopped (SIGSTOP)")
        process = self._one(name).process
        if process is not None:
            process.pause()
            # What runs on while nobody can stop it may overlap with its successor: a documented limit.
            self.frozen |= {execution for execution, (owner, _) in self._running.items() if owner is process}

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self.tell(name, "goes on (SIGCONT)")
        process = self._one(name).process
        if process is not None:
            process.resume()

    def set_wall_error(self, name: str, error_ms: int) -> None:
        """The wall clock of a machine jumps to so many milliseconds from the truth."""
        self.tell(name, f"wall clock is {error_ms} ms off")
        self._one(name).clock.wall_error_ms = error_ms
        self.wall_error_ms_max = max(self.wall_error_ms_max, abs(error_ms))

    def partition(self, *groups: Sequence[str], one_way: bool = False) -> None:
        """Cuts the first group off from each later one, and those from each other; `one_way`: the first still hears."""
        self.tell(
            "network", f"partition {' | '.join(','.join(group) for group in groups)}{' one way' if one_way else ''}"
        )
        for position, group in enumerate(groups):
            for other in groups[position + 1 :]:
                self.network.isolate(group, other, one_way=one_way)

    def heal(self) -> None:
        """Every link works again, at its usual speed."""
        self.tell("network", "healed")
        self.network.heal_all()

    def _one(self, name: str) -> SimNode | SimWorker:
        return self.nodes.get(name) or self.retired.get(name) or self.workers[name]

    # Looking

    def leader(self) -> str | None:
        """The node that leads the newest term and may serve."""
        found = [
            (status.term, node.name)
            for node in self.nodes.values()
            if (status := node.status) is not None and status.may_serve
        ]
        return max(found)[1] if found else None

    def is_converged(self) -> bool:
        """Whether all nodes run, follow one leader, and have applied the same entries."""
        statuses = [node.status for node in self.nodes.values()]
        views = {(one.leader, one.revision, one.commit_index, one.last_index) for one in statuses if one is not None}
        return None not in statuses and len(views) == 1 and self.leader() is not None

    def compare_states(self) -> None:
        """All tables of all nodes that run, at the revision that each has."""
        for node in self.nodes.values():
            if node.is_up and node.store is not None and node.status is not None:
                with node.store.read() as tables:
                    self.observer.compare(node.name, node.status.revision, digest_of(tables))

    # What the parts report

    def count(self, what: str) -> None:
        self.events[what] += 1

    def all_counts(self) -> Counter[str]:
        """Faults, what they led to, and how often each protection acted."""
        return self.events + self.observer.counts + self.network.counts + self._protection_counts()

    def tell(self, who: str, what: str) -> None:
        """A line of the story."""
        # The scratch folder has another name each time.
        what = what.replace(str(self.folder), "")
        self.trace.update(f"{self.timeline.now:.6f} {who} {what}".encode())
        if self.options.keep_story:
            self.story.append(f"{self.timeline.now:10.3f}  {who:8} {what}")

    def stepped(self, node: SimNode, replica: Replica) -> None:
        if node.store is None:
            return
        try:
            self.observer.stepped(node.name, node.store, replica.status)
        except InvariantBrokenError as problem:
            self.problem(problem)

    def asked(self, operation: Operation) -> None:
        """A caller has its answer, or has given up."""
        self.operations.append(operation)
        self.count(f"operations {operation.answer.value}")
        self.tell(
            "caller",
            f"{operation.kind} {operation.job} {operation.argument}: {operation.answer.value} {operation.detail}",
        )

    def marked(self, process: Process, mark: Mark) -> None:
        """A handler has written evidence."""
        self.marks.append(mark)
        self.tell(process.name, f"{Kind(mark.kind).name} execution {mark.execution}.{mark.attempt} token {mark.token}")
        if mark.kind != Kind.STARTED:
            if self._running.get(mark.execution, (None, 0)) == (process, mark.token):
                del self._running[mark.execution]
            return
        other, token = self._running.get(mark.execution, (process, 0))
        if token and other.is_alive and mark.execution not in self.frozen:
            self.problem(
                InvariantBrokenError(
                    "attempts do not overlap",
                    f"{process.name} starts execution {mark.execution} with token {mark.token} while {other.name} runs "
                    f"it with token {token}",
                )
            )
        self._running[mark.execution] = (process, mark.token)

    def node_stopped(self, node: SimNode, error: BaseException) -> None:
        """A node stopped by itself."""
        cause: BaseException | None = error
        # Errors that were raised again and again may refer to each other in a ring.
        seen: set[int] = set()
        while cause is not None and id(cause) not in seen:
            if isinstance(cause, InvariantBrokenError):
                self.problem(cause)
                return
            seen.add(id(cause))
            cause = cause.__cause__ or cause.__context__
        if node.is_damaged:
            self.count("damage noticed at the start")
        self.tell(node.name, f"stopped by itself: {error}")

    def problem(self, problem: InvariantBrokenError) -> None:
        self.tell("observer", str(problem))
        self.timeline.is_over = True
        self.problems.append(problem)

    def _noticed(self, name: str, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.tell(name, f"{context.get('message')}: {error!r}")
        if isinstance(error, InvariantBrokenError):
            self.problem(error)
        elif error is not None and not isinstance(error, asyncio.CancelledError):
            self.problem(InvariantBrokenError("no unexpected errors", f"{name}: {context.get('message')}: {error!r}"))

    def _protection_counts(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for node in self.nodes.values():
            for what, count in node.all_protection_counts().items():
                counts[f"raft: {what}"] += count
        return counts

    # The end

    @property
    def trace_hash(self) -> str:
        """The same for the same seed, options and program, on every machine."""
        return self.trace.hexdigest()

    def close(self) -> None:
        """Ends everything without a trace."""
        for process in self._processes:
            if process.is_alive:
                process.kill()
        for process in self._processes:
            process.loop.drain()
        self._processes.clear()
        self._quiet.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _QuietLogs:
    """While a world runs, what its processes log is counted and goes into its story, and nowhere else."""

    def __init__(self, world: World) -> None:
        self._world = world

    def begin(self) -> None:
        self._structlog = structlog.get_config()
        self._level = logging.getLogger("horologe").level
        logging.getLogger("horologe").setLevel(logging.CRITICAL + 1)
        level = logging.INFO if self._world.options.keep_story else logging.WARNING
        structlog.configure(
            processors=[self._keep],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=structlog.ReturnLoggerFactory(),
            cache_logger_on_first_use=False,
        )

    def end(self) -> None:
        logging.getLogger("horologe").setLevel(self._level)
        structlog.configure(**self._structlog)

    def _keep(self, logger: Any, method: str, event: Any) -> Any:
        del logger
        if method not in ("info", "debug"):
            self._world.events[f"log: {event.get('event')}"] += 1
        if not self._world.options.keep_story:
            raise structlog.DropEvent
        loop = asyncio._get_running_loop()
        who = next((process.name for process in self._world._processes if process.loop is loop), "?")
        words = " ".join(f"{key}={value}" for key, value in event.items() if key not in ("event", "exc_info"))
        self._world.story.append(f"{self._world.timeline.now:10.3f}  {who:8} {event.get('event')} {words}")
        raise structlog.DropEvent
