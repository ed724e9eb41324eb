"""What firing needs of a definition, packed: how a job's state (records.JobState) follows from what somebody wrote.

Every job that is made or changed passes here. Each look into a message costs as much as a look into a dict, or two, so nothing is
looked at twice.
"""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft.failures import LOST, Failure, is_retried
from horologe.raft.limits import namespace_of
from horologe.raft.model import JobFlag, LeaseLoss
from horologe.raft.records import JobState
from horologe.raft.spans import milliseconds
from horologe.raft.state import State
from horologe.v1 import job_pb2

_LOST = Failure(LOST)


def hot_part(state: State, draft: log_pb2.JobDraft) -> JobState:
    """Of a job that has no history yet. Makes its namespace and its lane if they are new."""
    job, retry = draft.job, draft.job.retry
    every_ms = _every_ms(job)
    return JobState(
        revision=state.index,
        every_ms=every_ms,
        timeout_ms=milliseconds(job.timeout),
        catchup_window_ms=milliseconds(job.catchup_window),
        deadline_ms=milliseconds(job.deadline),
        execution_timeout_ms=milliseconds(job.execution_timeout),
        retry_window_ms=milliseconds(retry.retry_window),
        fixed_delay_ms=0 if every_ms else _fixed_delay_ms(job),
        max_executions=job.max_executions,
        namespace=state.namespace_number(namespace_of(job.name)),
        queue=state.lane_number(job.queue, job.worker_labels),
        queue_max=job.queue_max,
        catchup_max=job.catchup_max,
        flags=flags_of(job) | (JobFlag.SECRETS if draft.secrets else 0),
        max_attempts=retry.max_attempts,
        overlap=job.overlap,
        catchup=job.catchup,
        # A retry policy that does not take `lost` says no as well.
        on_lease_loss=job.on_lease_loss if is_retried(retry, _LOST) else LeaseLoss.FAIL,
        priority=job.priority,
    )


def flags_of(job: job_pb2.Job) -> int:
    """What of the definition makes a difference to every execution."""
    flags = 0
    if job.max_running or job.limits:
        flags |= JobFlag.LIMITED
    if job.action.HasField("workflow"):
        flags |= JobFlag.WORKFLOW
    if job.delete_when_finished:
        flags |= JobFlag.DELETE_WHEN_FINISHED
    return flags


def _every_ms(job: job_pb2.Job) -> int:
    """The period of a job whose next due time is the last one and the period, whatever happens; 0 for all others."""
    schedules = job.schedules
    if len(schedules) != 1 or not schedules[0].HasField("interval"):
        return 0
    if job.HasField("start_time") or job.HasField("end_time") or job.calendars or job.HasField("jitter"):
        return 0
    return milliseconds(schedules[0].interval.every)


def _fixed_delay_ms(job: job_pb2.Job) -> int:
    """The shortest, if several schedules say so."""
    delays = [milliseconds(each.fixed_delay.delay) for each in job.schedules if each.HasField("fixed_delay")]
    return min(delays, default=0)
