"""What the handlers of a benchmark saw, on disk and as figures: starts, delays, and what is missing or double.

The workers write it, the report is made from it; nothing here talks to the cluster. A due time counts as run because a
handler wrote it down, never because the cluster says so.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

DETAILS_MAX = 20
MINUTE_MS = 60_000
_FIELDS = 5
_PIECE_BYTES = 8 * _FIELDS * 10_000


class Start(NamedTuple):
    """One start of a handler."""

    execution: int
    attempt: int
    job: int
    """The number in the job's name."""
    due_ms: int
    start_us: int
    """The worker's wall clock, microseconds since the epoch."""

    @property
    def delay_ms(self) -> float:
        return self.start_us / 1000 - self.due_ms


class Recorder:
    """Collects starts in memory, five integers each, so that recording costs next to nothing."""

    def __init__(self) -> None:
        self._numbers = array("q")

    def add(self, start: tuple[int, int, int, int, int]) -> None:
        self._numbers.extend(start)

    def write(self, path: Path) -> None:
        """All at once, under the final name only when it is complete."""
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            self._numbers.tofile(file)
        part.replace(path)


def read_starts(path: Path) -> Iterator[Start]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            numbers = array("q", piece)
            for position in range(0, len(numbers), _FIELDS):
                yield Start(*numbers[position : position + _FIELDS])


class Evidence:
    """All starts of a run, by the minute of their due time: 40 bytes each, so that a long run fits into memory."""

    def __init__(self, starts: Iterable[Start] = ()) -> None:
        self._minutes: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))
        for start in starts:
            self._minutes[start.due_ms // MINUTE_MS].extend(start)

    def __iter__(self) -> Iterator[Start]:
        for minute in sorted(self._minutes):
            yield from self._of_minute(minute)

    def between(self, from_ms: int, until_ms: int) -> list[Start]:
        """Those of due times in [from_ms, until_ms)."""
        minutes = range(from_ms // MINUTE_MS, (until_ms - 1) // MINUTE_MS + 1)
        return [
            start
            for minute in minutes
            if minute in self._minutes
            for start in self._of_minute(minute)
            if from_ms <= start.due_ms < until_ms
        ]

    def execution_count(self) -> int:
        """Different executions. The attempts of one have one due time, so each minute can be counted by itself."""
        return sum(len({start.execution for start in self._of_minute(minute)}) for minute in self._minutes)

    def _of_minute(self, minute: int) -> Iterator[Start]:
        numbers = self._minutes[minute]
        for position in range(0, len(numbers), _FIELDS):
            yield Start(*numbers[position : position + _FIELDS])


@dataclass(frozen=True, slots=True)
class Distribution:
    """Percentiles by nearest rank, of all values: nothing is left out as an outlier."""

    p50: float
    p99: float
    p99_9: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Distribution | None:
        """None if there are no values."""
        ordered = sorted(values)
        if not ordered:
            return None

        def rank(fraction: float) -> float:
            return round(ordered[max(0, math.ceil(fraction * len(ordered)) - 1)], 3)

        return cls(rank(0.5), rank(0.99), rank(0.999), round(ordered[-1], 3))


@dataclass(slots=True)
class Account:
    """The measured due times, and what became of them according to the handlers."""

    executions: int = 0
    """Executions of measured due times that were started, each counted once."""
    missed: int = 0
    """Due times that no handler saw."""
    duplicated: int = 0
    """Starts beyond the first of a due time, and starts for due times that no schedule names."""
    start_delay: Distribution | None = None
    last_start_us: int = 0
    details: list[dict[str, object]] = field(default_factory=list)
    """The first few that are missing or double."""


def starts_per_second(starts: Iterable[Start], from_second: int, until_second: int) -> tuple[int, float, int] | None:
    """The fewest, the mean and the most starts in a second, of all whole seconds in [from_second, until_second)."""
    seconds = range(from_second, until_second)
    if not seconds:
        return None
    counted = Counter(start.start_us // 1_000_000 for start in starts)
    counts = [counted[second] for second in seconds]
    return min(counts), round(sum(counts) / len(counts), 1), max(counts)


def account(starts: Sequence[Start], expected: Iterable[tuple[int, int]], from_ms: int, until_ms: int) -> Account:
    """Compares starts with the (job, due_ms) that had to come; only due times in [from_ms, until_ms) are looked at."""
    measured = [start for start in starts if from_ms <= start.due_ms < until_ms]
    result = Account(executions=len({start.execution for start in measured}))
    result.start_delay = Distribution.of(start.delay_ms for start in measured)
    result.last_start_us = max((start.start_us for start in measured), default=0)
    seen = Counter((start.job, start.due_ms) for start in measured)
    for job, due_ms in expected:
        count = seen.pop((job, due_ms), 0)
        if count == 0:
            result.missed += 1
            _note(result, "missed", job, due_ms, count)
        elif count > 1:
            result.duplicated += count - 1
            _note(result, "duplicated", job, due_ms, count)
    for (job, due_ms), count in seen.items():
        result.duplicated += count
        _note(result, "not in the schedule", job, due_ms, count)
    return result


def account_by_minute(
    evidence: Evidence,
    due_times: Callable[[int, int], Iterable[tuple[int, int]]],
    from_ms: int,
    until_ms: int,
) -> tuple[Account, list[Distribution | None]]:
    """The account of [from_ms, until_ms), and the start delays of each minute of it. `due_times` are those that had to come in
    a stretch of time."""
    whole, delays, minutes = Account(), array("d"), []
    for begin_ms in range(from_ms, until_ms, MINUTE_MS):
        end_ms = min(begin_ms + MINUTE_MS, until_ms)
        starts = evidence.between(begin_ms, end_ms)
        found = account(starts, due_times(begin_ms, end_ms), begin_ms, end_ms)
        whole.executions += found.executions
        whole.missed += found.missed
        whole.duplicated += found.duplicated
        whole.last_start_us = max(whole.last_start_us, found.last_start_us)
        whole.details += found.details[: DETAILS_MAX - len(whole.details)]
        delays.extend(start.delay_ms for start in starts)
        minutes.append(found.start_delay)
    whole.start_delay = Distribution.of(delays)
    return whole, minutes


def _note(result: Account, kind: str, job: int, due_ms: int, count: int) -> None:
    if len(result.details) < DETAILS_MAX:
        result.details.append({"kind": kind, "job": job, "due_time_ms": due_ms, "starts": count})
