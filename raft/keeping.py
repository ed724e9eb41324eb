"""What is kept of each namespace's history, in the order in which it goes: executions that are over, due times that made none.

An execution is in table `over` from its end until it runs again or is dropped; while it is a dead letter it is in `dead` instead.
A due time that made no execution is in `idle` as long as its row is in the ledger. The keys of all three begin with the namespace
and the time, so what is oldest is found without looking at anything else. Their number per namespace, and what is said of how
much to keep, is one row of `kept`, which is read once per entry and written once at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Self

from horologe.raft.records import U64, Execution
from horologe.raft.tables import Tables

AGE_KEY = Struct(">QQQ")
"""Of `over`: namespace, end, execution; of `idle`: namespace, due time, job."""


@dataclass(slots=True)
class Kept:
    """What is said of a namespace's history, and how much of it there is."""

    STRUCT: ClassVar[Struct] = Struct(">QQQQQ")

    history_ms: int = 0
    """For so long it is kept; 0: as the leader's settings say. The same for dead letters."""
    dead_letters_ms: int = 0
    count_max: int = 0
    """So many executions that are over are kept, and so many rows of due times that made none; 0: no limit."""
    executions: int = 0
    idle: int = 0

    def pack(self) -> bytes:
        return self.STRUCT.pack(self.history_ms, self.dead_letters_ms, self.count_max, self.executions, self.idle)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        return cls(*cls.STRUCT.unpack(raw))


def read_kept(tables: Tables, namespace: int) -> Kept:
    raw = tables.kept.get(U64.pack(namespace))
    return Kept() if raw is None else Kept.unpack(raw)


class Keeping:
    """The counts as of one entry, and what is in `over` and `idle`."""

    __slots__ = ("_kept", "_tables")

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._kept: dict[int, Kept] = {}

    def save(self) -> None:
        for namespace, kept in self._kept.items():
            self._tables.kept.put(U64.pack(namespace), kept.pack())

    def of(self, namespace: int) -> Kept:
        """What is changed in it is saved."""
        kept = self._kept.get(namespace)
        if kept is None:
            kept = self._kept[namespace] = read_kept(self._tables, namespace)
        return kept

    def put_execution(self, number: int, execution: Execution) -> None:
        """It is over, and no dead letter."""
        self._tables.over.put(AGE_KEY.pack(execution.namespace, execution.end_ms, number), b"")
        self.of(execution.namespace).executions += 1

    def take_execution(self, number: int, execution: Execution) -> None:
        """It runs again, or is dropped."""
        self._tables.over.delete(AGE_KEY.pack(execution.namespace, execution.end_ms, number))
        self.of(execution.namespace).executions -= 1

    def put_idle(self, namespace: int, due_ms: int, job: int) -> None:
        """A row of the ledger for a due time that makes no execution."""
        self._tables.idle.put(AGE_KEY.pack(namespace, due_ms, job), b"")
        self.of(namespace).idle += 1

    def take_idle(self, namespace: int, due_ms: int, job: int) -> None:
        """The row is dropped."""
        self._tables.idle.delete(AGE_KEY.pack(namespace, due_ms, job))
        self.of(namespace).idle -= 1
