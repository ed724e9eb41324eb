"""This process's clocks: the only place that reads them, so that tests and faults can put another in."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

CLOCK_FILE_VARIABLE = "HOROLOGE_CLOCK_FILE"
CLOCK_FILE_SECONDS = 0.05
"""A steered clock looks at its file this often at most: often enough for a fault, too seldom to be felt."""


class Clock(Protocol):
    """Two clocks that must not be mixed: one for people and due times, one for durations."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch, UTC. May jump."""

    def monotonic(self) -> float:
        """Seconds since some start. Never jumps."""


class ClusterClock:
    """This node's clocks, with the wall clock set right by those of the other members when it is far from theirs."""

    def __init__(self, clock: Clock, correction_ms: Callable[[], int]) -> None:
        self._clock = clock
        self._correction_ms = correction_ms

    def wall_ms(self) -> int:
        return self._clock.wall_ms() + self._correction_ms()

    def monotonic(self) -> float:
        return self._clock.monotonic()


class SystemClock:
    """The machine's clocks."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        # Counts while the machine is suspended, as the workers' clock does: a leader that slept has renewed nothing.
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class SteeredClock(SystemClock):
    """For fault tests only: the machine's clocks, with a wall clock that is wrong by what a file says, in milliseconds.

    A file that is missing or no whole number counts as 0.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset_ms = 0
        self._read_at = float("-inf")

    def wall_ms(self) -> int:
        now = self.monotonic()
        if now - self._read_at >= CLOCK_FILE_SECONDS:
            self._read_at = now
            self._offset_ms = 0
            with suppress(OSError, ValueError):
                self._offset_ms = int(self._path.read_text())
        return super().wall_ms() + self._offset_ms


def process_clock(environment: Mapping[str, str] = os.environ) -> Clock:
    """The machine's clocks; a steered one if HOROLOGE_CLOCK_FILE names its file."""
    path = environment.get(CLOCK_FILE_VARIABLE)
    return SteeredClock(Path(path)) if path else SystemClock()
