"""One real node, one real worker: workflows with their results, templates, failures, reruns and cancellations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from one_node import OneNode, one_node

from horologe.chaos.cluster import eventually
from horologe.client import jobs
from horologe.client.async_client import AsyncClient
from horologe.client.context import Context, PermanentError
from horologe.client.errors import FailedPrecondition, InvalidArgument
from horologe.v1.execution_pb2 import Execution
from horologe.v1.job_pb2 import Job

STAGES = [[f"s{stage}-{number}" for number in range(10)] for stage in range(5)]
State = Execution.State


def _member(name: str, action: Any, after: list[str], **options: Any) -> Job:
    schedule = jobs.after(after, condition=options.pop("condition", "")) if after else jobs.manual()
    return jobs.job(name, schedule, action, workflow="etl", retry=jobs.retry(max_attempts=1), **options)


async def _states(client: AsyncClient, run: int = 0) -> dict[str, str]:
    found = await client.get_workflow("etl", run=run)
    return {node.job: State.Name(node.execution.state).removeprefix("STATE_") for node in found.workflow.nodes}


async def test_fifty_jobs_one_of_which_fails(tmp_path: Path) -> None:
    """Five stages of ten: each job adds one to the sum of what the stage before it returned."""
    broken = {"s1-7"}

    async with one_node(tmp_path) as here:

        @here.worker.handler("add")
        async def add(context: Context) -> dict[str, int]:
            if context.job in broken:
                raise PermanentError("broken")
            stage = int(context.job[1])
            above = [context.upstream[name].result["sum"] for name in STAGES[stage - 1]] if stage else []
            assert len(context.upstream) == 10 * stage, "and those before them"
            return {"sum": sum(above) + 1}

        made = [jobs.job("etl", jobs.manual(), jobs.workflow())]
        for stage, names in enumerate(STAGES):
            before = STAGES[stage - 1] if stage else []
            made += [_member(name, jobs.python("add"), before) for name in names]
        await here.client.apply_jobs(made)
        run = await here.client.run_job("etl")
        ended = await here.client.wait_execution(run.name, timeout=60)
        assert ended.state == State.STATE_FAILED
        assert ended.reason == "did not end well: s1-7 FAILED"
        states = await _states(here.client)
        assert [states.pop("s1-7"), *(states[name] for name in STAGES[0])] == ["FAILED", *["COMPLETED"] * 10]
        assert {states[name] for name in STAGES[1] if name in states} == {"COMPLETED"}
        assert {states[name] for stage in STAGES[2:] for name in stage} == {"SKIPPED"}
        kept = (await here.client.get_workflow("etl")).workflow.nodes[0].execution.name

        broken.clear()
        again = await here.client.rerun_execution(run.name)
        assert (again.name, again.state) == (run.name, State.STATE_RUNNING)
        ended = await here.client.wait_execution(run.name, timeout=60)
        assert ended.state == State.STATE_COMPLETED and not ended.reason
        assert set((await _states(here.client)).values()) == {"COMPLETED"}
        found = await here.client.get_workflow("etl")
        assert found.workflow.nodes[0].execution.name == kept, "what ended well has not run again"
        last = await here.client.get_execution(found.workflow.nodes[-1].execution.name)
        assert last.result.struct_value["sum"] == 1 + 10 * (1 + 10 * (1 + 10 * (1 + 10 * 1)))
        assert last.root == run.name
        assert [one.name async for one in here.client.list_runs("etl")] == [run.name]


async def _shell_flow(here: OneNode, load: Any) -> str:
    @here.worker.handler("extract")
    async def extract(context: Context) -> dict[str, object]:
        return {"rows": 42, "files": ["a b", "c"]}

    await here.client.apply_jobs(
        [
            jobs.job("etl", jobs.manual(), jobs.workflow()),
            _member("extract", jobs.python("extract"), []),
            _member("load", load, ["extract"]),
        ]
    )
    run = await here.client.run_job("etl")
    await here.client.wait_execution(run.name, timeout=60)
    found = await here.client.get_workflow("etl")
    return found.workflow.nodes[-1].execution.name


async def test_results_are_templates_in_arguments(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        argv = [
            "printf",
            "%s|",
            "{{ upstream.extract.result.rows }}",
            "{{ upstream.extract.result.files[0] }}",
            "$HOME",
        ]
        name = await _shell_flow(here, jobs.shell([*argv, "{{ execution.id }}", "{{ due_time[:4] }}"]))
        year = (await here.client.get_execution(name)).due_time.ToDatetime().year
        assert (await here.output(name))["STDOUT"].decode() == f"42|a b|$HOME|{name.rpartition('/')[2]}|{year}|"


async def test_a_part_that_is_not_there_fails_without_a_retry(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        name = await _shell_flow(here, jobs.shell(["echo", "{{ upstream.extract.result.columns }}"]))
        execution = await here.client.get_execution(name)
        assert execution.state == State.STATE_FAILED
        assert "argv[1]: the template cannot be rendered" in execution.reason
        assert "columns" in execution.reason


async def test_what_is_refused_at_creation(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        etl, extract = jobs.job("etl", jobs.manual(), jobs.workflow()), _member("extract", jobs.shell(["true"]), [])
        with pytest.raises(InvalidArgument) as unknown:
            await here.client.apply_jobs([_member("a", jobs.shell(["echo", "{{ upstream.extract.result }}"]), []), etl])
        assert "'extract' is not upstream of this job: this job is after no other" in str(unknown.value)
        with pytest.raises(InvalidArgument) as literal:
            await here.client.create_job(
                jobs.job("ps", jobs.manual(), jobs.shell(["docker", "ps", "--format", "{{.ID}}"]))
            )
        assert "{% raw %}" in str(literal.value)
        with pytest.raises(InvalidArgument) as cycle:
            members = [_member(name, jobs.shell(["true"]), [above]) for name, above in ("ab", "bc", "ca")]
            await here.client.apply_jobs([etl, *members])
        assert cycle.value.reason == "CYCLE"
        assert "a -> c -> b -> a" in str(cycle.value)
        await here.client.apply_jobs([etl, extract, _member("load", jobs.shell(["true"]), ["extract"])])
        with pytest.raises(FailedPrecondition) as kept:
            await here.client.delete_job("extract")
        assert "others are after namespaces/default/jobs/extract: load" in str(kept.value)


async def test_a_run_is_cancelled_as_a_whole(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        await here.client.apply_jobs(
            [
                jobs.job("etl", jobs.manual(), jobs.workflow()),
                _member("one", jobs.python("hold", 60), []),
                _member("two", jobs.python("hold", 60), []),
                _member("last", jobs.shell(["true"]), ["one", "two"], condition="all_done"),
            ]
        )
        run = await here.client.run_job("etl")

        async def both_run() -> bool:
            return here.running["one"] == here.running["two"] == 1

        await eventually(both_run, 60, "two members run")
        await here.client.cancel_execution(run.name, reason="enough")
        ended = await here.client.wait_execution(run.name, timeout=60)
        assert (ended.state, ended.reason) == (State.STATE_CANCELLED, "enough")
        assert await _states(here.client) == {"one": "CANCELLED", "two": "CANCELLED", "last": "SKIPPED"}
        assert here.running.total() == 0
