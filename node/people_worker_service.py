"""The part of the API's WorkerService that people use. The workers' stream is in `worker_service`."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.node import errors, paging, views
from horologe.node.context import NodeContext
from horologe.node.names import shorten
from horologe.node.writes import Context, Writer, WriteRequest
from horologe.v1 import worker_pb2, worker_service_pb2, worker_service_pb2_grpc

_PREFIX = "workers/"


class PeopleWorkerService(worker_service_pb2_grpc.WorkerServiceServicer):
    """ListWorkers and DrainWorker; whoever inherits adds the stream."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._writer = Writer(context)

    async def ListWorkers(
        self, request: worker_service_pb2.ListWorkersRequest, context: Context
    ) -> worker_service_pb2.ListWorkersResponse:
        del context
        size, start = paging.page_size(request), paging.start_key(request)
        response = worker_service_pb2.ListWorkersResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            for key, value in tables.session.scan(start or b""):
                if len(response.workers) >= size:
                    response.next_page_token = paging.next_token(request, bytes(key))
                    break
                record = log_pb2.SessionRecord.FromString(bytes(value))
                view = views.worker_view(tables, record)
                renewed_ms = self._renewed_ms(record.id)
                if renewed_ms:
                    view.heartbeat_time.CopyFrom(views.timestamp(renewed_ms))
                response.workers.append(view)
        return response

    def _renewed_ms(self, session: int) -> int:
        """When its lease was renewed last; 0 if this node does not know."""
        del session
        return 0

    async def DrainWorker(
        self, request: worker_service_pb2.DrainWorkerRequest, context: Context
    ) -> worker_service_pb2.DrainWorkerResponse:
        worker = request.name.removeprefix(_PREFIX)
        if worker == request.name or not worker or len(worker) > 128:
            raise errors.invalid_field("name", f"{shorten(request.name)} is not of the form workers/WORKER")
        command = log_pb2.Command(drain_worker=log_pb2.DrainWorker(worker=worker))
        result = await self._writer.settle(command, WriteRequest.of("DrainWorker", request), context)
        with self._node.store.read() as tables:
            record = views.read_session(tables, result.numbers[0])
            if record is None:
                # It had nothing to end, and is gone already.
                view = worker_pb2.Worker(name=request.name, state=worker_pb2.Worker.STATE_DRAINING)
            else:
                view = views.worker_view(tables, record)
            return worker_service_pb2.DrainWorkerResponse(worker=view, revision=views.revision(tables))
