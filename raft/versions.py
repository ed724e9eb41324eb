"""The versions of a job: its last definitions, each under the revision that wrote it, so that a change can be seen and undone.

A pause changes a job's etag, and not its definition: it makes no version. The versions of a deleted job go with it.
"""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft.records import PAIR
from horologe.raft.state import State

VERSIONS_MAX = 50
"""Kept for each job: enough to find the change that went wrong last month, and little beside its executions."""


def put_version(state: State, record: log_pb2.JobRecord) -> None:
    """Keeps the definition that this entry wrote; the oldest one goes when there are too many."""
    version = log_pb2.JobRecord(
        job=record.job,
        id=record.id,
        revision=state.index,
        create_time_ms=record.create_time_ms,
        update_time_ms=state.now_ms,
        author=record.author,
        run_as=record.run_as,
        secrets=record.secrets,
    )
    state.tables.version.put(PAIR.pack(record.id, state.index), version.SerializeToString(deterministic=True))
    keys = _keys(state, record.id)
    for key in keys[:-VERSIONS_MAX]:
        state.tables.version.delete(key)


def put_first_version(state: State, record: log_pb2.JobRecord) -> None:
    """Keeps the definition of a job that this entry makes. The record says no more yet than a version does."""
    state.tables.version.put(PAIR.pack(record.id, state.index), record.SerializeToString(deterministic=True))


def drop_versions(state: State, job: int) -> None:
    for key in _keys(state, job):
        state.tables.version.delete(key)


def _keys(state: State, job: int) -> list[bytes]:
    """Oldest first; one more than are kept, at most."""
    keys: list[bytes] = []
    for key, _ in state.tables.version.scan(PAIR.pack(job, 0)):
        if PAIR.unpack(key)[0] != job:
            break
        keys.append(bytes(key))
    return keys
