"""The file of a backup: how it is written by a node, and read by whoever verifies or restores it.

Here belongs the format, and nothing about where files lie (backup_targets.py) or where keys are from (backup_keys.py):

    "HOROLOGE BACKUP\\n"
    length (4 bytes, big-endian) + horologe.v1.Backup in JSON: what it is of, and the wrapped key
    any number of   length (4) + frame
    at last         length (4) + frame of horologe.v1.BackupContent

A frame is sealed with AES-256-GCM under a key that encrypts this one file. Its nonce is its number; what is authenticated with it
is the digest of everything before the first frame, and whether it is the last one. So a file that was changed, cut, continued or
put together from others does not open, and nothing in it can be read without the key.

In a frame is the number of a table (2 bytes, as the beginning lists them), and compressed records: length of key and value (4 and
4 bytes), key, value. Each table has at least one frame, and they come in their order; the digest over all that is the digest of
the state (raft/digest.py).
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from horologe.client.errors import InvalidBackup
from horologe.v1.backup_service_pb2 import Backup, BackupContent

__all__ = ["FORMAT", "BackupReader", "BackupWriter", "Source", "pack_record"]

FORMAT = 1
MAGIC = b"HOROLOGE BACKUP\n"
FRAME_BYTES = 1 << 20
"""So many bytes of records fill a frame; one large record may make it longer."""
FRAME_BYTES_MAX = 64 << 20
"""What a reader takes into memory at once."""
HEADER_BYTES_MAX = 1 << 20
COMPRESSION = 1
"""The quickest: the work is done beside that of a cluster."""
_LENGTH, _LENGTHS, _TABLE, _NONCE = Struct(">I"), Struct(">II"), Struct(">H"), Struct(">4xQ")
_MORE, _LAST = b"\0", b"\1"


class Source(Protocol):
    """Bytes to read, as of a file."""

    def read(self, size: int, /) -> bytes: ...


def pack_record(key: bytes, value: bytes) -> bytes:
    """A record, as it lies in a frame."""
    return _LENGTHS.pack(len(key), len(value)) + key + value


def unpack_records(packed: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records of a frame."""
    position = 0
    while position < len(packed):
        key_bytes, value_bytes = _LENGTHS.unpack_from(packed, position)
        start = position + _LENGTHS.size
        position = start + key_bytes + value_bytes
        yield packed[start : start + key_bytes], packed[start + key_bytes : position]


class _Digest:
    """Over the state, in the manner of raft/digest.py."""

    def __init__(self, tables: Sequence[str]) -> None:
        self._tables = tables
        self._table = -1
        self._digest = hashlib.sha256()
        self.record_count = 0

    def update(self, table: int, packed: bytes, record_count: int) -> None:
        while self._table < table:
            self._table += 1
            name = self._tables[self._table]
            self._digest.update(_LENGTHS.pack(len(name), 0) + name.encode())
        self._digest.update(packed)
        self.record_count += record_count

    def content(self) -> BackupContent:
        return BackupContent(record_count=self.record_count, state_digest=self._digest.digest())


class BackupWriter:
    """Makes the bytes of a file, piece by piece."""

    def __init__(self, backup: Backup, secret: bytes) -> None:
        header = json_format.MessageToJson(backup, indent=None, preserving_proto_field_name=True).encode() + b"\n"
        self.begin = MAGIC + _LENGTH.pack(len(header)) + header
        """The first bytes."""
        self._context = hashlib.sha256(self.begin).digest()
        self._encrypt = AESGCM(secret).encrypt
        self._number = 0
        self._digest = _Digest(backup.tables)

    def frame(self, table: int, packed: bytes, record_count: int) -> bytes:
        """The next bytes: records of one table, the first frame of which comes even if it has none."""
        self._digest.update(table, packed, record_count)
        return self._seal(_MORE, _TABLE.pack(table) + zlib.compress(packed, COMPRESSION))

    def end(self) -> tuple[bytes, BackupContent]:
        """The last bytes, and what they say."""
        content = self._digest.content()
        return self._seal(_LAST, content.SerializeToString(deterministic=True)), content

    def _seal(self, kind: bytes, plain: bytes) -> bytes:
        sealed = self._encrypt(_NONCE.pack(self._number), plain, self._context + kind)
        self._number += 1
        return _LENGTH.pack(len(sealed)) + sealed


