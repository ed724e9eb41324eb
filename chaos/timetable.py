"""When a job is due, computed beside the code that fires it: what `horologe verify` holds the ledger against.

Plain intervals and instants are arithmetic of our own. Cron expressions are read by node/cron.py, the only place that does;
a mistake there is not found here (tests/unit/schedule compares it with a scan of every minute). All times are milliseconds
since 1970.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from horologe.node import cron
from horologe.node.schedule import cron_rule
from horologe.v1.job_pb2 import Job, Schedule


class Timetable(Protocol):
    """The due times of a schedule."""

    def next_after(self, after_ms: int) -> int | None:
        """The first one strictly after an instant; None if there is none."""

    def count(self, first_ms: int, last_ms: int) -> int:
        """How many from `first_ms` to `last_ms`, both included."""


@dataclass(frozen=True, slots=True)
class Every:
    """Due whenever the time, divided by the period, leaves the phase."""

    every_ms: int
    phase_ms: int

    def next_after(self, after_ms: int) -> int | None:
        return after_ms + self.every_ms - (after_ms - self.phase_ms) % self.every_ms

    def count(self, first_ms: int, last_ms: int) -> int:
        if last_ms < first_ms:
            return 0
        return (last_ms - self.phase_ms) // self.every_ms - (first_ms - 1 - self.phase_ms) // self.every_ms


@dataclass(frozen=True, slots=True)
class Enumerated:
    """Anything that only knows the next one, and unions: counted one by one."""

    def next_after(self, after_ms: int) -> int | None:
        raise NotImplementedError

    def count(self, first_ms: int, last_ms: int) -> int:
        found, due_ms = 0, self.next_after(first_ms - 1)
        while due_ms is not None and due_ms <= last_ms:
            found, due_ms = found + 1, self.next_after(due_ms)
        return found


@dataclass(frozen=True, slots=True)
class Cron(Enumerated):
    """What node/cron.py says."""

    rule: cron.CronRule

    def next_after(self, after_ms: int) -> int | None:
        return cron.next_due_ms(self.rule, after_ms)


@dataclass(frozen=True, slots=True)
class Once(Enumerated):
    """One instant."""

    due_ms: int

    def next_after(self, after_ms: int) -> int | None:
        return self.due_ms if self.due_ms > after_ms else None


@dataclass(frozen=True, slots=True)
class Union(Enumerated):
    """Several schedules: an instant that two of them name is due once."""

    parts: Sequence[Timetable]

    def next_after(self, after_ms: int) -> int | None:
        found = [due_ms for part in self.parts if (due_ms := part.next_after(after_ms)) is not None]
        return min(found, default=None)


def timetable_of(job: Job) -> Timetable:
    """The due times of all schedules of a job."""
    parts = [part for schedule in job.schedules if (part := _part(schedule, job.name)) is not None]
    return parts[0] if len(parts) == 1 else Union(parts)


def _part(schedule: Schedule, name: str) -> Timetable | None:
    kind = schedule.WhichOneof("kind")
    if kind == "interval":
        every_ms = schedule.interval.every.ToMilliseconds()
        if schedule.interval.HasField("phase"):
            return Every(every_ms, schedule.interval.phase.ToMilliseconds())
        # Without a phase the job's name gives one, so that equal intervals spread evenly.
        digest = hashlib.sha256(name.encode()).digest()
        return Every(every_ms, int.from_bytes(digest[:8], "big") % every_ms)
    if kind == "cron":
        return Cron(cron_rule(schedule.cron, name))
    if kind == "once":
        return Once(schedule.once.time.ToMilliseconds())
    return None
