"""What must hold of history after every entry: it lies in the order in which it goes, is counted, and is whole."""

from __future__ import annotations

from collections import Counter

from horologe.raft.keeping import AGE_KEY, Kept
from horologe.raft.model import FINAL_STATES, ExecutionFlag
from horologe.raft.records import PAIR, U64, Execution, JobState, LedgerEntry
from horologe.raft.tables import Tables

Executions = dict[int, Execution]
Ledger = dict[tuple[int, int, int], LedgerEntry]


def check_history(tables: Tables, executions: Executions, ledger: Ledger) -> None:
    """Raises AssertionError."""
    _check_order(tables, executions, ledger)
    _check_whole(tables, executions, ledger)


def _check_order(tables: Tables, executions: Executions, ledger: Ledger) -> None:
    namespaces = {U64.unpack(key)[0]: JobState.unpack(value).namespace for key, value in tables.job_state.scan()}
    over = [AGE_KEY.unpack(key) for key, _ in tables.over.scan()]
    assert over == sorted(
        (found.namespace, found.end_ms, number)
        for number, found in executions.items()
        if found.state in FINAL_STATES and not found.flags & ExecutionFlag.DEAD_LETTER
    )
    idle = [AGE_KEY.unpack(key) for key, _ in tables.idle.scan()]
    assert idle == sorted(
        (namespaces[job], due_ms, job) for (job, due_ms, _), entry in ledger.items() if not entry.is_of_execution
    )
    kept = {U64.unpack(key)[0]: Kept.unpack(value) for key, value in tables.kept.scan()}
    assert {number: found.executions for number, found in kept.items() if found.executions} == Counter(
        namespace for namespace, _, _ in over
    )
    assert {number: found.idle for number, found in kept.items() if found.idle} == Counter(
        namespace for namespace, _, _ in idle
    )


def _check_whole(tables: Tables, executions: Executions, ledger: Ledger) -> None:
    """No execution without its job, no row of one that is gone, no run without its root, nor anything of a job that is gone."""
    jobs = {U64.unpack(key)[0] for key, _ in tables.job.scan()}
    assert jobs == {U64.unpack(key)[0] for key, _ in tables.job_state.scan()}
    assert {found.job for found in executions.values()} | {job for job, _, _ in ledger} <= jobs
    assert {entry.execution for entry in ledger.values() if entry.is_of_execution} == executions.keys()
    assert {PAIR.unpack(key)[0] for key, _ in tables.run.scan()} <= executions.keys()
    for number, found in executions.items():
        if found.root and found.root not in executions:
            assert found.state in FINAL_STATES, f"execution {number} is not over, and its root is gone: {found}"
    for table in (tables.job_limit, tables.version, tables.held, tables.beside, tables.upstream, tables.downstream):
        assert {U64.unpack(key[:8])[0] for key, _ in table.scan()} <= jobs
