"""Which jobs were applied together: an index from the name of an apply set to its jobs, for those who prune it."""

from __future__ import annotations

from collections.abc import Iterator

from horologe.raft.records import U64
from horologe.raft.state import State
from horologe.raft.tables import Tables


def put_into_set(state: State, name: str, job: int) -> None:
    """Notes that a job is of the set; a job without a set is in none."""
    if name:
        state.tables.apply_set.put(_prefix(name) + U64.pack(job), b"")


def drop_from_set(state: State, name: str, job: int) -> None:
    if name:
        state.tables.apply_set.delete(_prefix(name) + U64.pack(job))


def jobs_of_set(tables: Tables, name: str) -> Iterator[int]:
    """Numbers of the jobs of a set, oldest first."""
    prefix = _prefix(name)
    for key, _ in tables.apply_set.scan(prefix):
        raw = bytes(key)
        if not raw.startswith(prefix):
            return
        yield int(U64.unpack(raw[len(prefix) :])[0])


def _prefix(name: str) -> bytes:
    return name.encode() + b"\0"
