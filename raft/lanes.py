"""Lanes: what waits in one queue and asks the same labels of a worker goes through one lane, so that whoever is first in it can
be given to any worker that serves it.

A lane is a number. Its key is the name of the queue, with the labels if there are any; the one without stands for the queue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Self

from horologe.raft.records import U32
from horologe.raft.tables import Tables

SEPARATOR = "\0"
"""Between the parts of a key; nothing in a key may contain it."""
LANE_USE = Struct(">II")
"""waiting, running"""


@dataclass(frozen=True, slots=True)
class Lane:
    """What a lane is: whose, and for whom."""

    queue: str
    labels: Mapping[str, str]

    @property
    def key(self) -> bytes:
        return lane_key(self.queue, self.labels)

    @classmethod
    def from_key(cls, key: bytes) -> Self:
        queue, *labels = key.decode().split(SEPARATOR)
        pairs = (label.partition("=") for label in labels)
        return cls(queue, {name: value for name, _, value in pairs})

    def is_served_with(self, labels: Mapping[str, str]) -> bool:
        """Whether a worker with these labels may take from it."""
        return all(labels.get(name) == value for name, value in self.labels.items())


def lane_key(queue: str, labels: Mapping[str, str] | None) -> bytes:
    """The key of a lane without the lane."""
    if not labels:
        return queue.encode()
    return SEPARATOR.join((queue, *(f"{name}={labels[name]}" for name in sorted(labels)))).encode()


def read_lane(tables: Tables, number: int) -> Lane | None:
    raw = tables.lane.get(U32.pack(number))
    return None if raw is None else Lane.from_key(bytes(raw[U32.size :]))


def lanes_of(tables: Tables, queue: str) -> Iterator[tuple[int, Lane]]:
    """All lanes of a queue."""
    start = queue.encode()
    for key, value in tables.queue.scan(start):
        if key != start and not key.startswith(start + SEPARATOR.encode()):
            break
        yield int(U32.unpack(value)[0]), Lane.from_key(bytes(key))


class LaneUses:
    """How many executions wait in each lane, and how many run, as of one entry: read once, and written once at its end."""

    __slots__ = ("_tables", "_uses")

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._uses: dict[int, list[int]] = {}

    def save(self) -> None:
        for lane, (waiting, running) in self._uses.items():
            self._tables.lane_use.put(U32.pack(lane), LANE_USE.pack(waiting, running))

    def count(self, lane: int, waiting: int, running: int) -> None:
        """Adds to what waits and to what runs."""
        use = self.of(lane)
        use[0] += waiting
        use[1] += running

    def of(self, lane: int) -> list[int]:
        """What waits and what runs: the counts themselves."""
        use = self._uses.get(lane)
        if use is None:
            raw = self._tables.lane_use.get(U32.pack(lane))
            use = self._uses[lane] = [0, 0] if raw is None else list(LANE_USE.unpack(raw))
        return use
