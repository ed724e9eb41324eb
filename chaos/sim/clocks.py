"""The clocks of one simulated machine, derived from true time: none of them is right, and no two agree.

The monotonic clock begins somewhere and runs a little too fast or too slow; the wall clock is off, drifts with it and may jump.
"""

from __future__ import annotations

from horologe.chaos.sim.timeline import Timeline

START_MS = 1_800_000_000_000
"""True wall time at the beginning of every world: 2027-01-15T08:00:00Z."""


class SimClock:
    """See node.clock.Clock."""

    def __init__(
        self, timeline: Timeline, rate: float = 1.0, offset_seconds: float = 0.0, wall_error_ms: int = 0
    ) -> None:
        """`rate`: seconds of the monotonic clock per second; `offset_seconds`: where it stands at the beginning."""
        self._timeline = timeline
        self.rate = rate
        self._offset_seconds = offset_seconds
        self.wall_error_ms = wall_error_ms

    def monotonic(self) -> float:
        return self._offset_seconds + self._timeline.now * self.rate

    def wall_ms(self) -> int:
        return START_MS + self.wall_error_ms + int(self._timeline.now * 1000)

    def true_time_of(self, monotonic: float) -> float:
        """When the monotonic clock will show this."""
        return (monotonic - self._offset_seconds) / self.rate
