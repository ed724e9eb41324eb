"""The worker fences itself: what it runs ends before the cluster may give it to somebody else."""

from __future__ import annotations

import asyncio

import pytest
from fake_gateway import FakeGateway, Serve, assignment, definition

from horologe.client.lease import NEVER, Lease
from horologe.client.worker import Context, Worker


class FakeClock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_lease_counts_from_the_sending_of_what_was_acknowledged() -> None:
    clock = FakeClock()
    lease = Lease(clock)
    told: list[float] = []
    lease.listeners.append(told.append)
    assert lease.ends_at == NEVER

    lease.begin(10.0, sent_at=1000.0)
    assert (lease.ends_at, lease.reconnect_at) == (1008.0, 1005.0)
    lease.renew(sent_at=1002.0)
    lease.renew(sent_at=1001.0)
    assert lease.ends_at == 1010.0
    assert told == [1008.0, 1010.0]

    lease.give_up()
    assert lease.ends_at == lease.reconnect_at == NEVER


async def test_lease_that_is_not_renewed_kills_and_reports_nothing(gateway: FakeGateway, serve: Serve) -> None:
    """A gateway that acknowledges nothing, and accepts nobody any more."""
    clock = FakeClock()
    gateway.heartbeat_ms = 30
    gateway.acknowledges_heartbeats = gateway.acknowledges_results = False
    worker = Worker(gateway.address, insecure=True, clock=clock)
    killed = asyncio.Event()

    @worker.handler("work")
    async def work(context: Context) -> str:
        if context.execution == 1:
            return "done before"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            killed.set()
            return "done after"
        return ""

    stream = await serve(worker)
    stream.assign(assignment(1, token=5), assignment(2, token=6), definitions=[definition(python="work")])
    await stream.until_results(1)
    gateway.welcomes = False
    clock.seconds += 5.0
    await gateway.until(lambda: stream.ended)
    assert not killed.is_set(), "another node may still welcome it in time"
    clock.seconds += 3.0
    await killed.wait()
    assert worker.lease.ends_at == NEVER

    gateway.welcomes = True
    gateway.acknowledges_heartbeats = True
    # A hello of before may still be on its way.
    second = await gateway.another(stream)
    await second.until_results(1)
    # For the cluster it is another process now; the result from before is still offered, the killed one is not.
    assert [one.execution for one in second.hello.held_attempts] == [1]
    assert [result.execution for result in second.results] == [1]


async def test_process_that_stood_still_drops_what_it_has(gateway: FakeGateway, serve: Serve) -> None:
    """The clock has jumped when the handler goes on: nobody looked in between, and yet its result is not reported."""
    clock = FakeClock()
    worker = Worker(gateway.address, insecure=True, clock=clock)
    started = asyncio.Event()
    release = asyncio.Event()
    ended: list[int] = []

    @worker.handler("work")
    async def work(context: Context) -> None:
        started.set()
        await release.wait()
        ended.append(context.execution)

    stream = await serve(worker)
    stream.assign(assignment(1, token=5), definitions=[definition(python="work")])
    await started.wait()
    release.set()
    clock.seconds += 8.0
    second = await gateway.stream(2)

    assert not second.hello.held_attempts
    second.assign(assignment(2, token=9), definitions=[definition(python="work")])
    results = await second.until_results(1)
    assert [result.execution for result in [*stream.results, *results]] == [2]


async def test_work_that_waited_while_the_process_stood_still_is_not_begun(gateway: FakeGateway, serve: Serve) -> None:
    clock = FakeClock()
    worker = Worker(gateway.address, insecure=True, clock=clock)
    begun: list[int] = []

    @worker.handler("freeze", inline=True)
    def freeze(context: Context) -> None:
        begun.append(context.execution)
        if context.execution == 1:
            clock.seconds += 8.0

    stream = await serve(worker)
    stream.assign(assignment(1), assignment(2), assignment(3), definitions=[definition(python="freeze")])
    second = await gateway.stream(2)
    second.assign(assignment(4, token=11), definitions=[definition(python="freeze")])
    await second.until_results(1)

    assert begun == [1, 4]
    assert stream.results == []


async def test_acknowledged_heartbeats_keep_the_lease(gateway: FakeGateway, serve: Serve) -> None:
    clock = FakeClock()
    gateway.heartbeat_ms = 20
    worker = Worker(gateway.address, insecure=True, clock=clock)
    release, renewed = asyncio.Event(), asyncio.Event()

    @worker.handler("work")
    async def work(context: Context) -> None:
        await release.wait()

    stream = await serve(worker)
    worker.lease.listeners.append(lambda _: renewed.set())
    stream.assign(assignment(), definitions=[definition(python="work")])
    # Two whole terms.
    for _ in range(20):
        renewed.clear()
        clock.seconds += 1.0
        await renewed.wait()
    release.set()
    await stream.until_results()

    assert stream.heartbeats == sorted(set(stream.heartbeats))
    assert len(gateway.streams) == 1


async def test_node_that_renews_nothing_is_left_for_another(serve: Serve, gateway: FakeGateway) -> None:
    """Early enough that the lease survives: the attempt goes on and is reported to the second node."""
    clock = FakeClock()
    gateway.heartbeat_ms = 50
    gateway.acknowledges_heartbeats = False
    worker = Worker(gateway.address, insecure=True, clock=clock)
    started, release = asyncio.Event(), asyncio.Event()

    @worker.handler("work")
    async def work(context: Context) -> None:
        started.set()
        await release.wait()

    stream = await serve(worker)
    stream.assign(assignment(), definitions=[definition(python="work")])
    await started.wait()
    clock.seconds += 5.0
    second = await gateway.stream(2)
    release.set()
    await second.until_results()

    assert second.hello.incarnation == stream.hello.incarnation
    assert [one.execution for one in second.hello.held_attempts] == [1]


@pytest.mark.parametrize("milliseconds", [0, 10_000])
async def test_impossible_terms_are_not_accepted(gateway: FakeGateway, serve: Serve, milliseconds: int) -> None:
    gateway.heartbeat_ms = milliseconds
    worker = Worker(gateway.address, insecure=True)
    await serve(worker)
    gateway.heartbeat_ms = 2_000
    await gateway.stream(2)
    await worker.connected()
