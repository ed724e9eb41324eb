"""Following events from the SDK and the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fake_cluster import DUE, FakeCluster, failure

from horologe.client import AsyncClient, Client, errors
from horologe.v1.execution_pb2 import Attempt, Execution
from horologe.v1.watch_service_pb2 import Event

JOB = "namespaces/default/jobs/tick"


@pytest.fixture(autouse=True)
def _events(fake: FakeCluster) -> None:
    for number in range(1, 6):
        event = Event(
            kind=Event.KIND_EXECUTION_MOVED, job=JOB, execution=f"{JOB}/executions/{number}", time=DUE, due_time=DUE
        )
        event.state, event.attempt, event.worker = Execution.STATE_RUNNING, 1, "w1"
        event.attempt_state, event.resume_token = Attempt.STATE_RUNNING, str(number)
        fake.events.append(event)
    fake.events.append(Event(kind=Event.KIND_JOB_PAUSED, job=JOB, time=DUE, resume_token="6"))


def test_watching_goes_on_elsewhere_behind_what_was_seen(fake: FakeCluster) -> None:
    with Client([fake.address, fake.address], insecure=True) as client:
        batches = list(client.watch_events("tick", states=[Execution.STATE_RUNNING], labels={"team": "data"}))
    assert [event for batch in batches for event in batch.events] == fake.events
    asked = fake.requests("WatchEvents")
    assert [request.resume_token for request in asked] == ["", "2", "4"]
    assert all((request.parent, dict(request.labels)) == (JOB, {"team": "data"}) for request in asked)


async def test_watching_goes_on_elsewhere_asynchronously(fake: FakeCluster) -> None:
    async with AsyncClient([fake.address, fake.address], insecure=True) as client:
        events = [event async for batch in client.watch_events(resume_token="1") for event in batch.events]
    assert events == fake.events[1:]


def test_a_token_that_is_too_old(fake: FakeCluster, run: Any) -> None:
    fake.failures["WatchEvents"] += [failure("OUT_OF_RANGE", "EVENTS_GONE", "only later ones are kept")] * 2
    with Client(fake.address, insecure=True) as client, pytest.raises(errors.OutOfRange, match="later ones"):
        list(client.watch_events(resume_token="1"))
    refused = run("watch", "--from", "1")
    assert (refused.exit_code, "without --from" in refused.stderr) == (4, True)


def test_watch_in_lines(fake: FakeCluster, run: Any) -> None:
    lines = [json.loads(line) for line in run("watch", "-o", "json", "--from", "4").stdout.splitlines()]
    assert [(line["kind"], line.get("execution"), line["resume_token"]) for line in lines] == [
        ("execution_moved", 5, "5"),
        ("job_paused", None, "6"),
    ]
    assert (lines[0]["previous_state"], lines[0]["state"], lines[0]["worker"]) == (None, "running", "w1")
    text = run("watch", "--job", "tick", "--from", "4").stdout.splitlines()
    assert text[0].endswith("tick  5  new -> running  attempt 1 running  w1")
    assert text[1].endswith("tick  job paused")
    run("watch", "-A", "--state", "dead", "--queue", "gpu", "--from", "6")
    request = fake.requests("WatchEvents")[-1]
    assert (request.parent, list(request.states), request.queue) == (
        "namespaces/-/jobs/-",
        [Execution.STATE_DEAD],
        "gpu",
    )
