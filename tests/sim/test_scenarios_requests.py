"""Scenarios 29 to 36: requests that are repeated or race with what falls due, and clusters that lose most of their nodes."""

from __future__ import annotations

import pytest
from support.story import Story

from horologe.chaos.evidence import Kind
from horologe.chaos.sim.clocks import START_MS
from horologe.client import jobs
from horologe.client.errors import HorologeError, Unavailable

A_REQUEST = "8a7c1fd4-6a54-4d5e-9f0e-2f5d1c6f4b11"
TASK = jobs.job("task", jobs.manual(), jobs.python("work"))
TICK = jobs.job("tick", jobs.every("1s"), jobs.python("work"))


# Repeated requests


def test_scenario_29_request_is_repeated_on_another_node_after_a_failover() -> None:
    """The first node takes the job in and dies before it can say so. The caller asks the others, with the same request id: one
    job, and the same answer on every node."""
    with Story(workers=0) as story:
        story.begin()
        # The caller asks n1 first.
        story.lead("n1")
        call = story.begin_to("create task", lambda sdk, _: sdk.create_job(TASK, request_id=A_REQUEST))
        story.run_to(lambda: story.counters("n1").jobs == 1, what="the job is committed")
        story.crash("n1")
        story.run_until(lambda: call.is_over)
        assert call.error is None
        story.restart("n1")
        story.run_until(story.is_converged)
        for name in story.nodes:
            again = story.ask_node(name, "create task again", lambda sdk: sdk.create_job(TASK, request_id=A_REQUEST))
            assert (again.uid, again.etag) == (call.answer.uid, call.answer.etag)
        assert story.counters().jobs == 1
        story.check()


def test_scenario_29_request_without_an_answer_in_time_is_repeated() -> None:
    """The caller gives up while the cluster has no majority, and asks again later: one job."""
    with Story(workers=0) as story:
        story.begin()
        story.lead("n1")
        for name in ("n2", "n3"):
            story.pause(name)
        call = story.attempt("create task", lambda sdk, _: sdk.with_timeout(3.0).create_job(TASK, request_id=A_REQUEST))
        assert call.error is not None
        for name in ("n2", "n3"):
            story.resume(name)
        story.ask("create task again", lambda sdk, _: sdk.create_job(TASK, request_id=A_REQUEST))
        story.run_until(story.is_converged)
        assert story.counters().jobs == 1
        story.check()


def test_scenario_29_two_copies_of_a_request_stand_in_the_log() -> None:
    """Two nodes hand on the same request before either knows of the other: the second one gets the answer of the first."""
    with Story(workers=0) as story:
        story.begin()
        story.lead("n1")
        story.slow_down(0.1)
        ways = [story.sdk_of("n2"), story.sdk_of("n3")]
        calls = [
            story.begin_to("create", lambda _, __, way=way: way.create_job(TASK, request_id=A_REQUEST)) for way in ways
        ]
        story.run_to(lambda: story.uncommitted("n1") == ["put_jobs", "put_jobs"], what="both stand in the log")
        story.heal()
        story.run_until(lambda: all(call.is_over for call in calls))
        assert [call.error for call in calls] == [None, None]
        assert calls[0].answer == calls[1].answer
        assert story.counters().jobs == 1
        story.run_until(story.is_converged)
        story.check()


def test_scenario_30_same_request_id_for_something_else() -> None:
    """Refused, and nothing is changed. (As INVALID_ARGUMENT with the reason REQUEST_ID_REUSED: it is the caller's mistake, while
    ALREADY_EXISTS is kept for names of jobs.)"""
    with Story(workers=0) as story:
        story.begin()
        story.ask("create task", lambda sdk, _: sdk.create_job(TASK, request_id=A_REQUEST))
        story.run_until(story.is_converged)
        for name in story.nodes:
            with pytest.raises(HorologeError, match="request") as refused:
                story.ask_node(name, "create tick", lambda sdk: sdk.create_job(TICK, request_id=A_REQUEST))
            assert refused.value.reason == "REQUEST_ID_REUSED"
        assert story.counters().jobs == 1
        story.check()


# Races. With slow links the leader's log shows the order before anything of it is committed.


def _shortly_before_due(story: Story) -> str:
    """A job that falls due every 10 s is about to, and links are slow from now on; answers the leader."""
    story.begin()
    story.lead("n1")
    story.create("tick", jobs.every("10s"), seconds=2.0)
    leader = story.the_leader()
    clock = story.nodes[leader].clock
    story.run(story.next_due()[leader] / 1000 + (START_MS - clock.wall_ms()) / 1000 - 0.1)
    assert not story.starts()
    story.slow_down(0.15)
    return leader


