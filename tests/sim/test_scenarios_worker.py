"""Scenarios 1 to 9 and 37: a worker dies, is cut off, or stands still, at the worst moment.

A worker here is one process with its handlers, so the supervisor's part (killing processes of a worker that cannot do it itself)
is not in these tests; see tests/unit/worker/test_shell.py, and tests/cluster for real processes.
"""

from __future__ import annotations

import pytest
from support.story import Story

from horologe.chaos.evidence import Kind
from horologe.client.runner import Runner

POLICIES = ("retry", "fail")


def _check_lost(story: Story, policy: str, starts: int) -> None:
    """The first attempt is lost; the policy decides whether there is a second one. `starts`: how often code of the first ran."""
    story.settle()
    if policy == "retry":
        assert [state for _, state in story.attempts()] == ["LOST", "SUCCEEDED"]
        assert story.state() == "COMPLETED" and len(story.starts()) == starts + 1
    else:
        assert [state for _, state in story.attempts()] == ["LOST"]
        assert story.state() == "FAILED" and len(story.starts()) == starts
    assert story.observer.counts["leases expired"] == 1


@pytest.mark.parametrize("policy", POLICIES)
def test_scenario_01_worker_dies_before_it_received_the_dispatch(policy: str) -> None:
    """Its lease expires, and the code runs once, under a new token. Whether it may run at all the policy decides: the cluster
    cannot know that the message never came."""
    with Story(workers=2) as story:
        story.begin()
        story.create("task", on_lease_loss=policy)
        story.begin_to_run("task")
        story.run_to(lambda: story.counters().running == 1, what="the assignment is committed")
        story.crash(story.holder_first()[0])
        _check_lost(story, policy, starts=0)


