"""Records that entries have touched lately, decoded: an execution is read again a moment after it was made, and its job too.

This lies beside the tables of a store, not in them: what is here equals what is stored, and may be forgotten at any time. Whoever
takes a record has it for himself; it is here again once it is stored (see state.py). So nothing that was changed and then not
stored is ever seen by others. What only looks at a record leaves it where it is, and as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from horologe.raft.records import U64, Execution, JobState

if TYPE_CHECKING:
    from horologe.raft.tables import Tables

RECORDS_MAX = 8_000
"""Of each kind, and as many again that were not touched since: some 20 MiB in all. What comes due is asked for again within some
thousand others."""
Record = TypeVar("Record", Execution, JobState)


class Shelf(Generic[Record]):
    """Records of one kind by their numbers. What nobody has touched for `RECORDS_MAX` others is forgotten."""

    __slots__ = ("_new", "_old")

    def __init__(self) -> None:
        self._new: dict[int, Record] = {}
        self._old: dict[int, Record] = {}

    def take(self, number: int) -> Record | None:
        """To be changed and stored, or thrown away."""
        return self._new.pop(number, None) or self._old.pop(number, None)

    def look(self, number: int) -> Record | None:
        """Not to be changed."""
        return self._new.get(number) or self._old.get(number)

    def put(self, number: int, record: Record) -> None:
        """What is stored under this number."""
        if len(self._new) >= RECORDS_MAX:
            self._old, self._new = self._new, {}
        self._old.pop(number, None)
        self._new[number] = record

    def items(self) -> dict[int, Record]:
        """All that is here; for tests."""
        return self._old | self._new


class Recent:
    """The shelves of one store, for its current transaction."""

    __slots__ = ("executions", "job_states")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """What is stored is no longer what it was, or may not be."""
        self.executions: Shelf[Execution] = Shelf()
        self.job_states: Shelf[JobState] = Shelf()


def look_at_job(tables: Tables, job: int) -> JobState | None:
    """The state of a job that is soon asked for again, for those who do not change it."""
    shelf = tables.recent.job_states
    found = shelf.look(job)
    if found is None:
        raw = tables.job_state.get(U64.pack(job))
        if raw is None:
            return None
        found = JobState.unpack(raw)
        shelf.put(job, found)
    return found