def _until_in_log(story: Story, leader: str, *kinds: str) -> None:
    story.run_to(lambda: story.uncommitted(leader) == list(kinds), 5.0, what=f"{kinds} stand in the log")


def test_scenario_31_cancelled_before_it_fires() -> None:
    """First the deletion in the log, then the firing, planned by a leader that could not know: no run."""
    with Story() as story:
        leader = _shortly_before_due(story)
        call = story.begin_to("delete tick", lambda sdk, id_: sdk.delete_job("tick", request_id=id_))
        _until_in_log(story, leader, "delete_job", "plan")
        story.heal()
        story.run_until(lambda: call.is_over)
        story.run(3.0)
        assert call.error is None and not story.executions() and not story.starts()
        story.check()


def test_scenario_31_cancelled_after_it_fired() -> None:
    """First the firing in the log, then the deletion: the run exists, and its attempt is told to stop, under its token."""
    with Story() as story:
        leader = _shortly_before_due(story)
        _until_in_log(story, leader, "plan")
        call = story.begin_to(
            "delete tick", lambda sdk, id_: sdk.delete_job("tick", cancel_running=True, request_id=id_)
        )
        _until_in_log(story, leader, "plan", "delete_job")
        story.heal()
        story.run_until(lambda: call.is_over)
        story.settle()
        assert story.state() == "CANCELLED"
        assert [row[1] for row in story.ledger()] == ["RAN"]
        assert story.observer.counts["attempts told to stop"] == 1
        assert not story.ends(), "it was stopped, or never began"


def _running_out(story: Story) -> tuple[str, int]:
    """An execution that has half a second left, with slow links; answers the leader and its number."""
    story.begin()
    story.create("task", seconds=2.0)
    leader = story.lead_at_gateway()
    number = story.run_job("task")
    story.run_until(lambda: bool(story.starts()))
    story.slow_down(0.15)
    return leader, number


def test_scenario_32_cancel_comes_after_the_completion() -> None:
    """The completion stands first in the log: the cancellation is refused, and the outcome stays."""
    with Story() as story:
        leader, number = _running_out(story)
        _until_in_log(story, leader, "complete")
        call = story.begin_to("cancel", lambda sdk, id_: sdk.cancel_execution(number, request_id=id_))
        _until_in_log(story, leader, "complete", "cancel_execution")
        story.heal()
        story.run_until(lambda: call.is_over)
        story.settle()
        assert call.error is not None and call.error.reason == "EXECUTION_FINISHED"
        assert story.state(number) == "COMPLETED" and story.counters().completed == 1


def test_scenario_32_cancel_comes_before_the_completion() -> None:
    """The cancellation stands first in the log: it is taken, as a request to the worker. But the attempt had come to its end
    already, and nobody shall be told that it did not: the one outcome that is recorded is its own."""
    with Story() as story:
        leader, number = _running_out(story)
        story.run(1.75 - (story.timeline.now - story.seconds_of(story.starts()[0])))
        call = story.begin_to("cancel", lambda sdk, id_: sdk.cancel_execution(number, request_id=id_))
        _until_in_log(story, leader, "cancel_execution", "complete")
        story.heal()
        story.run_until(lambda: call.is_over)
        story.settle()
        assert call.error is None
        assert story.state(number) == "COMPLETED" and story.counters().completed == 1
        assert story.observer.counts["outcomes recorded"] == 1 and story.counters().refused_tokens == 0


def test_scenario_32_cancel_while_it_waits() -> None:
    """Without a worker nothing races: cancelled at once, and for good."""
    with Story(workers=0) as story:
        story.begin()
        story.create("task")
        number = story.run_job("task")
        assert story.cancel(number).error is None
        assert story.state(number) == "CANCELLED"
        story.add_worker("w1").start()
        story.run(5.0)
        assert not story.starts()
        story.settle()


def test_scenario_33_schedule_is_changed_before_it_fires() -> None:
    """First the change in the log, then the firing of the old schedule, which does nothing: the new one counts."""
    with Story() as story:
        leader = _shortly_before_due(story)
        changed = jobs.job("tick", jobs.every("10s", phase="7s"), jobs.python("work"))
        call = story.begin_to("update tick", lambda sdk, id_: sdk.update_job(changed, request_id=id_))
        _until_in_log(story, leader, "put_jobs", "plan")
        story.heal()
        story.run_until(lambda: call.is_over)
        story.run(15.0)
        ran = [due_ms for due_ms, outcome, *_ in story.ledger() if outcome == "RAN"]
        assert ran and all(due_ms % 10_000 == 7_000 for due_ms in ran)
        assert len(story.starts()) == len(ran)
        story.check()


