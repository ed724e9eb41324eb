"""Tables whose values carry a checksum or are encrypted: a record that the disk has changed is noticed and never believed.

Here belongs the form of a stored value and nothing about files (see store.py). The tables that carry what people wrote
(tables.ENCRYPTED_TABLE_NAMES) are encrypted, each value together with its table's name and its key (see cipher.py); a checksum
would add nothing to that. In the others a value is stored with a CRC-32 behind it, over the table's name, the key and the value.
Either way a record that was changed, that lies under another key, or that has come into another table does not check.

The checksum is little-endian: the CRC of anything followed by its own CRC in that order is always the same number (`_RESIDUE`),
which is one call to check and nothing to take apart. It stands behind the value, so the values of a set table keep their order
and their common size.

Every execution passes here a dozen times, and every transaction makes a dozen tables, most of them for one access: so both are
cheap here, and an access makes no objects of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Any
from zlib import crc32

from horologe.raft.cipher import Cipher, UnsealError
from horologe.raft.recent import Recent
from horologe.raft.tables import ENCRYPTED_TABLE_NAMES, SET_TABLE_NAMES

CHECKSUM_BYTES = 4
_RESIDUE = 0x2144DF1C
_pack = Struct("<I").pack

RESTORE = "restore the folder from a backup, or replace this node by one with a new name (`horologe cluster replace`)"
"""An empty folder under the old name would have forgotten its votes and what it acknowledged."""


class StoreError(Exception):
    """The data folder cannot be used. The text says why and what to do; the node does not start, or stops."""


class CorruptStateError(StoreError):
    """A stored record is not what was written. The node stops: what else is wrong, nobody knows."""

    @classmethod
    def of(cls, table: str, key: bytes, why: str = "its checksum does not match") -> CorruptStateError:
        return cls(
            f"the record {key.hex() or '(no key)'} of table {table!r} is damaged ({why}): the disk or "
            f"the memory of this machine has changed it; check both, then {RESTORE}"
        )


def seal(table: str, key: bytes, value: bytes) -> bytes:
    """The value as it is stored."""
    return value + _pack(crc32(value, crc32(key, crc32(table.encode()))))


def unseal(table: str, key: bytes, stored: bytes) -> bytes:
    """The value as it was put. Raises CorruptStateError."""
    if crc32(stored, crc32(key, crc32(table.encode()))) != _RESIDUE:
        raise CorruptStateError.of(table, key)
    return stored[:-CHECKSUM_BYTES]


def context_of(table: str) -> bytes:
    """What is authenticated with every value of an encrypted table, in front of its key. No name is the beginning of another."""
    return table.encode() + b"\0"


class SealedTable:
    """model.Table over one LMDB database of one transaction. `get` and the scans raise CorruptStateError."""

    __slots__ = ("_database", "_name", "_read", "_start", "_transaction", "_write")

    def __init__(self, transaction: Any, database: Any, name: str) -> None:
        self._transaction = transaction
        self._database = database
        self._name = name
        self._start = crc32(name.encode())
        # A cursor of its own, which no scan moves: half the price of asking the transaction.
        cursor = transaction.cursor(database)
        self._read, self._write = cursor.get, cursor.put

    def get(self, key: bytes) -> bytes | None:
        stored: bytes | None = self._read(key)
        if stored is None:
            return None
        if crc32(key + stored, self._start) != _RESIDUE:
            raise CorruptStateError.of(self._name, key)
        return stored[:-CHECKSUM_BYTES]

    def put(self, key: bytes, value: bytes) -> object:
        return self._write(key, value + _pack(crc32(key + value, self._start)))

    def put_new(self, key: bytes, value: bytes) -> bool:
        return bool(self._write(key, value + _pack(crc32(key + value, self._start)), overwrite=False))

    def delete(self, key: bytes, value: bytes = b"") -> bool:
        return bool(self._transaction.delete(key, value, self._database))

    def scan(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        cursor = self._transaction.cursor(self._database)
        if cursor.set_range(start) if start else cursor.first():
            yield from self._opened(cursor.iternext())

    def scan_down(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        cursor = self._transaction.cursor(self._database)
        if cursor.prev() if cursor.set_range(start) else cursor.last():
            yield from self._opened(cursor.iterprev())

    def _opened(self, pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        start = self._start
        for key, stored in pairs:
            if crc32(stored, crc32(key, start)) != _RESIDUE:
                raise CorruptStateError.of(self._name, key)
            yield key, stored[:-CHECKSUM_BYTES]


class SealedSetTable(SealedTable):
    """model.SetTable in the same way: a value is found by itself, so its checksum must go with it to delete it."""

    __slots__ = ()

    def put(self, key: bytes, value: bytes) -> object:
        return self._transaction.put(key, value + _pack(crc32(key + value, self._start)), db=self._database)

    def delete(self, key: bytes, value: bytes = b"") -> bool:
        stored = value + _pack(crc32(key + value, self._start))
        return bool(self._transaction.delete(key, stored, self._database))


class EncryptedTable(SealedTable):
    """model.Table in the same way, encrypted."""

    __slots__ = ("_cipher", "_context")

    def __init__(self, transaction: Any, database: Any, name: str, cipher: Cipher) -> None:
        super().__init__(transaction, database, name)
        self._cipher = cipher
        self._context = context_of(name)

    def get(self, key: bytes) -> bytes | None:
        stored: bytes | None = self._read(key)
        return None if stored is None else self._open(key, stored)

    def put(self, key: bytes, value: bytes) -> object:
        return self._write(key, self._cipher.seal(self._context + key, value))

    def put_new(self, key: bytes, value: bytes) -> bool:
        return bool(self._write(key, self._cipher.seal(self._context + key, value), overwrite=False))

    def _opened(self, pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for key, stored in pairs:
            yield key, self._open(key, stored)

    def _open(self, key: bytes, stored: bytes) -> bytes:
        try:
            return self._cipher.unseal(self._context + key, stored)
        except UnsealError as error:
            raise CorruptStateError.of(self._name, key, str(error)) from error


class SealedTables:
    """The tables of one transaction, each made when it is first asked for: most readers need two or three."""

    recent: Recent

    def __init__(self, transaction: Any, databases: dict[str, Any], cipher: Cipher, recent: Recent | None) -> None:
        if recent is not None:
            self.recent = recent
        self._transaction = transaction
        self._databases = databases
        self._cipher = cipher

    def __getattr__(self, name: str) -> SealedTable | Recent:
        made: SealedTable | Recent
        if name in ENCRYPTED_TABLE_NAMES:
            made = EncryptedTable(self._transaction, self._databases[name], name, self._cipher)
        elif name == "recent":
            made = Recent()
        else:
            kind = SealedSetTable if name in SET_TABLE_NAMES else SealedTable
            made = kind(self._transaction, self._databases[name], name)
        setattr(self, name, made)
        return made
