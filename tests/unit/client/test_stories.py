"""`horologe explain`, `horologe execution story` and counters, as people and programs see them."""

from __future__ import annotations

import json
from typing import Any

from fake_cluster import FakeCluster

from horologe.v1.execution_pb2 import Execution


def test_explain(fake: FakeCluster, run: Any) -> None:
    fake.add_job("alpha")
    text = run("explain", "alpha", "--at", "2027-01-01T00:00:05Z").stdout
    assert "2027-01-01T00:00:05.000Z" in text
    assert "not due" in text
    assert "The job was not due." in text
    told = json.loads(run("explain", "alpha", "-o", "json").stdout)
    assert (told["finding"], told["row"], told["execution"], told["policy"]) == ("not_due", None, None, None)
    assert told["next_due_time"] == "2027-01-01T00:00:00.000Z"
    assert not fake.requests("ExplainDueTime")[-1].HasField("time")
    assert run("explain", "beta").exit_code == 3
    assert "--at" in run("explain", "alpha", "--at", "noon").stderr


def test_story(fake: FakeCluster, run: Any) -> None:
    fake.add_execution("alpha", Execution.STATE_COMPLETED)
    assert "due by its schedule" in run("execution", "story", "1").stdout
    told = json.loads(run("execution", "story", "1", "-o", "json").stdout)
    assert told["state"] == "completed"
    assert told["story"] == [
        {"time": "2027-01-01T00:00:00.000Z", "kind": "due", "text": "due by its schedule", "attempt": None}
    ]


def test_counters(fake: FakeCluster, run: Any) -> None:
    job = fake.add_job("alpha")
    job.counters.executions, job.counters.retries = 3, 2
    assert "executions=3" in run("job", "describe", "alpha").stdout
