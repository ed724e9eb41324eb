"""The API's QueueService: what waits in each queue, and what is set for all of it. What a setting does is in raft/rates.py."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.node import errors, paging, views
from horologe.node.context import NodeContext
from horologe.node.errors import ApiError
from horologe.node.masks import changed_fields
from horologe.node.names import shorten
from horologe.node.start_rates import rate_view, read_rate, read_span
from horologe.node.validation import QUEUE_RULE, is_queue
from horologe.node.writes import Context, Writer, WriteRequest, author_of
from horologe.raft.lanes import LANE_USE, SEPARATOR, lanes_of
from horologe.raft.priorities import AGING_DEFAULT_MS, due_times
from horologe.raft.records import U32
from horologe.raft.tables import Tables
from horologe.v1 import queue_service_pb2, queue_service_pb2_grpc

CHANGEABLE = frozenset({"start_rate", "aging"})
AGING_MS_MAX = 7 * 86_400_000
LANES_LOOKED_AT_MAX = 200
"""Of one queue, for its oldest execution."""
_PREFIX = "queues/"


class QueueService(queue_service_pb2_grpc.QueueServiceServicer):
    """See queue_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._writer = Writer(context)

    async def ListQueues(
        self, request: queue_service_pb2.ListQueuesRequest, context: Context
    ) -> queue_service_pb2.ListQueuesResponse:
        del context
        size, start = paging.page_size(request), paging.start_key(request)
        response = queue_service_pb2.ListQueuesResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            for looked_at, (key, _) in enumerate(tables.queue.scan(start or b"")):
                if len(response.queues) >= size or looked_at >= paging.SCAN_ROWS_MAX:
                    response.next_page_token = paging.next_token(request, bytes(key))
                    break
                name = key.decode()
                if SEPARATOR not in name:
                    response.queues.append(_view(tables, name))
        return response

    async def GetQueue(
        self, request: queue_service_pb2.GetQueueRequest, context: Context
    ) -> queue_service_pb2.GetQueueResponse:
        del context
        name = _read_name(request.name, "name")
        with self._node.store.read() as tables:
            if tables.queue.get(name.encode()) is None:
                raise ApiError(
                    "QUEUE_NOT_FOUND",
                    f"{request.name} does not exist; it is made when a job or a worker names it, or when something is set for it",
                    metadata={"name": request.name},
                )
            return queue_service_pb2.GetQueueResponse(queue=_view(tables, name), revision=views.revision(tables))

    async def UpdateQueue(
        self, request: queue_service_pb2.UpdateQueueRequest, context: Context
    ) -> queue_service_pb2.UpdateQueueResponse:
        name = _read_name(request.queue.name, "queue.name")
        command = log_pb2.SetQueue(name=name)
        changed = changed_fields(request.queue, request.update_mask, CHANGEABLE)
        if "start_rate" in changed:
            command.start_rate.SetInParent()
            if request.queue.HasField("start_rate"):
                command.start_rate.CopyFrom(read_rate(request.queue.start_rate, "queue.start_rate"))
        if "aging" in changed:
            given = request.queue.HasField("aging")
            command.aging_ms = (
                read_span(request.queue.aging, "queue.aging", 0, AGING_MS_MAX) if given else AGING_DEFAULT_MS
            )
        write = WriteRequest.of("UpdateQueue", request)
        await self._writer.settle(log_pb2.Command(set_queue=command), write, context, needs_space=True)
        with self._node.store.read() as tables:
            return queue_service_pb2.UpdateQueueResponse(queue=_view(tables, name), revision=views.revision(tables))

    async def PauseQueue(
        self, request: queue_service_pb2.PauseQueueRequest, context: Context
    ) -> queue_service_pb2.PauseQueueResponse:
        name = _read_name(request.name, "name")
        if len(request.reason) > errors.MESSAGE_LENGTH_MAX:
            raise errors.invalid_field(
                "reason", f"{len(request.reason)} characters are too many; at most {errors.MESSAGE_LENGTH_MAX}"
            )
        pause = log_pb2.PauseQueue(name=name, paused=True, reason=request.reason, who=author_of(context))
        write = WriteRequest.of("PauseQueue", request)
        await self._writer.settle(log_pb2.Command(pause_queue=pause), write, context)
        with self._node.store.read() as tables:
            return queue_service_pb2.PauseQueueResponse(queue=_view(tables, name), revision=views.revision(tables))

    async def ResumeQueue(
        self, request: queue_service_pb2.ResumeQueueRequest, context: Context
    ) -> queue_service_pb2.ResumeQueueResponse:
        name = _read_name(request.name, "name")
        command = log_pb2.Command(pause_queue=log_pb2.PauseQueue(name=name))
        await self._writer.settle(command, WriteRequest.of("ResumeQueue", request), context)
        with self._node.store.read() as tables:
            return queue_service_pb2.ResumeQueueResponse(queue=_view(tables, name), revision=views.revision(tables))


def _read_name(name: str, field: str) -> str:
    queue = name.removeprefix(_PREFIX)
    if queue == name or not is_queue(queue):
        raise errors.invalid_field(field, f"{shorten(name)} is not of the form queues/QUEUE; a queue is {QUEUE_RULE}")
    return queue


def _view(tables: Tables, name: str) -> queue_service_pb2.Queue:
    view = queue_service_pb2.Queue(name=f"{_PREFIX}{name}")
    raw = tables.queue_setting.get(name.encode())
    record = log_pb2.QueueRecord() if raw is None else log_pb2.QueueRecord.FromString(bytes(raw))
    view.paused, view.pause_reason, view.paused_by = record.paused, record.pause_reason, record.paused_by
    if record.pause_time_ms:
        view.pause_time.CopyFrom(views.timestamp(record.pause_time_ms))
    if record.HasField("start_rate"):
        view.start_rate.CopyFrom(rate_view(record.start_rate))
    view.aging.FromMilliseconds(record.aging_ms if record.HasField("aging_ms") else AGING_DEFAULT_MS)
    oldest_ms: list[int] = []
    for position, (lane, _) in enumerate(lanes_of(tables, name)):
        waiting, running = LANE_USE.unpack(tables.lane_use.get(U32.pack(lane)) or bytes(LANE_USE.size))
        view.waiting_count += waiting
        view.running_count += running
        if waiting and position < LANES_LOOKED_AT_MAX:
            oldest_ms += due_times(tables.ready, U32.pack(lane))
    if oldest_ms:
        view.oldest_due_time.CopyFrom(views.timestamp(min(oldest_ms)))
    return view
