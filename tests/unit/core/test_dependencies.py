"""Which jobs may be after which, and what is said of those that may not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support import commands
from support.driver import Driver
from support.flow import Flow

from horologe.log.v1 import log_pb2
from horologe.raft import dependencies
from horologe.raft.model import Code, JobFlag, Result


@pytest.fixture
def flow(machine: Driver) -> Flow:
    return Flow(machine)


def test_a_cycle_is_named(flow: Flow) -> None:
    result = flow.put(flow.draft("a", ["c"], ""), flow.draft("b", ["a"], ""), flow.draft("c", ["b"], ""))
    assert result == Result(Code.CYCLE, text="a -> b -> c -> a")
    assert flow.put(flow.draft("a", ["a"], "")) == Result(Code.CYCLE, text="a -> a")
    assert flow.driver.counters.jobs == 0


def test_a_cycle_through_what_is_stored(flow: Flow) -> None:
    flow.create({"a": [], "b": ["a"], "c": ["b"], "d": ["c"]})
    result = flow.put(flow.draft("b", ["d"]))
    assert result == Result(Code.CYCLE, text="b -> c -> d -> b")
    assert list(flow.driver.job(flow.job("b")).job.schedules[0].after.jobs) == ["a"]


def test_names_have_to_be_there(flow: Flow) -> None:
    assert flow.put(flow.draft("a", ["x", "y"], "")) == Result(Code.UPSTREAM_NOT_FOUND, text="a is after x, y")
    assert flow.put(flow.draft("a")) == Result(Code.WORKFLOW_NOT_FOUND, text="a names the workflow flow")
    flow.create({"a": []}, workflow="")
    result = flow.put(flow.draft("b", workflow="a"))
    assert result == Result(Code.WORKFLOW_NOT_FOUND, text="b names the workflow a")


def test_one_origin(flow: Flow) -> None:
    flow.create({"a": [], "b": [], "c": ["a"]}, workflow="")
    result = flow.put(flow.draft("d", ["c", "b"], ""))
    assert result == Result(Code.ORIGINS_DIFFER, text="d is after jobs of different runs: of a, b")
    assert flow.put(flow.draft("d", ["c", "a"], "")).code is Code.OK


def test_an_origin_that_changes_below_is_noticed(flow: Flow) -> None:
    flow.create({"a": [], "b": [], "c": ["a"], "d": ["a", "c"]}, workflow="")
    result = flow.put(flow.draft("c", ["b"], ""))
    assert result == Result(Code.ORIGINS_DIFFER, text="d is after jobs of different runs: of a, b")


def test_in_a_workflow_or_not(flow: Flow) -> None:
    flow.create({"a": [], "b": ["a"]})
    flow.create({"x": []}, workflow="")
    result = flow.put(flow.draft("c", ["a"], ""))
    assert result == Result(Code.ORIGINS_DIFFER, text="c is after jobs of the workflow flow and not in it")
    result = flow.put(flow.draft("c", ["x"]))
    assert result == Result(Code.ORIGINS_DIFFER, text="c is in the workflow flow and after jobs that are not")
    result = flow.put(flow.draft("a", [], ""))
    assert result == Result(Code.ORIGINS_DIFFER, text="b is in the workflow flow and after jobs that are not")
    inner = commands.draft(commands.job("inner", every_ms=0, is_workflow=True, workflow="flow"))
    assert flow.put(inner).text == "inner is a workflow, and a workflow is after nothing"


def test_a_workflow_stays_one(flow: Flow) -> None:
    flow.create({"a": []})
    assert flow.put(flow.draft("flow", workflow="")) == Result(Code.KIND_CHANGED, text="flow")
    assert flow.put(commands.draft(commands.job("a", is_workflow=True))).code is Code.KIND_CHANGED


def test_who_has_others_after_it_stays(flow: Flow) -> None:
    flow.create({"a": [], "b": ["a"], "c": ["a"]})
    assert flow.driver.do(commands.delete("a")) == Result(Code.HAS_DEPENDANTS, text="a: b, c")
    assert flow.driver.do(commands.delete("flow")) == Result(Code.HAS_DEPENDANTS, text="flow: a")
    for name in ("b", "c", "a", "flow"):
        assert flow.driver.do(commands.delete(name)).code is Code.OK
    assert list(flow.driver.tables.upstream.scan()) == list(flow.driver.tables.downstream.scan()) == []


def test_edges_follow_the_definition(flow: Flow) -> None:
    flow.create({"a": [], "b": [], "c": ["a"]})
    flow.put(flow.draft("c", ["b"]))
    assert not flow.driver.job_state(flow.job("a")).flags & JobFlag.UPSTREAM
    assert flow.driver.job_state(flow.job("b")).flags & JobFlag.UPSTREAM
    root = flow.run()
    flow.end("b", root)
    assert flow.states(root) == {"a": "RUNNING", "b": "COMPLETED", "c": "QUEUED"}


def test_sizes(flow: Flow) -> None:
    flow.create({f"n{number}": [] for number in range(999)})
    assert flow.put(flow.draft("n999")).code is Code.OK
    result = flow.put(flow.draft("n1000"))
    assert result == Result(Code.WORKFLOW_TOO_LARGE, text="flow would have more than 1000 jobs")
    result = flow.put(flow.draft("n999", [f"n{number}" for number in range(101)]))
    assert result.code is Code.WORKFLOW_TOO_LARGE
    assert "n999 would be next to 101 jobs" in result.text


def test_what_one_command_concerns(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what is beside it: all jobs of the workflows that it changes are counted."""
    flow.create({f"n{number}": [] for number in range(30)})
    monkeypatch.setattr(dependencies, "LOOKED_AT_MAX", 20)
    result = flow.put(flow.draft("n0", ["n1"]))
    assert result.code is Code.WORKFLOW_TOO_LARGE and "more than 20 jobs; split it" in result.text
    monkeypatch.setattr(dependencies, "LOOKED_AT_MAX", 31)
    assert flow.put(flow.draft("n0", ["n1"])).code is Code.OK


