"""Who waits for changes hears of them, together with all others, and not too often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from service_harness import FakeNode

from horologe.log.v1 import log_pb2
from horologe.node import ticks
from horologe.node.ticks import Mark, Ticks
from horologe.v1 import watch_service_pb2


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAUSE_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(ticks, name, 0.001)


def _change(node: FakeNode) -> None:
    node.apply(log_pb2.Command(set_queue=log_pb2.SetQueue(name="a")))


async def _next(marks: AsyncIterator[Mark]) -> Mark:
    return await asyncio.wait_for(anext(marks), 60)


async def test_all_listeners_hear_of_a_change(node: FakeNode) -> None:
    shared = Ticks(node.context)
    listeners = [shared.marks() for _ in range(3)]
    begin = [await _next(each) for each in listeners]
    assert set(begin) == {Mark(node.index, "n1", 3)}
    waiting = [asyncio.create_task(_next(each)) for each in listeners]
    _change(node)
    assert {await each for each in waiting} == {Mark(node.index, "n1", 3)}
    for each in listeners:
        await each.aclose()
    assert shared._looking is None


async def test_a_leader_that_is_lost_is_a_change(node: FakeNode) -> None:
    marks = Ticks(node.context).marks()
    assert (await _next(marks)).leader == "n1"
    node.leader = ""
    assert (await _next(marks)).leader == ""
    await marks.aclose()


async def test_what_changed_while_a_listener_was_busy_is_told(node: FakeNode) -> None:
    shared = Ticks(node.context)
    slow, quick = shared.marks(), shared.marks()
    await _next(slow)
    await _next(quick)
    for _ in range(3):
        _change(node)
        assert (await _next(quick)).revision == node.index
    assert (await _next(slow)).revision == node.index
    for each in (slow, quick):
        await each.aclose()


async def test_one_that_leaves_takes_nobody_along(node: FakeNode) -> None:
    shared = Ticks(node.context)
    stays, leaves = shared.marks(), shared.marks()
    await _next(stays)
    await _next(leaves)
    leaving = asyncio.create_task(_next(leaves))
    waiting = asyncio.create_task(_next(stays))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    _change(node)
    assert (await waiting).revision == node.index
    await stays.aclose()


async def test_it_says_the_same_again_when_it_is_quiet(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = Ticks(node.context).marks()
    first = await _next(marks)
    waiting = asyncio.create_task(_next(marks))
    await asyncio.sleep(0)
    node.clock.now_ms += int(ticks.QUIET_SECONDS * 1_000)
    assert await waiting == first
    await marks.aclose()


async def test_all_end_when_the_node_stops(node: FakeNode) -> None:
    marks = Ticks(node.context).marks()
    await _next(marks)
    waiting = asyncio.create_task(_next(marks))
    await asyncio.sleep(0)
    node.context.stopping.set()
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_over_the_api(node: FakeNode) -> None:
    call = node.watching.WatchChanges(watch_service_pb2.WatchChangesRequest())
    first = await call.read()
    assert (first.revision, first.leader, first.term) == (node.index, "n1", 3)
    _change(node)
    assert (await call.read()).revision == node.index
    call.cancel()
