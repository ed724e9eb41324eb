"""The API's LimitService: limits that jobs share. What a limit does is in raft/limits.py."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

from itertools import islice

from horologe.log.v1 import log_pb2
from horologe.node import errors, paging, views
from horologe.node.context import NodeContext
from horologe.node.names import WILDCARD, read_limit_name, read_namespace
from horologe.node.validation import MAX_RUNNING_MAX
from horologe.node.writes import Context, Writer, WriteRequest
from horologe.raft.lines import LINE_KEY
from horologe.raft.model import Code, Result
from horologe.raft.permits import LimitKind, Permits, limit_of
from horologe.raft.tables import Tables
from horologe.v1 import limit_service_pb2, limit_service_pb2_grpc

WAITING_COUNTED_MAX = 1_000
"""Whoever has more in line need not know how many exactly, and nobody waits for the count."""


class LimitService(limit_service_pb2_grpc.LimitServiceServicer):
    """See limit_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._writer = Writer(context)

    async def SetLimit(
        self, request: limit_service_pb2.SetLimitRequest, context: Context
    ) -> limit_service_pb2.SetLimitResponse:
        name = read_limit_name(request.name, "name")
        if not 1 <= request.max_running <= MAX_RUNNING_MAX:
            raise errors.invalid_field("max_running", f"{request.max_running} is outside 1 to {MAX_RUNNING_MAX}")
        command = log_pb2.Command(set_limit=log_pb2.SetLimit(name=name, max_running=request.max_running))
        write = WriteRequest.of("SetLimit", request)
        await self._writer.settle(command, write, context, needs_space=True)
        with self._node.store.read() as tables:
            return limit_service_pb2.SetLimitResponse(limit=_find(tables, name), revision=views.revision(tables))

    async def GetLimit(
        self, request: limit_service_pb2.GetLimitRequest, context: Context
    ) -> limit_service_pb2.GetLimitResponse:
        del context
        name = read_limit_name(request.name, "name")
        with self._node.store.read() as tables:
            return limit_service_pb2.GetLimitResponse(limit=_find(tables, name), revision=views.revision(tables))

    async def ListLimits(
        self, request: limit_service_pb2.ListLimitsRequest, context: Context
    ) -> limit_service_pb2.ListLimitsResponse:
        del context
        namespace = read_namespace(request.parent, "parent", wildcard=True)
        prefix = b"" if namespace == WILDCARD else f"namespaces/{namespace}/limits/".encode()
        size, start = paging.page_size(request), paging.start_key(request)
        response = limit_service_pb2.ListLimitsResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            for key, value in tables.limit.scan(start or prefix):
                if not key.startswith(prefix):
                    break
                if len(response.limits) >= size:
                    response.next_page_token = paging.next_token(request, bytes(key))
                    break
                response.limits.append(_view(tables, key.decode(), log_pb2.LimitRecord.FromString(bytes(value))))
        return response

    async def DeleteLimit(
        self, request: limit_service_pb2.DeleteLimitRequest, context: Context
    ) -> limit_service_pb2.DeleteLimitResponse:
        name = read_limit_name(request.name, "name")
        command = log_pb2.Command(delete_limit=log_pb2.DeleteLimit(name=name))
        await self._writer.settle(command, WriteRequest.of("DeleteLimit", request), context)
        with self._node.store.read() as tables:
            return limit_service_pb2.DeleteLimitResponse(revision=views.revision(tables))


def _find(tables: Tables, name: str) -> limit_service_pb2.Limit:
    raw = tables.limit.get(name.encode())
    if raw is None:
        raise errors.of_result(Result(Code.LIMIT_NOT_FOUND, text=name))
    return _view(tables, name, log_pb2.LimitRecord.FromString(bytes(raw)))


def _view(tables: Tables, name: str, record: log_pb2.LimitRecord) -> limit_service_pb2.Limit:
    limit = limit_of(LimitKind.NAMED, record.id)
    return limit_service_pb2.Limit(
        name=name,
        max_running=record.max_running,
        running_count=Permits(tables).running(limit),
        waiting_count=_waiting(tables, limit),
        job_count=record.job_count,
        create_time=views.timestamp(record.create_time_ms),
        update_time=views.timestamp(record.update_time_ms),
    )


def _waiting(tables: Tables, limit: int) -> int:
    rows = islice(tables.limit_line.scan(LINE_KEY.pack(limit, 0, 0, 0, 0)), WAITING_COUNTED_MAX)
    count = 0
    for key, _ in rows:
        if LINE_KEY.unpack(key)[0] != limit:
            break
        count += 1
    return count
