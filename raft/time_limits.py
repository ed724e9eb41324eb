"""Time limits over all attempts of an execution: its execution timeout, and the window in which attempts may begin.

The limit of one attempt is the worker's business, and the planner's when the worker says nothing (see executions.py).
"""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft import wheel
from horologe.raft.commands import EXECUTION_TIMEOUT
from horologe.raft.events import EventKind
from horologe.raft.model import FINAL_STATES, ExecutionFlag, ExecutionState, TimerKind
from horologe.raft.records import PAIR, RUNNING_VALUE, Execution, JobState
from horologe.raft.state import State

TIME_IS_UP = "all attempts together took longer than the execution timeout"
WINDOW_IS_OVER = "the retry window is over"


def begin(state: State, number: int, execution: Execution, job_state: JobState) -> None:
    """An attempt starts: with the first one the time for all of them begins to run. The caller stores the execution."""
    if job_state.execution_timeout_ms and not execution.end_by_ms:
        execution.end_by_ms = state.now_ms + job_state.execution_timeout_ms
        state.arm(execution.end_by_ms, TimerKind.EXECUTION_TIMEOUT, number)


def take_back(state: State, number: int, execution: Execution) -> None:
    """An attempt was given back before it began; if it was the first, no time has run."""
    if execution.attempt == execution.attempt_base and execution.end_by_ms:
        wheel.disarm(state.tables.timer, execution.end_by_ms, TimerKind.EXECUTION_TIMEOUT, number)
        execution.end_by_ms = 0


def end_executions(state: State, records: bytes) -> None:
    """Ends executions whose time is over: what waits is DEAD at once; what runs is told to end, and is DEAD when it has.

    Until then its lease goes on, so that nothing of it still runs when it is driven again. It is COMPLETED if it was faster.
    """
    for number, end_by_ms in EXECUTION_TIMEOUT.iter_unpack(records):
        execution = state.execution(number)
        if execution is None or execution.state in FINAL_STATES or execution.end_by_ms != end_by_ms:
            continue
        if execution.state == ExecutionState.RUNNING:
            _tell(state, number, execution)
        else:
            execution.flags |= ExecutionFlag.TIME_IS_UP
            give_up(state, number, execution, TIME_IS_UP)
        state.put_execution(number, execution)


def _tell(state: State, number: int, execution: Execution) -> None:
    wheel.disarm(state.tables.timer, execution.end_by_ms, TimerKind.EXECUTION_TIMEOUT, number)
    execution.end_by_ms = 0
    execution.flags |= ExecutionFlag.TIME_IS_UP
    state.effects.cancelled.append((execution.session, number, execution.attempt, execution.token))
    state.effects.changed.append(number)
    state.note(number, execution, EventKind.CANCEL_REQUESTED, execution.state)
    key = PAIR.pack(execution.session, number)
    deadline_ms, token, attempt = RUNNING_VALUE.unpack(state.tables.running.get(key) or b"")
    # A worker that says nothing is not waited for until the attempt's own timeout.
    state.tables.running.put(key, RUNNING_VALUE.pack(min(deadline_ms, state.now_ms), token, attempt))


def give_up(state: State, number: int, execution: Execution, reason: str) -> None:
    """An execution that waits for its next attempt gets none. The caller stores it."""
    if execution.next_attempt_ms:
        wheel.disarm(state.tables.timer, execution.next_attempt_ms, TimerKind.RETRY, number)
        execution.next_attempt_ms = 0
    detail = state.detail(number, execution)
    detail.reason = reason
    state.put_detail(number, execution, detail)
    state.move(number, execution, ExecutionState.DEAD)


def may_begin(state: State, number: int, execution: Execution, job_state: JobState, at_ms: int) -> bool:
    """Whether the job's retry window leaves room for an attempt that begins at `at_ms`."""
    if not job_state.retry_window_ms or execution.attempt == execution.attempt_base:
        return True
    return at_ms <= _first_began_ms(state, number, execution) + job_state.retry_window_ms


def _first_began_ms(state: State, number: int, execution: Execution) -> int:
    """When the first attempt that counts got its lease."""
    first = execution.attempt_base + 1
    if execution.attempt == first:
        return execution.assign_ms
    past: list[log_pb2.AttemptRecord] = [one for one in state.detail(number, execution).attempts if one.number == first]
    return past[0].assign_time_ms if past else execution.assign_ms
