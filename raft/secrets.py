"""Secrets of a namespace: set, deleted, and named by jobs. Their values leave the state only for the worker that needs them."""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft.model import Code, Result
from horologe.raft.state import State


def set_secret(state: State, command: log_pb2.SetSecret) -> Result:
    """Makes a secret, or gives it another value, which attempts get that are assigned from now on."""
    record = find_secret(state, command.name)
    if record is None:
        record = log_pb2.SecretRecord(create_time_ms=state.now_ms)
    record.value = command.value
    record.version += 1
    record.update_time_ms = state.now_ms
    _write(state, command.name, record)
    return Result(Code.OK, (record.version,))


def delete_secret(state: State, command: log_pb2.DeleteSecret) -> Result:
    """Refused while a job names it."""
    record = find_secret(state, command.name)
    if record is None:
        return Result(Code.SECRET_NOT_FOUND, text=command.name)
    if record.job_count:
        return Result(Code.SECRET_IN_USE, (record.job_count,), command.name)
    state.tables.secret.delete(command.name.encode())
    return Result(Code.OK)


def find_secret(state: State, name: str) -> log_pb2.SecretRecord | None:
    raw = state.tables.secret.get(name.encode())
    return None if raw is None else log_pb2.SecretRecord.FromString(raw)


def _write(state: State, name: str, record: log_pb2.SecretRecord) -> None:
    state.tables.secret.put(name.encode(), record.SerializeToString(deterministic=True))
