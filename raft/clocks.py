"""How this node's wall clock stands to those of the other voters, and what time the cluster has.

Pure: readings are handed in. Every message between members carries its sender's wall clock. A clock that is far from the
others must neither fire what is not due nor push the time of the log ahead, which never goes back. So a node whose clock is
more than the allowed skew away from the median takes the median for its time; and if it leads, it hands over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

WINDOW_SECONDS = 10.0
"""A peer's clock counts for so long after it was heard."""


@dataclass(slots=True)
class _Reading:
    """A peer's clock minus ours, in milliseconds.

    Travel makes every reading too small, so the largest of a window is the best; two windows, so that one is always whole.
    """

    current_ms: int
    before_ms: int
    begun_at: float
    heard_at: float

    @property
    def offset_ms(self) -> int:
        return max(self.current_ms, self.before_ms)


class PeerClocks:
    """The wall clocks of the other members, as seen from here."""

    def __init__(self, skew_ms_max: int) -> None:
        """Clocks that differ by no more than `skew_ms_max` are taken to show the same time."""
        self._skew_ms_max = skew_ms_max
        self._readings: dict[str, _Reading] = {}
        self._base_ms: float | None = None

    def tell(self, now: float, wall_ms: int) -> None:
        """Both clocks of this node. A jump of the wall clock moves what was read from the others the other way."""
        base_ms = wall_ms - now * 1000
        if self._base_ms is not None and abs(base_ms - self._base_ms) > self._skew_ms_max / 2:
            jump_ms = round(base_ms - self._base_ms)
            for reading in self._readings.values():
                reading.current_ms -= jump_ms
                reading.before_ms -= jump_ms
        self._base_ms = base_ms

    def hear(self, peer: str, sent_wall_ms: int, now: float, wall_ms: int) -> None:
        """A message of a peer, sent at `sent_wall_ms` by its clock, has come."""
        offset_ms = sent_wall_ms - wall_ms
        reading = self._readings.get(peer)
        if reading is None or now - reading.begun_at > 2 * WINDOW_SECONDS:
            self._readings[peer] = _Reading(offset_ms, offset_ms, now, now)
            return
        if now - reading.begun_at > WINDOW_SECONDS:
            reading.before_ms, reading.current_ms, reading.begun_at = reading.current_ms, offset_ms, now
        reading.current_ms = max(reading.current_ms, offset_ms)
        reading.heard_at = now

    def correction_ms(self, voters: Iterable[str], now: float) -> int:
        """What to add to this node's wall clock to get the cluster's time; 0 as long as it is near enough.

        With three clocks or more, the median. Of two that disagree nobody knows which is wrong: the earlier one, since what
        starts late can still be caught up, and what started early cannot be taken back.
        """
        offsets_ms = sorted([0, *(offset_ms for _, offset_ms in self._offsets(voters, now))])
        chosen_ms = offsets_ms[(len(offsets_ms) - 1) // 2]
        return chosen_ms if abs(chosen_ms) > self._skew_ms_max else 0

    def successor(self, voters: Iterable[str], now: float) -> str | None:
        """Who has the cluster's time and should lead in place of this node; None if this node has it, or nobody knows."""
        offsets_ms = list(self._offsets(voters, now))
        correction_ms = self.correction_ms((peer for peer, _ in offsets_ms), now)
        if len(offsets_ms) < 2 or not correction_ms:
            return None
        near = [peer for peer, offset_ms in offsets_ms if abs(offset_ms - correction_ms) <= self._skew_ms_max]
        return min(near, default=None)

    def _offsets(self, voters: Iterable[str], now: float) -> Iterable[tuple[str, int]]:
        for peer in voters:
            reading = self._readings.get(peer)
            if reading is not None and now - reading.heard_at <= WINDOW_SECONDS:
                yield peer, reading.offset_ms
