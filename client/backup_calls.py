"""The method of BackupService, as `calls.py` has those of the other services. What becomes of the bytes is in `backups.py`."""

from __future__ import annotations

from horologe.client.calls import Method, Stream
from horologe.v1.backup_service_pb2 import BackupKey, CreateBackupRequest, CreateBackupResponse

__all__ = ["create_backup"]

CREATE_BACKUP = Method("BackupService", "CreateBackup", CreateBackupRequest, CreateBackupResponse)


def create_backup(
    namespace: str, *, data_key: bytes = b"", key: BackupKey | None = None
) -> Stream[CreateBackupResponse]:
    """The whole state as of one revision, as the bytes of an encrypted file. `horologe.client.backups.save` puts them somewhere.

    `data_key` encrypts it, 32 random bytes for this backup alone, and `key` says how they are wrapped; without them the node that
    is asked makes a key, and wraps it with its own. It needs the right `cluster.backup`.
    """
    del namespace
    return Stream(CREATE_BACKUP, CreateBackupRequest(data_key=data_key, key=key), CreateBackupResponse)
