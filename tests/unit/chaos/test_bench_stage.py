"""What a measurement does before it measures."""

from __future__ import annotations

import time
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest

from horologe.chaos import bench_stage
from horologe.chaos.bench_progress import Steps
from horologe.chaos.bench_stage import BEHIND_MS, Stage
from horologe.v1.cluster_service_pb2 import GetClusterStatusResponse
from horologe.v1.job_pb2 import Job


class Cluster:
    """A cluster that answers what it was told to, one answer after another; the last one again and again."""

    def __init__(self, waiting: list[int], overdue_ms: list[int]) -> None:
        self.waiting, self.overdue_ms = waiting, overdue_ms
        self.asked: list[str] = []

    async def cluster_status(self) -> GetClusterStatusResponse:
        return GetClusterStatusResponse(queued_count=_next(self.waiting))

    async def get_job(self, name: str) -> Job:
        self.asked.append(name)
        job = Job(name=name)
        job.next_due_time.FromMilliseconds(int(time.time() * 1000) - _next(self.overdue_ms))
        return job


def _next(answers: list[int]) -> int:
    return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture(autouse=True)
def _no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_stage, "POLL_SECONDS", 0.0)


async def catch_up(cluster: Cluster, jobs: int = 3) -> None:
    stage = Stage(cast(Any, SimpleNamespace(run="bench", check=lambda: None)), Steps(enabled=False))
    stage.client = cast(Any, cluster)
    await stage.catch_up(10, [Job(name=f"job-{number}") for number in range(jobs)])


async def test_executions_that_wait_are_worked_off_first() -> None:
    cluster = Cluster([300, 11, 10], [0])
    await catch_up(cluster)
    assert cluster.waiting == [10]
    assert cluster.asked == ["job-0", "job-1", "job-2"]


async def test_due_times_that_have_not_fired_are_waited_for() -> None:
    """They are in no queue yet."""
    cluster = Cluster([0], [0, 0, 2 * BEHIND_MS, -BEHIND_MS])
    await catch_up(cluster)
    assert cluster.asked == ["job-0", "job-1", "job-2"] * 2


async def test_of_many_jobs_some_are_looked_at() -> None:
    cluster = Cluster([0], [0])
    await catch_up(cluster, jobs=1_000)
    assert cluster.asked == [f"job-{number}" for number in range(0, 1_000, 25)]


async def test_who_never_catches_up_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = count()
    monkeypatch.setattr(bench_stage, "time", SimpleNamespace(time=time.time, monotonic=lambda: next(seconds)))
    monkeypatch.setattr(bench_stage, "CATCH_UP_SECONDS", 3.0)
    cluster = Cluster([0], [2 * BEHIND_MS])
    await catch_up(cluster)
    assert cluster.asked == ["job-0"] * 2
