"""The due times that a job has missed, counted over as many plans as it takes.

A plan is made inside the step, so it must not take long; a job may have missed thousands of due times that can only be
enumerated. Nothing is decided before all are counted. The count belongs to the leader alone: another leader begins anew.
"""

from __future__ import annotations

from collections import deque

from horologe.node.timetable import PlainInterval, Timetable
from horologe.raft.commands import MissedFate


class Missed:
    """The due times from a job's pending one to an instant that is not before it."""

    def __init__(self, revision: int, pending_ms: int, until_ms: int, fate: MissedFate, kept: int) -> None:
        """`fate`: what becomes of all of them, if that is known already. `kept`: how many of the last ones are remembered."""
        self.revision = revision
        self.pending_ms = pending_ms
        self.until_ms = until_ms
        self.fate = fate
        self.count = 1
        self.latest: deque[int] = deque([pending_ms], maxlen=max(2, kept))
        """The last ones, oldest first."""
        self.next_ms = 0
        """The first one after them; 0 if there is none. Known when all are counted."""
        self.is_complete = False

    @property
    def last_ms(self) -> int:
        return self.latest[-1]

    def go_on(self, timetable: Timetable | PlainInterval, budget: int) -> int:
        """Counts on, by at most `budget` looks at the timetable. Answers how many were needed."""
        if timetable.period_ms:
            self._count_periods(timetable, timetable.period_ms)
            return 0
        for looks in range(max(budget, 0)):
            due_ms = timetable.next_after(self.last_ms)
            if due_ms is None or due_ms > self.until_ms:
                self.next_ms = due_ms or 0
                self.is_complete = True
                return looks + 1
            self.latest.append(due_ms)
            self.count += 1
        return max(budget, 0)

    def _count_periods(self, timetable: Timetable | PlainInterval, period_ms: int) -> None:
        run = timetable.owed(self.pending_ms, self.until_ms, limit=1)
        self.count = run.count
        if run.count > 1:
            kept = min(self.latest.maxlen or 0, run.count - 1)
            self.latest.extend(run.last_ms - period_ms * number for number in range(kept - 1, -1, -1))
        self.next_ms = timetable.next_after(self.last_ms) or 0
        self.is_complete = True
