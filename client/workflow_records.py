"""Workflows and runs as plain data for `-o json|yaml`; see `records.py`. What `get` prints is enough to draw the graph from."""

from __future__ import annotations

from horologe.client import names, records, times, words
from horologe.client.records import Record
from horologe.v1.execution_pb2 import Execution
from horologe.v1.job_pb2 import AfterSchedule
from horologe.v1.workflow_service_pb2 import GetWorkflowResponse, Run, WorkflowNode, WorkflowSummary

__all__ = ["run", "summary", "workflow"]


def run(message: Run) -> Record:
    """A run of a workflow."""
    return {
        "name": message.name,
        "id": names.execution_number(message.name),
        "workflow": names.job_id(message.name),
        "namespace": names.namespace_id(message.name),
        "state": words.render(Execution.State, message.state),
        "trigger": words.render(Execution.Trigger, message.trigger),
        "due_time": times.render(message.due_time),
        "create_time": times.render(message.create_time),
        "end_time": times.render(message.end_time) if message.HasField("end_time") else None,
        "unfinished_count": message.unfinished_count,
        "failed_count": message.failed_count,
        "reason": message.reason,
    }


def summary(message: WorkflowSummary) -> Record:
    """A workflow in a list."""
    return {
        "name": names.job_id(message.job.name),
        "namespace": names.namespace_id(message.job.name),
        "node_count": message.node_count,
        "next_due_time": times.render(message.job.next_due_time) if message.job.HasField("next_due_time") else None,
        "latest_run": run(message.latest_run) if message.HasField("latest_run") else None,
    }


def workflow(message: GetWorkflowResponse) -> Record:
    """A workflow's nodes, in layers, and its edges, with how each node stands in the run."""
    after: dict[str, list[str]] = {}
    for edge in message.workflow.edges:
        after.setdefault(edge.downstream, []).append(edge.upstream)
    return {
        "name": names.job_id(message.workflow.name),
        "namespace": names.namespace_id(message.workflow.name),
        "run": run(message.run) if message.HasField("run") else None,
        "nodes": [_node(node, after.get(node.job, [])) for node in message.workflow.nodes],
        "edges": [{"upstream": edge.upstream, "downstream": edge.downstream} for edge in message.workflow.edges],
    }


def _node(message: WorkflowNode, after: list[str]) -> Record:
    has_execution = message.HasField("execution")
    return {
        "job": message.job,
        "layer": message.layer,
        "after": after,
        "condition": words.render(AfterSchedule.Condition, message.condition) or None,
        "state": words.render(Execution.State, message.execution.state) if has_execution else None,
        "execution": records.execution(message.execution) if has_execution else None,
    }
