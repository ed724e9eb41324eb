"""Runs of jobs that are after one another: which nodes start, which are skipped, how the whole ends."""

from __future__ import annotations

import pytest
from support import commands
from support.driver import Driver
from support.flow import Flow

from horologe.raft.model import Condition, ExecutionFlag, Overlap, Trigger

DIAMOND = {"extract": [], "left": ["extract"], "right": ["extract"], "load": ["left", "right"]}
"""The usual one."""


@pytest.fixture
def flow(machine: Driver) -> Flow:
    return Flow(machine)


def test_a_workflow_runs_its_members_in_order(flow: Flow) -> None:
    flow.create(DIAMOND)
    root = flow.run()
    assert flow.driver.state(root) == "RUNNING"
    assert flow.states(root) == {"extract": "QUEUED", "left": "-", "right": "-", "load": "-"}
    flow.end("extract", root)
    assert flow.states(root) == {"extract": "COMPLETED", "left": "QUEUED", "right": "QUEUED", "load": "-"}
    flow.end("left", root)
    assert flow.states(root)["load"] == "-"
    flow.end("right", root)
    assert flow.states(root)["load"] == "QUEUED"
    assert flow.driver.state(root) == "RUNNING"
    flow.end("load", root)
    assert flow.driver.state(root) == "COMPLETED"
    load = flow.driver.execution(flow.node("load", root))
    assert load.trigger == Trigger.DEPENDENCY
    assert load.root == root and load.due_ms == flow.driver.execution(root).due_ms
    assert load.flags & ExecutionFlag.HAS_UPSTREAM


def test_a_job_that_others_are_after_begins_a_run(flow: Flow) -> None:
    flow.create({"extract": [], "load": ["extract"]}, workflow="")
    first = flow.run("extract")
    flow.end("extract", first)
    assert flow.states(first) == {"extract": "COMPLETED", "load": "QUEUED"}
    flow.end("load", first)
    assert flow.states(first) == {"extract": "COMPLETED", "load": "COMPLETED"}
    assert flow.driver.execution(flow.node("load", first)).root == first


def test_who_comes_after_a_job_while_it_runs_is_in_its_run(flow: Flow) -> None:
    flow.create({"extract": []}, workflow="")
    first = flow.run("extract")
    flow.create({"load": ["extract"]}, workflow="")
    flow.end("extract", first)
    assert flow.states(first) == {"extract": "COMPLETED", "load": "QUEUED"}


def test_what_cannot_run_is_skipped_with_all_that_is_after_it(flow: Flow) -> None:
    flow.create(DIAMOND | {"report": ["load"], "audit": ["extract"]})
    root = flow.run()
    flow.end("extract", root)
    flow.fail("left", root)
    assert flow.states(root)["load"] == flow.states(root)["report"] == "SKIPPED"
    assert flow.driver.state(root) == "RUNNING"
    flow.end("right", root)
    flow.end("audit", root)
    assert flow.driver.state(root) == "FAILED"
    assert flow.driver.detail(root).reason == "did not end well: left FAILED"
    number = flow.node("report", root)
    assert flow.driver.ledger(flow.job("report"))[0][3:] == ("SKIPPED", "upstream", number)
    assert flow.driver.detail(number).reason == "upstream: load SKIPPED"
    assert flow.driver.detail(flow.node("load", root)).reason == "upstream: left FAILED"
    assert flow.driver.job_state(flow.job("report")).skipped == 1


@pytest.mark.parametrize(
    ("condition", "outcomes", "expected"),
    [
        (Condition.ALL_SUCCEEDED, "++", "QUEUED"),
        (Condition.ALL_SUCCEEDED, "+-", "SKIPPED"),
        (Condition.ALL_SUCCEEDED, "-", "SKIPPED"),
        (Condition.ALL_SUCCEEDED, "+", "-"),
        (Condition.ALL_DONE, "-", "-"),
        (Condition.ALL_DONE, "--", "QUEUED"),
        (Condition.ALL_DONE, "+-", "QUEUED"),
        (Condition.ANY_SUCCEEDED, "+", "QUEUED"),
        (Condition.ANY_SUCCEEDED, "-", "-"),
        (Condition.ANY_SUCCEEDED, "-+", "QUEUED"),
        (Condition.ANY_SUCCEEDED, "--", "SKIPPED"),
        (Condition.ANY_FAILED, "-", "QUEUED"),
        (Condition.ANY_FAILED, "+", "-"),
        (Condition.ANY_FAILED, "+-", "QUEUED"),
        (Condition.ANY_FAILED, "++", "SKIPPED"),
    ],
)
def test_conditions(flow: Flow, condition: Condition, outcomes: str, expected: str) -> None:
    flow.create({"a": [], "b": []})
    flow.put(flow.draft("last", ["a", "b"], condition=condition))
    root = flow.run()
    for name, outcome in zip("ab", outcomes, strict=False):
        (flow.end if outcome == "+" else flow.fail)(name, root)
    assert flow.states(root)["last"] == expected


