"""How busy the cluster is, over the API."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from secure_harness import Role, SecureNode, bearer
from service_harness import START_MS, FakeNode, interval_job, refused

from horologe.raft.commands import Outcome
from horologe.v1 import activity_service_pb2 as api
from horologe.v1 import job_service_pb2


async def create(node: FakeNode, name: str, namespace: str = "default", metadata: Any = ()) -> int:
    """The job's number."""
    job = interval_job()
    job.retry.max_attempts = 1
    request = job_service_pb2.CreateJobRequest(parent=f"namespaces/{namespace}", job=job, job_id=name)
    await node.jobs.CreateJob(request, metadata=metadata)
    return node.counters().last_job


async def activity(node: FakeNode, metadata: Any = (), **fields: Any) -> api.GetActivityResponse:
    return await node.activity.GetActivity(api.GetActivityRequest(**fields), metadata=metadata)


def begin(node: FakeNode) -> None:
    node.context.observations.begin(node.clock.now_ms)


async def test_what_starts_and_ends_is_seen(node: FakeNode) -> None:
    session = node.open_session()
    job = await create(node, "hello")
    begin(node)
    good = node.fire(job, session)
    due_ms = node.clock.now_ms
    node.complete(good)
    node.clock.now_ms = due_ms + 68_000
    bad = node.fire(job, session)
    node.complete(bad, Outcome.FAILED)
    node.fire(job)
    node.clock.now_ms += 60_000
    seen = await activity(node)
    assert (seen.node, seen.since_time.ToMilliseconds()) == ("n1", START_MS)
    assert len(seen.samples) == (node.clock.now_ms - START_MS) // 1000
    by_second = {sample.start_time.ToMilliseconds() - due_ms + due_ms % 1000: sample for sample in seen.samples}
    first, second = by_second[0], by_second[68_000]
    assert (first.started_count, first.succeeded_count, first.failed_count, first.late_count) == (1, 1, 0, 0)
    assert first.start_delay_p99.ToMilliseconds() == 0
    assert (second.started_count, second.succeeded_count, second.failed_count, second.late_count) == (1, 0, 1, 1)
    assert second.start_delay_p50.ToMilliseconds() == 8_000
    assert not by_second[30_000].HasField("start_delay_p50")
    assert (seen.total.started_count, seen.total.failed_count) == (2, 1)
    assert (seen.queued_count, seen.running_count, seen.dead_letter_count) == (1, 0, 1)
    assert list(seen.failed_executions) == [f"namespaces/default/jobs/hello/executions/{bad}"]
    assert list(seen.late_executions) == list(seen.failed_executions)
    assert seen.late_after.ToMilliseconds() == 5_000
    assert seen.revision == node.index


async def test_window_and_step(node: FakeNode) -> None:
    begin(node)
    node.clock.now_ms += 7_200_000
    seen = await activity(node, window=Duration(seconds=60), step=Duration(seconds=20))
    assert [sample.start_time.ToMilliseconds() - node.clock.now_ms for sample in seen.samples] == [
        -60_000,
        -40_000,
        -20_000,
    ]
    assert len((await activity(node)).samples) == 300
    assert len((await activity(node, window=Duration(seconds=3600), step=Duration(seconds=5))).samples) == 720
    with pytest.raises(grpc.aio.AioRpcError, match="more than 720 samples"):
        await activity(node, window=Duration(seconds=3600))


@pytest.mark.parametrize("field", ["window", "step"])
@pytest.mark.parametrize("seconds", [0, -5, 3_601])
async def test_times_that_make_no_sense(node: FakeNode, field: str, seconds: int) -> None:
    refusal = await refused(activity(node, **{field: Duration(seconds=seconds)}))
    assert "an hour" in refusal.fields[field]


async def test_only_what_the_caller_may_see_is_named(tmp_path) -> None:
    async with SecureNode(tmp_path).serve() as node:
        admin = bearer(node.admin)
        session = node.open_session()
        jobs = [await create(node, "hello", namespace, admin) for namespace in ("blue", "red")]
        for job in jobs:
            node.complete(node.fire(job, session), Outcome.FAILED)
        everything = await activity(node, admin)
        assert len(everything.failed_executions) == 2
        assert everything.dead_letter_count == 2
        mine = await activity(node, node.somebody("ann", Role.ROLE_VIEWER, "blue"))
        assert [name.split("/")[1] for name in mine.failed_executions] == ["blue"]
        assert mine.dead_letter_count == 1
        # Figures without names are no secret.
        assert mine.running_count == everything.running_count
