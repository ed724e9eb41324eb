"""Ending executions on request: one, all of a job, or those that a later one replaces."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from struct import Struct

from horologe.log.v1 import log_pb2
from horologe.raft import wheel
from horologe.raft.beside import noted_of
from horologe.raft.events import EventKind
from horologe.raft.model import FINAL_STATES, Code, ExecutionFlag, ExecutionState, LedgerOutcome, Result, TimerKind
from horologe.raft.records import LEDGER_KEY, PAIR, U64, Execution, LedgerEntry
from horologe.raft.state import State

CANCELLED_PER_ENTRY = 500
"""Executions of a deleted job that one entry looks at: some 50 ms."""
_WALK = Struct(">QQQQ")
_END = (1 << 64) - 1


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
    """Cancels what is left of a deleted job: its `unfinished` executions, which are of old due times and noted, or its latest.

    A few here; the leader's planner sees to it that the rest follows.
    """
    _cancel_some(state, job, _Walk(0, _END, _END, unfinished))


def go_on(state: State, records: bytes) -> None:
    """Cancels some more of deleted jobs."""
    for (job,) in U64.iter_unpack(records):
        raw = state.tables.cancelling.get(U64.pack(job))
        if raw is not None:
            _cancel_some(state, job, _Walk(*_WALK.unpack(raw)))


@dataclass(slots=True)
class _Walk:
    """Through the executions of a job that were noted, upwards; then through its ledger, downwards."""

    noted_from: int
    due_ms: int
    number: int
    left: int
    """So many at the most are not finished, and were not met yet."""


def _cancel_some(state: State, job: int, walk: _Walk) -> None:
    found = _next_of(state, job, walk)
    for number in found:
        execution = state.execution(number)
        if execution is None or execution.state in FINAL_STATES:
            continue
        walk.left -= 1
        if not execution.flags & ExecutionFlag.CANCEL_REQUESTED:
            cancel_one(state, number, execution, "job deleted")
    if walk.left > 0 and len(found) == CANCELLED_PER_ENTRY:
        row = _WALK.pack(walk.noted_from, walk.due_ms, walk.number, walk.left)
        state.tables.cancelling.put(U64.pack(job), row)
    else:
        state.tables.cancelling.delete(U64.pack(job))


def _next_of(state: State, job: int, walk: _Walk) -> list[int]:
    """The next executions to look at, finished or not; fewer than `CANCELLED_PER_ENTRY` at the end. 0 for none of its own."""
    found: list[int] = []
    if walk.noted_from != _END:
        found = noted_of(state, job, CANCELLED_PER_ENTRY, walk.noted_from)
        walk.noted_from = found[-1] + 1 if len(found) == CANCELLED_PER_ENTRY else _END
    start = LEDGER_KEY.pack(job, walk.due_ms, walk.number)
    rows = state.tables.ledger.scan_down(start) if len(found) < CANCELLED_PER_ENTRY else iter(())
    for key, value in islice(rows, CANCELLED_PER_ENTRY - len(found)):
        owner, walk.due_ms, walk.number = LEDGER_KEY.unpack(key)
        if owner != job:
            break
        entry = LedgerEntry.unpack(value)
        # Noted ones come up here again; due times coalesced into an execution name it too.
        found.append(entry.execution if entry.outcome == LedgerOutcome.RAN and not _is_noted(state, job, entry) else 0)
    return found


def _is_noted(state: State, job: int, entry: LedgerEntry) -> bool:
    return state.tables.beside.get(PAIR.pack(job, entry.execution)) is not None


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