def test_a_condition_that_is_met_early_starts_once(flow: Flow) -> None:
    flow.create({"a": [], "b": []})
    flow.put(flow.draft("last", ["a", "b"], condition=Condition.ANY_SUCCEEDED))
    root = flow.run()
    flow.end("a", root)
    flow.end("last", root)
    assert flow.driver.state(root) == "RUNNING"
    flow.end("b", root)
    assert flow.driver.state(root) == "COMPLETED"
    assert flow.driver.job_state(flow.job("last")).executions == 1


def test_a_definition_that_changes_on_the_way_is_counted_anew(flow: Flow) -> None:
    flow.create({"a": [], "b": [], "c": [], "last": ["a", "b"]})
    root = flow.run()
    flow.end("a", root)
    flow.put(flow.draft("last", ["a", "b", "c"]))
    flow.end("b", root)
    assert flow.states(root)["last"] == "-"
    flow.end("c", root)
    assert flow.states(root)["last"] == "QUEUED"


def test_a_run_does_not_wait_for_what_does_not_come_any_more(flow: Flow) -> None:
    flow.create({"a": [], "b": [], "last": ["a", "b"]})
    root = flow.run()
    flow.end("a", root)
    flow.put(flow.draft("last", ["a"]))
    flow.end("b", root)
    assert flow.states(root)["last"] == "-", "nothing told it"
    assert flow.driver.state(root) == "COMPLETED"
    assert list(flow.driver.tables.tally.scan()) == []


def test_retries_are_not_the_end(flow: Flow) -> None:
    flow.create({"a": [], "b": ["a"]})
    root = flow.run()
    flow.end("a", root, commands.records.Outcome.FAILED, delay_ms=0)
    assert flow.states(root) == {"a": "QUEUED", "b": "-"}
    flow.end("a", root)
    flow.end("b", root)
    assert flow.driver.state(root) == "COMPLETED"


def test_two_runs_at_once_keep_apart(flow: Flow) -> None:
    flow.create(DIAMOND)
    first, second = flow.run(), flow.run()
    flow.fail("extract", first)
    flow.end("extract", second)
    assert flow.driver.state(first) == "FAILED"
    assert flow.states(second) == {"extract": "COMPLETED", "left": "QUEUED", "right": "QUEUED", "load": "-"}
    flow.end_all(second)
    assert flow.driver.state(second) == "COMPLETED"
    assert set(flow.states(first).values()) == {"FAILED", "SKIPPED"}


def test_a_node_whose_own_policy_says_no_is_skipped(flow: Flow) -> None:
    flow.create({"extract": []})
    flow.put(flow.draft("load", ["extract"], overlap=Overlap.SKIP), flow.draft("report", ["load"]))
    first, second = flow.run(), flow.run()
    flow.end("extract", first)
    flow.end("extract", second)
    assert flow.states(second) == {"extract": "COMPLETED", "load": "SKIPPED", "report": "SKIPPED"}
    assert [row[4] for row in flow.driver.ledger(flow.job("load"))] == ["", "overlap"]
    assert flow.driver.state(second) == "COMPLETED", "nothing of it ended badly"


def test_a_paused_node_is_skipped(flow: Flow) -> None:
    flow.create({"extract": [], "load": ["extract"]})
    flow.driver.do(commands.pause("load"))
    root = flow.run()
    flow.end("extract", root)
    assert flow.states(root)["load"] == "SKIPPED"
    assert flow.driver.ledger(flow.job("load"))[0][4] == "paused"


def test_an_empty_workflow_is_complete(flow: Flow) -> None:
    flow.create({})
    root = flow.run()
    assert flow.driver.state(root) == "COMPLETED"


