"""WorkflowService: graphs, runs and reruns as callers see them."""

from __future__ import annotations

import grpc
import pytest
from service_harness import FakeNode, manual_job

from horologe.log.v1 import log_pb2
from horologe.raft.commands import GIVE_UP, Outcome
from horologe.v1 import execution_pb2, job_pb2, job_service_pb2
from horologe.v1 import workflow_service_pb2 as api

State = execution_pb2.Execution
PARENT = "namespaces/default/jobs"


def member(name: str, *after: str, condition: int = 0, workflow: str = "etl") -> job_pb2.Job:
    job = manual_job()
    job.name, job.workflow = f"{PARENT}/{name}", workflow
    if after:
        job.schedules[0].after.jobs.extend(after)
        job.schedules[0].after.condition = condition  # type: ignore[assignment]
    return job


def etl() -> job_pb2.Job:
    job = manual_job()
    job.name = f"{PARENT}/etl"
    job.action.workflow.SetInParent()
    return job


async def apply(node: FakeNode, *jobs: job_pb2.Job) -> None:
    await node.jobs.ApplyJobs(job_service_pb2.ApplyJobsRequest(jobs=jobs))


async def run(node: FakeNode, name: str = "etl") -> int:
    answer = await node.jobs.RunJob(job_service_pb2.RunJobRequest(name=f"{PARENT}/{name}"))
    return int(answer.execution.name.rpartition("/")[2])


async def get(node: FakeNode, name: str = "etl", number: int = 0) -> api.GetWorkflowResponse:
    return await node.workflows.GetWorkflow(api.GetWorkflowRequest(name=f"{PARENT}/{name}", run=number))


def states(answer: api.GetWorkflowResponse) -> dict[str, str]:
    return {
        node.job: State.State.Name(node.execution.state).removeprefix("STATE_") if node.HasField("execution") else "-"
        for node in answer.workflow.nodes
    }


def end(node: FakeNode, number: int, outcome: Outcome = Outcome.SUCCEEDED) -> None:
    """The execution is given to a worker, which reports."""
    node.assign(number, node.open_session())
    node.complete(number, outcome, retry_delay_ms=GIVE_UP)


async def test_a_graph_in_layers_with_the_states_of_a_run(node):
    await apply(node, etl(), member("a"), member("b", "a"), member("c", "a", "b", condition=4), member("d"))
    answer = await get(node)
    assert [(one.job, one.layer) for one in answer.workflow.nodes] == [("a", 1), ("d", 1), ("b", 2), ("c", 3)]
    assert answer.workflow.nodes[3].condition == job_pb2.AfterSchedule.CONDITION_ANY_FAILED
    edges = [(edge.upstream, edge.downstream) for edge in answer.workflow.edges]
    assert edges == [("a", "b"), ("a", "c"), ("b", "c")]
    assert not answer.HasField("run") and set(states(answer).values()) == {"-"}
    number = await run(node)
    answer = await get(node)
    assert states(answer) == {"a": "QUEUED", "d": "QUEUED", "b": "-", "c": "-"}
    assert (answer.run.name, answer.run.state) == (f"{PARENT}/etl/executions/{number}", State.STATE_RUNNING)
    assert answer.run.unfinished_count == 2
    assert answer.workflow.nodes[0].execution.root == answer.run.name


async def test_runs_and_a_rerun(node):
    await apply(node, etl(), member("a"), member("b", "a"))
    first = await run(node)
    end(node, first + 1, Outcome.FAILED)
    second = await run(node)
    listed = await node.workflows.ListRuns(api.ListRunsRequest(parent=f"{PARENT}/etl"))
    assert [(one.state, one.failed_count) for one in listed.runs] == [(State.STATE_RUNNING, 0), (State.STATE_FAILED, 1)]
    assert listed.runs[1].reason == "did not end well: a FAILED"
    assert listed.runs[1].HasField("end_time") and not listed.runs[0].HasField("end_time")
    assert states(await get(node, number=first)) == {"a": "FAILED", "b": "SKIPPED"}
    assert states(await get(node)) == {"a": "QUEUED", "b": "-"}
    assert second != first
    request = api.RerunExecutionRequest(name=f"{PARENT}/etl/executions/{first}")
    answer = await node.workflows.RerunExecution(request)
    assert (answer.run.state, answer.node_count) == (State.STATE_RUNNING, 2)
    assert states(await get(node, number=first)) == {"a": "QUEUED", "b": "-"}
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await node.workflows.RerunExecution(request)
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_runs_in_pages(node):
    await apply(node, etl(), member("a"))
    made = []
    for _ in range(3):
        number = await run(node)
        end(node, number + 1)
        node.clock.now_ms += 1_000
        made.append(number)
    found, token = [], ""
    while True:
        request = api.ListRunsRequest(parent=f"{PARENT}/etl", page_size=2, page_token=token)
        page = await node.workflows.ListRuns(request)
        found += [int(one.name.rpartition("/")[2]) for one in page.runs]
        token = page.next_page_token
        if not token:
            break
    assert found == made[::-1]


async def test_a_job_that_others_are_after(node):
    await apply(node, member("a", workflow=""), member("b", "a", workflow=""))
    number = await run(node, "a")
    answer = await get(node, "a")
    assert states(answer) == {"a": "QUEUED", "b": "-"}
    assert answer.run.state == State.STATE_QUEUED
    end(node, number)
    answer = await get(node, "a")
    assert states(answer) == {"a": "COMPLETED", "b": "QUEUED"}
    assert answer.run.state == State.STATE_RUNNING
    end(node, number + 1, Outcome.FAILED)
    answer = await get(node, "a")
    assert (answer.run.state, answer.run.failed_count) == (State.STATE_FAILED, 1)
    assert answer.run.HasField("end_time")


async def test_workflows_of_a_namespace(node):
    await apply(node, etl(), member("a"), member("b", "a"), member("x", workflow=""))
    number = await run(node)
    listed = await node.workflows.ListWorkflows(api.ListWorkflowsRequest(parent="namespaces/default"))
    (summary,) = listed.workflows
    assert (summary.job.name, summary.node_count) == (f"{PARENT}/etl", 2)
    assert summary.latest_run.name.endswith(f"/{number}")
    other = await node.workflows.ListWorkflows(api.ListWorkflowsRequest(parent="namespaces/other"))
    assert not other.workflows


@pytest.mark.parametrize(("name", "number"), [("nope", 0), ("etl", 99), ("etl", -1), ("a", 1)])
async def test_what_is_not_there(node, name: str, number: int):
    await apply(node, etl(), member("a"))
    await run(node)
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await get(node, name, number)
    assert missing.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_cycle_is_told_with_its_names(node):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await apply(node, etl(), member("a", "b"), member("b", "a"))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "a -> b -> a" in str(refused.value.details())


async def test_a_log_entry_for_a_rerun(node):
    assert node.apply(log_pb2.Command(rerun_execution=log_pb2.RerunExecution(execution=5))).text == "5"
