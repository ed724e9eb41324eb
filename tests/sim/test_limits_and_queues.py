"""Limits, held executions and paused queues while leaders die: what the state promises is what workers live through."""

from __future__ import annotations

from support.story import Story

from horologe.chaos.evidence import Kind, Mark
from horologe.client import jobs


def most_at_once(marks: list[Mark]) -> int:
    """How many handlers ran at the same time."""
    running, most = 0, 0
    for mark in sorted(marks, key=lambda mark: (mark.monotonic_ns, mark.kind == Kind.STARTED)):
        running += 1 if mark.kind == Kind.STARTED else -1
        most = max(most, running)
    return most


def test_a_shared_limit_holds_through_a_change_of_leader() -> None:
    with Story(workers=2) as story:
        story.begin()
        story.ask("set a limit", lambda sdk, id_: sdk.set_limit("db", 3, request_id=id_))
        for name in ("load", "clean"):
            story.create(name, overlap="allow", limits=["db"], seconds=0.5)
        for _ in range(6):
            story.run_job("load")
            story.run_job("clean")
        story.run_until(lambda: len(story.ends()) >= 3, what="the first three ends")
        leader = story.the_leader()
        story.crash(leader)
        story.run_until(lambda: story.counters().completed == 12, what="the end of all")
        story.restart(leader)
        story.settle()
        assert most_at_once(story.marks) == 3
        assert len(story.starts()) == 12


def test_a_paused_queue_starts_nothing_whoever_leads() -> None:
    with Story(workers=1) as story:
        story.begin()
        story.create("tick", jobs.every("2s"), overlap="allow", max_executions=5)
        story.run_until(lambda: len(story.ends()) >= 1, what="the first run")
        story.ask("pause the queue", lambda sdk, id_: sdk.pause_queue("default", request_id=id_))
        started = len(story.starts())
        leader = story.the_leader()
        story.crash(leader)
        story.run_until(lambda: story.counters().queued >= 2, what="due times that wait")
        assert len(story.starts()) == started
        story.ask("resume the queue", lambda sdk, id_: sdk.resume_queue("default", request_id=id_))
        story.run_until(lambda: story.counters().completed == 5, what="the end of all")
        story.restart(leader)
        story.settle()


def test_replaced_runs_end_before_the_next_one_begins() -> None:
    with Story(workers=1) as story:
        story.begin()
        story.create("tick", jobs.every("3s"), overlap="replace", max_executions=4, seconds=60.0)
        story.run_until(lambda: len(story.starts()) == 2, what="the first replacement")
        leader = story.the_leader()
        story.crash(leader)
        story.run_until(lambda: story.counters().fired == 4, what="the last due time")
        story.run_until(lambda: len(story.starts()) >= 3, what="another replacement")
        last = max(story.executions())
        story.run_until(lambda: story.state(last) == "RUNNING", what="the last one to run")
        story.cancel(last)
        story.restart(leader)
        story.settle()
        assert most_at_once(story.marks) == 1
        assert all(story.state(number) in ("CANCELLED", "SKIPPED") for number in story.executions())
