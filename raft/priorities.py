"""Who is next in a line: priority, age, and how the one makes up for the other. Pure arithmetic over sorted keys.

A line lies in a table under a prefix, and goes on with RANK: by priority, and by due time within one. `aging_ms` says how long
somebody has to wait longer than others to come before those of one priority more. So everybody's turn is fixed from the start,
at (9 - priority) * aging_ms + due_ms, and the order of a whole line is a merge of its ten priorities.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from struct import Struct

from horologe.raft.tables import Table

RANK = Struct(">BQQ")
"""9 - priority, due, execution"""
RANK_COUNT = 10
AGING_DEFAULT_MS = 600_000


def in_order(table: Table, prefix: bytes, aging_ms: int) -> Iterator[int]:
    """The executions of a line, whose turn it is first. `aging_ms` 0: higher priorities first, however long others wait.

    Costs a few seeks and as many steps as executions are taken. The table must not change meanwhile.
    """
    if not aging_ms:
        yield from (number for _, _, number in _ranks(table, prefix, 0))
        return
    rows = (_turns(table, prefix, rank, aging_ms) for rank in _present(table, prefix))
    yield from (number for _, number in heapq.merge(*rows))


def due_times(table: Table, prefix: bytes) -> list[int]:
    """The earliest due time of each priority that somebody in the line has."""
    return [next(_ranks(table, prefix, rank))[1] for rank in _present(table, prefix)]


def _present(table: Table, prefix: bytes) -> list[int]:
    """The priorities that somebody in the line has."""
    found: list[int] = []
    while not found or found[-1] + 1 < RANK_COUNT:
        first = next(_ranks(table, prefix, found[-1] + 1 if found else 0), None)
        if first is None:
            break
        found.append(first[0])
    return found


def _turns(table: Table, prefix: bytes, rank: int, aging_ms: int) -> Iterator[tuple[int, int]]:
    for found, due_ms, number in _ranks(table, prefix, rank):
        if found != rank:
            return
        yield rank * aging_ms + due_ms, number


def _ranks(table: Table, prefix: bytes, first: int) -> Iterator[tuple[int, int, int]]:
    for key, _ in table.scan(prefix + RANK.pack(first, 0, 0)):
        if key[: len(prefix)] != prefix:
            return
        yield RANK.unpack(key[len(prefix) :])
