"""The API's SecretService: setting, listing and deleting secrets. Values come in here; no answer, error or log line has one."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.node import errors, paging, views
from horologe.node.context import NodeContext
from horologe.node.names import WILDCARD, read_namespace, read_secret_name
from horologe.node.writes import Context, Writer, WriteRequest
from horologe.raft.model import Code, Result
from horologe.raft.secrets import find_secret, secrets_prefix, value_fault
from horologe.v1 import secret_service_pb2, secret_service_pb2_grpc


class SecretService(secret_service_pb2_grpc.SecretServiceServicer):
    """See secret_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._writer = Writer(context)

    async def SetSecret(
        self, request: secret_service_pb2.SetSecretRequest, context: Context
    ) -> secret_service_pb2.SetSecretResponse:
        name = read_secret_name(request.name, "name")
        complaint = value_fault(request.value)
        if complaint:
            raise errors.invalid_field("value", complaint)
        # The digest of a request is kept for a day. One of the value would let whoever reads it try passwords against it, also
        # after the secret was changed or deleted, and a salt or key would have to lie beside it. So the value is left out, and
        # a request id that comes again with another value is found out by what the first one has left in the state.
        write = WriteRequest.of(
            "SetSecret", secret_service_pb2.SetSecretRequest(name=name, request_id=request.request_id)
        )
        command = log_pb2.Command(set_secret=log_pb2.SetSecret(name=name, value=request.value))
        result = await self._writer.settle(command, write, context, needs_space=True)
        with self._node.store.read() as tables:
            record = find_secret(tables, name)
            if record is None:
                raise errors.of_result(Result(Code.SECRET_NOT_FOUND, text=name))
            if (record.version, record.update_time_ms) == result.numbers and record.value != request.value:
                raise errors.of_result(Result(Code.REQUEST_ID_REUSED))
            return secret_service_pb2.SetSecretResponse(secret=_view(name, record), revision=views.revision(tables))

    async def ListSecrets(
        self, request: secret_service_pb2.ListSecretsRequest, context: Context
    ) -> secret_service_pb2.ListSecretsResponse:
        del context
        namespace = read_namespace(request.parent, "parent", wildcard=True)
        prefix = b"" if namespace == WILDCARD else secrets_prefix(namespace).encode()
        size, start = paging.page_size(request), paging.start_key(request)
        response = secret_service_pb2.ListSecretsResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            for key, value in tables.secret.scan(start or prefix):
                if not key.startswith(prefix):
                    break
                if len(response.secrets) >= size:
                    response.next_page_token = paging.next_token(request, bytes(key))
                    break
                response.secrets.append(_view(key.decode(), log_pb2.SecretRecord.FromString(value)))
        return response

    async def DeleteSecret(
        self, request: secret_service_pb2.DeleteSecretRequest, context: Context
    ) -> secret_service_pb2.DeleteSecretResponse:
        name = read_secret_name(request.name, "name")
        command = log_pb2.Command(delete_secret=log_pb2.DeleteSecret(name=name))
        await self._writer.settle(command, WriteRequest.of("DeleteSecret", request), context)
        with self._node.store.read() as tables:
            return secret_service_pb2.DeleteSecretResponse(revision=views.revision(tables))


def _view(name: str, record: log_pb2.SecretRecord) -> secret_service_pb2.Secret:
    return secret_service_pb2.Secret(
        name=name,
        version=record.version,
        job_count=record.job_count,
        create_time=views.timestamp(record.create_time_ms),
        update_time=views.timestamp(record.update_time_ms),
    )
