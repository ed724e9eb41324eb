"""Operations: what takes many entries, done in bounded pieces that the leader's planner proposes.

A piece names the step that it follows, so one that comes twice, or from a leader that is none any more, does nothing. An
operation that is cancelled begins nothing new; what it has begun goes on, and is counted.
"""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft import backfills, dead_letters, owners
from horologe.raft.access import Verb
from horologe.raft.model import Code, ExecutionState, Result
from horologe.raft.records import U64, Execution
from horologe.raft.state import InvariantError, State

Record = log_pb2.OperationRecord


def start(state: State, command: log_pb2.StartOperation, started_by: str = "") -> Result:
    """Begins an operation for a principal. Answers (operation,)."""
    job = _job_of(command)
    job_state = state.job_state(job) if job else None
    if job and job_state is None:
        return Result(Code.JOB_NOT_FOUND, text=f"job {job}")
    if job_state is not None and command.HasField("backfill") and not owners.may_run(state, job, job_state):
        return Result(Code.PERMISSION_DENIED, text=owners.missing_right(state, job, job_state))
    state.counters.last_operation += 1
    record = Record(
        id=state.counters.last_operation,
        start=command,
        namespace=state.namespace_number(command.namespace),
        state=Record.STATE_RUNNING,
        create_time_ms=state.now_ms,
        started_by=started_by,
    )
    _put(state, record)
    return Result(Code.OK, (record.id,))


def cancel(state: State, command: log_pb2.CancelOperation) -> Result:
    """Answers (operation,)."""
    record = find(state, command.operation)
    if record is None:
        return Result(Code.OPERATION_NOT_FOUND, text=str(command.operation))
    if record.state != Record.STATE_RUNNING:
        name = Record.State.Name(record.state).removeprefix("STATE_")
        return Result(Code.OPERATION_FINISHED, (record.id,), name)
    _end(state, record, Record.STATE_CANCELLED, command.reason)
    _put(state, record)
    return Result(Code.OK, (record.id,))


def step(state: State, piece: log_pb2.OperationStep) -> None:
    """Does the next piece of an operation."""
    record = find(state, piece.operation)
    if record is None or record.state != Record.STATE_RUNNING or record.step != piece.step:
        return
    record.step += 1
    for (item,) in U64.iter_unpack(piece.items):
        record.done += _do(state, record, item)
    record.looked_at += piece.looked_at
    record.cursor = piece.cursor
    record.next_time_ms = piece.next_time_ms
    record.exhausted = piece.exhausted
    if piece.failure:
        _end(state, record, Record.STATE_FAILED, piece.failure)
    elif record.exhausted and not record.unfinished:
        _end(state, record, Record.STATE_DONE, "")
    _put(state, record)


def execution_ended(state: State, execution: Execution) -> None:
    """An execution that a backfill has begun reached its last state."""
    record = find(state, execution.operation)
    if record is None or record.unfinished <= 0:
        raise InvariantError(f"operation {execution.operation} does not know of {execution}")
    record.unfinished -= 1
    if execution.state == ExecutionState.COMPLETED:
        record.completed += 1
    else:
        record.failed += 1
    if record.state == Record.STATE_RUNNING and record.exhausted and not record.unfinished:
        _end(state, record, Record.STATE_DONE, "")
    _put(state, record)


def forget(state: State, number: int, before_ms: int) -> bool:
    """Drops an operation that was over before `before_ms`, and so has nothing unfinished; False if it is not."""
    record = find(state, number)
    if record is None or record.state == Record.STATE_RUNNING or record.unfinished or record.end_time_ms >= before_ms:
        return False
    state.tables.operation.delete(U64.pack(number))
    return True


def find(state: State, number: int) -> Record | None:
    raw = state.tables.operation.get(U64.pack(number)) if number > 0 else None
    return None if raw is None else Record.FromString(bytes(raw))


def verb_of(start: log_pb2.StartOperation) -> Verb:
    """What is needed to begin it."""
    return Verb.DEAD_LETTER_PURGE if start.HasField("purge") else Verb.JOB_RUN


def _do(state: State, record: Record, item: int) -> bool:
    if not record.start.HasField("backfill"):
        execution = state.execution(item) if item else None
        if execution is not None and execution.namespace != record.namespace:
            # It was named, and is none of the namespace in which the operation may do anything.
            return False
    match record.start.WhichOneof("kind"):
        case "redrive":
            return dead_letters.redrive_one(state, item, record.start.redrive) is Code.OK
        case "purge":
            return dead_letters.purge_one(state, item)
        case "backfill":
            is_begun = backfills.run(state, record.id, record.start.backfill, item)
            record.unfinished += is_begun
            return is_begun
        case unknown:
            raise InvariantError(f"operation {record.id} is of a kind {unknown!r} that this program does not know")


def _job_of(command: log_pb2.StartOperation) -> int:
    """The job that it is about; 0 if it is about none, or many."""
    match command.WhichOneof("kind"):
        case "redrive":
            return command.redrive.job
        case "purge":
            return command.purge.job
        case _:
            return command.backfill.job


def _end(state: State, record: Record, to: Record.State.ValueType, reason: str) -> None:
    record.state = to
    record.end_time_ms = state.now_ms
    record.reason = reason


def _put(state: State, record: Record) -> None:
    state.tables.operation.put(U64.pack(record.id), record.SerializeToString(deterministic=True))
    state.effects.operations_changed.append(record.id)
