"""Sums about delays: percentiles, delays per phase of a run, and matching starts to windows. Pure."""

from __future__ import annotations

import bisect
import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from horologe.chaos.evidence import Kind, Mark
from horologe.chaos.history import Phase


@dataclass(frozen=True, slots=True)
class Delays:
    """From due time to start, in milliseconds; nearest rank over all first starts, nothing left out."""

    p50: float
    p99: float
    p99_9: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Delays | None:
        """None if there are no values."""
        ordered = sorted(values)
        if not ordered:
            return None

        def rank(share: float) -> float:
            return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 1)

        return cls(rank(0.5), rank(0.99), rank(0.999), round(ordered[-1], 1))


def first_starts(marks: Iterable[Mark]) -> list[Mark]:
    """The first start of each execution; marks are in the order in which they happened."""
    found: dict[int, Mark] = {}
    for mark in marks:
        if mark.kind == Kind.STARTED:
            found.setdefault(mark.execution, mark)
    return list(found.values())


def delays_by_phase(
    starts: Iterable[Mark], phases: Sequence[Phase], wall_minus_monotonic_ms: float
) -> dict[str, tuple[int, Delays]]:
    """How many starts were due in the phases of each name, and how late they were. `starts` are first starts.

    Phases follow each other; a due time belongs to the phase in which it fell, however late it ran.
    """
    ordered = sorted(phases, key=lambda phase: phase.from_ns)
    begins = [phase.from_ns for phase in ordered]
    found: dict[str, list[float]] = defaultdict(list)
    for mark in starts:
        due_ns = int((mark.due_ms - wall_minus_monotonic_ms) * 1e6)
        position = bisect.bisect_right(begins, due_ns) - 1
        if position >= 0 and due_ns < ordered[position].until_ns:
            found[ordered[position].name].append(mark.delay_ms)
    result: dict[str, tuple[int, Delays]] = {}
    for name, values in sorted(found.items()):
        delays = Delays.of(values)
        if delays is not None:
            result[name] = (len(values), delays)
    return result


def match_windows(windows: Iterable[tuple[float, float]], instants: Iterable[float]) -> int:
    """How many windows (from, until) can get an instant of their own.

    Windows are intervals, so giving each instant, in order, to the open window that closes first is a maximum matching.
    """
    waiting = sorted(windows)
    open_ones: list[float] = []
    position = matched = 0
    for instant in sorted(instants):
        while position < len(waiting) and waiting[position][0] <= instant:
            heapq.heappush(open_ones, waiting[position][1])
            position += 1
        while open_ones and open_ones[0] < instant:
            heapq.heappop(open_ones)
        if open_ones:
            heapq.heappop(open_ones)
            matched += 1
    return matched
