"""Retention: history that is too old is dropped, a bounded number of rows per entry."""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft.dead_letters import take_out
from horologe.raft.model import FINAL_STATES, Code, ExecutionFlag, Result
from horologe.raft.operations import forget
from horologe.raft.records import LEDGER_KEY, PAIR, RUN_HEAD, RUN_NODE, U64, Execution, LedgerEntry
from horologe.raft.state import State, ledger_key
from horologe.raft.tables import Tables


def prune(state: State, command: log_pb2.Prune) -> Result:
    """Drops what the proposer chose, as far as it really is over and old.

    Answers (executions, ledger rows, operations).
    """
    executions = sum(
        _drop_execution(state, number, command.before_ms) for (number,) in U64.iter_unpack(command.executions)
    )
    rows = sum(_drop_row(state, key, command.before_ms) for key in LEDGER_KEY.iter_unpack(command.ledger_rows))
    operations = sum(forget(state, number, command.before_ms) for (number,) in U64.iter_unpack(command.operations))
    return Result(Code.OK, (executions, rows, operations))


def is_kept_by_run(tables: Tables, number: int, execution: Execution) -> bool:
    """A run goes from its root on: the root when nothing of it is unfinished, and then the nodes. So what is there is whole."""
    if number != execution.root:
        return execution.root > 0 and tables.execution.get(U64.pack(execution.root)) is not None
    head = tables.run.get(PAIR.pack(number, 0))
    return head is not None and RUN_HEAD.unpack(head)[0] > 0


def _drop_execution(state: State, number: int, before_ms: int) -> bool:
    execution = state.execution(number)
    if execution is None or execution.state not in FINAL_STATES or execution.end_ms >= before_ms:
        return False
    if execution.root:
        if is_kept_by_run(state.tables, number, execution):
            return False
        _drop_node(state, number, execution)
    state.tables.ledger.delete(ledger_key(number, execution))
    if execution.flags & ExecutionFlag.DEAD_LETTER:
        take_out(state, number, execution)
    if execution.flags & ExecutionFlag.HAS_DETAIL:
        state.tables.detail.delete(U64.pack(number))
    state.tables.execution.delete(U64.pack(number))
    state.search.dropped(number, execution)
    return True


def _drop_row(state: State, key: tuple[int, int, int], before_ms: int) -> bool:
    """A row of an execution goes with it; here go the due times that made none."""
    packed = LEDGER_KEY.pack(*key)
    raw = state.tables.ledger.get(packed)
    if raw is None or key[1] >= before_ms or LedgerEntry.unpack(raw).is_of_execution:
        return False
    state.tables.ledger.delete(packed)
    return True


def _drop_node(state: State, number: int, execution: Execution) -> None:
    """What the run knows of the execution; with its root, also the head."""
    if number == execution.root:
        state.tables.run.delete(PAIR.pack(number, 0))
    key = PAIR.pack(execution.root, execution.job)
    raw = state.tables.run.get(key)
    if raw is not None and RUN_NODE.unpack(raw)[0] == number:
        state.tables.run.delete(key)
