"""What the options of lists become in the request, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from fake_cluster import FakeCluster

JOB_OPTIONS = ("--prefix", "a", "--label", "team=data", "--owner", "ann", "--queue", "gpu", "--schedule", "0 2 * * *")
TIMES = ("--created-from", "2027-01-01T00:00:00Z", "--due-before", "2027-01-02T00:00:00+01:00")


@pytest.mark.parametrize(("noun", "method"), [("job", "ListJobs"), ("execution", "ListExecutions")])
def test_filters_travel(fake: FakeCluster, run: Any, noun: str, method: str) -> None:
    assert (
        run(noun, "list", "-A", *JOB_OPTIONS, *TIMES, *(("--worker", "w1") if noun == "execution" else ())).exit_code
        == 0
    )
    request = fake.requests(method)[-1]
    asked = (request.name_prefix, dict(request.labels), request.owner, request.queue, request.schedule)
    assert asked == ("a", {"team": "data"}, "ann", "gpu", "0 2 * * *")
    assert request.created_from.ToJsonString() == "2027-01-01T00:00:00Z"
    assert request.due_before.ToJsonString() == "2027-01-01T23:00:00Z"
    assert not request.HasField("created_before")
    assert getattr(request, "worker", "w1") == "w1"


def test_a_part_of_a_name_travels(fake: FakeCluster, run: Any) -> None:
    assert run("job", "list", "--contains", "night").exit_code == 0
    assert fake.requests("ListJobs")[-1].name_contains == "night"


def test_a_time_that_is_none(run: Any) -> None:
    refused = run("execution", "list", "--due-from", "yesterday")
    assert (refused.exit_code, "--due-from" in refused.stderr) == (2, True)