def test_edges_of_one_command(flow: Flow) -> None:
    flow.create({f"a{number}": [] for number in range(100)})
    above = [f"a{number}" for number in range(100)]
    result = flow.put(*[flow.draft(f"b{number}", above) for number in range(101)])
    assert result.code is Code.WORKFLOW_TOO_LARGE and "10100 others" in result.text
    assert flow.put(*[flow.draft(f"b{number}", above) for number in range(100)]).code is Code.OK
    root = flow.run()
    flow.end_all(root)
    assert flow.driver.state(root) == "COMPLETED"


def test_a_long_chain(flow: Flow) -> None:
    flow.create({f"n{number}": [f"n{number - 1}"] if number else [] for number in range(1_000)})
    result = flow.put(flow.draft("n0", ["n999"]))
    assert result.code is Code.CYCLE
    root = flow.run()
    flow.driver.do(commands.cancel(root))
    assert flow.driver.state(root) == "CANCELLED"


def test_forms_that_nobody_writes_are_refused(flow: Flow) -> None:
    odd = flow.draft("b", ["a"], "")
    odd.job.schedules[0].after.condition = 9  # type: ignore[assignment]
    assert flow.put(odd).code is Code.MALFORMED
    assert flow.put(flow.draft("b", ["x" * 600], "")).code is Code.MALFORMED
    assert flow.put(flow.draft("b", workflow="x" * 600)).code is Code.MALFORMED


def test_what_goes_together(flow: Flow) -> None:
    """Deletions and changes of one command are looked at as one."""
    flow.create({"a": [], "b": ["a"], "c": ["b"], "d": ["a"]})

    def put(*drafts: log_pb2.JobDraft, gone: Sequence[str]) -> Result:
        command = commands.put(commands.APPLY, *drafts)
        command.put_jobs.deletions.extend(log_pb2.DeleteJob(name=name) for name in gone)
        return flow.driver.do(command)

    assert put(gone=["b"]) == Result(Code.HAS_DEPENDANTS, text="b: c")
    assert put(flow.draft("d", ["b"]), gone=["b", "c"]) == Result(Code.UPSTREAM_NOT_FOUND, text="d is after b")
    assert put(flow.draft("c", ["a"]), gone=["b"]).code is Code.OK
    root = flow.run()
    flow.end("a", root)
    assert flow.states(root) == {"a": "COMPLETED", "c": "QUEUED", "d": "QUEUED"}
    assert put(gone=["flow", "a", "c", "d"]).code is Code.OK
