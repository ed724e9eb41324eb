"""The methods of the API that say why; see `calls.py`."""

from __future__ import annotations

from datetime import datetime

from horologe.client import names, times
from horologe.client.calls import Call, Method
from horologe.v1 import story_service_pb2 as stories

__all__ = ["EXPLAIN_DUE_TIME", "GET_EXECUTION_STORY", "execution_story", "explain_due_time"]

EXPLAIN_DUE_TIME = Method(
    "StoryService", "ExplainDueTime", stories.ExplainDueTimeRequest, stories.ExplainDueTimeResponse
)
GET_EXECUTION_STORY = Method(
    "StoryService", "GetExecutionStory", stories.GetExecutionStoryRequest, stories.GetExecutionStoryResponse
)


def explain_due_time(namespace: str, job: str, at: datetime | None = None) -> Call[stories.ExplainDueTimeResponse]:
    """Why a job ran at an instant, or did not; without one, at its last due time. NotFound if there is no such job."""
    request = stories.ExplainDueTimeRequest(name=names.job_name(job, namespace))
    if at is not None:
        request.time.CopyFrom(times.to_proto(at))

    def pick(answer: stories.ExplainDueTimeResponse) -> stories.ExplainDueTimeResponse:
        return answer

    return Call(EXPLAIN_DUE_TIME, request, pick)


def execution_story(namespace: str, name: str | int) -> Call[stories.GetExecutionStoryResponse]:
    """What happened to an execution, in the order of time. NotFound if there is none."""
    del namespace  # Numbers are unique in the cluster.

    def pick(answer: stories.GetExecutionStoryResponse) -> stories.GetExecutionStoryResponse:
        return answer

    request = stories.GetExecutionStoryRequest(name=names.execution_name(name))
    return Call(GET_EXECUTION_STORY, request, pick)
