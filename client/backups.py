"""Backups of a cluster, from the wire to a place and back: saved, read back, listed, and the old ones deleted.

The file is in backup_file.py, places are in backup_targets.py. A name says of which cluster a backup is, of when, and of which
revision; revisions only grow, so they say which backup is newer.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC

from horologe.client.backup_file import BackupReader
from horologe.client.backup_keys import KEY_BYTES, BackupSecret
from horologe.client.backup_targets import SUFFIX, Target, Upload
from horologe.client.client import Client
from horologe.client.errors import HorologeError, InvalidBackup, NotFound
from horologe.v1.backup_service_pb2 import Backup, CreateBackupResponse

__all__ = ["Named", "Saved", "choose", "names_of", "prune", "save", "verify"]

PIECE_BYTES = 1 << 20
_NAME = re.compile(r"horologe-(?P<cluster>[0-9a-f]{8})-(?P<time>\d{8}T\d{6}Z)-r(?P<revision>\d+)" + re.escape(SUFFIX))


@dataclass(frozen=True, slots=True)
class Named:
    """A backup, as its name tells."""

    name: str
    cluster: str
    """The first eight digits of the cluster's id."""
    time: str
    revision: int


@dataclass(frozen=True, slots=True)
class Saved:
    """A backup that was written, read back, and found to be what was sent."""

    backup: Backup
    place: str
    file_bytes: int
    record_count: int
    state_digest: bytes


def name_of(backup: Backup) -> str:
    """The name that says what it is of."""
    time = backup.create_time.ToDatetime(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"horologe-{backup.cluster_id[:8]}-{time}-r{backup.revision}{SUFFIX}"


def save(client: Client, target: Target, name: str = "", secret: BackupSecret | None = None) -> Saved:
    """Makes a backup on the node that the client asks, puts it there, and reads it back.

    Without a name it gets one that says what it is of. Without a `secret` the node wraps its key. HorologeError if it did not
    become one, and then nothing of it is left.
    """
    data_key = os.urandom(KEY_BYTES) if secret is not None else b""
    key = secret.wrap(data_key) if secret is not None else None
    answers = client.linearizable().create_backup(data_key=data_key, key=key)
    with closing(answers):  # type: ignore[type-var]
        first = next(answers)
        name = name or name_of(first.backup)
        upload = target.create(name)
        try:
            last = _write(upload, first, answers)
            _read_back(upload, target.text(name), last)
            upload.keep()
        except BaseException:
            upload.discard()
            raise
    return Saved(first.backup, target.text(name), last.file_bytes, last.content.record_count, last.content.state_digest)


def _write(upload: Upload, first: CreateBackupResponse, rest: Iterable[CreateBackupResponse]) -> CreateBackupResponse:
    upload.write(first.data)
    for answer in rest:
        upload.write(answer.data)
        if answer.HasField("content"):
            upload.finish()
            return answer
    raise HorologeError("the node ended before the backup was whole; make it again")


def _read_back(upload: Upload, place: str, last: CreateBackupResponse) -> None:
    """Raises InvalidBackup if the place does not hold what the node has sent."""
    digest, length = hashlib.sha256(), 0
    with closing(upload.open()) as source:
        while data := source.read(PIECE_BYTES):
            digest.update(data)
            length += len(data)
    if (digest.digest(), length) != (last.file_digest, last.file_bytes):
        raise InvalidBackup(f"{place} does not hold what was written to it: look after that disk, and make it again")


def names_of(target: Target) -> list[Named]:
    """All that were given their names by `save`, oldest first."""
    found = filter(None, map(_named, target.names()))
    return sorted(found, key=lambda each: (each.revision, each.time))


def _named(name: str) -> Named | None:
    match = _NAME.fullmatch(name)
    return None if match is None else Named(name, match["cluster"], match["time"], int(match["revision"]))


def prune(target: Target, cluster_id: str, keep: int) -> list[str]:
    """Deletes all backups of a cluster but the newest ones, and what killed ones have left in a folder; answers what was deleted.

    Others are left alone, whatever they are called.
    """

    own = cluster_id[:8]

    def is_own(name: str) -> bool:
        found = _named(name)
        return found is not None and found.cluster == own

    old = [each.name for each in names_of(target) if each.cluster == own][:-keep]
    for name in old:
        target.delete(name)
    return [*old, *target.sweep(is_own)]


def choose(target: Target, name: str, revision: int = 0, cluster: str = "") -> str:
    """Which backup is meant: the named one, or the newest that is not newer than a revision. Raises NotFound or HorologeError."""
    if name:
        return name
    found = [each for each in names_of(target) if each.cluster.startswith(cluster[:8])]
    clusters = sorted({each.cluster for each in found})
    if len(clusters) > 1:
        raise HorologeError(
            f"there are backups of several clusters: {', '.join(clusters)}; say which, with --cluster-id"
        )
    fitting = [each.name for each in found if not revision or each.revision <= revision]
    if not fitting:
        oldest = f"; the oldest is of revision {found[0].revision}" if found else ""
        raise NotFound(
            f"{target.text('')} has no backup{f' of revision {revision} or before' if revision else ''}{oldest}"
        )
    return fitting[-1]


def verify(target: Target, name: str, secret: BackupSecret) -> BackupReader:
    """Reads all of it. Raises InvalidBackup if anything is not as it was written."""
    with closing(target.open(name)) as source:
        reader = BackupReader(source, target.text(name))
        for _ in reader.frames(secret.unwrap(reader.backup.key)):
            pass
    return reader