@dataclass(frozen=True, slots=True)
class Frame:
    """Records of one table, packed."""

    table: int
    packed: bytes


class BackupReader:
    """Reads a file from its beginning. Everything raises InvalidBackup if it is not what was written."""

    def __init__(self, source: Source, name: str) -> None:
        """Reads what the backup is of; nobody has vouched for that before the first frame is read."""
        self._source = source
        self._name = name
        magic = source.read(len(MAGIC))
        if magic != MAGIC:
            raise self._invalid("is no backup of a cluster" if magic else "is empty")
        length = self._exactly(_LENGTH.size)
        header_bytes = _LENGTH.unpack(length)[0]
        if header_bytes > HEADER_BYTES_MAX:
            raise self._invalid("is damaged at its beginning")
        header = self._exactly(header_bytes)
        self._context = hashlib.sha256(magic + length + header).digest()
        try:
            self.backup = json_format.Parse(header, Backup(), ignore_unknown_fields=True)
        except (json_format.ParseError, UnicodeDecodeError):
            raise self._invalid("is damaged at its beginning") from None
        if self.backup.format != FORMAT:
            raise self._invalid(
                f"is a backup of format {self.backup.format}, but this program reads {FORMAT}; use that which wrote it "
                f"(version {self.backup.version})"
            )
        self.content: BackupContent | None = None
        """Once everything is read."""

    def frames(self, secret: bytes) -> Iterator[Frame]:
        """All records. What came out counts only when this has ended without an error."""
        decrypt, digest, number = AESGCM(secret).decrypt, _Digest(self.backup.tables), 0
        while self.content is None:
            plain, is_last = self._open(decrypt, number)
            number += 1
            try:
                if is_last:
                    self.content = BackupContent.FromString(plain)
                else:
                    frame = Frame(_TABLE.unpack_from(plain)[0], zlib.decompress(plain[_TABLE.size :]))
                    digest.update(frame.table, frame.packed, sum(1 for _ in unpack_records(frame.packed)))
                    yield frame
            except (zlib.error, DecodeError, IndexError) as error:
                # Sealed by who had the key: not damaged, but written in another way.
                raise self._invalid(f"holds what this program does not know ({error})") from error
        if self._source.read(1):
            raise self._invalid("goes on behind its end: something was appended")
        if self.content != digest.content():
            raise self._invalid("is not whole: what is in it is not what was counted when it was written")

    def _open(self, decrypt: Callable[[bytes, bytes, bytes], bytes], number: int) -> tuple[bytes, bool]:
        length = _LENGTH.unpack(self._exactly(_LENGTH.size))[0]
        if length > FRAME_BYTES_MAX:
            raise self._invalid(f"is damaged in piece {number + 1}")
        sealed = self._exactly(length)
        for kind in (_MORE, _LAST):
            try:
                return decrypt(_NONCE.pack(number), sealed, self._context + kind), kind is _LAST
            except InvalidTag:
                continue
        raise self._invalid(
            f"was changed, or damaged: piece {number + 1} is not what was written" if number
            else "does not open: the key is another one, or the file was changed or damaged"
        )  # fmt: skip

    def _exactly(self, size: int) -> bytes:
        data = self._source.read(size)
        while len(data) < size:
            more = self._source.read(size - len(data))
            if not more:
                raise self._invalid("was cut: its end is missing")
            data += more
        return data

    def _invalid(self, what: str) -> InvalidBackup:
        return InvalidBackup(f"{self._name} {what}")
