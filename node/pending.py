"""Due times that have come and that nobody has accounted for, counted for the commands that change a job or end its pause.

It may take a while: a job that was paused for a year has many. Callers count on another thread, outside of their transaction.
"""

from __future__ import annotations

from dataclasses import dataclass

from horologe.log.v1 import log_pb2
from horologe.node import views
from horologe.node.calendars import exclusions_of
from horologe.node.timetable import Timetable, timetable_of
from horologe.raft.pending import first_pending_ms
from horologe.raft.records import JobState
from horologe.raft.tables import Tables

_COUNT_PER_CALL = 10_000


@dataclass(frozen=True, slots=True)
class Pending:
    """What is needed to count, taken from the state at one moment."""

    record: log_pb2.JobRecord
    state: JobState
    timetable: Timetable
    first_ms: int
    """The first due time that is not accounted for, passed or to come; 0 for none."""

    def count(self, now_ms: int) -> log_pb2.PendingRun:
        """All up to now."""
        if not 0 < self.first_ms <= now_ms:
            return log_pb2.PendingRun()
        run = self.timetable.owed(self.first_ms, now_ms, _COUNT_PER_CALL)
        found = log_pb2.PendingRun(first_ms=self.first_ms, last_ms=run.last_ms, count=run.count)
        while not run.complete:
            run = self.timetable.missed(found.last_ms + 1, now_ms, _COUNT_PER_CALL)
            found.count += run.count
            found.last_ms = run.last_ms if run.count else found.last_ms
        return found

    def resume(self, now_ms: int, *, catchup: bool) -> log_pb2.PauseJob:
        """The command that ends the job's pause: when it is due next, and which due times the pause swallowed."""
        run = log_pb2.PendingRun() if catchup else self.count(now_ms)
        next_ms = self.next_due_ms(now_ms)
        return log_pb2.PauseJob(
            name=self.record.job.name,
            next_due_ms=next_ms,
            next_fire_ms=self.timetable.fire_ms(next_ms) if next_ms else 0,
            skipped_count=run.count,
            skipped_last_ms=run.last_ms,
            expected_revision=self.record.revision,
            catchup=catchup,
        )

    def next_due_ms(self, now_ms: int) -> int:
        """The first due time after now; 0 for none. One that follows the end of an execution stays where it was."""
        next_ms = self.timetable.next_after(now_ms) or 0
        if self.state.fixed_delay_ms and self.first_ms > now_ms:
            return min(self.first_ms, next_ms or self.first_ms)
        return next_ms


def read_pending(tables: Tables, record: log_pb2.JobRecord) -> Pending:
    """Of a job that is there."""
    state = views.read_job_state(tables, record.id) or JobState()
    timetable = timetable_of(record.job, exclusions_of(tables, record.job), record.schedule_time_ms)
    return Pending(record, state, timetable, first_pending_ms(tables, record, state))
