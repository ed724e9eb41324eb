"""How often is too often: buckets that fill at a steady rate, one for each key, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict

KEYS_MAX = 10_000
"""Of those that were seen last. Whoever is forgotten has a full bucket again, so it must be more than attackers have addresses
at hand, and little enough to keep."""


class TokenBuckets:
    """Buckets of one size and rate."""

    def __init__(self, per_second: float, burst: float, keys_max: int = KEYS_MAX) -> None:
        self._per_second = per_second
        self._burst = burst
        self._keys_max = keys_max
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By key: what is in the bucket, as of when."""

    def take(self, key: str, now: float) -> float:
        """Takes one out. 0.0 if there was one, else for how many seconds there will be none."""
        level, since = self._levels.pop(key, (self._burst, now))
        level = min(self._burst, level + max(0.0, now - since) * self._per_second)
        wait_seconds = 0.0 if level >= 1.0 else (1.0 - level) / self._per_second
        self._levels[key] = (level - 1.0 if level >= 1.0 else level, now)
        if len(self._levels) > self._keys_max:
            self._levels.popitem(last=False)
        return wait_seconds

    def __len__(self) -> int:
        return len(self._levels)
