"""What happened lately: every move of an execution and every change of a job, for those who follow along.

One row per entry holds its events, packed. The window is bounded in number and age: every now and then some of
the oldest rows go. Whoever follows by revision loses nothing as long as the row after theirs is still there (`floor_of`).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from horologe.raft.records import U64

if TYPE_CHECKING:
    from horologe.raft.model import Counters
    from horologe.raft.tables import Tables

EVENT = Struct(">QQQIIIHBBBB")
"""See Event. A row is the entry's time and then its events."""
EVENTS_MAX = 1_000_000
"""About 50 MiB, and some minutes at the highest rate: more than any reconnection takes."""
WINDOW_MS = 3_600_000
"""Whoever was away for longer is quicker with a list than with an hour of changes."""
ENTRIES_PER_LOOK = 16
"""The oldest row is looked at with every 16th entry only."""
ROWS_DROPPED_MAX = 256
"""By one look. Between two of them come at most 16 rows, so the window never grows for long."""
_FLOOR_KEY = b"events_floor"


class EventKind(IntEnum):
    """What happened; numbers as in horologe.v1.Event.Kind."""

    EXECUTION_MOVED = 1
    CANCEL_REQUESTED = 2
    JOB_CREATED = 3
    JOB_UPDATED = 4
    JOB_DELETED = 5
    JOB_PAUSED = 6
    JOB_RESUMED = 7
    DUE_TIMES_MISSED = 8
    JOB_RECOVERED = 9
    WORKER_LOST = 10
    QUORUM_CHANGED = 11


class Event(NamedTuple):
    """One thing that happened.

    Events of a job have no execution: all from `due_ms` on is 0, but for the kind, and for the last due time that was missed,
    whose row in the ledger says how many there are. WORKER_LOST has a worker only; of QUORUM_CHANGED `after` is 1 if there is a
    risk now.
    """

    execution: int
    job: int
    due_ms: int
    namespace: int
    queue: int
    worker: int
    attempt: int
    kind: int
    before: int
    """State of the execution before; 0 if it is new."""
    after: int
    attempt_state: int
    """Of the attempt that is named; an end of an attempt is the move that follows from it."""


class Row(NamedTuple):
    """What one entry did."""

    revision: int
    time_ms: int
    events: list[Event]


def keep(tables: Tables, counters: Counters, packed: bytes) -> None:
    """Stores the events of the entry that ends here, and lets go of some that are too old."""
    if packed:
        tables.event.put(U64.pack(counters.revision), U64.pack(counters.log_time_ms) + packed)
        counters.events += len(packed) // EVENT.size
    if counters.entries % ENTRIES_PER_LOOK == 0:
        _drop_old(tables, counters)


def floor_of(tables: Tables) -> int:
    """The revision of the last row that was dropped: only what came after it is still known."""
    raw = tables.meta.get(_FLOOR_KEY)
    return 0 if raw is None else int(U64.unpack(raw)[0])


def rows_from(tables: Tables, revision: int) -> Iterator[Row]:
    """The rows of this revision and later ones, oldest first."""
    for key, value in tables.event.scan(U64.pack(revision)):
        (found,), (time_ms,) = U64.unpack(key), U64.unpack_from(value)
        yield Row(found, time_ms, [Event._make(event) for event in EVENT.iter_unpack(value[U64.size :])])


def _drop_old(tables: Tables, counters: Counters) -> None:
    too_old: list[bytes] = []
    for key, value in tables.event.scan():
        is_old = U64.unpack_from(value)[0] < counters.log_time_ms - WINDOW_MS
        if len(too_old) >= ROWS_DROPPED_MAX or not (is_old or counters.events > EVENTS_MAX):
            break
        too_old.append(bytes(key))
        counters.events -= len(value) // EVENT.size
    for key in too_old:
        tables.event.delete(key)
    if too_old:
        tables.meta.put(_FLOOR_KEY, too_old[-1])
