"""WatchService over gRPC: what happens comes in order and whole, however often the watcher goes away and comes back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from service_harness import FakeNode, interval_job, refused

from horologe.log.v1 import log_pb2
from horologe.node import watch_service
from horologe.raft import events
from horologe.raft.commands import Outcome
from horologe.v1 import execution_pb2, job_pb2, job_service_pb2, watch_service_pb2

Kind = watch_service_pb2.Event
State = execution_pb2.Execution
ALL = "namespaces/-/jobs/-"
NAME = "namespaces/default/jobs/tick"


class Watch:
    """One call, and what came of it."""

    def __init__(self, node: FakeNode, **fields: object) -> None:
        request = watch_service_pb2.WatchEventsRequest(**{"parent": ALL, **fields})  # type: ignore[arg-type]
        self.call = node.watching.WatchEvents(request)
        self.token = ""

    async def next(self) -> list[watch_service_pb2.Event]:
        """The next message's events."""
        message = await asyncio.wait_for(self.call.read(), 60)
        assert message is not grpc.aio.EOF
        self.token = message.resume_token
        return list(message.events)

    async def take(self, count: int) -> list[watch_service_pb2.Event]:
        found: list[watch_service_pb2.Event] = []
        while len(found) < count:
            found += await self.next()
        assert len(found) == count
        return found


def told(event: watch_service_pb2.Event) -> tuple[str, str, str, int]:
    state = State.State.Name(event.state).removeprefix("STATE_")
    kind = Kind.Kind.Name(event.kind).removeprefix("KIND_")
    return kind, event.job.rpartition("/")[2], state if event.execution else "", event.attempt


async def create(node: FakeNode, job_id: str = "tick", parent: str = "", **fields: object) -> None:
    job = interval_job()
    job.overlap = job_pb2.OVERLAP_POLICY_ALLOW
    for key, value in fields.items():
        if key == "labels":
            job.labels.update(value)  # type: ignore[arg-type]
        else:
            setattr(job, key, value)
    await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id=job_id, job=job, parent=parent))


async def test_the_life_of_a_job(node: FakeNode) -> None:
    watch = Watch(node)
    assert await watch.next() == []
    await create(node)
    session = node.open_session()
    number = node.fire(1, session)
    node.complete(number, Outcome.FAILED, retry_delay_ms=0)
    node.apply(log_pb2.Command(cancel_execution=log_pb2.CancelExecution(execution=number)))
    for call in (node.jobs.PauseJob, node.jobs.ResumeJob):
        request = job_service_pb2.PauseJobRequest if call is node.jobs.PauseJob else job_service_pb2.ResumeJobRequest
        await call(request(name=NAME))
    await node.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(name=NAME))
    found = await watch.take(7)
    assert [told(event) for event in found] == [
        ("JOB_CREATED", "tick", "", 0),
        ("EXECUTION_MOVED", "tick", "RUNNING", 1),
        ("EXECUTION_MOVED", "tick", "QUEUED", 1),
        ("EXECUTION_MOVED", "tick", "CANCELLED", 1),
        ("JOB_PAUSED", "tick", "", 0),
        ("JOB_RESUMED", "tick", "", 0),
        ("JOB_DELETED", "tick", "", 0),
    ]
    failed = found[2]
    assert failed.execution == f"{NAME}/executions/{number}"
    assert (failed.previous_state, failed.attempt_state) == (State.STATE_RUNNING, execution_pb2.Attempt.STATE_FAILED)
    assert (failed.worker, failed.due_time.ToMilliseconds()) == ("w1", node.execution(number).due_ms)
    assert [event.revision for event in found] == sorted(event.revision for event in found)


async def test_nothing_is_lost_or_repeated_over_reconnections(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_service, "EVENTS_PER_RESPONSE", 3)
    monkeypatch.setattr(watch_service, "EVENTS_PER_READ", 4)
    dice = random.Random(3)
    for job_id in ("a", "b", "c"):
        await create(node, job_id)
    session = node.open_session()
    watch = Watch(node)
    await watch.next()
    first_revision = node.index
    seen: list[tuple[str, int]] = []
    token = watch.token
    for _ in range(12):
        for _ in range(dice.randrange(1, 6)):
            node.fire(dice.randrange(1, 4), dice.choice([0, session]))
        again = Watch(node, resume_token=token)
        while not seen or seen[-1][1] < node.index:
            for event in await again.next():
                seen.append((event.resume_token, event.revision))
                token = event.resume_token
            if dice.random() < 0.3:
                again.call.cancel()
                again = Watch(node, resume_token=token)
        again.call.cancel()
    with node.store.read() as tables:
        happened = [row.revision for row in events.rows_from(tables, first_revision + 1) for _ in row.events]
    assert [revision for _, revision in seen] == happened
    assert len({each for each, _ in seen}) == len(seen)