@pytest.mark.parametrize("policy", POLICIES)
def test_scenario_02_worker_dies_after_receipt_before_it_starts(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No user code ran; the attempt is lost by expiry, and trying again is safe. With `fail` the execution ends FAILED with a
    LOST attempt: the cluster cannot tell this from a death after the start, and a restarted worker cannot either, since it
    keeps no record of starts."""
    with Story(workers=2) as story:
        story.begin()
        story.create("task", on_lease_loss=policy)
        with monkeypatch.context() as patches:
            received: list[str] = []

            def die(runner: Runner, attempts: object) -> None:
                received.append(story.holder_first()[0])
                story.crash(received[0])

            patches.setattr(Runner, "_spawn", die)
            story.run_job("task")
            story.run_until(lambda: bool(received))
        story.restart(received[0])
        _check_lost(story, policy, starts=0)


@pytest.mark.parametrize("policy", POLICIES)
def test_scenario_03_worker_dies_at_the_very_start(policy: str) -> None:
    """As scenario 4: nobody knows how far it came."""
    with Story(workers=2) as story:
        story.begin()
        story.create("task", on_lease_loss=policy, seconds=1.0)
        story.begin_to_run("task")
        story.run_to(lambda: bool(story.starts()), what="the start")
        story.crash(story.holder_first()[0])
        _check_lost(story, policy, starts=1)


@pytest.mark.parametrize("policy", POLICIES)
def test_scenario_04_worker_dies_while_user_code_runs(policy: str) -> None:
    """LOST, and tried again only if the policy says so; never before the lease is over."""
    with Story(workers=2) as story:
        story.begin()
        story.create("task", on_lease_loss=policy, seconds=5.0)
        story.run_job("task")
        story.run_until(lambda: bool(story.starts()))
        story.run(2.0)
        died = story.timeline.now
        story.crash(story.holder_first()[0])
        _check_lost(story, policy, starts=1)
        if policy == "retry":
            assert story.seconds_of(story.starts()[1]) - died > 7.0, "heartbeats come every 2.5 s, and the term is 10 s"


@pytest.mark.parametrize("policy", POLICIES)
def test_scenario_05_worker_dies_after_user_code_finished_before_it_reported(policy: str) -> None:
    """The worker keeps no record of outcomes that would outlive it, so for the cluster this is a death while the code ran: LOST
    by expiry, also when the worker comes back at once, and the policy decides. With `retry` the code runs twice, with one
    idempotency key; with `fail` it has run once, and the execution is FAILED with a LOST attempt."""
    with Story(workers=2) as story:
        story.begin()
        story.create("task", on_lease_loss=policy, seconds=1.0)
        story.run_job("task")
        holder = story.holder_first()[0]
        lost = story.swallow_report()
        story.run_to(lambda: bool(lost), what="the report leaves, and is lost")
        story.crash(holder)
        assert len(story.ends()) == 1
        story.restart(holder)
        story.rpc.intruder = None
        _check_lost(story, policy, starts=1)


def test_scenario_06_worker_is_cut_off_for_longer_than_its_lease() -> None:
    """It stops its attempt before the cluster gives the lease up; the next attempt does not overlap."""
    with Story(workers=2) as story:
        story.begin()
        story.create("task", seconds=20.0)
        story.run_job("task")
        story.run_until(lambda: bool(story.starts()))
        [holder, other] = story.holder_first()
        story.partition([holder], [*story.nodes, other, "c1"])
        story.run_until(lambda: len(story.starts()) == 2)
        story.heal()
        story.settle()
        [first, stopped, second, last] = story.marks
        assert [mark.kind for mark in story.marks] == [Kind.STARTED, Kind.STOPPED, Kind.STARTED, Kind.ENDED]
        assert first.token == stopped.token < second.token == last.token
        assert story.seconds_of(second) - story.seconds_of(stopped) > 1.0, "a fifth of the term is given away"
        assert [state for _, state in story.attempts()] == ["LOST", "SUCCEEDED"]


@pytest.mark.parametrize("seconds", [2.0, 4.5, 7.5])
def test_scenario_07_worker_is_cut_off_for_less_than_its_lease(seconds: float) -> None:
    """Nothing happens: its attempt goes on, and so do its renewals."""
    with Story() as story:
        story.begin()
        story.create("task", seconds=20.0)
        story.run_job("task")
        story.run_until(lambda: bool(story.starts()))
        lease = story.lease("w1")
        renewed_at = lease.renewed_at
        story.run_to(lambda: lease.renewed_at > renewed_at, what="a renewal")
        story.partition(["w1"], list(story.nodes))
        story.run(seconds)
        story.heal()
        story.settle()
        assert [mark.kind for mark in story.marks] == [Kind.STARTED, Kind.ENDED]
        assert [state for _, state in story.attempts()] == ["SUCCEEDED"]
        assert story.observer.counts["leases expired"] == 0


def _stands_still(*, is_suspended: bool) -> None:
    with Story(workers=2) as story:
        story.overlap_is_allowed = True
        story.begin()
        story.create("task", seconds=30.0)
        story.run_job("task")
        story.run_until(lambda: bool(story.starts()))
        [holder, other] = story.holder_first()
        story.pause(holder)
        if is_suspended:
            story.partition([holder], [*story.nodes, other, "c1"])
        story.run_until(lambda: len(story.starts()) == 2)
        story.run(5.0)
        story.heal()
        story.resume(holder)
        resumed = story.timeline.now
        story.settle()
        [stopped] = story.overlaps()
        assert stopped.kind == Kind.STOPPED and abs(story.seconds_of(stopped) - resumed) < 0.001
        assert [state for _, state in story.attempts()] == ["LOST", "SUCCEEDED"]
        assert len(story.ends()) == 1


def test_scenario_08_worker_is_stopped_and_continued_after_its_lease() -> None:
    """A process that stands still cannot stop its attempt in time, so two attempts may overlap; but from the moment in which it
    goes on it does nothing more, and reports nothing. Only the newer token counts."""
    _stands_still(is_suspended=False)


def test_scenario_09_host_is_suspended_for_longer_than_the_lease() -> None:
    """As scenario 8, and nobody can reach the machine meanwhile. Its clock has counted on, so the attempt ends at once."""
    _stands_still(is_suspended=True)


def test_scenario_37_old_session_after_the_worker_has_registered_anew() -> None:
    """The worker was started again elsewhere while its old process was cut off. The old session is over for good: what comes with
    it is not taken, and it is not renewed. Its attempt is lost when its lease has run out, and runs under a new token."""
    with Story() as story:
        story.begin()
        story.create("task", seconds=3.0)
        story.run_job("task")
        story.run_until(lambda: bool(story.starts()))
        old = story.session_number("w1")
        story.partition(["w1"], list(story.nodes))
        story.add_worker("w9", alias="w1").start()
        story.run_until(lambda: story.session_number("w9") > old)
        story.run(4.0)
        assert story.ends() and story.state() == "RUNNING"
        # It comes back with the old session, and an outcome under a token that is still the current one.
        story.heal()
        story.run(1.0)
        assert story.state() == "RUNNING" and story.observer.counts["outcomes recorded"] == 0
        story.crash("w1")
        story.settle()
        assert [state for _, state in story.attempts()] == ["LOST", "SUCCEEDED"]
        assert len(story.starts()) == 2


def test_two_processes_under_one_name_do_not_fight_for_it_all_the_time() -> None:
    """Each takes the session from the other, with pauses that grow: every time is an entry in the log."""
    with Story() as story:
        story.begin()
        story.add_worker("w9", alias="w1").start()
        story.run(30.0)
        assert 10 < story.observer.counts["sessions opened"] < 60
