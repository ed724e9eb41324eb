"""This process's clocks: the only place that reads them, so that tests and faults can put another in."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks that must not be mixed: one for people and due times, one for durations."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch, UTC. May jump."""

    def monotonic(self) -> float:
        """Seconds since some start. Never jumps."""


class SystemClock:
    """The machine's clocks."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        # Counts while the machine is suspended, as the workers' clock does: a leader that slept has renewed nothing.
        return time.clock_gettime(time.CLOCK_BOOTTIME)
