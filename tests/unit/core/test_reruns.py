"""Running parts of a run again."""

from __future__ import annotations

import pytest
from support import commands
from support.driver import Driver
from support.flow import Flow

from horologe.log.v1 import log_pb2
from horologe.raft.commands import NO_RETRY, Outcome
from horologe.raft.model import Code, Condition

CHAIN = {"a": [], "b": ["a"], "c": ["b"], "d": ["a"]}


@pytest.fixture
def flow(machine: Driver) -> Flow:
    return Flow(machine)


def test_what_did_not_end_well_runs_again(flow: Flow) -> None:
    flow.create(CHAIN)
    root = flow.run()
    flow.end_all(root, failing=["b"])
    before = {name: flow.node(name, root) for name in CHAIN}
    assert flow.driver.state(root) == "FAILED"
    assert flow.rerun(root).numbers == (root, 2)
    assert flow.states(root) == {"a": "COMPLETED", "b": "QUEUED", "c": "-", "d": "COMPLETED"}
    assert flow.driver.state(root) == "RUNNING"
    assert flow.driver.counters.failed == 1, "only the node's"
    flow.end_all(root)
    assert flow.driver.state(root) == "COMPLETED"
    assert flow.driver.detail(root).reason == ""
    assert flow.node("a", root) == before["a"] and flow.node("d", root) == before["d"]
    assert flow.driver.state(before["b"]) == "FAILED", "its history stays"
    assert flow.driver.state(before["c"]) == "SKIPPED"


def test_one_node_and_all_after_it_run_again(flow: Flow) -> None:
    flow.create(CHAIN)
    root = flow.run()
    flow.end_all(root)
    assert flow.rerun(flow.node("b", root)).numbers == (root, 2)
    assert flow.states(root) == {"a": "COMPLETED", "b": "QUEUED", "c": "-", "d": "COMPLETED"}
    flow.end_all(root, failing=["c"])
    assert flow.driver.state(root) == "FAILED"


def test_a_node_that_was_skipped_runs_when_it_is_asked_for(flow: Flow) -> None:
    flow.create(CHAIN)
    root = flow.run()
    flow.end_all(root, failing=["b"])
    flow.rerun(flow.node("c", root))
    assert flow.states(root)["c"] == "QUEUED"
    flow.end_all(root)
    assert flow.driver.state(root) == "FAILED", "b did not run again"


def test_a_run_without_a_workflow(flow: Flow) -> None:
    flow.create(CHAIN, workflow="")
    root = flow.run("a")
    flow.fail("a", root)
    assert flow.states(root) == {"a": "FAILED", "b": "SKIPPED", "c": "SKIPPED", "d": "SKIPPED"}
    flow.rerun(root)
    assert flow.states(root) == {"a": "QUEUED", "b": "-", "c": "-", "d": "-"}
    flow.end_all(root)
    assert set(flow.states(root).values()) == {"COMPLETED"}
    assert flow.node("a", root) != root and flow.driver.state(root) == "FAILED"


def test_a_cancelled_run_goes_on(flow: Flow) -> None:
    flow.create(CHAIN)
    root = flow.run()
    flow.end("a", root)
    flow.driver.do(commands.cancel(root, "enough"))
    assert flow.driver.state(root) == "CANCELLED"
    flow.rerun(root)
    assert flow.states(root) == {"a": "COMPLETED", "b": "QUEUED", "c": "-", "d": "QUEUED"}
    flow.end_all(root)
    assert flow.driver.state(root) == "COMPLETED"


def test_an_alarm_is_decided_anew(flow: Flow) -> None:
    flow.create({"a": []})
    flow.put(flow.draft("alarm", ["a"], condition=Condition.ANY_FAILED))
    root = flow.run()
    flow.end_all(root, failing=["a"])
    assert flow.states(root) == {"a": "FAILED", "alarm": "COMPLETED"}
    flow.rerun(root)
    flow.end_all(root)
    assert flow.states(root) == {"a": "COMPLETED", "alarm": "COMPLETED"}, "what ended well is kept"


