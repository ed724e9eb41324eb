"""The API's NamespaceService: what is said of all jobs in a namespace."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.node import errors, paging, views
from horologe.node.context import NodeContext
from horologe.node.errors import ApiError
from horologe.node.masks import changed_fields
from horologe.node.names import read_namespace
from horologe.node.validation import MAX_RUNNING_MAX
from horologe.node.writes import Context, Writer, WriteRequest
from horologe.raft.permits import LimitKind, Permits, limit_of
from horologe.raft.tables import Tables
from horologe.v1 import namespace_service_pb2, namespace_service_pb2_grpc

CHANGEABLE = frozenset({"max_running"})


class NamespaceService(namespace_service_pb2_grpc.NamespaceServiceServicer):
    """See namespace_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._writer = Writer(context)

    async def ListNamespaces(
        self, request: namespace_service_pb2.ListNamespacesRequest, context: Context
    ) -> namespace_service_pb2.ListNamespacesResponse:
        del context
        size, start = paging.page_size(request), paging.start_key(request)
        response = namespace_service_pb2.ListNamespacesResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            for key, value in tables.namespace.scan(start or b""):
                if len(response.namespaces) >= size:
                    response.next_page_token = paging.next_token(request, bytes(key))
                    break
                record = log_pb2.NamespaceRecord.FromString(bytes(value))
                response.namespaces.append(_view(tables, key.decode(), record))
        return response

    async def GetNamespace(
        self, request: namespace_service_pb2.GetNamespaceRequest, context: Context
    ) -> namespace_service_pb2.GetNamespaceResponse:
        del context
        name = read_namespace(request.name, "name")
        with self._node.store.read() as tables:
            return namespace_service_pb2.GetNamespaceResponse(
                namespace=_find(tables, name), revision=views.revision(tables)
            )

    async def UpdateNamespace(
        self, request: namespace_service_pb2.UpdateNamespaceRequest, context: Context
    ) -> namespace_service_pb2.UpdateNamespaceResponse:
        name = read_namespace(request.namespace.name, "namespace.name")
        command = log_pb2.SetNamespace(name=name)
        if "max_running" in changed_fields(request.namespace, request.update_mask, CHANGEABLE):
            wanted = request.namespace.max_running
            if not 0 <= wanted <= MAX_RUNNING_MAX:
                raise errors.invalid_field(
                    "namespace.max_running", f"{wanted} is outside 0 (no limit) to {MAX_RUNNING_MAX}"
                )
            command.max_running = wanted
        write = WriteRequest.of("UpdateNamespace", request)
        await self._writer.settle(log_pb2.Command(set_namespace=command), write, context, needs_space=True)
        with self._node.store.read() as tables:
            return namespace_service_pb2.UpdateNamespaceResponse(
                namespace=_find(tables, name), revision=views.revision(tables)
            )


def _find(tables: Tables, name: str) -> namespace_service_pb2.Namespace:
    raw = tables.namespace.get(name.encode())
    if raw is None:
        raise ApiError(
            "NAMESPACE_NOT_FOUND",
            f"namespaces/{name} does not exist; it is made with its first job, or when something is set for it",
            metadata={"name": f"namespaces/{name}"},
        )
    return _view(tables, name, log_pb2.NamespaceRecord.FromString(bytes(raw)))


def _view(tables: Tables, name: str, record: log_pb2.NamespaceRecord) -> namespace_service_pb2.Namespace:
    return namespace_service_pb2.Namespace(
        name=f"namespaces/{name}",
        max_running=record.max_running,
        running_count=Permits(tables).running(limit_of(LimitKind.NAMESPACE, record.id)),
    )
