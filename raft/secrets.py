"""Secrets of a namespace: set, deleted, and named by jobs. Their values leave the state only for the worker that needs them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from horologe.log.v1 import log_pb2
from horologe.raft.limits import namespace_of
from horologe.raft.model import Code, Result
from horologe.raft.notifications import names_secret
from horologe.raft.state import InvariantError, State
from horologe.raft.tables import Tables

VALUE_BYTES_MAX = 64 << 10
SECRETS_PER_NAMESPACE_MAX = 1_000


def set_secret(state: State, command: log_pb2.SetSecret) -> Result:
    """Makes a secret, or gives it another value, which attempts get that are assigned from now on.

    Answers (version, update_time_ms), by which a repetition of the request knows whether it is still the last word.
    """
    record = find_secret(state.tables, command.name)
    if record is None:
        if _is_full(state.tables, namespace_of(command.name)):
            return Result(Code.QUOTA_EXCEEDED, text=f"a namespace has at most {SECRETS_PER_NAMESPACE_MAX} secrets")
        record = log_pb2.SecretRecord(create_time_ms=state.now_ms)
    record.value = command.value
    record.version += 1
    record.update_time_ms = state.now_ms
    _write(state, command.name, record)
    return Result(Code.OK, (record.version, record.update_time_ms))


def delete_secret(state: State, command: log_pb2.DeleteSecret) -> Result:
    """Refused while a job or a notification rule names it."""
    record = find_secret(state.tables, command.name)
    if record is None:
        return Result(Code.SECRET_NOT_FOUND, text=command.name)
    if record.job_count:
        return Result(Code.SECRET_IN_USE, (record.job_count,), command.name)
    if names_secret(state.tables, command.name):
        return Result(Code.SECRET_IN_USE, text=command.name)
    state.tables.secret.delete(command.name.encode())
    return Result(Code.OK)


def value_fault(value: bytes) -> str:
    """What is wrong with a value, without a piece of it; empty if nothing is."""
    if not 0 < len(value) <= VALUE_BYTES_MAX:
        return f"a value has 1 to {VALUE_BYTES_MAX} bytes, and this one has {len(value)}"
    if b"\0" in value:
        return "the value has a NUL character, which no process can be given; encode it first, as base64 for example"
    try:
        value.decode()
    except UnicodeDecodeError:
        return "the value is no UTF-8 text; encode it first, as base64 for example"
    return ""


def secrets_prefix(namespace: str) -> str:
    """How the names of all secrets of a namespace begin."""
    return f"namespaces/{namespace}/secrets/"


def secret_name(job_name: str, id_: str) -> str:
    """The full name of a secret that a job names: only those of the job's own namespace can be named."""
    return secrets_prefix(namespace_of(job_name)) + id_


def find_secret(tables: Tables, name: str) -> log_pb2.SecretRecord | None:
    raw = tables.secret.get(name.encode())
    return None if raw is None else log_pb2.SecretRecord.FromString(raw)


def unknown_secret(tables: Tables, draft: log_pb2.JobDraft) -> str:
    """The first secret that a job is to name and that does not exist; empty if there is none."""
    names = (secret_name(draft.job.name, id_) for id_ in draft.secrets)
    return next((name for name in names if tables.secret.get(name.encode()) is None), "")


def name_secrets(state: State, record: log_pb2.JobRecord, ids: Iterable[str]) -> None:
    """A job names these secrets from now on, and no others. All of them exist."""
    before, after = set(record.secrets), set(ids)
    _count_job(state, record, after - before, 1)
    _count_job(state, record, before - after, -1)
    record.secrets[:] = sorted(after)


def release_secrets(state: State, record: log_pb2.JobRecord) -> None:
    """A job is deleted. Its record goes on naming them: what still runs of it gets those that are there."""
    _count_job(state, record, record.secrets, -1)


def _count_job(state: State, record: log_pb2.JobRecord, ids: Iterable[str], by: int) -> None:
    for id_ in sorted(ids):
        name = secret_name(record.job.name, id_)
        secret = find_secret(state.tables, name)
        if secret is None:
            raise InvariantError(f"{name} is named by a job, and is not there")
        secret.job_count += by
        _write(state, name, secret)


def _is_full(tables: Tables, namespace: str) -> bool:
    """Looked at only when a secret is made, which is rare: a count of its own would have to be kept right."""
    prefix = secrets_prefix(namespace).encode()
    last = next(islice(tables.secret.scan(prefix), SECRETS_PER_NAMESPACE_MAX - 1, None), None)
    return last is not None and last[0].startswith(prefix)


def _write(state: State, name: str, record: log_pb2.SecretRecord) -> None:
    state.tables.secret.put(name.encode(), record.SerializeToString(deterministic=True))
