"""What follows when an execution has reached its last state: for its job, for those that wait for it, for its run.

`State.move` notes who has ended; the machine calls `settle` between commands. So whoever ends an execution need not know what
that means to others, and one end may lead to the next without recursion.
"""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft import beside, dead_letters, lines, operations, workflows
from horologe.raft.events import EventKind
from horologe.raft.jobs import remove_job
from horologe.raft.model import ExecutionState, JobFlag
from horologe.raft.overlap import release_next
from horologe.raft.records import U64, Execution, JobState
from horologe.raft.state import InvariantError, State


def settle(state: State) -> None:
    """Draws the consequences of all that has ended, until nothing more follows."""
    while state.ended or state.runs:
        if not state.ended:
            workflows.begin_run(state, state.runs.pop(0))
            continue
        number = state.ended.popleft()
        execution = state.execution(number)
        if execution is None:
            raise InvariantError(f"execution {number} has ended, but is not there")
        _settle_one(state, number, execution)
    lines.call_next(state)


def _settle_one(state: State, number: int, execution: Execution) -> None:
    job_state = state.job_state(execution.job)
    if job_state is None:
        raise InvariantError(f"job {execution.job} is gone although it has executions")
    job_state.unfinished -= 1
    if job_state.unfinished < 0:
        raise InvariantError(f"job {execution.job}: more executions ended than were made")
    if _is_plain(execution, job_state):
        job_state.completed += 1
        state.put_job_state(execution.job, job_state)
        return
    _count(job_state, execution)
    _note_recovery(state, number, execution, job_state)
    state.arm_after_end(execution.job, job_state)
    if execution.state == ExecutionState.COMPLETED and _is_finished(job_state):
        remove_job(state, _record_of(state, execution.job), job_state)
    state.put_job_state(execution.job, job_state)
    if execution.state == ExecutionState.DEAD:
        dead_letters.bury(state, number, execution)
    if execution.operation:
        operations.execution_ended(state, execution)
    beside.forget(state, number, execution)
    if job_state.held and job_state.held == job_state.unfinished:
        release_next(state, execution.job)
    if execution.root or job_state.flags & JobFlag.UPSTREAM:
        workflows.node_ended(state, number, execution)


_FOLLOWED_FLAGS = JobFlag.FAILING | JobFlag.DELETE_WHEN_FINISHED | JobFlag.UPSTREAM


def _is_plain(execution: Execution, job_state: JobState) -> bool:
    """Whether nothing below has anything to do: nobody waits for this end."""
    return (
        execution.state == ExecutionState.COMPLETED
        and not job_state.flags & _FOLLOWED_FLAGS
        and not job_state.held
        and not job_state.fixed_delay_ms
        and not execution.root
        and not execution.operation
        and not beside.is_old(execution)
    )


_KEPT_FLAGS = JobFlag.PAUSED | JobFlag.PARKED | JobFlag.DELETED | JobFlag.UPSTREAM


def _is_finished(job_state: JobState) -> bool:
    """Whether the job goes, now that its last execution has ended well. One that others are after stays."""
    is_over = not job_state.next_due_ms and not job_state.unfinished and not job_state.flags & _KEPT_FLAGS
    return is_over and bool(job_state.flags & JobFlag.DELETE_WHEN_FINISHED)


def _record_of(state: State, job: int) -> log_pb2.JobRecord:
    raw = state.tables.job.get(U64.pack(job))
    if raw is None:
        raise InvariantError(f"job {job} has a state but no record")
    return log_pb2.JobRecord.FromString(bytes(raw))


def _note_recovery(state: State, number: int, execution: Execution, job_state: JobState) -> None:
    """Remembers whether the job fails, and tells that it does not any more."""
    if execution.state in (ExecutionState.FAILED, ExecutionState.DEAD):
        job_state.flags |= JobFlag.FAILING
    elif execution.state == ExecutionState.COMPLETED and job_state.flags & JobFlag.FAILING:
        job_state.flags &= ~JobFlag.FAILING
        state.note(number, execution, EventKind.JOB_RECOVERED, execution.state)


def _count(job_state: JobState, execution: Execution) -> None:
    match execution.state:
        case ExecutionState.COMPLETED:
            job_state.completed += 1
        case ExecutionState.FAILED | ExecutionState.DEAD:
            job_state.failed += 1
        case ExecutionState.CANCELLED:
            job_state.cancelled += 1
        case _:
            job_state.skipped += 1
