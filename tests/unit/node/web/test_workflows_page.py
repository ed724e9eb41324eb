"""Workflows: their list, and their graphs with how the nodes of a run stand."""

from __future__ import annotations

import re

from google.protobuf.struct_pb2 import Value
from runs_harness import HOSTILE, apply_workflow, create, run
from secure_harness import Role, SecureNode, bearer
from web_harness import browser

from horologe.node.web.graph import NODES_DRAWN_MAX
from horologe.raft.commands import GIVE_UP, Outcome
from horologe.raft.model import ExecutionState
from horologe.v1 import job_service_pb2

DIAMOND = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}


def end(node, number: int, outcome: Outcome = Outcome.SUCCEEDED, **detail: object) -> None:
    node.assign(number, node.open_session())
    node.complete(number, outcome, retry_delay_ms=GIVE_UP, **detail)


async def test_a_run_with_a_failing_node(node) -> None:
    await apply_workflow(node, DIAMOND)
    root = await run(node)
    end(node, root + 1, result=Value(string_value=HOSTILE))
    end(node, root + 2, Outcome.FAILED, error="broken")
    async with browser(node) as reader:
        page = (await reader.get("/workflows/default/etl")).text
        drawn = dict(re.findall(r'aria-label="(\w), (\w+)"', page))
        assert drawn == {"a": "completed", "b": "failed", "c": "queued", "d": "skipped"}
        for job, state in drawn.items():
            assert re.search(
                rf'<a href="[^"]*node={job}#node" aria-label="{job}, {state}">\s*<rect class="node {state}"', page
            )
        assert page.count('class="edge"') == 4
        assert 'hx-trigger="sse:changed"' in page
        end(node, root + 3)
        page = (await reader.get(f"/workflows/default/etl?run={root}&node=b")).text
        assert "Rerun what did not end well" in page
        assert "Rerun this and all after it" in page
        assert 'id="workflow" hx-get' not in page, "it is over"
        # What b got from a, and that it is as hostile as a user can make it.
        assert "&lt;script&gt;alert(1)" in page
        assert "<script>alert" not in page
        answer = await reader.post(f"/executions/default/etl/{root}/rerun")
        assert answer.headers["location"] == f"/workflows/default/etl?run={root}"
        states = dict(re.findall(r'aria-label="(\w), (\w+)"', (await reader.get("/workflows/default/etl")).text))
        assert states == {"a": "completed", "b": "queued", "c": "completed", "d": "undecided"}


async def test_it_is_begun_and_cancelled_as_a_whole(node) -> None:
    await apply_workflow(node, DIAMOND)
    async with browser(node) as reader:
        page = (await reader.get("/workflows/default/etl")).text
        assert "No run yet" in page
        fields = {"request_id": re.search(r'name="request_id" value="([^"]+)"', page)[1]}
        first = await reader.post("/workflows/default/etl/run", fields)
        assert (await reader.post("/workflows/default/etl/run", fields)).headers["location"] == first.headers[
            "location"
        ]
        root = int(first.headers["location"].rpartition("=")[2])
        page = (await reader.get(first.headers["location"])).text
        assert f'action="/executions/default/etl/{root}/cancel"' in page
        await reader.post(f"/executions/default/etl/{root}/cancel")
        assert node.execution(root).state == ExecutionState.CANCELLED


async def test_the_list(node) -> None:
    await apply_workflow(node, DIAMOND)
    await apply_workflow(node, {"x": ()}, "other")
    await create(node)
    root = await run(node)
    async with browser(node) as reader:
        page = (await reader.get("/workflows")).text
        assert re.findall(r'<a href="/workflows/default/(\w+)">', page) == ["etl", "other"]
        assert f'href="/workflows/default/etl?run={root}">#{root}</a> <span class="badge running">' in page
        assert "tick" not in page
        assert "<html" not in (await reader.part("/workflows")).text


async def test_jobs_that_are_after_one_job(node) -> None:
    """No workflow, and a graph as well."""
    await create(node)
    after = job_service_pb2.CreateJobRequest(job_id="then")
    after.job.schedules.add().after.jobs.append("tick")
    after.job.action.shell.script = "true"
    await node.jobs.CreateJob(after)
    async with browser(node) as reader:
        page = (await reader.get("/workflows/default/tick")).text
        assert dict(re.findall(r'aria-label="(\w+), (\w+)"', page)) == {"tick": "undecided", "then": "undecided"}


async def test_a_graph_of_many_jobs_stays_a_small_page(node) -> None:
    jobs = [f"j{number:03}" for number in range(NODES_DRAWN_MAX + 100)]
    await apply_workflow(
        node, {job: (before,) if before else () for before, job in zip(["", *jobs], jobs, strict=False)}
    )
    async with browser(node) as reader:
        page = (await reader.get("/workflows/default/etl")).text
        assert len(page) < 300_000
        assert "3 of 250 jobs are drawn" in page
        assert "from=60" in page
        page = (await reader.get("/workflows/default/etl?from=190&node=j220")).text
        assert "5 of 250 jobs are drawn: those around j220" in page
        assert "j249" in page


async def test_what_is_not_there(node) -> None:
    await apply_workflow(node, DIAMOND)
    async with browser(node) as reader:
        for address, status in (
            ("/workflows/default/nothing", 404),
            ("/workflows/default/etl?run=99", 404),
            ("/workflows/default/etl?run=x", 400),
            ("/workflows/default/etl?from=-1", 400),
        ):
            assert (await reader.get(address)).status_code == status, address
        assert (await reader.get("/workflows/default/etl?node=nothing")).status_code == 200


async def test_a_viewer_is_offered_nothing(tmp_path) -> None:
    async with SecureNode(tmp_path, insecure=False).serve() as node:
        head = job_service_pb2.CreateJobRequest(job_id="etl")
        head.job.schedules.add().manual.SetInParent()
        head.job.action.workflow.SetInParent()
        await node.jobs.CreateJob(head, metadata=bearer(node.admin))
        node.grant("ann", "default", Role.ROLE_VIEWER)
        async with browser(node, node.token("ann")) as reader:
            page = (await reader.get("/workflows/default/etl")).text
            assert "<form" not in page.partition("<main")[2].partition("</main>")[0]
            assert (await reader.post("/workflows/default/etl/run")).status_code == 403
