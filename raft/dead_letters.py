"""The dead letter queue of a namespace: executions that are DEAD, until they are driven again, purged, or too old.

They lie in the table `dead`, in the order in which they died, each with the fingerprint of its error. Purging takes an execution
out of there and leaves it in the history. Driving it again makes the same execution QUEUED, with new attempts and the same
idempotency key. It obeys limits like others, and is never left out: where the overlap policy allows no two at a time, it waits
behind what is not finished.
"""

from __future__ import annotations

from struct import Struct

from horologe.log.v1 import log_pb2
from horologe.raft import beside, owners
from horologe.raft.model import Code, ExecutionFlag, ExecutionState, JobFlag, Overlap, Result
from horologe.raft.records import U64, Execution, JobState
from horologe.raft.state import InvariantError, State
from horologe.raft.tables import Tables
from horologe.raft.workflows import rejoin

DEAD_KEY = Struct(">QQQ")
"""namespace, end_ms, execution"""

Asked = log_pb2.RedriveDeadLetter | log_pb2.DeadLetterSelection

LOST_FINGERPRINT = 1
TIMEOUT_FINGERPRINT = 2
EXECUTION_TIMEOUT_FINGERPRINT = 3
"""Of the errors that the state machine itself writes down; those of workers are hashes, made by the proposer."""

ATTEMPT_NUMBER_MAX = 60_000
"""Of an execution that is driven again: further attempts must fit its record."""
PAST_ATTEMPTS_KEPT = 200
"""Of an execution that is driven again and again, so many of its latest attempts are remembered."""


def bury(state: State, number: int, execution: Execution) -> None:
    """Puts an execution that has just become DEAD into the queue of its namespace. Stores it."""
    execution.flags |= ExecutionFlag.DEAD_LETTER
    state.put_execution(number, execution)
    state.tables.dead.put(_key(number, execution), U64.pack(_fingerprint(state, number, execution)))
    state.counters.dead_letters += 1


def take_out(state: State, number: int, execution: Execution) -> None:
    """The execution is no dead letter any more. The caller stores it."""
    if not state.tables.dead.delete(_key(number, execution)):
        raise InvariantError(f"execution {number} is said to be a dead letter, and is not in the queue")
    execution.flags &= ~ExecutionFlag.DEAD_LETTER
    state.counters.dead_letters -= 1


def redrive(state: State, command: log_pb2.RedriveDeadLetter) -> Result:
    """Drives one again. Answers (execution,)."""
    code = redrive_one(state, command.execution, command)
    if code is Code.PERMISSION_DENIED:
        return Result(code, text=_missing_right(state, command.execution))
    about = _job_name(state, command.execution) if code is Code.JOB_NOT_FOUND else str(command.execution)
    return Result(code, (command.execution,), about)


def purge(state: State, command: log_pb2.PurgeDeadLetter) -> Result:
    """Purges one. Answers (execution,)."""
    is_done = purge_one(state, command.execution)
    code = Code.OK if is_done else Code.DEAD_LETTER_NOT_FOUND
    return Result(code, (command.execution,), str(command.execution))


def purge_one(state: State, number: int) -> bool:
    """False if it is no dead letter."""
    execution = dead_letter(state, number)
    if execution is None:
        return False
    take_out(state, number, execution)
    state.keeping.put_execution(number, execution)
    state.put_execution(number, execution)
    return True


def redrive_one(state: State, number: int, asked: Asked) -> Code:
    """Makes a dead letter QUEUED again, as its job is defined now, with the payload that was asked for, if one was."""
    execution = dead_letter(state, number)
    if execution is None:
        return Code.DEAD_LETTER_NOT_FOUND
    job_state = state.job_state(execution.job)
    if job_state is None:
        raise InvariantError(f"job {execution.job} is gone although it has executions")
    if job_state.flags & JobFlag.DELETED:
        return Code.JOB_NOT_FOUND
    if execution.attempt > ATTEMPT_NUMBER_MAX:
        return Code.ATTEMPTS_EXHAUSTED
    if not owners.may_run(state, execution.job, job_state):
        return Code.PERMISSION_DENIED
    take_out(state, number, execution)
    _begin_anew(state, number, execution, job_state, asked)
    rejoin(state, number, execution)
    if job_state.unfinished and job_state.overlap != Overlap.ALLOW:
        state.hold(number, execution)
        job_state.held += 1
    else:
        state.move(number, execution, ExecutionState.QUEUED)
    state.put_execution(number, execution)
    job_state.unfinished += 1
    job_state.failed -= 1
    state.put_job_state(execution.job, job_state)
    state.counters.failed -= 1
    beside.note(state, number, execution)
    return Code.OK


def dead_letter(state: State, number: int) -> Execution | None:
    """The execution of this number, if it is a dead letter."""
    execution = state.execution(number) if number > 0 else None
    return execution if execution is not None and execution.flags & ExecutionFlag.DEAD_LETTER else None


def _begin_anew(state: State, number: int, execution: Execution, job_state: JobState, asked: Asked) -> None:
    execution.attempt_base = execution.attempt
    execution.end_ms = 0
    execution.operation = 0
    execution.flags &= ~(ExecutionFlag.CANCEL_REQUESTED | ExecutionFlag.TIME_IS_UP)
    # The job may have been given another queue so that this one runs at last.
    execution.queue = job_state.queue
    execution.priority = job_state.priority
    detail = state.detail(number, execution)
    detail.reason = ""
    del detail.attempts[:-PAST_ATTEMPTS_KEPT]
    if asked.HasField("payload"):
        detail.payload.CopyFrom(asked.payload)
    state.put_detail(number, execution, detail)


def _missing_right(state: State, number: int) -> str:
    execution = state.known_execution(number)
    job_state = state.job_state(execution.job)
    return "" if job_state is None else owners.missing_right(state, execution.job, job_state)


def _job_name(state: State, number: int) -> str:
    execution = state.execution(number)
    raw = state.tables.job.get(U64.pack(execution.job)) if execution is not None else None
    return "" if raw is None else log_pb2.JobRecord.FromString(bytes(raw)).job.name


def fingerprint_in(tables: Tables, number: int) -> int:
    """Of the error with which an execution has ended; 0 if nobody knows any more."""
    raw = tables.execution.get(U64.pack(number))
    if raw is None:
        return 0
    detail = tables.detail.get(U64.pack(number))
    return _fingerprint_of(Execution.unpack(raw), log_pb2.ExecutionRecord.FromString(bytes(detail or b"")))


def _fingerprint(state: State, number: int, execution: Execution) -> int:
    """Of the last attempt's error, unless it was the time for all of them that was over."""
    return _fingerprint_of(execution, state.detail(number, execution))


def _fingerprint_of(execution: Execution, detail: log_pb2.ExecutionRecord) -> int:
    if execution.flags & ExecutionFlag.TIME_IS_UP:
        return EXECUTION_TIMEOUT_FINGERPRINT
    return detail.attempts[-1].detail.fingerprint if detail.attempts else 0


def _key(number: int, execution: Execution) -> bytes:
    return DEAD_KEY.pack(execution.namespace, execution.end_ms, number)
