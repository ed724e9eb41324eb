"""The records of namespaces as of one entry: read once, and written once at its end if they have changed."""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft.tables import Tables


class NamespaceRecords:
    """By the names of the namespaces. A batch of jobs asks for the same one a thousand times, and counts each job in it."""

    __slots__ = ("_changed", "_records", "_tables")

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._records: dict[str, log_pb2.NamespaceRecord] = {}
        self._changed: set[str] = set()

    def save(self) -> None:
        for name in sorted(self._changed):
            self._tables.namespace.put(name.encode(), self._records[name].SerializeToString(deterministic=True))

    def find(self, name: str) -> log_pb2.NamespaceRecord | None:
        """Who changes it puts it back."""
        record = self._records.get(name)
        if record is None:
            raw = self._tables.namespace.get(name.encode())
            if raw is None:
                return None
            record = self._records[name] = log_pb2.NamespaceRecord.FromString(raw)
        return record

    def put(self, name: str, record: log_pb2.NamespaceRecord) -> None:
        self._records[name] = record
        self._changed.add(name)
