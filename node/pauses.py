"""What a pause swallowed: counted when the job is resumed."""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.node.timetable import timetable_of

_COUNT_PER_CALL = 10_000


def account_for_pause(record: log_pb2.JobRecord, now_ms: int) -> log_pb2.PauseJob:
    """The command that resumes a paused job at `now_ms`: when it is due next, and which due times the pause swallowed."""
    timetable = timetable_of(record.job)
    resume = log_pb2.PauseJob(
        name=record.job.name,
        next_due_ms=timetable.next_after(now_ms) or 0,
        expected_revision=record.revision,
    )
    # A job that had nothing due when it was paused may have got another schedule since.
    from_ms = record.pause_time_ms or record.update_time_ms
    while True:
        swallowed = timetable.missed(from_ms, now_ms, _COUNT_PER_CALL)
        resume.skipped_count += swallowed.count
        if swallowed.count:
            resume.skipped_last_ms = swallowed.last_ms
            from_ms = swallowed.last_ms + 1
        if swallowed.complete:
            return resume
