"""Whether an execution has room under its limits: the leader's copy of what the state will say to each start.

So no slot is given to what has no room; it goes to the line of its limit without one. What is decided here only saves time: the
state counts for itself (raft/permits.py).
"""

from __future__ import annotations

from itertools import islice

from horologe.raft.permits import LIMIT_USE, LimitKind, Permits, kind_of, number_of
from horologe.raft.rates import has_namespace_rates
from horologe.raft.records import U64, Execution, JobState
from horologe.raft.tables import Tables

CHECK_SECONDS = 1.0
"""A cluster that has no limits is asked this often whether it got one; until then the state alone counts."""
NAMESPACES_LOOKED_AT_MAX = 1_000


class Room:
    """One leader's view; `begin_plan` before anything else."""

    def __init__(self) -> None:
        self._has_limits = False
        self._check_at = 0.0
        self._jobs: dict[int, JobState] = {}

    def begin_plan(self, tables: Tables, now: float, wall_ms: int) -> None:
        self._tables = tables
        self._permits = Permits(tables, wall_ms)
        self._jobs.clear()
        self._taken: dict[int, int] = {}
        if now >= self._check_at:
            self._has_limits = _has_limits(tables)
            self._check_at = now + CHECK_SECONDS

    def limits(self, number: int) -> list[int] | None:
        """The limits that one more start of this execution counts by; None if one of them has no room."""
        if not self._has_limits:
            return []
        raw = self._tables.execution.get(U64.pack(number))
        if raw is None:
            return []
        execution = Execution.unpack(raw)
        limits = self._permits.limits(execution, self._job(execution.job))
        has_room = all(self._permits.room(limit) > self._taken.get(limit, 0) for limit in limits)
        return limits if has_room else None

    def left(self, limit: int) -> int:
        """How many more this plan may start under it."""
        return max(0, self._permits.room(limit) - self._taken.get(limit, 0))

    def next_start_ms(self, rate: int, wall_ms: int) -> int:
        """When a rate lets the next one start."""
        rule = self._permits.rates.of(number_of(rate))
        return wall_ms + 1 if rule is None else max(wall_ms + 1, rule.next_start_ms(wall_ms))

    def take(self, limits: list[int]) -> None:
        """It gets a slot in this plan."""
        for limit in limits:
            self._taken[limit] = self._taken.get(limit, 0) + 1

    def _job(self, job: int) -> JobState:
        state = self._jobs.get(job)
        if state is None:
            raw = self._tables.job_state.get(U64.pack(job))
            state = self._jobs[job] = JobState() if raw is None else JobState.unpack(raw)
        return state


def _has_limits(tables: Tables) -> bool:
    """Whether anything is bounded: a namespace, or any job."""
    for key, value in islice(tables.limit_use.scan(), NAMESPACES_LOOKED_AT_MAX):
        if LIMIT_USE.unpack(value)[0] or kind_of(U64.unpack(key)[0]) is not LimitKind.NAMESPACE:
            return True
    return has_namespace_rates(tables)
