"""What a queue's settings mean to each start: whether it is paused, how fast it may start executions, how it weighs age.

And how fast the executions of a namespace start. The settings themselves are in queues.py and namespaces.py. Here is the packed
part, which is asked at every start in a queue that has settings, or a namespace with a rate; the tokens of its bucket are kept
with it. All numbers are whole: a token is worth `per_ms`, and each millisecond brings `count`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from struct import Struct
from typing import ClassVar, Self

from horologe.raft.priorities import AGING_DEFAULT_MS
from horologe.raft.records import U32, U64
from horologe.raft.tables import Tables

COUNT_MAX = 1_000_000
PER_MS_MAX = 86_400_000
BURST_MAX = 1_000_000


@dataclass(slots=True)
class QueueRule:
    """One queue's settings, as a start asks them."""

    STRUCT: ClassVar[Struct] = Struct(">BIQIQQQ")

    paused: int = 0
    count: int = 0
    """Starts per `per_ms`; 0: as many as there are workers."""
    per_ms: int = 0
    burst: int = 0
    """Tokens that the bucket holds."""
    level: int = 0
    level_ms: int = 0
    """What was in the bucket, and when."""
    aging_ms: int = AGING_DEFAULT_MS

    def pack(self) -> bytes:
        return self.STRUCT.pack(
            self.paused, self.count, self.per_ms, self.burst, self.level, self.level_ms, self.aging_ms
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        return cls(*cls.STRUCT.unpack(raw))

    def set_rate(self, count: int, per_ms: int, burst: int, now_ms: int) -> None:
        """A new rate begins with a full bucket."""
        self.count, self.per_ms, self.burst = count, per_ms, burst
        self.level, self.level_ms = burst * per_ms, now_ms

    def starts(self, now_ms: int) -> int:
        """How many may start now; a very large number without a rate."""
        if self.paused:
            return 0
        return self._level(now_ms) // self.per_ms if self.count else 1 << 32

    def take(self, now_ms: int) -> None:
        """One starts."""
        if self.count:
            self.level = self._level(now_ms) - self.per_ms
            self.level_ms = max(self.level_ms, now_ms)

    def next_start_ms(self, now_ms: int) -> int:
        """When the next token is there. Only for a queue with a rate."""
        missing = max(0, self.per_ms - self._level(now_ms))
        return now_ms + -(-missing // self.count)

    def _level(self, now_ms: int) -> int:
        return min(self.burst * self.per_ms, self.level + max(0, now_ms - self.level_ms) * self.count)


class QueueRules:
    """The rules as of one entry: read once, and written at its end if tokens were taken."""

    __slots__ = ("_any", "_changed", "_of_lane", "_rules", "_tables")

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._any: bool | None = None
        self._of_lane: dict[int, int] = {}
        self._rules: dict[int, QueueRule | None] = {}
        self._changed: set[int] = set()

    def of_lane(self, lane: int) -> QueueRule | None:
        """The rule of a lane's queue; None if it has no settings."""
        if self._any is None:
            self._any = next(iter(self._tables.bucket.scan()), None) is not None
        if not self._any:
            return None
        queue = self._of_lane.get(lane)
        if queue is None:
            queue = self._of_lane[lane] = queue_of(self._tables, lane)
        return self.of_queue(queue)

    def of_queue(self, queue: int) -> QueueRule | None:
        if queue not in self._rules:
            raw = self._tables.bucket.get(U32.pack(queue))
            self._rules[queue] = None if raw is None else QueueRule.unpack(raw)
        return self._rules[queue]

    def aging_ms(self, lane: int) -> int:
        rule = self.of_lane(lane)
        return AGING_DEFAULT_MS if rule is None else rule.aging_ms

    def take(self, lane: int, now_ms: int) -> None:
        """An attempt starts."""
        rule = self.of_lane(lane)
        if rule is not None and rule.count:
            rule.take(now_ms)
            self._changed.add(self._of_lane[lane])

    def put(self, queue: int, rule: QueueRule) -> None:
        self._any = True
        self._rules[queue] = rule
        self._changed.add(queue)

    def save(self) -> None:
        for queue in sorted(self._changed):
            rule = self._rules[queue]
            if rule is not None:
                self._tables.bucket.put(U32.pack(queue), rule.pack())


class NamespaceRates:
    """How fast the executions of namespaces may start, as of one entry: the same for them."""

    __slots__ = ("_changed", "_rules", "_tables")

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._rules: dict[int, QueueRule | None] = {}
        self._changed: set[int] = set()

    def of(self, namespace: int) -> QueueRule | None:
        """None if it has no rate."""
        if namespace not in self._rules:
            raw = self._tables.bucket.get(U64.pack(namespace))
            self._rules[namespace] = None if raw is None else QueueRule.unpack(raw)
        return self._rules[namespace]

    def take(self, namespace: int, now_ms: int) -> None:
        """An attempt starts."""
        rule = self.of(namespace)
        if rule is not None:
            rule.take(now_ms)
            self._changed.add(namespace)

    def put(self, namespace: int, rule: QueueRule | None) -> None:
        self._rules[namespace] = rule
        self._changed.add(namespace)

    def save(self) -> None:
        for namespace in sorted(self._changed):
            rule = self._rules[namespace]
            if rule is None:
                self._tables.bucket.delete(U64.pack(namespace))
            else:
                self._tables.bucket.put(U64.pack(namespace), rule.pack())


def has_namespace_rates(tables: Tables) -> bool:
    """Their keys are longer than those of queues, and come before them."""
    return any(len(key) == U64.size for key, _ in islice(tables.bucket.scan(), 1))


def queue_of(tables: Tables, lane: int) -> int:
    """The queue of a lane: the number of its lane without labels."""
    raw = tables.lane.get(U32.pack(lane))
    return 0 if raw is None else int(U32.unpack(raw[: U32.size])[0])
