"""Simulated time: one line of events for the whole world, in the order in which they happen.

Nothing here knows what the events do. Times are seconds of true time, which no simulated process can see: each has clocks
of its own (clocks.py).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

Event = Callable[[], None]


class Timeline:
    """What happens next. Events of the same instant happen in the order in which they were added."""

    def __init__(self) -> None:
        self.now = 0.0
        self.is_over = False
        """Set from within an event: nothing happens any more."""
        self._events: list[tuple[float, int, Event]] = []
        self._numbers = itertools.count()

    def at(self, when: float, event: Event) -> None:
        """Adds an event; one in the past happens now."""
        heapq.heappush(self._events, (max(when, self.now), next(self._numbers), event))

    def after(self, seconds: float, event: Event) -> None:
        """Adds an event that happens in so many seconds."""
        self.at(self.now + seconds, event)

    def run_next(self, end: float) -> bool:
        """Lets the next event happen, unless it comes after `end`; tells whether there was one."""
        if not self._events or self._events[0][0] > end:
            self.now = max(self.now, end)
            return False
        self.now, _, event = heapq.heappop(self._events)
        event()
        return True

    def run_until(self, end: float) -> None:
        """Lets time pass."""
        events = self._events
        while events and events[0][0] <= end and not self.is_over:
            self.now, _, event = heapq.heappop(events)
            event()
        if not self.is_over:
            self.now = max(self.now, end)
