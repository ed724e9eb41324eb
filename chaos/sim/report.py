"""Many seeds and what came of them all: simulated time, faults, what the faults led to, and what never happened.

A run in which a fault or a consequence never happened proves nothing about it. Over enough simulated time that is a failure.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from horologe.chaos.sim.nemesis import FAULTS
from horologe.chaos.sim.seeds import SeedOptions, SeedResult, run_seed

ENOUGH_SECONDS = 1_800.0
"""So much simulated time must have seen every fault and every consequence."""

CONSEQUENCES = (
    "elections won",
    "entries applied",
    "states compared",
    "members replaced",
    "snapshots installed",
    "sessions opened",
    "leases expired",
    "outcomes recorded",
    "outcomes refused (token not current)",
    "repeated requests answered from the table",
    "attempts told to stop",
    "executions tried again",
    "log: the lease ended without an acknowledged heartbeat; running attempts were killed",
    "log: snapshot refused: it arrived damaged",
    "log: the node cannot be sure of its state and stops",
    "damage noticed at the start",
    "packets held by a partition",
    "connections broken: keepalive timed out",
    "connections broken: connection reset",
    "messages repeated",
    "messages swallowed",
    "snapshot chunks damaged",
    "operations ok",
    "operations unknown",
    "power cut before a commit",
    "power cut after a commit, before its release",
    "commit failed (EIO)",
    "disk full",
    "raft: message_repeated",
    "raft: message_after_gap",
    "raft: term_notice",
)
"""What the faults must have led to."""


@dataclass(slots=True)
class SimReport:
    """What came of many seeds."""

    seeds: int = 0
    nodes: Counter[int] = field(default_factory=Counter)
    """How many seeds had so many nodes."""
    simulated_seconds: float = 0.0
    cpu_seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failed: list[SeedResult] = field(default_factory=list)
    judges_idleness: bool = True

    def add(self, result: SeedResult) -> None:
        """Takes in the result of one seed."""
        self.seeds += 1
        self.nodes[result.nodes] += 1
        self.simulated_seconds += result.simulated_seconds
        self.cpu_seconds += result.cpu_seconds
        self.counts.update(result.counts)
        if not result.is_sound:
            self.failed.append(result)

    @property
    def missing(self) -> list[str]:
        """Faults and consequences that never happened."""
        wanted = [*(f"fault: {name}" for name in FAULTS), *CONSEQUENCES]
        return [what for what in wanted if not self.counts[what]]

    @property
    def is_idle(self) -> bool:
        """Whether something never happened although there was time enough for it."""
        return self.judges_idleness and self.simulated_seconds >= ENOUGH_SECONDS and bool(self.missing)

    @property
    def is_sound(self) -> bool:
        """Nothing was broken, and everything was tried."""
        return not self.failed and not self.is_idle

    @property
    def speed(self) -> float:
        """Simulated seconds per second of one core."""
        return self.simulated_seconds / self.cpu_seconds if self.cpu_seconds else 0.0

    def to_record(self) -> dict[str, Any]:
        """For programs."""
        return {
            "seeds": self.seeds,
            "nodes": {str(nodes): count for nodes, count in sorted(self.nodes.items())},
            "simulated_seconds": round(self.simulated_seconds, 1),
            "cpu_seconds": round(self.cpu_seconds, 1),
            "simulated_seconds_per_cpu_second": round(self.speed, 1),
            "counts": dict(sorted(self.counts.items())),
            "never_happened": self.missing,
            "failed": [
                {"seed": one.seed, "invariant": one.invariant, "text": one.text, "trace_hash": one.trace_hash}
                for one in self.failed
            ],
            "is_sound": self.is_sound,
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        nodes = ", ".join(f"{count} with {number}" for number, count in sorted(self.nodes.items()))
        yield f"seeds {self.seeds} ({nodes} nodes), simulated time {self.simulated_seconds:,.0f} s"
        yield f"speed {self.speed:.1f} simulated seconds per second of one core"
        for title, chosen in (
            ("faults", sorted(what for what in self.counts if what.startswith("fault: "))),
            ("what they led to", sorted(what for what in self.counts if not what.startswith("fault: "))),
        ):
            yield ""
            yield title
            for what in chosen:
                if self.counts[what]:
                    yield f"  {self.counts[what]:>10,}  {what.removeprefix('fault: ').removeprefix('log: ')}"
        if self.missing:
            yield ""
            yield "never happened" + (", and that is a failure after so much simulated time" if self.is_idle else "")
            yield from (f"  {what}" for what in self.missing)


def run_seeds(seeds: Iterable[int], options: SeedOptions, processes: int = 0) -> Iterator[SeedResult]:
    """Lives through many seeds, several at a time, and answers them in order."""
    processes = processes or os.cpu_count() or 1
    if processes == 1:
        yield from map(partial(run_seed, options=options), seeds)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(partial(run_seed, options=options), seeds)
