"""The API's OperationService: looking at operations, and cancelling them."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.node import errors, paging, views
from horologe.node.context import NodeContext
from horologe.node.names import WILDCARD, read_namespace, read_operation_name
from horologe.node.operation_views import operation_view, read_operation
from horologe.node.writes import Context, Writer, WriteRequest
from horologe.raft.model import Code, Result
from horologe.raft.records import U64
from horologe.raft.tables import Tables
from horologe.v1 import operation_service_pb2, operation_service_pb2_grpc

_NUMBER_MAX = (1 << 64) - 1


class OperationService(operation_service_pb2_grpc.OperationServiceServicer):
    """See operation_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._writer = Writer(context)

    async def GetOperation(
        self, request: operation_service_pb2.GetOperationRequest, context: Context
    ) -> operation_service_pb2.GetOperationResponse:
        del context
        with self._node.store.read() as tables:
            return operation_service_pb2.GetOperationResponse(
                operation=operation_view(tables, _find(tables, request.name)), revision=views.revision(tables)
            )

    async def ListOperations(
        self, request: operation_service_pb2.ListOperationsRequest, context: Context
    ) -> operation_service_pb2.ListOperationsResponse:
        del context
        namespace = read_namespace(request.parent, "parent", wildcard=True)
        size, start = paging.page_size(request), paging.start_key(request)
        response = operation_service_pb2.ListOperationsResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            below = b""
            for looked_at, (key, value) in enumerate(tables.operation.scan_down(start or U64.pack(_NUMBER_MAX))):
                if len(response.operations) >= size or looked_at >= paging.SCAN_ROWS_MAX:
                    response.next_page_token = paging.next_token(request, below)
                    break
                below = bytes(key)
                record = log_pb2.OperationRecord.FromString(bytes(value))
                if namespace in (WILDCARD, record.start.namespace):
                    response.operations.append(operation_view(tables, record))
        return response

    async def CancelOperation(
        self, request: operation_service_pb2.CancelOperationRequest, context: Context
    ) -> operation_service_pb2.CancelOperationResponse:
        if len(request.reason) > errors.MESSAGE_LENGTH_MAX:
            raise errors.invalid_field(
                "reason", f"{len(request.reason)} characters are too many; at most {errors.MESSAGE_LENGTH_MAX}"
            )
        write = WriteRequest.of("CancelOperation", request)
        with self._node.store.read() as tables:
            number = _find(tables, request.name).id
        reason = request.reason or "cancelled by request"
        command = log_pb2.Command(cancel_operation=log_pb2.CancelOperation(operation=number, reason=reason))
        await self._writer.settle(command, write, context)
        with self._node.store.read() as tables:
            return operation_service_pb2.CancelOperationResponse(
                operation=operation_view(tables, _find(tables, request.name)), revision=views.revision(tables)
            )


def _find(tables: Tables, name: str) -> log_pb2.OperationRecord:
    namespace, number = read_operation_name(name, "name")
    record = read_operation(tables, number)
    if record is None or namespace not in (WILDCARD, record.start.namespace):
        raise errors.of_result(Result(Code.OPERATION_NOT_FOUND, text=name))
    return record
