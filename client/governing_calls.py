"""The methods of LimitService, QueueService and NamespaceService, as `calls.py` has those of the other services: what holds for
many jobs at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from google.protobuf.field_mask_pb2 import FieldMask

from horologe.client import durations, names
from horologe.client.calls import PAGE_SIZE, Call, Method, Pages, request_id_or_new
from horologe.client.errors import InvalidArgument, Violation
from horologe.v1 import limit_service_pb2 as limits
from horologe.v1 import namespace_service_pb2 as namespaces
from horologe.v1 import queue_service_pb2 as queues
from horologe.v1.limit_service_pb2 import Limit
from horologe.v1.namespace_service_pb2 import Namespace
from horologe.v1.queue_service_pb2 import Queue

__all__ = [
    "delete_limit",
    "get_limit",
    "get_namespace",
    "get_queue",
    "list_limits",
    "list_namespaces",
    "list_queues",
    "pause_queue",
    "resume_queue",
    "set_limit",
    "update_namespace",
    "update_queue",
]

SET_LIMIT = Method("LimitService", "SetLimit", limits.SetLimitRequest, limits.SetLimitResponse, is_write=True)
GET_LIMIT = Method("LimitService", "GetLimit", limits.GetLimitRequest, limits.GetLimitResponse)
LIST_LIMITS = Method("LimitService", "ListLimits", limits.ListLimitsRequest, limits.ListLimitsResponse)
DELETE_LIMIT = Method(
    "LimitService", "DeleteLimit", limits.DeleteLimitRequest, limits.DeleteLimitResponse, is_write=True
)
LIST_QUEUES = Method("QueueService", "ListQueues", queues.ListQueuesRequest, queues.ListQueuesResponse)
GET_QUEUE = Method("QueueService", "GetQueue", queues.GetQueueRequest, queues.GetQueueResponse)
UPDATE_QUEUE = Method(
    "QueueService", "UpdateQueue", queues.UpdateQueueRequest, queues.UpdateQueueResponse, is_write=True
)
PAUSE_QUEUE = Method("QueueService", "PauseQueue", queues.PauseQueueRequest, queues.PauseQueueResponse, is_write=True)
RESUME_QUEUE = Method(
    "QueueService", "ResumeQueue", queues.ResumeQueueRequest, queues.ResumeQueueResponse, is_write=True
)
LIST_NAMESPACES = Method(
    "NamespaceService", "ListNamespaces", namespaces.ListNamespacesRequest, namespaces.ListNamespacesResponse
)
GET_NAMESPACE = Method(
    "NamespaceService", "GetNamespace", namespaces.GetNamespaceRequest, namespaces.GetNamespaceResponse
)
UPDATE_NAMESPACE = Method(
    "NamespaceService",
    "UpdateNamespace",
    namespaces.UpdateNamespaceRequest,
    namespaces.UpdateNamespaceResponse,
    is_write=True,
)
RATE_MAX = 1_000_000
_QueueAnswer = (
    queues.GetQueueResponse | queues.UpdateQueueResponse | queues.PauseQueueResponse | queues.ResumeQueueResponse
)


def set_limit(namespace: str, name: str, max_running: int, *, request_id: str = "") -> Call[Limit]:
    """Makes a limit, or changes it: so many attempts run at a time of all jobs that name it. What runs already goes on."""
    request = limits.SetLimitRequest(
        name=names.limit_name(name, namespace), max_running=max_running, request_id=request_id_or_new(request_id)
    )

    def pick(answer: limits.SetLimitResponse) -> Limit:
        return answer.limit

    return Call(SET_LIMIT, request, pick)


def get_limit(namespace: str, name: str) -> Call[Limit]:
    """Reads a limit. NotFound if there is none."""

    def pick(answer: limits.GetLimitResponse) -> Limit:
        return answer.limit

    return Call(GET_LIMIT, limits.GetLimitRequest(name=names.limit_name(name, namespace)), pick)


def list_limits(namespace: str, *, page_size: int = PAGE_SIZE) -> Pages[Limit]:
    """The limits of the namespace, by name."""

    def pick(answer: limits.ListLimitsResponse) -> Iterable[Limit]:
        return answer.limits

    request = limits.ListLimitsRequest(parent=names.namespace_name(namespace), page_size=page_size)
    return Pages(LIST_LIMITS, request, pick)


def delete_limit(namespace: str, name: str, *, request_id: str = "") -> Call[None]:
    """Deletes a limit. FailedPrecondition while a job names it."""
    request = limits.DeleteLimitRequest(
        name=names.limit_name(name, namespace), request_id=request_id_or_new(request_id)
    )

    def pick(_: limits.DeleteLimitResponse) -> None:
        return None

    return Call(DELETE_LIMIT, request, pick)


def list_queues(namespace: str, *, page_size: int = PAGE_SIZE) -> Pages[Queue]:
    """All queues, by name."""
    del namespace  # Queues serve all of them.

    def pick(answer: queues.ListQueuesResponse) -> Iterable[Queue]:
        return answer.queues

    return Pages(LIST_QUEUES, queues.ListQueuesRequest(page_size=page_size), pick)


def get_queue(namespace: str, name: str) -> Call[Queue]:
    """Reads a queue: its settings, and how much waits and runs. NotFound if nothing names it."""
    del namespace  # Queues serve all of them.
    return Call(GET_QUEUE, queues.GetQueueRequest(name=names.queue_name(name)), _queue)


def update_queue(
    namespace: str,
    name: str,
    *,
    start_rate: str | None = None,
    burst: int = 0,
    aging: str | timedelta | None = None,
    request_id: str = "",
) -> Call[Queue]:
    """Changes settings of a queue; those that are not given stay.

    `start_rate` is `COUNT/DURATION`, such as `10/s` or `100/1h`, or `none`; `burst` goes with it. `aging` is how long an
    execution waits until that counts like one priority more; `0s` makes priorities strict.
    """
    del namespace  # Queues serve all of them.
    request = queues.UpdateQueueRequest(update_mask=FieldMask(), request_id=request_id_or_new(request_id))
    request.queue.name = names.queue_name(name)
    if start_rate is not None:
        request.update_mask.paths.append("start_rate")
        if start_rate != "none":
            request.queue.start_rate.CopyFrom(_rate(start_rate, burst))
    if aging is not None:
        request.update_mask.paths.append("aging")
        request.queue.aging.CopyFrom(durations.to_proto(_span("aging", aging)))
    return Call(UPDATE_QUEUE, request, _queue)


def pause_queue(namespace: str, name: str, *, reason: str = "", request_id: str = "") -> Call[Queue]:
    """Starts nothing of a queue any more. Due times fire and wait. FailedPrecondition if it is paused already."""
    del namespace  # Queues serve all of them.
    request = queues.PauseQueueRequest(
        name=names.queue_name(name), reason=reason, request_id=request_id_or_new(request_id)
    )
    return Call(PAUSE_QUEUE, request, _queue)


def resume_queue(namespace: str, name: str, *, request_id: str = "") -> Call[Queue]:
    """Starts what waits in a queue. FailedPrecondition if it is not paused."""
    del namespace  # Queues serve all of them.
    request = queues.ResumeQueueRequest(name=names.queue_name(name), request_id=request_id_or_new(request_id))
    return Call(RESUME_QUEUE, request, _queue)


def list_namespaces(namespace: str, *, page_size: int = PAGE_SIZE) -> Pages[Namespace]:
    """All namespaces, by name."""
    del namespace

    def pick(answer: namespaces.ListNamespacesResponse) -> Iterable[Namespace]:
        return answer.namespaces

    return Pages(LIST_NAMESPACES, namespaces.ListNamespacesRequest(page_size=page_size), pick)


def get_namespace(namespace: str, name: str = "") -> Call[Namespace]:
    """Reads a namespace (by default the client's own). NotFound if no job was ever in it."""

    def pick(answer: namespaces.GetNamespaceResponse) -> Namespace:
        return answer.namespace

    return Call(GET_NAMESPACE, namespaces.GetNamespaceRequest(name=names.namespace_name(name or namespace)), pick)


def update_namespace(
    namespace: str,
    name: str = "",
    *,
    max_running: int | None = None,
    history_retention: str | timedelta | None = None,
    history_count_max: int | None = None,
    dead_letter_retention: str | timedelta | None = None,
    job_count_max: int | None = None,
    start_rate: str | None = None,
    burst: int = 0,
    request_id: str = "",
) -> Call[Namespace]:
    """Changes what is said of a namespace (by default the client's own); what is not given stays.

    `max_running`, `history_count_max` and `job_count_max` 0: no limit. The retentions are durations such as `14d`, or `default`.
    `start_rate` is `COUNT/DURATION`, such as `10/s` or `100/1h`, or `none`; `burst` goes with it.
    """
    request = namespaces.UpdateNamespaceRequest(update_mask=FieldMask(), request_id=request_id_or_new(request_id))
    request.namespace.name = names.namespace_name(name or namespace)
    if max_running is not None:
        request.update_mask.paths.append("max_running")
        request.namespace.max_running = max_running
    if history_count_max is not None:
        request.update_mask.paths.append("history_count_max")
        request.namespace.history_count_max = history_count_max
    if history_retention is not None:
        request.update_mask.paths.append("history_retention")
        if history_retention != "default":
            span = _span("history_retention", history_retention)
            request.namespace.history_retention.CopyFrom(durations.to_proto(span))
    if dead_letter_retention is not None:
        request.update_mask.paths.append("dead_letter_retention")
        if dead_letter_retention != "default":
            span = _span("dead_letter_retention", dead_letter_retention)
            request.namespace.dead_letter_retention.CopyFrom(durations.to_proto(span))
    if job_count_max is not None:
        request.update_mask.paths.append("job_count_max")
        request.namespace.job_count_max = job_count_max
    if start_rate is not None:
        request.update_mask.paths.append("start_rate")
        if start_rate != "none":
            request.namespace.start_rate.CopyFrom(_rate(start_rate, burst))

    def pick(answer: namespaces.UpdateNamespaceResponse) -> Namespace:
        return answer.namespace

    return Call(UPDATE_NAMESPACE, request, pick)


def _rate(text: str, burst: int) -> queues.StartRate:
    """`10/s`, `100/1h`."""
    count, separator, per = text.partition("/")
    if not separator or not (count.isascii() and count.isdigit()) or len(count) > len(str(RATE_MAX)):
        raise _invalid("start_rate", f"{text!r} is no rate; write COUNT/DURATION, such as 10/s or 100/1h")
    span = _span("start_rate", per if per[:1].isdigit() or per[:1] == "P" else f"1{per}")
    return queues.StartRate(count=int(count), per=durations.to_proto(span), burst=burst)


def _span(field: str, given: str | timedelta) -> timedelta:
    try:
        return durations.parse(given) if isinstance(given, str) else given
    except ValueError as error:
        raise _invalid(field, str(error)) from error


def _invalid(field: str, description: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field}: {description}", reason="INVALID_FIELD", violations=[Violation(field, description)]
    )


def _queue(answer: _QueueAnswer) -> Queue:
    return answer.queue
