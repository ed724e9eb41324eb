"""Retention: history that is too old is dropped, oldest first, a bounded number per entry."""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft.model import FINAL_STATES, LEDGER_KEY, U64, Code, Execution, ExecutionFlag, Result, Trigger
from horologe.raft.state import State


def prune(state: State, command: log_pb2.Prune) -> Result:
    """Drops executions that ended before `before_ms`, with their ledger rows. Answers (dropped,).

    Execution numbers grow with time, so the oldest stand first; one that has not ended yet is stepped over.
    """
    dropped = looked_at = 0
    for number, execution in _oldest(state, command.count_max):
        looked_at += 1
        if execution.create_ms >= command.before_ms:
            break
        if execution.state not in FINAL_STATES or execution.end_ms >= command.before_ms:
            continue
        ledger_number = number if execution.trigger == Trigger.MANUAL else 0
        state.tables.ledger.delete(LEDGER_KEY.pack(execution.job, execution.due_ms, ledger_number))
        if execution.flags & ExecutionFlag.HAS_DETAIL:
            state.tables.detail.delete(U64.pack(number))
        state.tables.execution.delete(U64.pack(number))
        dropped += 1
    return Result(Code.OK, (dropped,))


def _oldest(state: State, count_max: int) -> list[tuple[int, Execution]]:
    found: list[tuple[int, Execution]] = []
    for key, value in state.tables.execution.scan():
        if len(found) >= count_max:
            break
        found.append((U64.unpack(key)[0], Execution.unpack(value)))
    return found