def test_refusals(flow: Flow) -> None:
    flow.create(CHAIN)
    flow.create({"alone": []}, workflow="")
    root = flow.run()
    assert flow.rerun(root).code is Code.RUN_UNFINISHED
    assert flow.rerun(flow.node("a", root)).code is Code.RUN_UNFINISHED
    flow.end_all(root)
    assert flow.rerun(root).code is Code.NOTHING_TO_RERUN
    alone = flow.run("alone")
    assert flow.rerun(alone).code is Code.NOT_IN_A_RUN
    assert flow.rerun(0).code is flow.rerun(99).code is Code.EXECUTION_NOT_FOUND
    assert flow.rerun(-1).code is Code.MALFORMED


def test_history_of_a_run_goes_with_its_root(flow: Flow) -> None:
    flow.create({"a": [], "b": ["a"]})
    root = flow.run()
    flow.end("a", root)
    everything = range(1, 10)
    late_ms = flow.driver.now_ms + 1
    assert flow.driver.do(commands.prune(late_ms, everything)).numbers[0] == 0, "the run is not over"
    flow.end("b", root)
    nodes = [flow.node("a", root), flow.node("b", root)]
    assert flow.driver.do(commands.prune(late_ms, nodes)).numbers[0] == 0, "the root is still there"
    assert flow.driver.do(commands.prune(late_ms, [root])).numbers[0] == 3
    flow.driver.check()
    assert flow.rerun(nodes[0]).code is Code.EXECUTION_NOT_FOUND
    assert flow.driver.do(commands.prune(late_ms, nodes)).numbers[0] == 0
    assert list(flow.driver.tables.run.scan()) == []


def test_a_job_that_is_gone_does_not_run_again(flow: Flow) -> None:
    flow.create({"a": [], "b": ["a"]})
    root = flow.run()
    flow.end_all(root, failing=["b"])
    flow.driver.do(commands.delete("b"))
    assert flow.rerun(root).code is Code.NOTHING_TO_RERUN
    assert flow.driver.state(root) == "FAILED"


def test_a_dead_letter_that_is_driven_again_takes_its_run_along(flow: Flow) -> None:
    flow.create(CHAIN)
    root = flow.run()
    flow.end("a", root)
    flow.end("b", root, Outcome.FAILED, delay_ms=NO_RETRY)
    flow.end("d", root)
    dead = flow.node("b", root)
    assert (flow.driver.state(root), flow.driver.state(dead)) == ("FAILED", "DEAD")
    redrive = log_pb2.Command(redrive_dead_letter={"execution": dead})
    assert flow.driver.do(redrive).code is Code.OK
    assert flow.driver.state(root) == "RUNNING"
    assert flow.states(root) == {"a": "COMPLETED", "b": "QUEUED", "c": "-", "d": "COMPLETED"}
    assert flow.rerun(root).code is Code.RUN_UNFINISHED
    flow.end_all(root)
    assert flow.driver.state(root) == "COMPLETED"
    assert flow.node("b", root) == dead


def test_what_runs_again_is_no_dead_letter_any_more(flow: Flow) -> None:
    flow.create(CHAIN)
    root = flow.run()
    flow.end("a", root)
    flow.end("b", root, Outcome.FAILED, delay_ms=NO_RETRY)
    flow.end("d", root)
    dead = flow.node("b", root)
    flow.rerun(root)
    assert flow.driver.counters.dead_letters == 0
    redrive = log_pb2.Command(redrive_dead_letter={"execution": dead})
    assert flow.driver.do(redrive).code is Code.DEAD_LETTER_NOT_FOUND


def test_a_run_stays_while_one_of_it_is_a_dead_letter(flow: Flow) -> None:
    flow.create({"a": [], "b": ["a"]})
    root = flow.run()
    flow.end("a", root, Outcome.FAILED, delay_ms=NO_RETRY)
    dead = flow.node("a", root)
    late_ms = flow.driver.now_ms + 1
    assert flow.driver.do(commands.prune(late_ms, [root, dead])).numbers[0] == 0
    assert flow.driver.do(commands.prune(late_ms, dead_letters=[dead])).numbers[3] == 1
    flow.driver.check()
    assert flow.driver.do(commands.prune(late_ms, [root])).numbers[0] == 3
    assert list(flow.driver.tables.execution.scan()) == []
    flow.driver.check()
