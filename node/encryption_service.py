"""EncryptionService: the data keys of the node that is asked, and their rotation."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

from horologe.node.encryption import Encryption
from horologe.node.errors import ApiError
from horologe.node.writes import Context
from horologe.raft.store import StoreError
from horologe.v1 import encryption_service_pb2, encryption_service_pb2_grpc


class EncryptionService(encryption_service_pb2_grpc.EncryptionServiceServicer):
    """See horologe.v1.EncryptionService."""

    def __init__(self, encryption: Encryption) -> None:
        self._encryption = encryption

    async def GetEncryption(
        self, request: encryption_service_pb2.GetEncryptionRequest, context: Context
    ) -> encryption_service_pb2.GetEncryptionResponse:
        del request, context
        return self._encryption.view()

    async def RotateKeys(
        self, request: encryption_service_pb2.RotateKeysRequest, context: Context
    ) -> encryption_service_pb2.RotateKeysResponse:
        del context
        try:
            if request.wrap_only:
                await self._encryption.wrap_again()
            else:
                await self._encryption.rotate()
        except StoreError as error:
            raise ApiError("KEY_NOT_USABLE", str(error)) from error
        return encryption_service_pb2.RotateKeysResponse(encryption=self._encryption.view())
