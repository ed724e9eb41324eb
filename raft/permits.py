"""How many attempts run under each limit, and whether there is room for one more.

A limit is one number: what kind it is, and whose. An execution is counted by its namespace always, and by the limits of its job
from the start of an attempt to its end (ExecutionFlag.LIMITED). Counts are read once per entry and written once at its end, so
that they cost a job without limits next to nothing. What waits for room is in the lines: see limits.py.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

from horologe.raft.model import ExecutionFlag, JobFlag
from horologe.raft.rates import NamespaceRates
from horologe.raft.records import U32, U64, Execution, JobState
from horologe.raft.tables import Tables

LIMIT_USE = Struct(">II")
"""max_running (0: no limit), running"""
_KIND_SHIFT = 56


class LimitKind(IntEnum):
    """Whose limit it is. Executions ask in this order."""

    NAMESPACE = 1
    JOB = 2
    NAMED = 3
    START_RATE = 4
    """Not how many of a namespace run, but how fast they start: its room is the tokens that are there."""


def limit_of(kind: LimitKind, number: int) -> int:
    """The limit of a namespace, of a job, or one with a name of its own, by its number."""
    return kind << _KIND_SHIFT | number


_FIRST_RATE = limit_of(LimitKind.START_RATE, 0)
_FIRST_OF_NAMESPACES = limit_of(LimitKind.NAMESPACE, 0)


def kind_of(limit: int) -> LimitKind:
    return LimitKind(limit >> _KIND_SHIFT)


def number_of(limit: int) -> int:
    """Whose it is."""
    return limit & (1 << _KIND_SHIFT) - 1


class Permits:
    """The counts as of one entry."""

    __slots__ = ("_tables", "_uses", "now_ms", "rates")

    def __init__(self, tables: Tables, now_ms: int = 0) -> None:
        """`now_ms` matters to rates only."""
        self._tables = tables
        self._uses: dict[int, list[int]] = {}
        self.now_ms = now_ms
        self.rates = NamespaceRates(tables)

    def save(self) -> None:
        self.rates.save()
        for limit, (max_running, running) in self._uses.items():
            if max_running or running:
                self._tables.limit_use.put(U64.pack(limit), LIMIT_USE.pack(max_running, running))
            else:
                self._tables.limit_use.delete(U64.pack(limit))

    def take(self, execution: Execution, job_state: JobState) -> None:
        """An attempt starts. The caller stores the execution."""
        self._use(limit_of(LimitKind.NAMESPACE, execution.namespace))[1] += 1
        self.rates.take(execution.namespace, self.now_ms)
        if job_state.flags & JobFlag.LIMITED:
            self.count_in(execution)

    def count_in(self, execution: Execution) -> None:
        """An attempt that runs counts by the limits of its job. The caller stores the execution."""
        execution.flags |= ExecutionFlag.LIMITED
        for limit in self._of_job(execution.job):
            self._use(limit)[1] += 1

    def give_back(self, execution: Execution) -> list[int]:
        """An attempt has ended: answers the limits that have room again. The caller stores the execution."""
        limits = [limit_of(LimitKind.NAMESPACE, execution.namespace)]
        if execution.flags & ExecutionFlag.LIMITED:
            execution.flags &= ~ExecutionFlag.LIMITED
            limits += self._of_job(execution.job)
        for limit in limits:
            self._use(limit)[1] -= 1
        return [limit for limit in limits if self._is_limit(limit) and self.room(limit)]

    def limits(self, execution: Execution, job_state: JobState) -> list[int]:
        """All limits that an execution is subject to, in the order in which it asks them."""
        own = limit_of(LimitKind.NAMESPACE, execution.namespace)
        limits = [own] if self._is_limit(own) else []
        if job_state.flags & JobFlag.LIMITED:
            limits += [limit for limit in self._of_job(execution.job) if self._is_limit(limit)]
        if self.rates.of(execution.namespace) is not None:
            limits.append(limit_of(LimitKind.START_RATE, execution.namespace))
        return limits

    def room(self, limit: int) -> int:
        """How many more may run; a very large number without a limit."""
        if limit >= _FIRST_RATE:
            rule = self.rates.of(number_of(limit))
            return 1 << 32 if rule is None else rule.starts(self.now_ms)
        max_running, running = self._use(limit)
        return max(0, max_running - running) if max_running else 1 << 32

    def running(self, limit: int) -> int:
        return self._use(limit)[1]

    def set_max(self, limit: int, max_running: int) -> bool:
        """Answers whether there is more room than before. What runs already goes on."""
        before = self.room(limit)
        self._use(limit)[0] = max_running
        return self.room(limit) > before

    def add(self, limit: int, running: int) -> None:
        """A job whose attempts run already gets the limit, or gets rid of it."""
        self._use(limit)[1] += running

    def named(self, job: int) -> list[int]:
        """The limits with names that a job has."""
        raw = self._tables.job_limit.get(U64.pack(job))
        return [] if raw is None else [limit_of(LimitKind.NAMED, number) for (number,) in U32.iter_unpack(raw)]

    def _of_job(self, job: int) -> list[int]:
        # A limit can only be deleted when nothing is counted by it; a deleted job may still name it.
        return [limit_of(LimitKind.JOB, job), *(limit for limit in self.named(job) if self._is_limit(limit))]

    def of_namespace(self, namespace: int) -> list[int]:
        """How many of it may run (0: no limit), and how many do: the counts themselves."""
        limit = _FIRST_OF_NAMESPACES | namespace
        return self._uses.get(limit) or self._use(limit)

    def is_limited(self, namespace: int) -> bool:
        """Whether the namespace bounds how many of it run, or how fast they start."""
        return self.of_namespace(namespace)[0] > 0 or self.rates.of(namespace) is not None

    def _is_limit(self, limit: int) -> bool:
        return self._use(limit)[0] > 0

    def _use(self, limit: int) -> list[int]:
        use = self._uses.get(limit)
        if use is None:
            raw = self._tables.limit_use.get(U64.pack(limit))
            use = self._uses[limit] = [0, 0] if raw is None else list(LIMIT_USE.unpack(raw))
        return use
