"""The cluster's rules for jobs, for whoever rehearses jobs without a cluster.

`horologe.client.testing` finds `Rules` by the entry point `horologe.rehearsal`, for the client imports nothing of a node. Nothing
is decided here: what a job means stays where the nodes have it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from horologe.node.calendars import coverage_of
from horologe.node.outcomes import retry_delay_ms
from horologe.node.timetable import Timetable, timetable_of
from horologe.node.validation import complete_job
from horologe.raft.commands import GIVE_UP, NO_RETRY
from horologe.v1.calendar_pb2 import Calendar
from horologe.v1.job_pb2 import Job
from horologe.v1.worker_pb2 import AttemptResult


class _LongestWait(random.Random):
    """A backoff with jitter takes up to so long; a rehearsal waits that long, each time alike."""

    def random(self) -> float:
        return 1.0


class Rules:
    """What nodes would make of jobs. All times are milliseconds since 1970."""

    def __init__(self, calendars: Mapping[str, Calendar]) -> None:
        """`calendars` by the names that jobs use."""
        self._calendars = calendars
        self._randomness = _LongestWait()

    def complete(self, job: Job, now_ms: int) -> tuple[Job, list[tuple[str, str]]]:
        """The definition with every default written out, and what is wrong with it: fields and descriptions."""
        complete, found = complete_job(job, job.name, now_ms)
        violations = [(each.field, each.description) for each in found]
        violations += [
            ("job.calendars", f"{name!r} is not among the calendars of this rehearsal")
            for name in complete.calendars
            if name not in self._calendars
        ]
        return complete, violations

    def first_due_ms(self, job: Job, now_ms: int) -> int | None:
        """When a job that is created now is due first; None for never."""
        timetable = self._timetable(job, now_ms)
        due_ms = timetable.next_after(-1)
        if any(each.HasField("fixed_delay") for each in job.schedules):
            opening_ms = timetable.opening(now_ms)
            return min((each for each in (due_ms, opening_ms) if each is not None), default=None)
        return due_ms

    def next_due_ms(self, job: Job, created_ms: int, due_ms: int) -> int | None:
        """When a job is due after a due time; None for never, or not before an execution has ended."""
        return self._timetable(job, created_ms).next_after(due_ms)

    def due_after_end_ms(self, job: Job, created_ms: int, end_ms: int) -> int | None:
        """When a job with a fixed delay is due after the end of an execution."""
        delays_ms = [each.fixed_delay.delay.ToMilliseconds() for each in job.schedules if each.HasField("fixed_delay")]
        return self._timetable(job, created_ms).opening(end_ms + min(delays_ms)) if delays_ms else None

    def fire_ms(self, job: Job, created_ms: int, due_ms: int) -> int:
        """When the execution of a due time starts: later than it, if the job has a jitter."""
        return self._timetable(job, created_ms).fire_ms(due_ms)

    def retry_delay_ms(self, job: Job, result: AttemptResult) -> tuple[int, str]:
        """How long until the next attempt; or -1 and the state in which the execution ends, `failed` or `dead`."""
        delay_ms = retry_delay_ms(result, job.retry, result.attempt, self._randomness)
        if delay_ms == GIVE_UP:
            return -1, "failed"
        return (-1, "dead") if delay_ms == NO_RETRY else (delay_ms, "")

    def _timetable(self, job: Job, created_ms: int) -> Timetable:
        return timetable_of(job, [coverage_of(self._calendars[name]) for name in job.calendars], created_ms)
