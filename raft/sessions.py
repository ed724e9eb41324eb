"""Commands on workers' sessions: open, close, drain, expire."""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft.commands import SESSION
from horologe.raft.executions import lose_attempts, requeue_attempts, running_of
from horologe.raft.model import Code, ExecutionFlag, Result
from horologe.raft.records import PAIR, U32, U64, WORKER_VALUE
from horologe.raft.state import InvariantError, State

LOST_PER_ENTRY_MAX = 1_000
"""Attempts given up by one entry. A session may hold 10,000; the planner asks again until none is left."""


def open_session(state: State, command: log_pb2.OpenSession) -> Result:
    """Begins a session. Answers (session,).

    The same process again (same incarnation) takes its attempts along. Another process under the same name fences the
    old session: it gets nothing new and is not renewed, and its lease runs out like that of any lost worker.
    """
    worker, previous = _worker_number(state, command.worker)
    state.counters.last_session += 1
    session = state.counters.last_session
    record = log_pb2.SessionRecord(id=session, open=command, open_time_ms=state.now_ms, worker_number=worker)
    old = read_session(state, previous) if previous else None
    if old is not None and not old.closed:
        if old.open.incarnation == command.incarnation:
            record.draining = old.draining
            _move_attempts(state, old.id, session)
            _forget(state, old.id)
        else:
            old.closed = True
            _write(state, old)
            state.effects.sessions_closed.append(old.id)
    for queue in command.queues:
        state.lane_number(queue)
    _write(state, record)
    state.tables.worker.put(command.worker.encode(), WORKER_VALUE.pack(worker, session))
    state.counters.workers += 1
    state.effects.sessions_opened.append(session)
    return Result(Code.OK, (session,))


def close_session(state: State, command: log_pb2.CloseSession) -> Result:
    """Ends a session whose worker left in good order; anything else is left to the lease."""
    record = read_session(state, command.session)
    if record is None:
        return Result(Code.SESSION_NOT_FOUND, text=str(command.session))
    if command.clean:
        requeue_attempts(state, record.id)
        _forget(state, record.id)
    return Result(Code.OK, (record.id,))


def drain_worker(state: State, command: log_pb2.DrainWorker) -> Result:
    raw = state.tables.worker.get(command.worker.encode())
    session = WORKER_VALUE.unpack(raw)[1] if raw is not None else 0
    record = read_session(state, session) if session else None
    if record is None:
        return Result(Code.WORKER_NOT_FOUND, text=command.worker)
    if not record.draining:
        record.draining = True
        _write(state, record)
        state.effects.sessions_drained.append(session)
    return Result(Code.OK, (session,))


def expire_sessions(state: State, records: bytes) -> None:
    """Gives up sessions whose lease ran out, and their attempts, a bounded number per entry."""
    for (session,) in SESSION.iter_unpack(records):
        record = read_session(state, session)
        if record is None:
            continue
        if not record.closed:
            record.closed = True
            _write(state, record)
            state.effects.sessions_closed.append(session)
            state.effects.expired.append(session)
            state.note_lost_worker(record.worker_number)
        lose_attempts(state, session, LOST_PER_ENTRY_MAX)
        if not running_of(state, session, 1):
            _forget(state, session)


def read_session(state: State, session: int) -> log_pb2.SessionRecord | None:
    raw = state.tables.session.get(U64.pack(session))
    return None if raw is None else log_pb2.SessionRecord.FromString(bytes(raw))


def _worker_number(state: State, name: str) -> tuple[int, int]:
    raw = state.tables.worker.get(name.encode())
    if raw is not None:
        worker, session = WORKER_VALUE.unpack(raw)
        return worker, session
    state.counters.last_worker += 1
    state.tables.worker_name.put(U32.pack(state.counters.last_worker), name.encode())
    return state.counters.last_worker, 0


def _move_attempts(state: State, old: int, new: int) -> None:
    for number in running_of(state, old, 1 << 30):
        execution = state.execution(number)
        value = state.tables.running.get(PAIR.pack(old, number))
        if execution is None or value is None:
            raise InvariantError(f"execution {number} is listed as running on session {old}, but is not there")
        execution.session = new
        state.tables.running.delete(PAIR.pack(old, number))
        state.tables.running.put(PAIR.pack(new, number), bytes(value))
        state.put_execution(number, execution)
        if execution.flags & (ExecutionFlag.CANCEL_REQUESTED | ExecutionFlag.TIME_IS_UP):
            state.effects.cancelled.append((new, number, execution.attempt, execution.token))


def _write(state: State, record: log_pb2.SessionRecord) -> None:
    state.tables.session.put(U64.pack(record.id), record.SerializeToString(deterministic=True))


def _forget(state: State, session: int) -> None:
    if state.tables.session.delete(U64.pack(session)):
        state.counters.workers -= 1
        state.effects.sessions_closed.append(session)