def test_scenario_33_schedule_is_changed_after_it_fired() -> None:
    """First the firing, then the change: the old due time has run, and the new schedule goes on from there."""
    with Story() as story:
        leader = _shortly_before_due(story)
        due_ms = story.next_due()[leader]
        _until_in_log(story, leader, "plan")
        changed = jobs.job("tick", jobs.every("10s", phase="7s"), jobs.python("work"))
        call = story.begin_to("update tick", lambda sdk, id_: sdk.update_job(changed, request_id=id_))
        _until_in_log(story, leader, "plan", "put_jobs")
        story.heal()
        story.run_until(lambda: call.is_over)
        story.run(15.0)
        ran = [due_ms for due_ms, outcome, *_ in story.ledger() if outcome == "RAN"]
        assert ran[0] == due_ms and len(ran) >= 2
        assert all(due_ms % 10_000 == 7_000 for due_ms in ran[1:])
        assert len(story.starts()) == len(ran)
        story.check()


# Most or all nodes are gone


def test_scenario_34_all_nodes_killed_at_once_under_load() -> None:
    """What was acknowledged is there after the restart, writes under way happen once or not at all, and workers come back with
    what they hold: nothing starts twice."""
    with Story(workers=2) as story:
        story.begin()
        story.create("long", seconds=6.0, overlap="allow")
        running = [story.run_job("long") for _ in range(5)]
        cancelled = story.run_job("long")
        assert story.cancel(cancelled).error is None
        made = [f"job-{number}" for number in range(30)]
        calls = []
        for name in made:
            job = jobs.job(name, jobs.every("5s"), jobs.python("work"))
            calls.append(story.begin_to(name, lambda sdk, id_, job=job: sdk.create_job(job, request_id=id_)))
            story.run(0.003)
        acknowledged = {call.what for call in calls if call.is_over}
        assert acknowledged and len(acknowledged) < len(made), "some calls are under way"
        for name in story.nodes:
            story.crash(name)
        story.run(2.0)
        for name in story.nodes:
            story.restart(name)
        story.run_until(lambda: all(call.is_over for call in calls))
        assert all(call.error is None for call in calls)
        assert story.counters().jobs == len(made) + 1
        story.run_until(lambda: all(story.state(number) == "COMPLETED" for number in running))
        assert [len(story.starts(number)) for number in running] == [1] * 5, "the workers kept them"
        assert story.state(cancelled) == "CANCELLED"
        story.check()


def test_scenario_35_majority_is_lost_for_ten_minutes() -> None:
    """Nothing fires and nothing is written; callers hear UNAVAILABLE. Afterwards the policy of each job decides over what was
    missed."""
    with Story() as story:
        story.begin()
        for catchup in ("latest", "skip"):
            story.create(catchup, jobs.every("30s", phase="0s"), catchup=catchup, catchup_window="1h")
        gone = story.others(story.the_leader())
        for name in gone:
            story.crash(name)
        lost_ms = story.now_ms()
        story.run(1.0)
        call = story.attempt("create task", lambda sdk, id_: sdk.with_timeout(5.0).create_job(TASK, request_id=id_))
        assert isinstance(call.error, Unavailable), call.error
        before = len(story.starts())
        story.run(600.0)
        assert len(story.starts()) == before == 0
        for name in gone:
            story.restart(name)
        story.run_until(story.is_converged)
        story.run(5.0)
        back_ms = story.now_ms()
        rows = [row for row in story.ledger() if lost_ms < row[0] < back_ms]
        assert sorted(row[1:3] for row in rows) == [
            ("COALESCED", "catchup_latest"),
            ("MISSED", "catchup_skip"),
            ("RAN", ""),
        ]
        [start] = story.starts()
        assert start.token == story.attempts(start.execution)[0][0], "nothing was given to the worker as it was before"
        story.check()


def test_scenario_36_two_due_times_overdue_at_once() -> None:
    """They run in the order of their due times, and no more at once than there are slots."""
    with Story(slots=1) as story:
        story.begin()
        for name in story.workers:
            story.crash(name)
        story.create("second", jobs.after_delay("2s"), seconds=1.0)
        story.create("first", jobs.after_delay("1s"), seconds=1.0)
        story.run(20.0)
        assert [one.state for one in story.executions().values()] == [2, 2], "both are queued"
        story.restart("w1")
        story.settle()
        assert [mark.kind for mark in story.marks] == [Kind.STARTED, Kind.ENDED] * 2
        assert story.marks[0].due_ms < story.marks[2].due_ms
