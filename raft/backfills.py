"""Backfills: a job is run for due times of the past, beside its schedule.

Which due times there are, only the leader's planner can say (see node/operations_planner.py); whether one is to be run is
looked up in the ledger, by the planner and again by the entry that runs it.
"""

from __future__ import annotations

from itertools import islice

from horologe.log.v1 import log_pb2
from horologe.raft import beside, owners
from horologe.raft.creation import new_execution
from horologe.raft.model import FINAL_STATES, ExecutionState, JobFlag, LedgerOutcome, Reason, Trigger
from horologe.raft.records import LEDGER_KEY, U64, Execution, LedgerEntry
from horologe.raft.state import State
from horologe.raft.tables import Tables

Only = log_pb2.Backfill.Only
ROWS_LOOKED_AT_MAX = 200
"""Rows of the ledger that one due time may have: of the schedule, and one for each backfill that ran it."""
_FAILURES = frozenset({ExecutionState.FAILED, ExecutionState.DEAD})


def is_wanted(tables: Tables, job: int, due_ms: int, only: log_pb2.Backfill.Only.ValueType) -> bool:
    """Whether a backfill runs the job for this due time, as far as the ledger says.

    Never while an execution of it is unfinished. `missing`: nothing ran for it. `failed`: what ran ended FAILED or DEAD, and
    nothing COMPLETED. Runs by request answer for no due time.
    """
    states = [execution.state for execution in _executions_of(tables, job, due_ms)]
    if any(state not in FINAL_STATES for state in states):
        return False
    match only:
        case log_pb2.Backfill.ONLY_MISSING:
            return not states
        case log_pb2.Backfill.ONLY_FAILED:
            return ExecutionState.COMPLETED not in states and not _FAILURES.isdisjoint(states)
        case _:
            return True


def run(state: State, operation: int, backfill: log_pb2.Backfill, due_ms: int) -> bool:
    """Makes the execution of a due time, queued; False if it is not wanted any more. It obeys limits, and no overlap policy."""
    job_state = state.job_state(backfill.job)
    # A deleted job may have been forgotten.
    if job_state is None:
        return False
    if not owners.may_run(state, backfill.job, job_state):
        return False
    if job_state.flags & JobFlag.DELETED or not is_wanted(state.tables, backfill.job, due_ms, backfill.only):
        return False
    number, execution = new_execution(
        state, backfill.job, job_state, due_ms, Trigger.BACKFILL, None, planned_ms=state.now_ms
    )
    execution.operation = operation
    state.put_execution(number, execution)
    state.put_job_state(backfill.job, job_state)
    row = LedgerEntry(LedgerOutcome.RAN, Reason.NONE, number, due_ms, 1)
    state.put_ledger(backfill.job, due_ms, row, number)
    beside.note(state, number, execution)
    return True


def _executions_of(tables: Tables, job: int, due_ms: int) -> list[Execution]:
    """The executions that ran for a due time, by the schedule or by backfills; not those that never began to run."""
    found: list[Execution] = []
    for key, value in islice(tables.ledger.scan(LEDGER_KEY.pack(job, due_ms, 0)), ROWS_LOOKED_AT_MAX):
        if LEDGER_KEY.unpack(key)[:2] != (job, due_ms):
            break
        entry = LedgerEntry.unpack(value)
        raw = tables.execution.get(U64.pack(entry.execution)) if entry.outcome == LedgerOutcome.RAN else None
        execution = Execution.unpack(raw) if raw is not None else None
        if execution is not None and execution.trigger != Trigger.MANUAL:
            found.append(execution)
    return found