async def test_filters(node: FakeNode) -> None:
    await create(node, "a-1", labels={"team": "data"}, owner="ann", queue="gpu")
    await create(node, "b-1", parent="namespaces/b")
    start = Watch(node)
    await start.next()
    token = start.token
    session = node.open_session()
    for number in (1, 2):
        node.complete(node.fire(number, session))
    await node.jobs.PauseJob(job_service_pb2.PauseJobRequest(name="namespaces/b/jobs/b-1"))

    async def jobs_of(**fields: object) -> list[tuple[str, str]]:
        watch = Watch(node, resume_token=token, **fields)
        found = [told(event)[1:3] for event in await watch.next()]
        assert watch.token.split(".")[1] == str(node.index + 1)
        return found

    a, b = [("a-1", "RUNNING"), ("a-1", "COMPLETED")], [("b-1", "RUNNING"), ("b-1", "COMPLETED"), ("b-1", "")]
    assert await jobs_of() == a + b
    assert await jobs_of(parent="namespaces/b/jobs/-") == await jobs_of(name_prefix="b") == b
    assert await jobs_of(parent="namespaces/default/jobs/a-1") == await jobs_of(labels={"team": "data"}) == a
    assert await jobs_of(owner="ann") == await jobs_of(queue="gpu") == a
    assert await jobs_of(states=[State.STATE_COMPLETED]) == [a[1], b[1]]
    assert await jobs_of(states=[State.STATE_DEAD]) == await jobs_of(queue="none") == []


async def test_a_job_that_gets_another_label_comes_into_view(node: FakeNode) -> None:
    await create(node)
    watch = Watch(node, labels={"team": "data"})
    await watch.next()
    node.fire(1)
    request = job_service_pb2.UpdateJobRequest()
    request.job.name, request.job.labels["team"] = NAME, "data"
    await node.jobs.UpdateJob(request)
    assert [told(event)[0] for event in await watch.take(1)] == ["JOB_UPDATED"]


async def test_a_quiet_watcher_hears_where_it_stands(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_service, "QUIET_SECONDS", 0.01)
    await create(node)
    watch = Watch(node, states=[State.STATE_DEAD])
    await watch.next()
    before = watch.token
    node.clock.now_ms += 60_000
    node.fire(1)
    while watch.token == before:
        assert await watch.next() == []
        node.clock.now_ms += 1_000
    assert watch.token.split(".")[1] == str(node.index + 1)


async def test_tokens_that_lead_nowhere(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    await create(node)
    watch = Watch(node)
    await watch.next()
    old = watch.token
    monkeypatch.setattr(events, "EVENTS_MAX", 5)
    for _ in range(3 * events.ENTRIES_PER_LOOK):
        node.fire(1)
    error = await refused(_end(Watch(node, resume_token=old).call))
    assert (error.code, error.reason) == (grpc.StatusCode.OUT_OF_RANGE, "EVENTS_GONE")
    assert int(error.metadata["oldest_revision"]) > int(error.metadata["revision"])
    cluster, revision, position = old.split(".")
    foreign = await refused(_end(Watch(node, resume_token=f"{cluster}0.{revision}.{position}").call))
    assert foreign.reason == "EVENTS_GONE"
    for token in ("x", "..", f"{cluster}.x.0", f"{cluster}.1.-1", f"{cluster}.{'9' * 30}.0"):
        assert "resume_token" in (await refused(_end(Watch(node, resume_token=token).call))).fields
    assert "states[0]" in (await refused(_end(Watch(node, states=[99]).call))).fields


async def test_a_watcher_that_falls_out_of_the_window_is_told(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    await create(node)
    service = watch_service.WatchService(node.context)
    place = watch_service.Place(2, 0)
    monkeypatch.setattr(events, "EVENTS_MAX", 5)
    for _ in range(3 * events.ENTRIES_PER_LOOK):
        node.fire(1)
    request = watch_service_pb2.WatchEventsRequest(parent=ALL)
    watcher = watch_service.Watcher(
        watch_service.JobFilter.of(watch_service.read_job_pattern(request.parent, "parent"), request), frozenset(), ""
    )
    with pytest.raises(watch_service.ApiError, match="only those from"):
        service._read(watcher, place)


async def test_a_token_of_a_node_that_is_ahead_waits(node: FakeNode) -> None:
    await create(node)
    start = Watch(node)
    await start.next()
    cluster = start.token.split(".")[0]
    ahead = Watch(node, resume_token=f"{cluster}.{node.index + 3}.0")
    assert await ahead.next() == []
    assert ahead.token == f"{cluster}.{node.index + 3}.0"
    for _ in range(3):
        node.fire(1)
    assert [event.revision for event in await ahead.take(1)] == [node.index]


async def _end(call: AsyncIterator[object]) -> list[object]:
    return [message async for message in call]
