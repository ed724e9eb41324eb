"""The part of the fake cluster that answers for workflows: what a test has put there."""

from __future__ import annotations

from typing import Any

from horologe.v1 import workflow_service_pb2 as workflows
from horologe.v1.execution_pb2 import Execution


class FakeWorkflows:
    """Mixed into the fake cluster."""

    def __init__(self) -> None:
        super().__init__()
        self.workflows: list[workflows.WorkflowSummary] = []
        self.workflow = workflows.GetWorkflowResponse()

    def _ListWorkflows(self, request: Any, context: Any) -> workflows.ListWorkflowsResponse:
        return workflows.ListWorkflowsResponse(workflows=self.workflows)

    def _GetWorkflow(self, request: Any, context: Any) -> workflows.GetWorkflowResponse:
        return self.workflow

    def _ListRuns(self, request: Any, context: Any) -> workflows.ListRunsResponse:
        return workflows.ListRunsResponse(runs=[self.workflow.run])

    def _RerunExecution(self, request: Any, context: Any) -> workflows.RerunExecutionResponse:
        run = workflows.Run()
        run.CopyFrom(self.workflow.run)
        run.state = Execution.STATE_RUNNING
        return workflows.RerunExecutionResponse(run=run, node_count=2)
