"""How an execution comes into being: by a due time, by request, or because of another one."""

from __future__ import annotations

from horologe.raft.deadlines import set_deadline
from horologe.raft.model import ExecutionFlag, ExecutionState, JobFlag, Overlap, Reason, Trigger
from horologe.raft.records import Execution, JobState
from horologe.raft.starting import start_or_queue
from horologe.raft.state import State


def new_execution(
    state: State,
    job: int,
    job_state: JobState,
    due_ms: int,
    trigger: Trigger,
    session: tuple[int, int] | None,
    *,
    planned_ms: int = 0,
    held: bool = False,
) -> tuple[int, Execution]:
    """A new execution: held behind others of its job, or running on `session` (session, worker), or queued.

    One of a workflow runs without a worker. Who has others after it begins a run: the caller may say that it belongs to another.
    The caller stores it and `job_state`.
    """
    number, execution = _new(state, job, job_state, due_ms, trigger)
    execution.planned_ms = planned_ms or due_ms
    if job_state.flags & (JobFlag.UPSTREAM | JobFlag.WORKFLOW):
        execution.root = number
    if held:
        if job_state.overlap == Overlap.REPLACE:
            execution.flags |= ExecutionFlag.REPLACES
        state.hold(number, execution)
        job_state.held += 1
    elif job_state.flags & JobFlag.WORKFLOW:
        state.begin_run(number, execution)
    else:
        start_or_queue(state, number, execution, job_state, session)
    if execution.state in (ExecutionState.QUEUED, ExecutionState.SCHEDULED):
        set_deadline(state, number, execution, job_state)
    return number, execution


def new_skipped(
    state: State, job: int, job_state: JobState, due_ms: int, trigger: Trigger, reason: Reason
) -> tuple[int, Execution]:
    """An execution that will not run, with its row in the ledger. The caller stores it and `job_state`."""
    number, execution = _new(state, job, job_state, due_ms, trigger)
    state.skip(number, execution, reason)
    return number, execution


def _new(state: State, job: int, job_state: JobState, due_ms: int, trigger: Trigger) -> tuple[int, Execution]:
    state.counters.last_execution += 1
    state.counters.fired += 1
    job_state.unfinished += 1
    job_state.executions += 1
    return state.counters.last_execution, Execution(
        job=job,
        due_ms=due_ms,
        create_ms=state.now_ms,
        planned_ms=due_ms,
        queue=job_state.queue,
        namespace=job_state.namespace,
        priority=job_state.priority,
        trigger=trigger,
    )
