"""The methods of EncryptionService, as `calls.py` has those of the other services: the data keys of the node that answers.

Each node has its own: `client.at(address)` asks one of them.
"""

from __future__ import annotations

from horologe.client.calls import Call, Method, itself
from horologe.v1 import encryption_service_pb2 as encryption
from horologe.v1.encryption_service_pb2 import GetEncryptionResponse

__all__ = ["get_encryption", "rotate_keys"]

_SERVICE = "EncryptionService"
GET_ENCRYPTION = Method(_SERVICE, "GetEncryption", encryption.GetEncryptionRequest, encryption.GetEncryptionResponse)
ROTATE_KEYS = Method(_SERVICE, "RotateKeys", encryption.RotateKeysRequest, encryption.RotateKeysResponse, is_write=True)


def get_encryption(namespace: str) -> Call[GetEncryptionResponse]:
    """Which data keys the node has, and how far a rotation is."""
    del namespace
    return Call(GET_ENCRYPTION, encryption.GetEncryptionRequest(), itself)


def rotate_keys(namespace: str, *, wrap_only: bool = False) -> Call[GetEncryptionResponse]:
    """Gives the node a new data key, and encrypts again what lies under the others, while it goes on. Harmless to repeat.

    `wrap_only`: the data keys stay, and are wrapped with the key-encryption key that is current now. FailedPrecondition if
    that cannot be used.
    """
    del namespace

    def pick(answer: encryption.RotateKeysResponse) -> GetEncryptionResponse:
        return answer.encryption

    return Call(ROTATE_KEYS, encryption.RotateKeysRequest(wrap_only=wrap_only), pick)
