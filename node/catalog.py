"""Decoded job definitions, kept by revision. One per thread; the state stays the truth."""

from __future__ import annotations

from collections import OrderedDict

from horologe.log.v1 import log_pb2
from horologe.raft.records import U64
from horologe.raft.tables import Tables

RECORDS_MAX = 20_000
"""Some 40 MiB at most. Firing plain intervals asks nothing of the catalog, so a miss costs only jobs with cron schedules."""


class Catalog:
    """The most recently used job records."""

    def __init__(self, records_max: int = RECORDS_MAX) -> None:
        self._records: OrderedDict[int, log_pb2.JobRecord] = OrderedDict()
        self._records_max = records_max

    def record(self, tables: Tables, job: int, revision: int | None = None) -> log_pb2.JobRecord | None:
        """The record of a job; None if it never existed. With a revision, never an older one than that."""
        record = self._records.get(job)
        if record is not None and (revision is None or record.revision >= revision):
            self._records.move_to_end(job)
            return record
        raw = tables.job.get(U64.pack(job))
        if raw is None:
            return None
        record = log_pb2.JobRecord.FromString(bytes(raw))
        self._records[job] = record
        if len(self._records) > self._records_max:
            self._records.popitem(last=False)
        return record

    def clear(self) -> None:
        """Jobs may have changed without anybody saying which."""
        self._records.clear()

    def forget(self, job: int) -> None:
        """The job changed."""
        self._records.pop(job, None)
