"""The API's StoryService: why a due time did or did not run, and what happened to an execution."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.node import errors, views
from horologe.node.catalog import Catalog
from horologe.node.context import NodeContext
from horologe.node.execution_service import find_execution
from horologe.node.explain import Explanation
from horologe.node.names import read_job_name
from horologe.node.story import Story
from horologe.node.writes import Context
from horologe.raft.facets import Facet, job_of, prefix_of
from horologe.raft.tables import Tables
from horologe.v1 import story_service_pb2, story_service_pb2_grpc


class StoryService(story_service_pb2_grpc.StoryServiceServicer):
    """See story_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._catalog = Catalog()

    async def ExplainDueTime(
        self, request: story_service_pb2.ExplainDueTimeRequest, context: Context
    ) -> story_service_pb2.ExplainDueTimeResponse:
        del context
        name = read_job_name(request.name, "name")
        at_ms: int | None = None
        if request.HasField("time"):
            try:
                at_ms = request.time.ToMilliseconds()
            except ValueError as error:
                raise errors.invalid_field("time", str(error)) from error
            if at_ms < 0:
                raise errors.invalid_field("time", "it is before 1970")
        with self._node.store.read() as tables:
            record = views.find_job(tables, name) or _last_of_name(tables, name)
            if record is None:
                raise errors.job_not_found(name)
            return Explanation(tables, self._catalog, record, self._node.clock.wall_ms()).of(at_ms)

    async def GetExecutionStory(
        self, request: story_service_pb2.GetExecutionStoryRequest, context: Context
    ) -> story_service_pb2.GetExecutionStoryResponse:
        del context
        with self._node.store.read() as tables:
            number, execution = find_execution(tables, self._catalog, request.name)
            return story_service_pb2.GetExecutionStoryResponse(
                execution=views.execution_view(tables, self._catalog, number, execution, full=True),
                entries=Story(tables, number, execution).entries(),
                revision=views.revision(tables),
            )


def _last_of_name(tables: Tables, name: str) -> log_pb2.JobRecord | None:
    """The job that had the name last, of those that are deleted."""
    prefix = prefix_of(Facet.NAME, "", name, deleted=True) + b"\0"
    last = next(tables.facet.scan_down(prefix + b"\xff" * 9), None)
    return views.read_job(tables, job_of(last[0])) if last is not None and last[0].startswith(prefix) else None
