"""When a job is due, computed beside the code that fires it: what `horologe verify` holds the ledger against.

Plain intervals and instants are arithmetic of our own, and so are bounds; calendars are asked minute by minute (closures.py).
Cron expressions are read by node/cron.py, the only place that does; a mistake there is not found here (tests/unit/schedule
compares it with a scan of every minute). All times are milliseconds since 1970.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from horologe.chaos.closures import Closure, check_reach, closing, is_closed, opening
from horologe.node import cron
from horologe.node.schedule import cron_rule
from horologe.v1.calendar_pb2 import Calendar
from horologe.v1.job_pb2 import EXCLUSION_POLICY_NEXT_OPEN, Job, Schedule


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
class Bounded:
    """What another one has from an instant on, and before another one."""

    inner: Timetable
    start_ms: int
    end_ms: int

    def next_after(self, after_ms: int) -> int | None:
        due_ms = self.inner.next_after(max(after_ms, self.start_ms - 1))
        return due_ms if due_ms is not None and due_ms < self.end_ms else None

    def count(self, first_ms: int, last_ms: int) -> int:
        return self.inner.count(max(first_ms, self.start_ms), min(last_ms, self.end_ms - 1))


@dataclass(frozen=True, slots=True)
class NotClosed(Enumerated):
    """What another one has at times at which nothing is closed."""

    inner: Timetable
    closures: Sequence[Closure]

    def next_after(self, after_ms: int) -> int | None:
        due_ms = self.inner.next_after(after_ms)
        while due_ms is not None and is_closed(self.closures, due_ms):
            check_reach(after_ms, due_ms)
            due_ms = self.inner.next_after(opening(self.closures, due_ms) - 1)
        return due_ms


@dataclass(frozen=True, slots=True)
class Moved(Enumerated):
    """What another one has, put off to the next opening."""

    inner: Timetable
    closures: Sequence[Closure]
    end_ms: int

    def next_after(self, after_ms: int) -> int | None:
        named_ms = self.inner.next_after(closing(self.closures, after_ms) - 1)
        while named_ms is not None:
            due_ms = opening(self.closures, named_ms)
            if due_ms >= self.end_ms:
                return None
            if due_ms > after_ms:
                return due_ms
            named_ms = self.inner.next_after(named_ms)
        return None


@dataclass(frozen=True, slots=True)
class Union(Enumerated):
    """Several schedules: an instant that two of them name is due once."""

    parts: Sequence[Timetable]

    def next_after(self, after_ms: int) -> int | None:
        found = [due_ms for part in self.parts if (due_ms := part.next_after(after_ms)) is not None]
        return min(found, default=None)


LATEST_MS = 1 << 52


def timetable_of(job: Job, calendars: Sequence[Calendar] = ()) -> Timetable:
    """The due times of a job whose calendars are these, since its schedule is as it is."""
    parts = [part for schedule in job.schedules if (part := _part(schedule, job.name)) is not None]
    found: Timetable = parts[0] if len(parts) == 1 else Union(parts)
    start_ms = job.start_time.ToMilliseconds() if job.HasField("start_time") else 0
    end_ms = job.end_time.ToMilliseconds() if job.HasField("end_time") else LATEST_MS
    if calendars and job.on_exclusion == EXCLUSION_POLICY_NEXT_OPEN:
        # What lies before the definition does not move into its time.
        named = Bounded(found, max(start_ms, job.schedule_time.ToMilliseconds() + 1), end_ms)
        return Moved(named, [Closure(calendar) for calendar in calendars], end_ms)
    if start_ms or end_ms < LATEST_MS:
        found = Bounded(found, start_ms, end_ms)
    return NotClosed(found, [Closure(calendar) for calendar in calendars]) if calendars else found


def why_not(job: Job) -> str:
    """Why it cannot be computed when a job is due; empty if it can."""
    if any(schedule.HasField("fixed_delay") for schedule in job.schedules):
        return "its due times follow from the ends of its executions"
    return ""


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
