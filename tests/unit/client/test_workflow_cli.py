"""`horologe workflow` against a fake node: what it asks for, what it prints, and the graph."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from fake_cluster import DUE, FakeCluster, failure
from rich.console import Console
from typer.testing import Result

from horologe.client import workflow_records
from horologe.client.cli import workflow_graph
from horologe.v1 import job_pb2
from horologe.v1 import workflow_service_pb2 as workflows
from horologe.v1.execution_pb2 import Execution

Run = Callable[..., Result]
NAME = "namespaces/default/jobs/etl"


def a_run(state: Execution.State.ValueType = Execution.STATE_FAILED) -> workflows.Run:
    return workflows.Run(
        name=f"{NAME}/executions/7",
        state=state,
        trigger=Execution.TRIGGER_MANUAL,
        due_time=DUE,
        create_time=DUE,
        failed_count=1,
        reason="did not end well: clean DEAD",
    )


def a_workflow() -> workflows.GetWorkflowResponse:
    answer = workflows.GetWorkflowResponse(run=a_run(), workflow=workflows.Workflow(name=NAME))
    states = {
        "extract": (1, Execution.STATE_COMPLETED),
        "clean": (2, Execution.STATE_DEAD),
        "enrich": (2, Execution.STATE_RUNNING),
        "load": (3, Execution.STATE_SKIPPED),
        "alarm": (3, None),
    }
    for number, (job, (layer, state)) in enumerate(states.items()):
        node = answer.workflow.nodes.add(job=job, layer=layer)
        if state is not None:
            node.execution.name = f"namespaces/default/jobs/{job}/executions/{8 + number}"
            node.execution.state = state
    answer.workflow.nodes[4].condition = job_pb2.AfterSchedule.CONDITION_ANY_FAILED
    for upstream, downstream in [
        ("extract", "clean"),
        ("extract", "enrich"),
        ("clean", "load"),
        ("enrich", "load"),
        ("clean", "alarm"),
        ("enrich", "alarm"),
    ]:
        answer.workflow.edges.add(upstream=upstream, downstream=downstream)
    return answer


@pytest.fixture(autouse=True)
def _workflow(fake: FakeCluster) -> None:
    summary = workflows.WorkflowSummary(node_count=5, latest_run=a_run())
    summary.job.name = NAME
    fake.workflows = [summary]
    fake.workflow = a_workflow()


def test_list(run: Run) -> None:
    header, line = run("workflow", "list").stdout.splitlines()
    assert header.split() == ["NAME", "JOBS", "LATEST", "RUN", "STATE", "DUE", "TIME", "NEXT", "DUE"]
    assert line.split()[:4] == ["etl", "5", "7", "failed"]


def test_get_is_a_table_of_nodes(fake: FakeCluster, run: Run) -> None:
    text = run("workflow", "get", "etl", "--run", "7").stdout
    assert fake.requests("GetWorkflow")[0] == workflows.GetWorkflowRequest(name=NAME, run=7)
    lines = [line.split() for line in text.splitlines()]
    assert ["Reason:", "did", "not", "end", "well:", "clean", "DEAD"] in lines
    assert ["2", "clean", "dead", "9", "extract", "-"] in lines
    assert ["3", "alarm", "-", "-", "clean,", "enrich", "(any_failed)", "-"] in lines


def test_a_job_by_itself_is_no_workflow(fake: FakeCluster, run: Run) -> None:
    """A job that is no workflow is its own first node."""
    fake.workflow.Clear()
    fake.workflow.workflow.name = NAME
    fake.workflow.workflow.nodes.add(job="etl", layer=1)
    for words in ((), ("--graph",), ("-o", "json")):
        result = run("workflow", "get", "etl", *words)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "etl is no workflow, and no job is after it; `horologe job get etl` shows it" in result.stderr
    # One that others are after has a graph, and a workflow may have no jobs yet.
    fake.workflow.workflow.nodes.add(job="load", layer=2)
    fake.workflow.workflow.edges.add(upstream="etl", downstream="load")
    assert "load" in run("workflow", "get", "etl").stdout
    fake.workflow.workflow.ClearField("nodes")
    fake.workflow.workflow.ClearField("edges")
    assert run("workflow", "get", "etl").exit_code == 0


def test_the_graph_in_layers(run: Run) -> None:
    text = run("workflow", "get", "etl", "--graph").stdout
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "✔ extract" in lines
    assert "✘ clean ← extract ▶ enrich ← extract" in lines
    assert "↷ load ← clean, enrich · alarm ← clean, enrich (any failed)" in lines
    assert lines[-1] == "· 1 not decided ▶ 1 running ✔ 1 completed ✘ 1 dead ↷ 1 skipped"


def test_fifty_jobs_fit_a_screen() -> None:
    answer = workflows.GetWorkflowResponse(workflow=workflows.Workflow(name=NAME))
    for stage in range(5):
        for number in range(10):
            answer.workflow.nodes.add(job=f"stage-{stage}-job-{number}", layer=stage + 1)
            for above in range(10 if stage else 0):
                answer.workflow.edges.add(
                    upstream=f"stage-{stage - 1}-job-{above}", downstream=f"stage-{stage}-job-{number}"
                )
    console = Console(width=120)
    with console.capture() as capture:
        console.print(workflow_graph.drawing(workflow_records.workflow(answer)))
    lines = capture.get().splitlines()
    assert len(lines) < 40
    assert sum(line.count("stage-3-job-") for line in lines) >= 10
    assert "stage-0-job-0 and 9 more" in capture.get()


def test_json_has_nodes_edges_and_states(run: Run) -> None:
    found = json.loads(run("-o", "json", "workflow", "get", "etl").stdout)
    assert found["edges"][0] == {"upstream": "extract", "downstream": "clean"}
    assert [(node["job"], node["layer"], node["state"]) for node in found["nodes"]] == [
        ("extract", 1, "completed"),
        ("clean", 2, "dead"),
        ("enrich", 2, "running"),
        ("load", 3, "skipped"),
        ("alarm", 3, None),
    ]
    assert found["nodes"][4]["after"] == ["clean", "enrich"]
    assert found["nodes"][4]["condition"] == "any_failed"
    assert found["run"]["id"] == 7


def test_runs(fake: FakeCluster, run: Run) -> None:
    header, line = run("workflow", "runs", "etl").stdout.splitlines()
    assert header.startswith("RUN")
    assert line.split()[:3] == ["7", "failed", "manual"]
    assert fake.requests("ListRuns")[0].parent == NAME


def test_rerun(fake: FakeCluster, run: Run) -> None:
    text = run("workflow", "rerun", "7", "--request-id", "r").stdout
    assert text.splitlines()[1].split()[:2] == ["7", "running"]
    (request,) = fake.requests("RerunExecution")
    assert (request.name, request.request_id) == ("namespaces/-/jobs/-/executions/7", "r")
    waited = run("workflow", "rerun", "7", "--wait")
    assert (waited.exit_code, "execution 7" in waited.stderr) == (3, True), "it looks at the run"
    fake.failures["RerunExecution"].append(failure("FAILED_PRECONDITION", "RUN_UNFINISHED", "not over"))
    assert run("workflow", "rerun", "7").exit_code == 4


def test_run(fake: FakeCluster, run: Run) -> None:
    fake.add_job("etl")
    assert run("workflow", "run", "etl").stdout.splitlines()[1].split()[:2] == ["1", "etl"]
    result = run("workflow", "run", "etl", "--wait")
    assert (result.exit_code, result.stderr.strip()) == (0, "execution 2: completed")
