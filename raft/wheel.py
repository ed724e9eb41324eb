"""The hierarchical timing wheel: deadlines in the state, in the order in which they fall due.

After Kafka's TimingWheel. Time is cut into buckets; a bucket of level 0 spans 1.024 s, and a bucket of each level above
spans 64 buckets of the one below. A timer goes to the lowest level whose 64 buckets, counted from the cursor, reach its
deadline; when the cursor comes to a bucket of a higher level, its timers are spread over the levels below. So a timer moves
at most five times in its life, however far away its deadline is, and the near future is a small, dense part of the table.

    level      0        1       2        3        4       5
    bucket     1.024 s  65.5 s  69.9 min 3.1 days 199 days 34.9 years

Where this wheel differs from Kafka's: it lies in a sorted table, so nobody ticks through empty buckets. A bucket's key is
(level, start), its values are (deadline, kind, id) in sorted order: the first value of level 0 is the next timer due, to the
millisecond, and the first key of a higher level is the next bucket to spread. The cursor is given, never read from a clock.
A deadline in the past goes to the level-0 bucket of its own time, and is therefore the first to be found.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from struct import Struct

from horologe.raft.tables import SetTable

TIMER = Struct(">QBQ")
BUCKET = Struct(">BQ")

LEVEL_COUNT = 6
BUCKET_BITS = 10  # a bucket of level 0 spans 2**10 ms
LEVEL_BITS = 6  # each level has 2**6 buckets
LEVEL_BUCKETS = 1 << LEVEL_BITS
LOOKAHEAD_MS = 2_000
"""Buckets are spread this long before their time, so that a timer at the very start of one is not late."""

Timer = tuple[int, int, int]
"""deadline_ms, kind, id"""


def bucket_key(deadline_ms: int, cursor_ms: int) -> bytes:
    """The bucket of a deadline: a pure function of the deadline and the cursor."""
    for level in range(LEVEL_COUNT - 1):
        shift = BUCKET_BITS + LEVEL_BITS * level
        if (deadline_ms >> shift) - (cursor_ms >> shift) < LEVEL_BUCKETS:
            return BUCKET.pack(level, deadline_ms >> shift << shift)
    return _key_at_level(deadline_ms, LEVEL_COUNT - 1)


def arm(table: SetTable, cursor_ms: int, deadline_ms: int, kind: int, id_: int) -> None:
    """Adds a timer; adding it twice changes nothing."""
    table.put(bucket_key(deadline_ms, cursor_ms), TIMER.pack(deadline_ms, kind, id_))


def disarm(table: SetTable, deadline_ms: int, kind: int, id_: int) -> bool:
    """Removes a timer, whatever level it has come to; False if there is none."""
    value = TIMER.pack(deadline_ms, kind, id_)
    # Nearly always it was about to be due.
    if table.delete(_key_at_level(deadline_ms, 0), value):
        return True
    return any(table.delete(_key_at_level(deadline_ms, level), value) for level in range(1, LEVEL_COUNT))


def due(table: SetTable, now_ms: int, count_max: int) -> list[Timer]:
    """The first `count_max` timers with a deadline up to now, in order of their deadlines.

    Timers whose bucket has not been spread yet (see `advance`) are not seen.
    """
    found: list[Timer] = []
    for key, value in table.scan(b"\x00"):
        timer = TIMER.unpack(value)
        if key[0] != 0 or timer[0] > now_ms or len(found) >= count_max:
            break
        found.append(timer)
    return found


def has_arrived(table: SetTable, now_ms: int) -> bool:
    """Whether a bucket of a higher level waits to be spread."""
    horizon_ms = now_ms + LOOKAHEAD_MS
    return any(next(_arrived(table, level, horizon_ms, 1), None) is not None for level in range(1, LEVEL_COUNT))


def advance(table: SetTable, to_ms: int, count_max: int) -> bool:
    """Spreads the buckets of higher levels that the cursor has come to; moves at most `count_max` timers.

    Returns whether all is done. If not, the caller keeps the old cursor and calls again: placing by an older cursor is
    always legal, it only costs another move later.
    """
    horizon_ms = to_ms + LOOKAHEAD_MS
    budget = count_max
    for level in range(LEVEL_COUNT - 1, 0, -1):
        batch = list(_arrived(table, level, horizon_ms, budget + 1))
        for key, value in batch[:budget]:
            deadline_ms, kind, id_ = TIMER.unpack(value)
            table.delete(key, value)
            arm(table, horizon_ms, deadline_ms, kind, id_)
        if len(batch) > budget:
            return False
        budget -= len(batch)
    return True


def next_attention_ms(table: SetTable) -> int | None:
    """When somebody must look again: the next deadline of level 0, or the next bucket to spread; None when all is empty."""
    first: int | None = None
    for level in range(LEVEL_COUNT):
        for key, value in table.scan(BUCKET.pack(level, 0)):
            found_level, start_ms = BUCKET.unpack(key)
            at_ms = TIMER.unpack(value)[0] if found_level == 0 else start_ms - LOOKAHEAD_MS
            if found_level == level and (first is None or at_ms < first):
                first = at_ms
            break
    return first


def _key_at_level(deadline_ms: int, level: int) -> bytes:
    shift = BUCKET_BITS + LEVEL_BITS * level
    return BUCKET.pack(level, deadline_ms >> shift << shift)


def _arrived(table: SetTable, level: int, horizon_ms: int, count_max: int) -> Iterator[tuple[bytes, bytes]]:
    for key, value in islice(table.scan(BUCKET.pack(level, 0)), count_max):
        found_level, start_ms = BUCKET.unpack(key)
        if found_level != level or start_ms > horizon_ms:
            return
        yield key, value
