"""The deadline of an execution: until when it must have started. One that has not is SKIPPED(deadline).

A deadline belongs to the execution and has a timer, from its creation to its first start. A due time that comes up too late makes
no execution at all: see executions.fire. All times are milliseconds since the epoch.
"""

from __future__ import annotations

from horologe.raft.commands import DEADLINE
from horologe.raft.model import ExecutionState, Reason, TimerKind, Trigger
from horologe.raft.records import Execution, JobState
from horologe.raft.state import State


def is_too_late(state: State, job_state: JobState, due_ms: int) -> bool:
    return 0 < job_state.deadline_ms < state.now_ms - due_ms


def set_deadline(state: State, number: int, execution: Execution, job_state: JobState) -> None:
    """Gives an execution that has not started its deadline: after its due time, or after its creation if no schedule made it.

    The caller stores it.
    """
    if job_state.deadline_ms:
        from_ms = execution.due_ms if execution.trigger == Trigger.SCHEDULE else execution.create_ms
        execution.deadline_ms = from_ms + job_state.deadline_ms
        state.arm(execution.deadline_ms, TimerKind.DEADLINE, number)


def take_back(state: State, number: int, execution: Execution) -> None:
    """The first attempt was given back before it began. The caller stores the execution."""
    job_state = state.job_state(execution.job)
    if job_state is not None and not execution.attempt:
        set_deadline(state, number, execution, job_state)


def pass_deadlines(state: State, records: bytes) -> None:
    """Skips what has not started. One that has, or has another deadline by now, stays as it is."""
    for number, deadline_ms in DEADLINE.iter_unpack(records):
        execution = state.execution(number)
        if execution is None or execution.deadline_ms != deadline_ms:
            continue
        if execution.state in (ExecutionState.QUEUED, ExecutionState.SCHEDULED):
            state.skip(number, execution, Reason.DEADLINE)
            state.put_execution(number, execution)
