"""The API's WorkflowService: graphs of jobs that are after one another, their runs, and running parts of those again."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

import asyncio

from horologe.log.v1 import log_pb2
from horologe.node import errors, paging, views
from horologe.node.catalog import Catalog
from horologe.node.context import NodeContext
from horologe.node.execution_service import find_execution
from horologe.node.names import WILDCARD, read_job_name, read_namespace
from horologe.node.workflow_views import WorkflowReader
from horologe.node.writes import Context, Writer, WriteRequest
from horologe.raft.facets import Facet, job_of, prefix_of
from horologe.raft.records import Execution
from horologe.raft.tables import Tables
from horologe.v1 import workflow_service_pb2, workflow_service_pb2_grpc


class WorkflowService(workflow_service_pb2_grpc.WorkflowServiceServicer):
    """See workflow_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._writer = Writer(context)

    async def ListWorkflows(
        self, request: workflow_service_pb2.ListWorkflowsRequest, context: Context
    ) -> workflow_service_pb2.ListWorkflowsResponse:
        del context
        namespace = read_namespace(request.parent, "parent", wildcard=True)
        size, start = paging.page_size(request), paging.start_key(request)
        names = "namespaces/" if namespace == WILDCARD else f"namespaces/{namespace}/jobs/"
        prefix = prefix_of(Facet.WORKFLOW, "", names)
        response = workflow_service_pb2.ListWorkflowsResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            reader = WorkflowReader(tables, Catalog())
            for key, _ in tables.facet.scan(start or prefix):
                if not key.startswith(prefix):
                    break
                if len(response.workflows) >= size:
                    response.next_page_token = paging.next_token(request, bytes(key))
                    break
                job = job_of(key)
                record = views.read_job(tables, job)
                if record is not None:
                    summary = response.workflows.add(
                        job=views.job_view(tables, record), node_count=reader.node_count(job)
                    )
                    number = reader.latest_run(job)
                    root = views.read_execution(tables, number) if number else None
                    if root is not None:
                        summary.latest_run.CopyFrom(reader.run(number, root))
        return response

    async def GetWorkflow(
        self, request: workflow_service_pb2.GetWorkflowRequest, context: Context
    ) -> workflow_service_pb2.GetWorkflowResponse:
        del context
        name = read_job_name(request.name, "name")
        # A thousand nodes take their time.
        return await asyncio.to_thread(self._get, name, request)

    def _get(
        self, name: str, request: workflow_service_pb2.GetWorkflowRequest
    ) -> workflow_service_pb2.GetWorkflowResponse:
        with self._node.store.read() as tables:
            record = views.find_job(tables, name)
            if record is None:
                raise errors.job_not_found(name)
            reader = WorkflowReader(tables, Catalog())
            number = request.run or reader.latest_run(record.id)
            root = _root(tables, record.id, request.run) if request.run else views.read_execution(tables, number)
            response = workflow_service_pb2.GetWorkflowResponse(
                workflow=reader.workflow(record, number), revision=views.revision(tables)
            )
            if root is not None:
                response.run.CopyFrom(reader.run(number, root))
            return response

    async def ListRuns(
        self, request: workflow_service_pb2.ListRunsRequest, context: Context
    ) -> workflow_service_pb2.ListRunsResponse:
        del context
        name = read_job_name(request.parent, "parent")
        size, start = paging.page_size(request), paging.start_key(request)
        response = workflow_service_pb2.ListRunsResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            record = views.find_job(tables, name)
            if record is None:
                raise errors.job_not_found(name)
            reader = WorkflowReader(tables, Catalog())
            below = b""
            for looked_at, (key, number, root) in enumerate(reader.runs(record.id, start)):
                if len(response.runs) >= size or looked_at >= paging.SCAN_ROWS_MAX:
                    response.next_page_token = paging.next_token(request, below)
                    break
                below = key
                if root is not None:
                    response.runs.append(reader.run(number, root))
        return response

    async def RerunExecution(
        self, request: workflow_service_pb2.RerunExecutionRequest, context: Context
    ) -> workflow_service_pb2.RerunExecutionResponse:
        write = WriteRequest.of("RerunExecution", request)
        with self._node.store.read() as tables:
            number, _ = find_execution(tables, Catalog(), request.name)
        command = log_pb2.Command(rerun_execution=log_pb2.RerunExecution(execution=number))
        result = await self._writer.settle(command, write, context, needs_space=True)
        with self._node.store.read() as tables:
            response = workflow_service_pb2.RerunExecutionResponse(
                node_count=result.numbers[1], revision=views.revision(tables)
            )
            root = views.read_execution(tables, result.numbers[0])
            if root is not None:
                response.run.CopyFrom(WorkflowReader(tables, Catalog()).run(result.numbers[0], root))
            return response


def _root(tables: Tables, job: int, number: int) -> Execution:
    """The execution that began a run of a job. Raises an ApiError if it is none."""
    execution = views.read_execution(tables, number) if number > 0 else None
    if execution is None or execution.job != job or execution.root != number:
        raise errors.execution_not_found(str(number))
    return execution
