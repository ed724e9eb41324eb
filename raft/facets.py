"""Jobs by what people look for: labels, owner, queue, whether they are paused, and whether they are workflows.

A row of `facet` for each of them, in the order of the jobs' names. It is written when a job changes, never when one runs. What
nearly all jobs have in common is not listed. Long texts are cut, so a row is a hint: whoever follows it looks at the job.
A deleted job moves to rows of its own, because its executions are still looked for; there it is found by its name too.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from horologe.log.v1 import log_pb2
from horologe.raft.records import U64
from horologe.raft.tables import Tables

DEFAULT_QUEUE = "default"
_TEXT_BYTES_MAX = 150
_KEY_BYTES_MAX = 511
"""The store takes no longer keys. No name that the API allows comes near."""
_DELETED = 128


class Facet(IntEnum):
    """What a row tells of its job."""

    LABEL = 1
    OWNER = 2
    QUEUE = 3
    PAUSED = 4
    NAME = 5
    WORKFLOW = 6


def label_text(key: str, value: str) -> str:
    return f"{key}={value}"


def update(tables: Tables, before: log_pb2.JobRecord | None, after: log_pb2.JobRecord) -> None:
    """The job is new, or has changed."""
    new = set(_keys_of(after))
    if before is not None:
        old = set(_keys_of(before))
        for key in sorted(old - new):
            tables.facet.delete(key)
        new -= old
    for key in sorted(new):
        tables.facet.put(key, b"")


def forget(tables: Tables, record: log_pb2.JobRecord) -> None:
    """Nothing is known of the job any more."""
    for key in _keys_of(record):
        tables.facet.delete(key)


def deleted_jobs(tables: Tables, start: bytes) -> Iterator[bytes]:
    """The rows of deleted jobs by their names, from `start` on (empty: the first one); see `job_of`."""
    prefix = prefix_of(Facet.NAME, "", deleted=True)
    for key, _ in tables.facet.scan(start or prefix):
        if not key.startswith(prefix):
            return
        yield bytes(key)


def prefix_of(facet: Facet, text: str, name_prefix: str = "", *, deleted: bool = False) -> bytes:
    """What the keys of the jobs begin with that have this facet and such a name."""
    kind = facet + _DELETED if deleted else facet
    return bytes([kind]) + text.encode()[:_TEXT_BYTES_MAX] + b"\0" + name_prefix.encode()


def job_of(key: bytes) -> int:
    return int(U64.unpack(key[-U64.size :])[0])


def _keys_of(record: log_pb2.JobRecord) -> Iterator[bytes]:
    name, is_deleted, tail = record.job.name, record.deleted, b"\0" + U64.pack(record.id)
    for facet, text in _facets_of(record):
        key = prefix_of(facet, text, name, deleted=is_deleted) + tail
        if len(key) <= _KEY_BYTES_MAX:
            yield key


def _facets_of(record: log_pb2.JobRecord) -> Iterator[tuple[Facet, str]]:
    job = record.job
    if job.labels:
        for key, value in job.labels.items():
            yield Facet.LABEL, label_text(key, value)
    if job.owner:
        yield Facet.OWNER, job.owner
    if (queue := job.queue) and queue != DEFAULT_QUEUE:
        yield Facet.QUEUE, queue
    if job.action.HasField("workflow"):
        yield Facet.WORKFLOW, ""
    if record.deleted:
        yield Facet.NAME, ""
    elif record.paused:
        yield Facet.PAUSED, ""
