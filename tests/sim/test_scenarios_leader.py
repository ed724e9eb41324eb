"""Scenarios 10 to 16: a leader is lost, or believes that it leads, at the worst moment.

Each moment is found by log order and disk, never by dice: `run_to` stops at the event with which something begins to hold, and
what would follow from it has not left the node yet.
"""

from __future__ import annotations

from support.story import Story

from horologe.chaos.evidence import Kind
from horologe.client import jobs


def test_scenario_10_leader_dies_after_fire_before_assign() -> None:
    """The new leader finds the execution queued and assigns it; the due time runs once."""
    with Story(workers=0) as story:
        story.begin()
        story.create("once", jobs.after_delay("1s"))
        story.run_to(lambda: story.counters().fired == 1, what="the firing is committed")
        first = story.the_leader()
        assert story.state() == "QUEUED" and not story.execution().token
        story.crash(first)
        story.add_worker("w1").start()
        story.run_until(lambda: story.state() == "COMPLETED")
        assert story.leader() != first
        story.restart(first)
        story.settle()
        assert len(story.starts()) == 1
        assert [row[1:] for row in story.ledger()] == [("RAN", "", 1)]


def test_scenario_11_leader_dies_after_assign_before_dispatch() -> None:
    """The worker comes back to another node, which sends what the state has for it: the same attempt under the same token."""
    with Story() as story:
        story.begin()
        story.create("task")
        leader = story.lead_at_gateway()
        story.begin_to_run("task")
        story.run_to(lambda: story.counters(leader).running == 1, what="the assignment is committed")
        assert not story.starts()
        story.crash(leader)
        story.run_until(lambda: len(story.ends()) == 1)
        story.restart(leader)
        story.settle()
        [start] = story.starts()
        assert story.attempts() == [(start.token, "SUCCEEDED")]


def test_scenario_12_leader_dies_after_dispatch_before_the_workers_answer() -> None:
    """The worker keeps running and goes to the new leader with what it holds; nothing starts a second time."""
    with Story() as story:
        story.begin()
        story.create("task", seconds=3.0)
        leader = story.lead_at_gateway()
        story.begin_to_run("task")
        story.run_to(lambda: bool(story.starts()), what="the start")
        story.crash(leader)
        story.run_until(lambda: story.leader() not in (None, leader) and story.gateway("w1") != leader)
        assert story.state() == "RUNNING"
        story.restart(leader)
        story.settle()
        [start] = story.starts()
        assert story.attempts() == [(start.token, "SUCCEEDED")]


def test_scenario_13_leader_dies_with_an_outcome_that_is_not_committed() -> None:
    """The worker keeps the outcome until it is acknowledged, and reports it to the next leader: one final record."""
    with Story() as story:
        story.begin()
        story.create("task", seconds=1.0)
        leader = story.lead_at_gateway()
        number = story.run_job("task")
        story.run_to(lambda: "complete" in story.uncommitted(leader), what="the outcome is in the leader's log")
        assert story.state(number) == "RUNNING"
        story.crash(leader)
        story.run_until(lambda: story.state(number) == "COMPLETED")
        story.restart(leader)
        story.settle()
        assert len(story.starts()) == 1
        assert story.observer.counts["outcomes recorded"] == 1


def test_scenario_14_outcome_is_committed_and_its_acknowledgement_is_lost() -> None:
    """The worker reports again and hears that it is recorded already; it counts once."""
    with Story() as story:
        story.begin()
        story.create("task", seconds=1.0)
        lost = story.swallow("result_acks")
        number = story.run_job("task")
        story.run_until(lambda: len(lost) == 1)
        assert story.state(number) == "COMPLETED"
        story.run_until(lambda: story.observer.counts["outcomes recorded"] == 2, what="the outcome is reported again")
        story.settle()
        story.run_until(lambda: story.is_idle("w1"))
        assert story.counters().completed == 1 and story.counters().refused_tokens == 0
        assert len(story.starts()) == 1


def test_scenario_14_outcome_is_committed_and_the_stream_breaks_before_its_acknowledgement() -> None:
    """The worker still holds it when it comes back, and learns from the welcome that it is settled."""
    with Story() as story:
        story.begin()
        story.create("task", seconds=1.0)
        story.swallow("result_acks")
        number = story.run_job("task")
        story.run_until(lambda: story.counters().completed == 1)
        assert not story.is_idle("w1")
        story.network.break_connections("w1", story.gateway("w1"))
        story.run_until(lambda: story.is_idle("w1"))
        story.settle()
        assert story.state(number) == "COMPLETED" and story.counters().refused_tokens == 0
        assert len(story.starts()) == 1


def test_scenario_15_isolated_leader_with_its_workers() -> None:
    """It can commit nothing and renews nothing: its worker stops in time, and what it had runs elsewhere under a new token."""
    with Story(workers=2) as story:
        story.begin()
        story.create("task", seconds=20.0)
        number = story.run_job("task")
        story.run_until(lambda: len(story.starts()) == 1)
        [holder, other] = story.holder_first(number)
        leader = story.lead_at_gateway(holder)
        story.run(1.0)
        story.partition([leader, holder], [*story.others(leader), other, "c1"])
        story.run_until(lambda: story.leader() not in (None, leader))
        committed = story.committed(leader)
        story.run_until(lambda: len(story.starts(number)) == 2, what="the second attempt")
        assert story.committed(leader) == committed, "the isolated leader has committed something"
        assert Kind.STOPPED in [mark.kind for mark in story.marks]
        story.heal()
        story.settle()
        [lost, last] = story.attempts(number)
        assert lost[1] == "LOST" and last == (story.starts()[1].token, "SUCCEEDED")
        assert story.counters().refused_tokens == 0, "what a worker has stopped it does not report"


def test_scenario_16_both_leaders_assign_the_same_due_time() -> None:
    """Only one assignment is ever committed. Should a worker get one twice nevertheless, it drops the second."""
    with Story(workers=2) as story:
        story.begin()
        story.repeat("assignments")
        story.create("once", jobs.after_delay("2s"), seconds=1.0)
        old = story.the_leader()
        story.run(1.8)
        story.partition([old], [*story.others(old), "c1", "w1", "w2"])
        story.run_to(lambda: "plan" in story.uncommitted(old), what="the old leader fires and assigns")
        story.run_until(lambda: len(story.starts()) == 1, what="the new leader fires and assigns")
        assert story.leader() != old and "plan" in story.uncommitted(old)
        story.heal()
        story.settle()
        [start] = story.starts()
        assert story.attempts() == [(start.token, "SUCCEEDED")]
        assert [row[1:] for row in story.ledger()] == [("RAN", "", 1)]
