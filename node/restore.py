"""`horologe cluster restore`: a backup becomes the first node of a new cluster, which others join.

What makes it a new cluster is in raft/recovery.py. It works on the folder of a node that has none yet: everything is written
beside it, read again, compared with what was counted when the backup was made, and only then put in its place.
"""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from horologe.client.backup_file import BackupReader, Source, unpack_records
from horologe.client.backup_keys import CONTEXT, BackupSecret
from horologe.client.errors import InvalidBackup
from horologe.log.v1 import log_pb2
from horologe.node.clock import process_clock
from horologe.node.config import NodeConfig
from horologe.node.key_sources import KeyringError, KeySource, Wrapped, key_source_of
from horologe.node.keyring import Keyring
from horologe.raft import recovery
from horologe.raft.access import is_secure
from horologe.raft.digest import digest_of
from horologe.raft.membership import Member
from horologe.raft.store import FORMAT, Store, StoreError
from horologe.raft.tables import SET_TABLE_NAMES, TABLE_NAMES
from horologe.v1.audit_service_pb2 import AuditRecord
from horologe.v1.backup_service_pb2 import Backup, BackupKey

METHOD = "BackupService.Restore"
"""As the audit log calls it; no node offers it."""
COMMIT_BYTES = 64 << 20
"""So much is written in one transaction."""


class CannotRestoreError(Exception):
    """There is nothing to restore into, or this program cannot. The text says why; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it."""

    backup: Backup
    cluster_id: str
    index: int
    record_count: int
    is_secure: bool


class NodeKeys:
    """What a node's options say of its key-encryption key, for backups that were made with it."""

    def __init__(self, source: KeySource) -> None:
        self._source = source

    def wrap(self, secret: bytes) -> BackupKey:
        wrapped = self._source.wrap(secret, CONTEXT)
        return BackupKey(kind="node", name=wrapped.wrapped_with, wrapped=wrapped.wrapped)

    def unwrap(self, key: BackupKey) -> bytes:
        if key.kind == "passphrase":
            raise InvalidBackup("the backup was made with a passphrase: give --passphrase-file")
        try:
            return self._source.unwrap(Wrapped(key.name, key.wrapped), CONTEXT)
        except KeyringError as error:
            raise InvalidBackup(
                f"the backup was made with the key {key.name}, which is needed to read it: give a file that has it with "
                f"--key-file, or let the node's options name it ({error.found})"
            ) from error


def restore(
    config: NodeConfig, source: Source, place: str, secret: BackupSecret | None = None, *, is_paused: bool = True
) -> Restored:
    """Fills the node's folder with a backup, or raises InvalidBackup, CannotRestoreError or StoreError and leaves nothing."""
    clock, folder = process_clock(), config.data_dir / "state"
    if (folder / "data.mdb").exists():
        raise CannotRestoreError(
            f"{folder} holds a node's state already, and a backup is restored into a new node: choose another `data_dir`"
        )
    reader = BackupReader(source, place)
    _check_known(reader.backup)
    key_source = key_source_of(config)
    data_key = (secret or NodeKeys(key_source)).unwrap(reader.backup.key)
    beside = config.data_dir / "restoring"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        keyring = Keyring(beside, key_source, clock.wall_ms)
        store = Store(beside, config.name, bytes_max=config.store_bytes_max, open_cipher=keyring.open)
        try:
            _fill(store, reader, data_key)
            done = _begin(store, reader, config, clock.wall_ms(), is_paused)
        finally:
            store.close()
        _put_in_place(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return done


def _check_known(backup: Backup) -> None:
    unknown = set(backup.tables) - {*TABLE_NAMES, *SET_TABLE_NAMES}
    if backup.state_format != FORMAT or unknown:
        raise CannotRestoreError(
            f"the backup was made by version {backup.version}, whose state has format {backup.state_format}; this program "
            f"restores format {FORMAT}: restore it with the version that made it, and upgrade then"
        )


def _fill(store: Store, reader: BackupReader, data_key: bytes) -> None:
    written = 0
    for frame in reader.frames(data_key):
        put = getattr(store.tables, reader.backup.tables[frame.table]).put
        for key, value in unpack_records(frame.packed):
            put(key, value)
        written += len(frame.packed)
        if written >= COMMIT_BYTES:
            store.commit()
            written = 0
    store.commit()
    assert reader.content is not None
    with store.read() as tables:
        found = digest_of(tables)
    if (found.digest, found.record_count) != (reader.content.state_digest, reader.content.record_count):
        raise StoreError(f"{store.folder}: what was written is not what is read: look after the disk, and try again")


def _begin(store: Store, reader: BackupReader, config: NodeConfig, now_ms: int, is_paused: bool) -> Restored:
    backup, cluster_id = reader.backup, str(uuid.uuid4())
    record = AuditRecord(
        method=METHOD,
        objects=[f"clusters/{backup.cluster_id}", f"revisions/{backup.revision}", f"members/{config.name}"],
        object_count=3,
        allowed=True,
        repeat_count=1,
    )
    record.time.FromMilliseconds(now_ms)
    member = Member(config.name, store.id, config.peer_advertised)
    reason = f"restored from revision {backup.revision} of cluster {backup.cluster_id}: look, then resume"
    index = recovery.restore(
        store,
        store.tables,
        member,
        cluster_id,
        log_pb2.NoteDenied(records=[record]),
        now_ms,
        reason if is_paused else "",
    )
    store.commit()
    assert reader.content is not None
    with store.read() as tables:
        return Restored(backup, cluster_id, index, reader.content.record_count, is_secure(tables))


def _put_in_place(beside: Path, folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    # Of an empty folder nothing can be lost; anything else in it is not ours to take away.
    beside.rename(folder)
    handle = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
