"""Workflows: their list, and one of them as a graph with how its nodes stand in a run."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from horologe.node.local_calls import LocalCallError
from horologe.node.web import graph
from horologe.node.web.execution_page import FINAL_STATES, pretty
from horologe.node.web.reading import full_page, job_name, read_namespaces, run_path
from horologe.node.web.view import FormError, View, Web
from horologe.node.web.words import word
from horologe.raft.access import Verb
from horologe.v1 import (
    execution_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)

PAGE_SIZE = 50
RUNS_SHOWN_MAX = 20
NODES_PER_PAGE = 60
UPSTREAM_SHOWN_MAX = 10
RESULT_CHARACTERS_MAX = 2_000
PATH = "/workflows/{namespace}/{job}"


def router(web: Web) -> APIRouter:
    """`/workflows`, `/workflows/{namespace}/{job}`"""
    routes = APIRouter()

    @routes.get("/workflows")
    async def workflows(request: Request) -> Response:
        view = web.view(request)
        namespaces = await read_namespaces(view)
        wanted = workflow_service_pb2.ListWorkflowsRequest(
            parent=f"namespaces/{namespaces.chosen}",
            page_size=PAGE_SIZE,
            page_token=request.query_params.get("page", ""),
        )
        stub = workflow_service_pb2_grpc.WorkflowServiceStub(view.channel)
        found, token = await full_page(stub.ListWorkflows, wanted, "workflows", PAGE_SIZE)
        return await view.page(
            "workflows_part.html" if view.wants_part else "workflows.html",
            workflows=found,
            next_token=token,
            namespaces=namespaces,
        )

    @routes.get(PATH)
    async def workflow(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        query = request.query_params
        stub = workflow_service_pb2_grpc.WorkflowServiceStub(view.channel)
        run = whole_number(query.get("run", ""), "run")
        answer = await stub.GetWorkflow(workflow_service_pb2.GetWorkflowRequest(name=job_name(namespace, job), run=run))
        values = {
            **_graph_values(answer, query.get("node", ""), whole_number(query.get("from", ""), "from")),
            "namespace": namespace,
            "job": job,
            "is_run_chosen": bool(run),
        }
        if view.wants_part:
            return await view.page("workflow_part.html", **values)
        runs = await stub.ListRuns(
            workflow_service_pb2.ListRunsRequest(
                parent=answer.workflow.name, page_size=RUNS_SHOWN_MAX, page_token=query.get("page", "")
            )
        )
        reader = await view.reader()
        return await view.page(
            "workflow.html",
            **values,
            runs=runs.runs,
            next_token=runs.next_page_token,
            may_run=reader.may(Verb.JOB_RUN, namespace),
            may_cancel=reader.may(Verb.JOB_CANCEL, namespace),
            request_id=str(uuid.uuid4()),
            chosen=await _chosen_node(view, answer.workflow, query.get("node", "")),
            run_path=run_path,
        )

    @routes.post(PATH + "/run")
    async def begin(request: Request, namespace: str, job: str) -> Response:
        view = web.view(request)
        form = await view.form()
        jobs = job_service_pb2_grpc.JobServiceStub(view.channel)
        order = job_service_pb2.RunJobRequest(name=job_name(namespace, job), request_id=str(form.get("request_id", "")))
        answer = await jobs.RunJob(order)
        return RedirectResponse(run_path(answer.execution.name), 303)

    return routes


def _graph_values(answer: workflow_service_pb2.GetWorkflowResponse, focus: str, first: int) -> dict[str, Any]:
    """What the graph and its table are made of."""
    nodes = answer.workflow.nodes
    states = Counter(state_of(node) for node in nodes)
    upstream: dict[str, list[str]] = {}
    for edge in answer.workflow.edges:
        upstream.setdefault(edge.downstream, []).append(edge.upstream)
    has_run = answer.HasField("run")
    return {
        "workflow": answer.workflow,
        "run": answer.run if has_run else None,
        "is_over": has_run and answer.run.state in FINAL_STATES,
        "picture": graph.picture_of(answer.workflow, focus),
        "nodes": nodes[first : first + NODES_PER_PAGE],
        "first": first,
        "following": first + NODES_PER_PAGE if first + NODES_PER_PAGE < len(nodes) else 0,
        "upstream": upstream,
        "states": sorted(states.items()),
        "state_of": state_of,
        "node_width": graph.NODE_WIDTH,
        "node_height": graph.NODE_HEIGHT,
        "focus": focus,
    }


def state_of(node: workflow_service_pb2.WorkflowNode) -> str:
    """As a word; `undecided` while nothing of it is made."""
    return word(node.execution, "state") if node.HasField("execution") else "undecided"


async def _chosen_node(view: View, workflow: workflow_service_pb2.Workflow, chosen: str) -> dict[str, Any] | None:
    """A node with what it got from those before it, and what it hands on."""
    by_job = {node.job: node for node in workflow.nodes}
    if chosen not in by_job:
        return None
    before = sorted(edge.upstream for edge in workflow.edges if edge.downstream == chosen)
    after = sorted(edge.downstream for edge in workflow.edges if edge.upstream == chosen)
    shown = [chosen, *before[:UPSTREAM_SHOWN_MAX]]
    results = await asyncio.gather(*(_result(view, by_job.get(job)) for job in shown))
    return {
        "node": by_job[chosen],
        "result": results[0],
        "before": list(zip(shown[1:], results[1:], strict=True)),
        "omitted_count": max(0, len(before) - UPSTREAM_SHOWN_MAX),
        "after": after,
    }


async def _result(view: View, node: workflow_service_pb2.WorkflowNode | None) -> str:
    """What it returned; empty if nothing, or not yet."""
    if node is None or node.execution.state != execution_pb2.Execution.STATE_COMPLETED:
        return ""
    stub = execution_service_pb2_grpc.ExecutionServiceStub(view.channel)
    try:
        answer = await stub.GetExecution(execution_service_pb2.GetExecutionRequest(name=node.execution.name))
    except LocalCallError:
        # It went out of the history meanwhile.
        return ""
    return pretty(answer.execution.result)[:RESULT_CHARACTERS_MAX] if answer.execution.HasField("result") else ""


def whole_number(text: str, field: str) -> int:
    """0 if there is none. Raises FormError."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise FormError(f"{field}: {text[:60]!r} is no number")
    return int(text)
