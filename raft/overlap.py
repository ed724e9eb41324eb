"""What becomes of an execution that is due while others of its job are not finished: the job's overlap policy.

The executions that wait behind others are *held*: SCHEDULED without a time, in the table `held`, in the order in which they came.
When nothing but held ones is left of a job, its first one is queued. That holds whatever the policy has become in between.
"""

from __future__ import annotations

from enum import Enum
from itertools import islice

from horologe.raft.beside import noted_of
from horologe.raft.cancellation import cancel_one
from horologe.raft.model import (
    FINAL_STATES,
    Code,
    ExecutionFlag,
    ExecutionState,
    JobFlag,
    Overlap,
    Reason,
)
from horologe.raft.records import LEDGER_KEY, PAIR, Execution, JobState, LedgerEntry
from horologe.raft.state import InvariantError, State

ROWS_LOOKED_AT_MAX = 1_000
"""Rows of the ledger that `replace` goes back through for what still runs. It comes to the execution that was the last to
replace others after one row; only a job that has just got this policy has older ones to be asked."""
REPLACED = "replaced"


class Admission(Enum):
    """What the policy says of one more execution."""

    RUN = "run"
    HOLD = "hold"
    """Behind those that are not finished."""
    OVERLAP = "overlap"
    """Not at all: one is not finished."""
    QUEUE_FULL = "queue full"
    """Not at all: as many as may wait are held already."""


REFUSALS: dict[Admission, tuple[Reason, Code]] = {
    Admission.OVERLAP: (Reason.OVERLAP, Code.OVERLAP),
    Admission.QUEUE_FULL: (Reason.QUEUE_FULL, Code.QUEUE_FULL),
}
"""Why there is no execution: in the ledger, and to the one who asked for it."""


def admit(state: State, job: int, job_state: JobState) -> Admission:
    """Decides over one more execution of a job. With `replace`, the others are asked to end here.

    The caller makes the execution as decided (creation.py) and stores `job_state`, which is up to date afterwards.
    """
    if not job_state.unfinished or job_state.overlap == Overlap.ALLOW:
        return Admission.RUN
    match job_state.overlap:
        case Overlap.QUEUE_ONE:
            return Admission.QUEUE_FULL if job_state.held else Admission.HOLD
        case Overlap.QUEUE_ALL:
            return Admission.HOLD if job_state.held < job_state.queue_max else Admission.QUEUE_FULL
        case Overlap.REPLACE:
            _replace(state, job, job_state)
            return Admission.HOLD
        case _:
            return Admission.OVERLAP


def release_next(state: State, job: int) -> None:
    """Nothing but held ones is left: the first of them is queued, or begins if it is one of a workflow."""
    number = next(iter(held_of(state, job, 1)), 0)
    execution = state.execution(number) if number else None
    if execution is None:
        raise InvariantError(f"job {job} counts held executions, and execution {number} is none")
    job_state = state.job_state(job)
    if job_state is not None and job_state.flags & JobFlag.WORKFLOW:
        state.begin_run(number, execution)
    else:
        state.move(number, execution, ExecutionState.QUEUED)
    state.put_execution(number, execution)


def held_of(state: State, job: int, count_max: int) -> list[int]:
    """The first held executions of a job."""
    numbers: list[int] = []
    for key, _ in islice(state.tables.held.scan(PAIR.pack(job, 0)), count_max):
        owner, number = PAIR.unpack(key)
        if owner != job:
            break
        numbers.append(number)
    return numbers


def _replace(state: State, job: int, job_state: JobState) -> None:
    """Those that wait will not run, and those that run are asked to end."""
    for number in held_of(state, job, job_state.held):
        execution = state.execution(number)
        if execution is None:
            continue
        if execution.attempt_base:
            # A dead letter that was driven again: its due time ran.
            cancel_one(state, number, execution, REPLACED)
        else:
            state.skip(number, execution, Reason.REPLACED)
            state.put_execution(number, execution)
    job_state.held = 0
    for number, execution in _others(state, job, job_state.unfinished):
        cancel_one(state, number, execution, REPLACED)


def _others(state: State, job: int, unfinished: int) -> list[tuple[int, Execution]]:
    """Executions of the job that are not finished and were not asked to end by an earlier replacement.

    Those of old due times are noted; the others are looked for from the latest due time on.
    """
    noted = {
        number: state.known_execution(number) for number in noted_of(state, job, min(unfinished, ROWS_LOOKED_AT_MAX))
    }
    found = [
        (number, each)
        for number, each in noted.items()
        if each.state not in FINAL_STATES and not each.flags & ExecutionFlag.CANCEL_REQUESTED
    ]
    rows = state.tables.ledger.scan_down(LEDGER_KEY.pack(job + 1, 0, 0))
    for key, value in islice(rows, ROWS_LOOKED_AT_MAX):
        if LEDGER_KEY.unpack(key)[0] != job or len(found) >= unfinished:
            break
        entry = LedgerEntry.unpack(value)
        execution = state.execution(entry.execution) if entry.is_of_execution else None
        if execution is None:
            continue
        if execution.state not in FINAL_STATES and entry.execution not in noted:
            found.append((entry.execution, execution))
        if execution.flags & ExecutionFlag.REPLACES:
            break
    return found