def test_a_workflow_falls_due_like_any_job(flow: Flow) -> None:
    flow.create({"extract": []}, workflow="")
    due_ms = flow.driver.now_ms + 60_000
    made = commands.job("flow", is_workflow=True)
    flow.driver.do(commands.put(commands.APPLY, commands.draft(made, due_ms)))
    flow.put(flow.draft("a"), flow.draft("b", ["a"]))
    job = flow.job("flow")
    revision = flow.driver.job(job).revision
    record = commands.fire(job, revision, due_ms, due_ms + 60_000, session=flow.session)
    flow.driver.do(commands.plan(fires=[record]), after_ms=60_000)
    root = flow.driver.counters.last_execution - 1
    assert flow.driver.execution(root).due_ms == flow.driver.execution(root + 1).due_ms == due_ms
    assert flow.driver.effects.assigned == [], "no worker is asked to run a workflow"
    flow.end_all(root)
    assert flow.driver.state(root) == "COMPLETED"


def test_a_workflow_waits_in_line_like_any_job(flow: Flow) -> None:
    flow.create({"extract": []})
    made = commands.job("flow", every_ms=0, is_workflow=True, overlap=Overlap.QUEUE_ONE)
    flow.driver.do(commands.put(commands.APPLY, commands.draft(made)))
    first, second = flow.run(), flow.run()
    assert flow.driver.state(second) == "SCHEDULED"
    flow.end("extract", first)
    assert (flow.driver.state(first), flow.driver.state(second)) == ("COMPLETED", "RUNNING")
    flow.end("extract", second)
    assert flow.driver.state(second) == "COMPLETED"


def test_a_cancelled_run_starts_nothing_any_more(flow: Flow) -> None:
    flow.create({"a": [], "b": [], "c": ["a"]})
    flow.put(flow.draft("cleanup", ["a", "b"], condition=Condition.ALL_DONE))
    root = flow.run()
    flow.start()
    flow.driver.do(commands.cancel(root, "enough"))
    assert [number for _, number, *_ in flow.driver.effects.cancelled] == [
        flow.node("a", root),
        flow.node("b", root),
    ]
    assert flow.driver.state(root) == "RUNNING"
    flow.end("a", root, commands.records.Outcome.CANCELLED)
    flow.end("b", root)
    assert flow.states(root) == {"a": "CANCELLED", "b": "COMPLETED", "c": "SKIPPED", "cleanup": "SKIPPED"}
    assert flow.driver.state(root) == "CANCELLED"
    assert flow.driver.detail(root).reason == "enough"
    assert flow.driver.ledger(flow.job("c"))[0][4] == "run_cancelled"


def test_what_waits_is_cancelled_at_once(flow: Flow) -> None:
    flow.create({"a": [], "b": ["a"]})
    root = flow.run()
    flow.driver.do(commands.cancel(root))
    assert flow.states(root) == {"a": "CANCELLED", "b": "SKIPPED"}
    assert flow.driver.state(root) == "CANCELLED"


def test_a_member_that_runs_by_hand_begins_a_run_of_its_own(flow: Flow) -> None:
    flow.create(DIAMOND)
    number = flow.run("left")
    flow.end("left", number)
    assert flow.states(number) == {"extract": "-", "left": "COMPLETED", "right": "-", "load": "-"}


def test_fifty_jobs_with_one_that_fails(flow: Flow) -> None:
    """Five stages of ten: each job is after all of the stage before it, the last stage is after everything, however it ended."""
    stages = [[f"s{stage}-{number}" for number in range(10)] for stage in range(5)]
    edges = {name: stages[stage - 1] if stage else [] for stage, names in enumerate(stages[:4]) for name in names}
    flow.create(edges)
    flow.put(*[flow.draft(name, stages[3], condition=Condition.ALL_DONE) for name in stages[4]])
    root = flow.run()
    flow.end_all(root, failing=["s1-7"])
    states = flow.states(root)
    expected = dict.fromkeys(stages[0] + stages[1], "COMPLETED") | dict.fromkeys(stages[2] + stages[3], "SKIPPED")
    expected |= dict.fromkeys(stages[4], "COMPLETED") | {"s1-7": "FAILED"}
    assert states == expected
    assert flow.driver.state(root) == "FAILED"
    kept = flow.node("s1-3", root)
    assert flow.rerun(root).numbers == (root, 21)
    assert flow.driver.state(root) == "RUNNING"
    flow.end_all(root)
    assert set(flow.states(root).values()) == {"COMPLETED"}
    assert flow.driver.state(root) == "COMPLETED"
    assert flow.node("s1-3", root) == kept
    assert flow.driver.job_state(flow.job("s1-7")).executions == 2
