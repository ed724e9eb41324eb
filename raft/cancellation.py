"""Ending executions on request: one, all of a job, or those that a later one replaces."""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft import wheel
from horologe.raft.beside import noted_of
from horologe.raft.events import EventKind
from horologe.raft.model import FINAL_STATES, Code, ExecutionFlag, ExecutionState, LedgerOutcome, Result, TimerKind
from horologe.raft.records import LEDGER_KEY, Execution, LedgerEntry
from horologe.raft.state import State


def cancel(state: State, command: log_pb2.CancelExecution) -> Result:
    """Whoever comes first in the log wins.

    After a completion this is EXECUTION_FINISHED; a completion after this counts by what it says.
    """
    number = command.execution
    execution = state.execution(number) if number > 0 else None
    if execution is None:
        return Result(Code.EXECUTION_NOT_FOUND, text=str(number))
    if execution.state in FINAL_STATES:
        return Result(Code.EXECUTION_FINISHED, (number,), ExecutionState(execution.state).name)
    cancel_one(state, number, execution, command.reason)
    return Result(Code.OK, (number,))


def cancel_unfinished(state: State, job: int, unfinished: int) -> None:
    """Cancels what is left of a job: its `unfinished` ones, which are of old due times and noted, or among its latest."""
    numbers = noted_of(state, job, unfinished)
    noted = frozenset(numbers)
    for key, value in state.tables.ledger.scan_down(LEDGER_KEY.pack(job + 1, 0, 0)):
        if LEDGER_KEY.unpack(key)[0] != job or len(numbers) >= unfinished:
            break
        entry = LedgerEntry.unpack(value)
        number = entry.execution
        # Due times coalesced into an execution name it too; it must come up once.
        execution = state.execution(number) if entry.outcome == LedgerOutcome.RAN else None
        if execution is not None and execution.state not in FINAL_STATES and number not in noted:
            numbers.append(number)
    for number in numbers:
        execution = state.execution(number)
        if execution is not None:
            cancel_one(state, number, execution, "job deleted")


def cancel_one(state: State, number: int, execution: Execution, reason: str) -> None:
    """Ends an execution that waits; asks the worker of one that runs. Stores the execution."""
    if reason:
        detail = state.detail(number, execution)
        detail.reason = reason
        state.put_detail(number, execution, detail)
    if execution.state == ExecutionState.RUNNING:
        execution.flags |= ExecutionFlag.CANCEL_REQUESTED
        if execution.session:
            state.effects.cancelled.append((execution.session, number, execution.attempt, execution.token))
        else:
            # A workflow: its nodes are to end.
            state.runs.append(number)
        state.effects.changed.append(number)
        state.note(number, execution, EventKind.CANCEL_REQUESTED, execution.state)
    else:
        if execution.next_attempt_ms:
            wheel.disarm(state.tables.timer, execution.next_attempt_ms, TimerKind.RETRY, number)
            execution.next_attempt_ms = 0
        state.move(number, execution, ExecutionState.CANCELLED)
    state.put_execution(number, execution)
