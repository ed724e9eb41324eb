"""The method of ActivityService; see `calls.py`."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from horologe.client.calls import Call, Method
from horologe.v1 import activity_service_pb2 as activities

__all__ = ["GET_ACTIVITY", "activity"]

GET_ACTIVITY = Method("ActivityService", "GetActivity", activities.GetActivityRequest, activities.GetActivityResponse)


def activity(
    namespace: str, *, window_seconds: int | None = None, step_seconds: int | None = None
) -> Call[activities.GetActivityResponse]:
    """How busy the cluster is, as the node that answers has seen it.

    Figures for each second of the last five minutes, or for each step of a window of at most an hour; and the latest executions
    that were late or failed."""
    del namespace  # It is about all that the caller may see.
    request = activities.GetActivityRequest()
    if window_seconds is not None:
        request.window.CopyFrom(Duration(seconds=window_seconds))
    if step_seconds is not None:
        request.step.CopyFrom(Duration(seconds=step_seconds))

    def pick(answer: activities.GetActivityResponse) -> activities.GetActivityResponse:
        return answer

    return Call(GET_ACTIVITY, request, pick)
