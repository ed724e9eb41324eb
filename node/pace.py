"""How many executions of each queue the current plan may start: the leader's copy of what the state will say to each start.

So no slot is given to what the state would send back, and the leader wakes up when the next token comes.
"""

from __future__ import annotations

from horologe.raft.rates import QueueRules, queue_of
from horologe.raft.tables import Tables


class Pace:
    """One leader's view; `begin_plan` before anything else."""

    def __init__(self) -> None:
        self._queue_of_lane: dict[int, int] = {}
        self._left: dict[int, int] = {}
        self._wall_ms = 0
        self.next_ms: int | None = None
        """When the first of the queues that had to be kept waiting may start something."""

    def begin_plan(self, tables: Tables, wall_ms: int) -> None:
        self._tables = tables
        self._rules = QueueRules(tables)
        self._left.clear()
        self._wall_ms = wall_ms
        self.next_ms = None

    def may_start(self, lane: int) -> bool:
        """Whether something in this lane may start yet."""
        rule = self._rules.of_lane(lane)
        if rule is None:
            return True
        left = self._left.setdefault(self._queue(lane), rule.starts(self._wall_ms))
        if not left and rule.count and not rule.paused:
            at_ms = max(self._wall_ms + 1, rule.next_start_ms(self._wall_ms))
            self.next_ms = at_ms if self.next_ms is None else min(at_ms, self.next_ms)
        return left > 0

    def aging_ms(self, lane: int) -> int:
        return self._rules.aging_ms(lane)

    def starts(self, lane: int) -> None:
        """Something gets a slot."""
        queue = self._queue(lane)
        if queue in self._left:
            self._left[queue] -= 1

    def _queue(self, lane: int) -> int:
        if lane not in self._queue_of_lane:
            self._queue_of_lane[lane] = queue_of(self._tables, lane)
        return self._queue_of_lane[lane]
