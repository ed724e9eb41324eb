"""What the fake cluster answers about limits, queues and namespaces: it keeps what it is told."""

from __future__ import annotations

from typing import Any

from horologe.v1 import limit_service_pb2 as limits
from horologe.v1 import namespace_service_pb2 as namespaces
from horologe.v1 import queue_service_pb2 as queues
from horologe.v1.limit_service_pb2 import Limit
from horologe.v1.namespace_service_pb2 import Namespace
from horologe.v1.queue_service_pb2 import Queue


class FakeGoverning:
    """Part of FakeCluster."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: dict[str, Limit] = {}
        self.queues: dict[str, Queue] = {}
        self.namespaces: dict[str, Namespace] = {}

    def _SetLimit(self, request: limits.SetLimitRequest, context: Any) -> limits.SetLimitResponse:
        limit = self.limits.setdefault(request.name, Limit(name=request.name))
        limit.max_running = request.max_running
        return limits.SetLimitResponse(limit=limit)

    def _GetLimit(self, request: limits.GetLimitRequest, context: Any) -> limits.GetLimitResponse:
        return limits.GetLimitResponse(limit=self.limits[request.name])

    def _ListLimits(self, request: limits.ListLimitsRequest, context: Any) -> limits.ListLimitsResponse:
        found = [limit for name, limit in sorted(self.limits.items()) if name.startswith(f"{request.parent}/")]
        return limits.ListLimitsResponse(limits=found)

    def _DeleteLimit(self, request: limits.DeleteLimitRequest, context: Any) -> limits.DeleteLimitResponse:
        del self.limits[request.name]
        return limits.DeleteLimitResponse()

    def _ListQueues(self, request: queues.ListQueuesRequest, context: Any) -> queues.ListQueuesResponse:
        return queues.ListQueuesResponse(queues=[queue for _, queue in sorted(self.queues.items())])

    def _GetQueue(self, request: queues.GetQueueRequest, context: Any) -> queues.GetQueueResponse:
        return queues.GetQueueResponse(queue=self.queues[request.name])

    def _UpdateQueue(self, request: queues.UpdateQueueRequest, context: Any) -> queues.UpdateQueueResponse:
        queue = self.queues.setdefault(request.queue.name, Queue(name=request.queue.name))
        for path in request.update_mask.paths:
            queue.ClearField(path)  # type: ignore[arg-type]
            if request.queue.HasField(path):  # type: ignore[arg-type]
                getattr(queue, path).CopyFrom(getattr(request.queue, path))
        return queues.UpdateQueueResponse(queue=queue)

    def _PauseQueue(self, request: queues.PauseQueueRequest, context: Any) -> queues.PauseQueueResponse:
        queue = self.queues.setdefault(request.name, Queue(name=request.name))
        queue.paused, queue.pause_reason, queue.paused_by = True, request.reason, "ada@home"
        return queues.PauseQueueResponse(queue=queue)

    def _ResumeQueue(self, request: queues.ResumeQueueRequest, context: Any) -> queues.ResumeQueueResponse:
        queue = self.queues[request.name]
        queue.paused, queue.pause_reason, queue.paused_by = False, "", ""
        return queues.ResumeQueueResponse(queue=queue)

    def _ListNamespaces(
        self, request: namespaces.ListNamespacesRequest, context: Any
    ) -> namespaces.ListNamespacesResponse:
        return namespaces.ListNamespacesResponse(namespaces=[found for _, found in sorted(self.namespaces.items())])

    def _GetNamespace(self, request: namespaces.GetNamespaceRequest, context: Any) -> namespaces.GetNamespaceResponse:
        return namespaces.GetNamespaceResponse(namespace=self.namespaces[request.name])

    def _UpdateNamespace(
        self, request: namespaces.UpdateNamespaceRequest, context: Any
    ) -> namespaces.UpdateNamespaceResponse:
        self.namespaces[request.namespace.name] = request.namespace
        return namespaces.UpdateNamespaceResponse(namespace=request.namespace)
