"""What this node has seen happen: figures per second for the last hour, and totals since it looks.

Fed from what each applied step says, on the event loop, so it must cost next to nothing: sums of lists, and one step in a
histogram for each first attempt. Time is the cluster's, as in the entries: who catches up puts everything where it happened,
and all nodes tell the same. It has no clock; who reads says what time it is.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from horologe.node.firing import ON_TIME_MS
from horologe.raft.model import Effects, ExecutionState, LedgerOutcome

SECONDS_KEPT = 3_600
LATE_AFTER_MS = ON_TIME_MS
"""A first attempt that starts later than this after it should have is late."""
ENTRY_BOUNDS: Final[tuple[int, ...]] = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
"""Upper bounds of the buckets of what one entry does."""
NUMBERS_KEPT = 1_000
"""The latest executions that were late, and that failed."""
_STEPS: Final = (10, 12, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90)
DELAY_BOUNDS_MS: Final[tuple[int, ...]] = (
    *range(10),
    *(step * 10**power for power in range(7) for step in _STEPS),
    10**8,
)
"""Upper bounds of the buckets of delays, a third or less apart; what is beyond the last one, a day and more, has a bucket too."""
_FAILED: Final = (ExecutionState.FAILED, ExecutionState.DEAD)


def new_delays() -> array[int]:
    """Counts by bucket, all zero."""
    return array("Q", bytes(8 * (len(DELAY_BOUNDS_MS) + 1)))


def quantile_ms(delays: Sequence[int], share: float) -> int | None:
    """So many of these began within this time, to the precision of the buckets; None if none did."""
    wanted, seen = share * sum(delays), 0
    for position, count in enumerate(delays):
        seen += count
        if count and seen >= wanted:
            return DELAY_BOUNDS_MS[min(position, len(DELAY_BOUNDS_MS) - 1)]
    return None


@dataclass(slots=True)
class Figures:
    """What happened within some time."""

    started: int = 0
    succeeded: int = 0
    failed: int = 0
    late: int = 0
    delays: array[int] = field(default_factory=new_delays)
    """Start delays of first attempts, by bucket."""

    def add(self, other: Figures) -> None:
        """Takes in what happened within another time."""
        self.started += other.started
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.late += other.late
        for position, count in enumerate(other.delays):
            if count:
                self.delays[position] += count


@dataclass(slots=True)
class Totals:
    """Since this node looks."""

    started: int = 0
    first_started: int = 0
    delay_ms: int = 0
    """Of all first attempts together."""
    delays: array[int] = field(default_factory=new_delays)
    ended: dict[int, list[int]] = field(default_factory=dict)
    """By namespace, then by state."""
    not_run: dict[int, list[int]] = field(default_factory=dict)
    """Due times by namespace, then by outcome."""
    late: int = 0
    leases_expired: int = 0
    entries: array[int] = field(default_factory=lambda: array("Q", bytes(8 * (len(ENTRY_BOUNDS) + 1))))
    """By how many attempts they began and executions they ended."""
    entry_executions: int = 0
    """Of all entries together."""


class Observations:
    """Of one node. For the event loop only."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.late: deque[int] = deque(maxlen=NUMBERS_KEPT)
        """Numbers of executions that started late, the latest last."""
        self.failed: deque[int] = deque(maxlen=NUMBERS_KEPT)
        self.since_ms = 0
        self._seconds: deque[tuple[int, Figures]] = deque()

    def begin(self, now_ms: int) -> None:
        """The node looks from now on: what happened before it has not seen, or not all of it."""
        self.since_ms = now_ms

    def note(self, applied: Iterable[Effects]) -> None:
        """What entries did, in their order."""
        totals = self.totals
        for effects in applied:
            work = len(effects.assigned) + len(effects.ended)
            totals.entries[bisect_left(ENTRY_BOUNDS, work)] += 1
            totals.leases_expired += len(effects.expired)
            if effects.not_run:
                self._note_not_run(effects.not_run)
            if not work:
                continue
            totals.entry_executions += work
            figures = self._second_of(effects.time_ms)
            figures.started += len(effects.assigned)
            totals.started += len(effects.assigned)
            if effects.begun:
                self._note_begun(effects.begun, figures)
            if effects.ended:
                self._note_ended(effects.ended, figures)

    def _second_of(self, time_ms: int) -> Figures:
        second, seconds = time_ms // 1000, self._seconds
        # The cluster's time never goes back, so only the last one can be the same.
        if not seconds or seconds[-1][0] < second:
            seconds.append((second, Figures()))
            while seconds[0][0] <= second - SECONDS_KEPT:
                seconds.popleft()
        return seconds[-1][1]

    def _note_begun(self, begun: list[tuple[int, int]], figures: Figures) -> None:
        totals = self.totals
        here, all_of_them, late = figures.delays, totals.delays, self.late
        delay_sum_ms = 0
        for number, delay_ms in begun:
            bucket = bisect_left(DELAY_BOUNDS_MS, delay_ms)
            here[bucket] += 1
            all_of_them[bucket] += 1
            delay_sum_ms += delay_ms
            if delay_ms > LATE_AFTER_MS:
                figures.late += 1
                totals.late += 1
                late.append(number)
        totals.first_started += len(begun)
        totals.delay_ms += delay_sum_ms

    def _note_ended(self, ended: list[tuple[int, int, int]], figures: Figures) -> None:
        by_namespace, failed = self.totals.ended, self.failed
        for number, namespace, state in ended:
            counts = by_namespace.get(namespace)
            if counts is None:
                counts = by_namespace[namespace] = [0] * (max(ExecutionState) + 1)
            counts[state] += 1
            if state == ExecutionState.COMPLETED:
                figures.succeeded += 1
            elif state in _FAILED:
                figures.failed += 1
                failed.append(number)

    def _note_not_run(self, not_run: list[tuple[int, int, int]]) -> None:
        for namespace, outcome, count in not_run:
            counts = self.totals.not_run.setdefault(namespace, [0] * (max(LedgerOutcome) + 1))
            counts[outcome] += count

    def samples(self, now_ms: int, window_seconds: int, step_seconds: int) -> list[tuple[int, Figures]]:
        """The last whole seconds, by steps, with the second that each begins with; oldest first, the newest one is full."""
        end = now_ms // 1000
        begin = max(end - window_seconds, self.since_ms // 1000)
        count = -(-(end - begin) // step_seconds) if end > begin else 0
        first = end - count * step_seconds
        found = [(first + position * step_seconds, Figures()) for position in range(count)]
        for second, figures in reversed(self._seconds):
            if second < begin:
                break
            if second < end:
                found[(second - first) // step_seconds][1].add(figures)
        return found
