"""The tables of a transaction over dicts: what store.py is over LMDB, for tests of the pure core.

As strict as LMDB where a mistake would end a node (keys that are empty or too long) and stricter where LMDB is silent: a
table that changes under an iterator in use, and set values of different sizes, fail here at once.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

from horologe.raft.recent import Recent
from horologe.raft.tables import SET_TABLE_NAMES, TABLE_NAMES, Tables

KEY_BYTES_MAX = 511
Dump = dict[str, list[tuple[bytes, bytes]]]


class DictTable:
    """model.Table over a dict and a sorted list of its keys."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._changes = 0

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(_checked(key))

    def put(self, key: bytes, value: bytes) -> bool:
        if _checked(key) not in self._values:
            insort(self._keys, key)
        self._values[key] = bytes(value)
        self._changes += 1
        return True

    def put_new(self, key: bytes, value: bytes) -> bool:
        return _checked(key) not in self._values and self.put(key, value)

    def delete(self, key: bytes) -> bool:
        if self._values.pop(_checked(key), None) is None:
            return False
        del self._keys[bisect_left(self._keys, key)]
        self._changes += 1
        return True

    def scan(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return self._walk(range(bisect_left(self._keys, start), len(self._keys)))

    def scan_down(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._walk(range(bisect_left(self._keys, start) - 1, -1, -1))

    def _walk(self, positions: range) -> Iterator[tuple[bytes, bytes]]:
        changes = self._changes
        for position in positions:
            if self._changes != changes:
                raise AssertionError("the table changed while it was scanned")
            key = self._keys[position]
            yield key, self._values[key]


class DictSetTable:
    """model.SetTable over a sorted list of pairs."""

    def __init__(self) -> None:
        self._pairs: list[tuple[bytes, bytes]] = []
        self._changes = 0

    def put(self, key: bytes, value: bytes) -> bool:
        assert not self._pairs or len(self._pairs[0][1]) == len(value), "the values of a set table have one size"
        pair = (_checked(key), bytes(value))
        position = bisect_left(self._pairs, pair)
        if self._pairs[position : position + 1] != [pair]:
            self._pairs.insert(position, pair)
            self._changes += 1
        return True

    def delete(self, key: bytes, value: bytes) -> bool:
        position = bisect_left(self._pairs, (_checked(key), bytes(value)))
        if self._pairs[position : position + 1] != [(key, value)]:
            return False
        del self._pairs[position]
        self._changes += 1
        return True

    def scan(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        changes = self._changes
        for position in range(bisect_left(self._pairs, (start, b"")), len(self._pairs)):
            if self._changes != changes:
                raise AssertionError("the table changed while it was scanned")
            yield self._pairs[position]


def dict_tables() -> Tables:
    """All tables, empty."""
    plain = {name: DictTable() for name in TABLE_NAMES}
    sets = {name: DictSetTable() for name in SET_TABLE_NAMES}
    return cast("Tables", SimpleNamespace(recent=Recent(), **plain, **sets))


def dump(tables: Tables) -> Dump:
    """Everything in the tables, byte for byte; for comparisons."""
    return {
        name: [(bytes(key), bytes(value)) for key, value in getattr(tables, name).scan()]
        for name in (*TABLE_NAMES, *SET_TABLE_NAMES)
    }


def _checked(key: bytes) -> bytes:
    if not 0 < len(key) <= KEY_BYTES_MAX:
        raise ValueError(f"a key of {len(key)} bytes: LMDB takes 1 to {KEY_BYTES_MAX}, and a node would stop here")
    return key
