"""Tables whose values carry a checksum or are encrypted: a record that the disk has changed is noticed and never believed.

Here belongs the form of a stored value and nothing about files (see store.py). The tables that carry what people wrote
(tables.ENCRYPTED_TABLE_NAMES) are encrypted, each value together with its table's name and its key (see cipher.py); a checksum
would add nothing to that. In the others a value is stored with a CRC-32 behind it, over the table's name, the key and the value.
Either way a record that was changed, that lies under another key, or that has come into another table does not check.

The checksum is little-endian: the CRC of anything followed by its own CRC in that order is always the same number (`_RESIDUE`),
which is one call to check and nothing to take apart. It stands behind the value, so the values of a set table keep their order
and their common size.

Every execution passes here a dozen times: the accesses are closures over bound calls, and make no objects of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from struct import Struct
from typing import Any
from zlib import crc32

from horologe.raft.cipher import Cipher, UnsealError

CHECKSUM_BYTES = 4
_RESIDUE = 0x2144DF1C
_CHECKSUM = Struct("<I")

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
    return value + _CHECKSUM.pack(crc32(value, crc32(key, crc32(table.encode()))))


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

    __slots__ = ("_cursor", "_name", "delete", "get", "put", "put_new")

    def __init__(self, transaction: Any, database: Any, name: str) -> None:
        self._name = name
        self._cursor = partial(transaction.cursor, db=database)
        self.get, self.put, self.put_new = _accesses(transaction, database, name)
        self.delete: Callable[..., bool] = partial(transaction.delete, db=database)

    def scan(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        cursor = self._cursor()
        if cursor.set_range(start) if start else cursor.first():
            yield from self._opened(cursor.iternext())

    def scan_down(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        cursor = self._cursor()
        if cursor.prev() if cursor.set_range(start) else cursor.last():
            yield from self._opened(cursor.iterprev())

    def _opened(self, pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        start = crc32(self._name.encode())
        for key, stored in pairs:
            if crc32(stored, crc32(key, start)) != _RESIDUE:
                raise CorruptStateError.of(self._name, key)
            yield key, stored[:-CHECKSUM_BYTES]


class SealedSetTable(SealedTable):
    """model.SetTable in the same way: a value is found by itself, so its checksum must go with it to delete it."""

    __slots__ = ()

    def __init__(self, transaction: Any, database: Any, name: str) -> None:
        super().__init__(transaction, database, name)
        write, delete = partial(transaction.put, db=database), self.delete
        start, pack = crc32(name.encode()), _CHECKSUM.pack

        def put_sealed(key: bytes, value: bytes) -> object:
            return write(key, value + pack(crc32(key + value, start)))

        def delete_sealed(key: bytes, value: bytes) -> bool:
            return delete(key, value + pack(crc32(key + value, start)))

        self.put = put_sealed

        self.delete = delete_sealed


class EncryptedTable(SealedTable):
    """model.Table in the same way, encrypted."""

    __slots__ = ("_cipher",)

    def __init__(self, transaction: Any, database: Any, name: str, cipher: Cipher) -> None:
        super().__init__(transaction, database, name)
        self._cipher = cipher
        self.get, self.put, self.put_new = _encrypted_accesses(transaction, database, name, cipher)

    def _opened(self, pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        unseal, context = self._cipher.unseal, context_of(self._name)
        for key, stored in pairs:
            try:
                value = unseal(context + key, stored)
            except UnsealError as error:
                raise CorruptStateError.of(self._name, key, str(error)) from error
            yield key, value


_Accesses = tuple[Callable[[bytes], bytes | None], Callable[[bytes, bytes], object], Callable[[bytes, bytes], bool]]


def _accesses(transaction: Any, database: Any, name: str) -> _Accesses:
    # A cursor of its own, which no scan moves: half the price of asking the transaction.
    cursor = transaction.cursor(db=database)
    read, write = cursor.get, cursor.put
    start, pack = crc32(name.encode()), _CHECKSUM.pack

    def get(key: bytes) -> bytes | None:
        stored: bytes | None = read(key)
        if stored is None:
            return None
        if crc32(key + stored, start) != _RESIDUE:
            raise CorruptStateError.of(name, key)
        return stored[:-CHECKSUM_BYTES]

    def put(key: bytes, value: bytes) -> object:
        return write(key, value + pack(crc32(key + value, start)))

    def put_new(key: bytes, value: bytes) -> bool:
        return bool(write(key, value + pack(crc32(key + value, start)), overwrite=False))

    return get, put, put_new


def _encrypted_accesses(transaction: Any, database: Any, name: str, cipher: Cipher) -> _Accesses:
    cursor = transaction.cursor(db=database)
    read, write = cursor.get, cursor.put
    context, encrypt, decrypt = context_of(name), cipher.seal, cipher.unseal

    def get(key: bytes) -> bytes | None:
        stored: bytes | None = read(key)
        if stored is None:
            return None
        try:
            return decrypt(context + key, stored)
        except UnsealError as error:
            raise CorruptStateError.of(name, key, str(error)) from error

    def put(key: bytes, value: bytes) -> object:
        return write(key, encrypt(context + key, value))

    def put_new(key: bytes, value: bytes) -> bool:
        return bool(write(key, encrypt(context + key, value), overwrite=False))

    return get, put, put_new
