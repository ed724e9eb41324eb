"""Due times that nobody has accounted for when a job changes: those that have come and were not fired, or that a pause swallowed.

Whoever deletes a job or changes its schedule counts them (which needs the schedule, so the proposer does it); here they are
written down. What was swallowed by a pause is SKIPPED(paused), whatever ends it.
"""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft.model import JobFlag, LedgerOutcome, Reason
from horologe.raft.records import PAIR, U64, JobState, LedgerEntry
from horologe.raft.state import State
from horologe.raft.tables import Tables


def first_pending_ms(tables: Tables, record: log_pb2.JobRecord, job_state: JobState) -> int:
    """The first due time that is not accounted for, passed or still to come; 0 for none."""
    if job_state.flags & JobFlag.PAUSED:
        return record.pause_time_ms
    if job_state.flags & JobFlag.PARKED:
        return int(U64.unpack(tables.parked.get(parked_key(record.id, job_state)) or bytes(8))[0])
    return job_state.next_due_ms


def parked_key(job: int, job_state: JobState) -> bytes:
    return PAIR.pack(job_state.namespace, job)


def is_outdated(state: State, record: log_pb2.JobRecord, job_state: JobState, run: log_pb2.PendingRun) -> bool:
    """Whether some of what the proposer counted has been accounted for since: then it must count again."""
    first_ms = first_pending_ms(state.tables, record, job_state)
    return run.count > 0 and first_ms != run.first_ms and first_ms <= run.last_ms


def account(
    state: State,
    record: log_pb2.JobRecord,
    job_state: JobState,
    run: log_pb2.PendingRun,
    reason: Reason,
    *,
    kept_ms: int = 0,
) -> None:
    """Writes down what is pending, before the job is armed anew. The caller stores `job_state`, which counts it.

    A due time that has come since the proposer counted is not lost either, unless it is `kept_ms`, which will still fire.
    """
    first_ms = first_pending_ms(state.tables, record, job_state)
    outcome = LedgerOutcome.MISSED
    if job_state.flags & (JobFlag.PAUSED | JobFlag.PARKED):
        outcome, reason = LedgerOutcome.SKIPPED, Reason.PAUSED
    if run.count and run.first_ms == first_ms:
        # The proposer's clock may be ahead of the leader's. The next caller's may be behind, and must not go back there.
        state.pass_time(run.last_ms)
        state.put_not_run(record.id, job_state, run.last_ms, LedgerEntry(outcome, reason, 0, first_ms, run.count))
    elif 0 < first_ms <= state.now_ms and first_ms != kept_ms:
        state.put_not_run(record.id, job_state, first_ms, LedgerEntry(outcome, reason, 0, first_ms, 1))
