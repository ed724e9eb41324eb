"""The method of the API that follows what happens; see `calls.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from horologe.client import names
from horologe.client.calls import Method, Stream
from horologe.v1 import watch_service_pb2 as watching
from horologe.v1.execution_pb2 import Execution

__all__ = ["WATCH_CHANGES", "WATCH_EVENTS", "watch_changes", "watch_events"]

WATCH_CHANGES = Method("WatchService", "WatchChanges", watching.WatchChangesRequest, watching.WatchChangesResponse)

WATCH_EVENTS = Method("WatchService", "WatchEvents", watching.WatchEventsRequest, watching.WatchEventsResponse)


def watch_changes(namespace: str) -> Stream[watching.WatchChangesResponse]:
    """Tells at once how the cluster stands, and at most once a second when that has changed, until the caller stops.

    When a node is gone it goes on by itself on another one.
    """
    del namespace  # of the whole cluster
    request = watching.WatchChangesRequest()
    return Stream(WATCH_CHANGES, request, watching.WatchChangesResponse, lambda seen: request)


def watch_events(
    namespace: str,
    job: str = "",
    *,
    states: Iterable[Execution.State.ValueType] = (),
    name_prefix: str = "",
    labels: Mapping[str, str] | None = None,
    owner: str = "",
    queue: str = "",
    schedule: str = "",
    resume_token: str = "",
) -> Stream[watching.WatchEventsResponse]:
    """Every move of executions and every change of jobs, in order and in batches, until the caller stops.

    When a node is gone it goes on by itself on another one, behind what was seen last, and nothing is lost or repeated. A batch
    may be empty. Its `resume_token`, or that of an event, goes on in another process, or later. OutOfRange if a token is older
    than what the cluster keeps.
    """
    request = watching.WatchEventsRequest(
        parent=names.executions_parent(job, namespace),
        states=states,
        name_prefix=name_prefix,
        labels=labels,
        owner=owner,
        queue=queue,
        schedule=schedule,
        resume_token=resume_token,
    )

    def behind(seen: watching.WatchEventsResponse) -> watching.WatchEventsRequest:
        rest = watching.WatchEventsRequest()
        rest.CopyFrom(request)
        rest.resume_token = seen.resume_token
        return rest

    return Stream(WATCH_EVENTS, request, watching.WatchEventsResponse, behind)
