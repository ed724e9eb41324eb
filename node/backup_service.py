"""BackupService: the state of the cluster as the bytes of a backup, from the node that is asked."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog

from horologe.node import errors
from horologe.node.backups import BackupGivenUpError, BackupReading, Backups, Encryption
from horologe.node.callers import current_caller
from horologe.node.errors import ApiError
from horologe.node.key_sources import KeyringError
from horologe.node.writes import Context
from horologe.raft.cipher import SECRET_BYTES
from horologe.v1 import backup_service_pb2, backup_service_pb2_grpc

BUSY_RETRY_SECONDS = 10.0
KEY_TEXT_BYTES_MAX = 1_000

log = structlog.get_logger(__name__)


class BackupService(backup_service_pb2_grpc.BackupServiceServicer):
    """See horologe.v1.BackupService."""

    def __init__(self, backups: Backups) -> None:
        self._backups = backups

    async def CreateBackup(
        self, request: backup_service_pb2.CreateBackupRequest, context: Context
    ) -> AsyncIterator[backup_service_pb2.CreateBackupResponse]:
        del context
        encryption = await self._encryption(request)
        if self._backups.under_way:
            raise ApiError(
                "LIMIT_EXCEEDED",
                "this node makes a backup already; wait for it, or ask another node",
                retry_seconds=BUSY_RETRY_SECONDS,
            )
        self._backups.under_way += 1
        pieces = BackupReading(self._backups.context, encryption).pieces()
        try:
            async for piece in pieces:
                if piece.HasField("backup"):
                    log.info("backup begins", revision=piece.backup.revision, principal=current_caller().principal)
                yield piece
                if piece.HasField("content"):
                    log.info("backup done", bytes=piece.file_bytes, records=piece.content.record_count)
        except BackupGivenUpError as error:
            raise ApiError("BEHIND", f"the backup was given up: {error}; make it again") from error
        finally:
            await pieces.aclose()
            self._backups.under_way -= 1

    async def _encryption(self, request: backup_service_pb2.CreateBackupRequest) -> Encryption:
        if not request.data_key:
            if request.HasField("key"):
                raise errors.invalid_field(
                    "key", "says how a key is wrapped, but `data_key` is empty; give both or none"
                )
            try:
                return await asyncio.to_thread(Encryption.of_node, self._backups.source)
            except KeyringError as error:
                raise ApiError("KEY_NOT_USABLE", str(error)) from error
        if len(request.data_key) != SECRET_BYTES:
            raise errors.invalid_field(
                "data_key", f"is {len(request.data_key)} bytes long; give {SECRET_BYTES} random ones"
            )
        if request.key.kind not in ("file", "passphrase") or not request.key.wrapped:
            raise errors.invalid_field("key", "must be the wrapped key, and its kind `file` or `passphrase`")
        if request.key.ByteSize() > KEY_TEXT_BYTES_MAX:
            raise errors.invalid_field("key", f"is longer than {KEY_TEXT_BYTES_MAX} bytes")
        return Encryption(request.data_key, request.key)
