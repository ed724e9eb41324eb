"""The methods of WorkflowService, as `calls.py` has those of the other services: graphs, runs, and parts that run again."""

from __future__ import annotations

from collections.abc import Iterable

from horologe.client import names
from horologe.client.calls import PAGE_SIZE, Call, Method, Pages, request_id_or_new
from horologe.v1 import workflow_service_pb2 as workflows
from horologe.v1.workflow_service_pb2 import GetWorkflowResponse, Run, WorkflowSummary

__all__ = ["get_workflow", "list_runs", "list_workflows", "rerun_execution"]

_SERVICE = "WorkflowService"
LIST_WORKFLOWS = Method(_SERVICE, "ListWorkflows", workflows.ListWorkflowsRequest, workflows.ListWorkflowsResponse)
GET_WORKFLOW = Method(_SERVICE, "GetWorkflow", workflows.GetWorkflowRequest, workflows.GetWorkflowResponse)
LIST_RUNS = Method(_SERVICE, "ListRuns", workflows.ListRunsRequest, workflows.ListRunsResponse)
RERUN_EXECUTION = Method(
    _SERVICE, "RerunExecution", workflows.RerunExecutionRequest, workflows.RerunExecutionResponse, is_write=True
)


def list_workflows(
    namespace: str, *, all_namespaces: bool = False, page_size: int = PAGE_SIZE
) -> Pages[WorkflowSummary]:
    """The workflows of the namespace, or of all, by name, each with its latest run."""
    parent = names.namespace_name("-" if all_namespaces else namespace)
    request = workflows.ListWorkflowsRequest(parent=parent, page_size=page_size)

    def pick(answer: workflows.ListWorkflowsResponse) -> Iterable[WorkflowSummary]:
        return answer.workflows

    return Pages(LIST_WORKFLOWS, request, pick)


def get_workflow(namespace: str, job: str, *, run: int = 0) -> Call[GetWorkflowResponse]:
    """The graph of a workflow, or of all that are after a job, with how it stands in a run; by default in the latest."""
    request = workflows.GetWorkflowRequest(name=names.job_name(job, namespace), run=run)

    def pick(answer: workflows.GetWorkflowResponse) -> GetWorkflowResponse:
        return answer

    return Call(GET_WORKFLOW, request, pick)


def list_runs(namespace: str, job: str, *, page_size: int = PAGE_SIZE) -> Pages[Run]:
    """The runs of a workflow, or of a job that others are after, newest first."""
    request = workflows.ListRunsRequest(parent=names.job_name(job, namespace), page_size=page_size)

    def pick(answer: workflows.ListRunsResponse) -> Iterable[Run]:
        return answer.runs

    return Pages(LIST_RUNS, request, pick)


def rerun_execution(namespace: str, execution: str | int, *, request_id: str = "") -> Call[Run]:
    """Runs again what of a run did not end well, named by the execution that began it; or one node of it and all after that.

    FailedPrecondition while the run is not over.
    """
    del namespace  # Numbers are unique in the cluster.
    request = workflows.RerunExecutionRequest(
        name=names.execution_name(execution), request_id=request_id_or_new(request_id)
    )

    def pick(answer: workflows.RerunExecutionResponse) -> Run:
        return answer.run

    return Call(RERUN_EXECUTION, request, pick)
