"""The methods of SecretService, as `calls.py` has those of the other services. Values go in, and none comes out."""

from __future__ import annotations

from collections.abc import Iterable

from horologe.client import names
from horologe.client.calls import PAGE_SIZE, Call, Method, Pages, request_id_or_new
from horologe.client.errors import InvalidArgument, Violation
from horologe.v1 import secret_service_pb2 as secrets
from horologe.v1.secret_service_pb2 import Secret

__all__ = ["delete_secret", "list_secrets", "set_secret"]

VALUE_BYTES_MAX = 64 * 1024
SET_SECRET = Method("SecretService", "SetSecret", secrets.SetSecretRequest, secrets.SetSecretResponse, is_write=True)
LIST_SECRETS = Method("SecretService", "ListSecrets", secrets.ListSecretsRequest, secrets.ListSecretsResponse)
DELETE_SECRET = Method(
    "SecretService", "DeleteSecret", secrets.DeleteSecretRequest, secrets.DeleteSecretResponse, is_write=True
)


def set_secret(namespace: str, name: str, value: str | bytes, *, request_id: str = "") -> Call[Secret]:
    """Makes a secret, or gives it another value: UTF-8 text, from 1 byte to 64 KiB. The next attempts get it."""
    content = value.encode() if isinstance(value, str) else value
    # Said here as well, so that what is no secret at all, a wrong file perhaps, does not leave this machine.
    if not 1 <= len(content) <= VALUE_BYTES_MAX:
        raise _invalid("value", f"the value has {len(content)} bytes; from 1 to {VALUE_BYTES_MAX} are possible")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        # Without its cause, which holds the value.
        raise _invalid("value", f"the value is not UTF-8 text from byte {error.start} on; encode it first") from None
    request = secrets.SetSecretRequest(
        name=names.secret_name(name, namespace), value=content, request_id=request_id_or_new(request_id)
    )

    def pick(answer: secrets.SetSecretResponse) -> Secret:
        return answer.secret

    return Call(SET_SECRET, request, pick)


def list_secrets(namespace: str, *, page_size: int = PAGE_SIZE) -> Pages[Secret]:
    """The secrets of the namespace by name: how often each was set, and how many jobs name it. Without their values."""

    def pick(answer: secrets.ListSecretsResponse) -> Iterable[Secret]:
        return answer.secrets

    request = secrets.ListSecretsRequest(parent=names.namespace_name(namespace), page_size=page_size)
    return Pages(LIST_SECRETS, request, pick)


def delete_secret(namespace: str, name: str, *, request_id: str = "") -> Call[None]:
    """Deletes a secret. FailedPrecondition while a job names it."""

    def pick(_: secrets.DeleteSecretResponse) -> None:
        return None

    request = secrets.DeleteSecretRequest(
        name=names.secret_name(name, namespace), request_id=request_id_or_new(request_id)
    )
    return Call(DELETE_SECRET, request, pick)


def _invalid(field: str, description: str) -> InvalidArgument:
    return InvalidArgument(description, reason="INVALID_FIELD", violations=[Violation(field, description)])
