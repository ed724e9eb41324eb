"""Leaders die around the sending of notifications: whatever happened is told at least once, and repeats can be told apart."""

from __future__ import annotations

from collections import Counter

from support.story import Story, job

from horologe.chaos.sim.clients import SimSdk
from horologe.chaos.sim.workers import HANDLER, payload
from horologe.client import jobs
from horologe.raft.events import EventKind, rows_from
from horologe.raft.model import ExecutionState
from horologe.raft.tables import Tables
from horologe.v1.job_pb2 import Schedule
from horologe.v1.notification_pb2 import NotificationEvent, NotificationRule

FAILED = NotificationEvent.NOTIFICATION_EVENT_FAILED
ID = "Horologe-Notification-Id"


def set_rule(story: Story) -> None:
    async def ask(sdk: SimSdk, request_id: str) -> NotificationRule:
        rule = NotificationRule(name="ops", events=[FAILED])
        rule.webhook.url = "https://hooks.example/1"
        return await sdk.set_notification(rule, request_id=request_id)

    call = story.attempt("set a rule", ask)
    assert call.error is None, call.error


def create_failing(story: Story, name: str, schedule: Schedule) -> None:
    """A job none of whose executions ends well."""
    made = job(name, schedule)
    made.action.python.payload.CopyFrom(jobs.python(HANDLER, payload(fail=1.0, permanent=1.0)).python.payload)
    story.ask(f"create {name}", lambda sdk, id_: sdk.create_job(made, request_id=id_))


def failed(tables: Tables) -> set[int]:
    ends = (ExecutionState.FAILED, ExecutionState.DEAD)
    events = (event for row in rows_from(tables, 0) for event in row.events)
    return {each.execution for each in events if each.kind == EventKind.EXECUTION_MOVED and each.after in ends}


def told(story: Story) -> set[int]:
    notices = [notice for each in story.outside.received for notice in each.body["notices"]]
    return {int(notice["execution"].rpartition("/")[2]) for notice in notices}


def test_every_failure_is_told_at_least_once() -> None:
    """Each leader dies at the very moment in which its message has arrived and nobody has written that down."""
    with Story() as story:
        story.begin()
        set_rule(story)
        create_failing(story, "tick", jobs.every("2s"))
        senders: list[str] = []
        story.outside.seen = lambda received: senders.append(received.node)
        for _ in range(3):
            senders.clear()
            story.run_to(lambda: bool(senders), 60.0, what="a message")
            dead = senders[0]
            story.crash(dead)
            story.run(6.0)
            story.restart(dead)
            story.run(6.0)
        story.run(10.0)
        leader = story.the_leader()
        expected = story.look(failed, leader)
        assert len(expected) > 5
        story.run_until(lambda: expected <= told(story), 60.0, what="the news of all failures")
        copies = Counter(each.headers[ID] for each in story.outside.received)
        assert max(copies.values()) > 1, "what was sent and not written down is sent again, under its old id"


def test_a_receiver_that_is_away_gets_it_later() -> None:
    with Story() as story:
        story.begin()
        set_rule(story)
        is_away = True
        story.outside.refuses = lambda: is_away
        create_failing(story, "tick", jobs.every("5s"))
        story.run(20.0)
        assert not story.outside.received
        is_away = False
        expected = story.look(failed, story.the_leader())
        story.run_until(lambda: expected <= told(story), 120.0, what="the news of the failure")
