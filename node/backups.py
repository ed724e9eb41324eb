"""The whole state as the bytes of a backup, read from one revision while the node goes on.

A thread of its own reads, checks each record as it is read, and rests twice as long as it works, so that neither the step nor
the event loop waits for it. At most a few pieces wait for a reader who is slow. The state's old pages cannot be used again
meanwhile, so the time is bounded, and whoever needs the store for something else gets it at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import queue
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from dataclasses import dataclass

from horologe.client.backup_file import FORMAT as FILE_FORMAT
from horologe.client.backup_file import FRAME_BYTES, BackupWriter, pack_record
from horologe.client.backup_keys import CONTEXT
from horologe.node.context import NodeContext
from horologe.node.key_sources import KeySource
from horologe.node.member_conditions import program_version
from horologe.raft.cipher import SECRET_BYTES
from horologe.raft.machine import cluster_id_of
from horologe.raft.model import Counters
from horologe.raft.store import FORMAT as STATE_FORMAT
from horologe.raft.tables import SET_TABLE_NAMES, TABLE_NAMES, Tables
from horologe.v1.backup_service_pb2 import Backup, BackupContent, BackupKey, CreateBackupResponse

ALL_TABLES = (*TABLE_NAMES, *SET_TABLE_NAMES)
RECORDS_PER_TURN = 500
"""Half a millisecond of work: what another thread may have to wait for."""
REST_SHARE = 2.0
"""So many times as long as it has worked a turn rests."""
REST_SECONDS_MIN = 0.001
BACKUP_SECONDS_MAX = 3_600.0
"""The longest that old pages are kept for a backup."""
PIECES_WAITING_MAX = 4
LOOK_SECONDS = 0.05
"""How often who waits for a slow reader looks whether the store is wanted for something else."""


class BackupGivenUpError(Exception):
    """The state was needed for something else, or it took too long. The text says which."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """What a backup is encrypted with."""

    secret: bytes
    key: BackupKey

    @classmethod
    def of_node(cls, source: KeySource) -> Encryption:
        """A fresh key, wrapped as this node's data keys are. May block; raises KeyringError."""
        source.reload()
        secret = os.urandom(SECRET_BYTES)
        wrapped = source.wrap(secret, CONTEXT)
        return cls(secret, BackupKey(kind="node", name=wrapped.wrapped_with, wrapped=wrapped.wrapped))


@dataclass(slots=True)
class Backups:
    """What this node does about backups, for all of its ports."""

    context: NodeContext
    source: KeySource
    under_way: int = 0


class BackupReading:
    """One backup on its way to somebody. For the event loop; close it in the end."""

    def __init__(self, context: NodeContext, encryption: Encryption) -> None:
        self._node = context
        self._encryption = encryption
        self._pieces: queue.Queue[CreateBackupResponse | BaseException | None] = queue.Queue(PIECES_WAITING_MAX)
        self._closed = threading.Event()
        self._deadline = context.clock.monotonic() + BACKUP_SECONDS_MAX
        self._thread = threading.Thread(target=self._read, name="backup", daemon=True)

    async def pieces(self) -> AsyncGenerator[CreateBackupResponse, None]:
        """All of it. Raises StoreError if a record is damaged, BackupGivenUpError."""
        self._thread.start()
        try:
            while (piece := await asyncio.to_thread(self._pieces.get)) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            self._closed.set()

    def _read(self) -> None:
        end: BaseException | None = None
        try:
            with self._node.store.read() as tables:
                for piece in self._answers(tables):
                    self._hand_over(piece)
        except BaseException as error:  # noqa: BLE001 - it is raised by the one who reads
            end = error
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._pieces.put(end, timeout=LOOK_SECONDS)
                return
        # Somebody may have stopped listening in the middle of a wait for the next piece.
        with suppress(queue.Full):
            self._pieces.put_nowait(end)

    def _hand_over(self, piece: CreateBackupResponse) -> None:
        while True:
            self._check()
            with suppress(queue.Full):
                self._pieces.put(piece, timeout=LOOK_SECONDS)
                return

    def _check(self) -> None:
        if self._closed.is_set():
            raise BackupGivenUpError("nobody waits for it any more")
        if self._node.store.wants_no_readers:
            raise BackupGivenUpError(
                "the state was needed for something else: the node stops, or has got another state"
            )
        if self._node.clock.monotonic() > self._deadline:
            raise BackupGivenUpError(f"it was not done within {BACKUP_SECONDS_MAX:.0f} s")

    def _answers(self, tables: Tables) -> Iterator[CreateBackupResponse]:
        backup = self._describe(tables)
        writer = BackupWriter(backup, self._encryption.secret)
        digest, file_bytes = hashlib.sha256(writer.begin), len(writer.begin)
        yield CreateBackupResponse(backup=backup, data=writer.begin)
        for number, name in enumerate(ALL_TABLES):
            for packed, record_count in self._packed(tables, name):
                data = writer.frame(number, packed, record_count)
                digest.update(data)
                file_bytes += len(data)
                yield CreateBackupResponse(data=data)
        data, content = writer.end()
        digest.update(data)
        yield _last(data, content, file_bytes + len(data), digest.digest())

    def _packed(self, tables: Tables, name: str) -> Iterator[tuple[bytes, int]]:
        """The records of a table by the frame, at least one frame, with rests between turns."""
        monotonic = self._node.clock.monotonic
        pieces: list[bytes] = []
        length = count = 0
        is_first, began = True, monotonic()
        for turn, (key, value) in enumerate(getattr(tables, name).scan(), 1):
            record = pack_record(key, value)
            pieces.append(record)
            length += len(record)
            count += 1
            if turn % RECORDS_PER_TURN == 0:
                self._closed.wait(max(REST_SECONDS_MIN, REST_SHARE * (monotonic() - began)))
                self._check()
                began = monotonic()
            if length >= FRAME_BYTES:
                yield b"".join(pieces), count
                pieces, length, count, is_first = [], 0, 0, False
                began = monotonic()
        if count or is_first:
            yield b"".join(pieces), count

    def _describe(self, tables: Tables) -> Backup:
        backup = Backup(
            format=FILE_FORMAT,
            cluster_id=cluster_id_of(tables),
            node=self._node.config.name,
            revision=Counters.load(tables).revision,
            state_format=STATE_FORMAT,
            version=program_version(),
            key=self._encryption.key,
            tables=ALL_TABLES,
        )
        if not backup.cluster_id:
            raise BackupGivenUpError("this node belongs to no cluster yet")
        backup.create_time.FromMilliseconds(self._node.clock.wall_ms())
        return backup


def _last(data: bytes, content: BackupContent, file_bytes: int, digest: bytes) -> CreateBackupResponse:
    return CreateBackupResponse(data=data, content=content, file_bytes=file_bytes, file_digest=digest)
