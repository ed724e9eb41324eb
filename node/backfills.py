"""The due times that a backfill goes through, in its order, from where it was left.

A schedule can only say what comes next. Backwards, spans of time are looked at from the end, each from its beginning, and a
span in which there is nothing is followed by a longer one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from horologe.log.v1 import log_pb2
from horologe.node.calendars import exclusions_of
from horologe.node.timetable import Timetable, timetable_of
from horologe.raft.records import U64
from horologe.raft.tables import Tables

SPAN_MS_MIN = 1_000
"""In a second no schedule has more than one due time."""
SPAN_GROWTH = 8
DUE_TIMES_PER_SPAN_MAX = 64

Spend = Callable[[], bool]
"""Asked before each computation: whether one more may be done now."""


def timetable_now(tables: Tables, record: log_pb2.JobRecord) -> Timetable:
    """The job's due times as its definition stands now, also from before it existed."""
    return timetable_of(record.job, exclusions_of(tables, record.job))


def due_times_of(
    tables: Tables, record: log_pb2.JobRecord, backfill: log_pb2.Backfill, cursor: bytes
) -> Forwards | Backwards:
    """From where the cursor of an operation stands; empty for the beginning."""
    order = Backwards if backfill.backwards else Forwards
    at_ms = int(U64.unpack(cursor)[0]) if cursor else None
    return order(timetable_now(tables, record), backfill.from_ms, backfill.to_ms, at_ms)


class Forwards:
    """From the earliest to the latest."""

    def __init__(self, timetable: Timetable, from_ms: int, to_ms: int, at_ms: int | None = None) -> None:
        """`to_ms` is not part of the range; `at_ms` is where an earlier walk was left."""
        self._timetable = timetable
        self._to_ms = to_ms
        self._at_ms = from_ms if at_ms is None else at_ms
        self.exhausted = False

    @property
    def cursor(self) -> bytes:
        """Nothing before it is left."""
        return U64.pack(self._at_ms)

    def take(self, spend: Spend) -> Iterator[int]:
        while spend():
            due_ms = self._timetable.next_after(self._at_ms - 1)
            if due_ms is None or due_ms >= self._to_ms:
                self.exhausted = True
                return
            self._at_ms = due_ms + 1
            yield due_ms


class Backwards:
    """From the latest to the earliest."""

    def __init__(self, timetable: Timetable, from_ms: int, to_ms: int, at_ms: int | None = None) -> None:
        """As of Forwards."""
        self._timetable = timetable
        self._from_ms = from_ms
        self._at_ms = to_ms if at_ms is None else at_ms
        self.exhausted = False

    @property
    def cursor(self) -> bytes:
        """Nothing at it or after it is left."""
        return U64.pack(self._at_ms)

    def take(self, spend: Spend) -> Iterator[int]:
        span_ms = SPAN_MS_MIN
        while self._at_ms > self._from_ms:
            start_ms = max(self._from_ms, self._at_ms - span_ms)
            found = self._within(start_ms, spend)
            if found is None:
                return
            if len(found) > DUE_TIMES_PER_SPAN_MAX:
                span_ms = max(SPAN_MS_MIN, span_ms // SPAN_GROWTH // 2)
                continue
            for due_ms in reversed(found):
                self._at_ms = due_ms
                yield due_ms
            self._at_ms = start_ms
            span_ms = SPAN_MS_MIN if found else span_ms * SPAN_GROWTH
        self.exhausted = True

    def _within(self, start_ms: int, spend: Spend) -> list[int] | None:
        """The due times from `start_ms` to where the walk stands, or one more than the most; None if it may not be known now."""
        found: list[int] = []
        after_ms = start_ms - 1
        while len(found) <= DUE_TIMES_PER_SPAN_MAX:
            if not spend():
                return None
            due_ms = self._timetable.next_after(after_ms)
            if due_ms is None or due_ms >= self._at_ms:
                break
            found.append(due_ms)
            after_ms = due_ms
        return found
