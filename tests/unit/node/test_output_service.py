"""Output as callers see it: from whichever node has it, also when one of them is away or lacks a part; and searched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import grpc
import grpc.aio
import pytest
from service_harness import FakeNode, FakePeer, interval_job, refused

from horologe.log.v1 import log_pb2
from horologe.node import output_lines, output_reader, output_service
from horologe.node import outputs as outputs_module
from horologe.node.outputs import OutputError, OutputKey, OutputPiece, OutputStore
from horologe.raft.commands import SESSION, Outcome
from horologe.raft.records import U64
from horologe.v1 import execution_service_pb2, job_service_pb2
from horologe.v1 import output_service_pb2 as Api  # noqa: N812

NAME = "namespaces/default/jobs/tick"


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[FakeNode]:
    """n1, which is asked, and two others that may keep output."""
    async with FakeNode(tmp_path, members=("n1", "n2", "n3")).serve() as node:
        node.peers |= {name: FakePeer(node, name, tmp_path) for name in ("n2", "n3")}
        await create(node)
        yield node
        for peer in node.peers.values():
            peer.outputs.close()


async def create(node: FakeNode) -> None:
    await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="tick", job=interval_job()))


def key_of(node: FakeNode, number: int) -> OutputKey:
    execution = node.execution(number)
    return OutputKey(number, execution.attempt, execution.assign_ms)


async def keep(node: FakeNode, store: OutputStore, number: int, *data: bytes, first: int = 0, stream: int = 1) -> None:
    key = key_of(node, number)
    pieces = [(key, OutputPiece(first + position, stream, each)) for position, each in enumerate(data)]
    await store.append_async(pieces)


async def read(node: FakeNode, number: int, **fields: int) -> list[tuple[int, bytes]]:
    request = Api.ReadOutputRequest(name=f"{NAME}/executions/{number}", **fields)
    return [(each.stream, each.data) async for each in node.output.ReadOutput(request)]


def follow(node: FakeNode, number: int) -> grpc.aio.UnaryStreamCall:
    return node.output.ReadOutput(Api.ReadOutputRequest(name=f"{NAME}/executions/{number}", follow=True))


# One node


async def test_output_of_an_attempt_that_is_over(node):
    await create(node)
    number = node.fire(1, node.open_session())
    await keep(node, node.outputs, number, b"out", b"more")
    await keep(node, node.outputs, number, b"err", first=2, stream=2)
    node.complete(number, output_nodes=["n1"], output_bytes=10)
    whole = [(1, b"out"), (1, b"more"), (2, b"err")]
    assert await read(node, number) == whole
    assert await read(node, number, attempt=1, follow=True) == whole
    assert await read(node, number, after_position=1) == whole[1:]
    assert await read(node, number, after_position=9) == []
    error = await refused(read(node, number, attempt=2))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "OUTPUT_NOT_FOUND")
    assert "attempt" in (await refused(read(node, number, attempt=-1))).fields
    assert "after_position" in (await refused(read(node, number, after_position=-1))).fields


async def test_follow_waits_for_the_first_attempt_and_ends_with_it(node):
    await create(node)
    number = node.fire(1)
    assert await read(node, number) == []
    call = follow(node, number)
    node.apply(log_pb2.Command(plan=log_pb2.Plan(assigns=U64.pack(number) + U64.pack(node.open_session()))))
    await keep(node, node.outputs, number, b"one")
    piece = await call.read()
    assert (piece.data, piece.position, piece.attempt) == (b"one", 1, 1)
    await keep(node, node.outputs, number, b"two", first=1)
    assert (await call.read()).data == b"two"
    node.complete(number, output_nodes=["n1"], output_bytes=6)
    node.outputs.wake_followers(number, 1)
    assert await call.read() is grpc.aio.EOF


async def test_output_of_a_cancelled_execution_that_never_ran(node):
    await create(node)
    number = node.fire(1)
    request = execution_service_pb2.CancelExecutionRequest(name=f"{NAME}/executions/{number}")
    await node.executions.CancelExecution(request)
    assert await read(node, number, follow=True) == []


# Several nodes


@pytest.mark.parametrize("how", ["running", "over", "lost"])
async def test_output_that_another_node_keeps(three, how):
    number = three.fire(1, session := three.open_session(gateway="n2"))
    await keep(three, three.peers["n2"].outputs, number, b"far away", stream=2)
    if how == "over":
        three.complete(number, output_nodes=["n2", "n3"], output_bytes=8)
    elif how == "lost":
        three.apply(log_pb2.Command(plan=log_pb2.Plan(expired_sessions=SESSION.pack(session))))
    assert await read(three, number) == [(2, b"far away")]
    assert len(three.peers["n2"].asked) >= 1
    if how != "lost":
        assert three.peers["n3"].asked == []


async def test_what_printed_nothing_is_asked_of_nobody(three):
    number = three.fire(1, three.open_session(gateway="n2"))
    three.complete(number)
    assert await read(three, number) == []
    assert three.peers["n2"].asked == three.peers["n3"].asked == []


async def test_the_second_copy_is_read_when_the_first_keeper_is_away(three):
    number = three.fire(1, three.open_session(gateway="n2"))
    for name in ("n2", "n3"):
        await keep(three, three.peers[name].outputs, number, b"one", b"two")
    three.complete(number, output_nodes=["n2", "n3"], output_bytes=6)
    three.peers["n2"].is_away = True
    assert await read(three, number) == [(1, b"one"), (1, b"two")]
    three.peers["n3"].is_away = True
    error = await refused(read(three, number))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "OUTPUT_UNREACHABLE")
    assert error.metadata == {"node": "n2, n3"}


async def test_what_one_copy_lacks_is_read_from_the_other(three):
    """Here the first piece, there the last one, and one is damaged."""
    number = three.fire(1, three.open_session())
    await keep(three, three.outputs, number, b"two", b"three", first=1)
    await keep(three, three.peers["n2"].outputs, number, b"one", b"two", b"three")
    three.complete(number, output_nodes=["n1", "n2"], output_bytes=11)
    assert await read(three, number) == [(1, b"one"), (1, b"two"), (1, b"three")]
    environment = next(iter(three.peers["n2"].outputs._days.values()))
    with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
        cursor.last()
        transaction.put(cursor.key(), b"damaged")
    assert await read(three, number) == [(1, b"one"), (1, b"two"), (1, b"three")]
    three.peers["n2"].is_away = True
    error = await refused(read(three, number))
    assert error.reason == "OUTPUT_UNREACHABLE"


@pytest.mark.parametrize("keepers", [["n2", "n3"], ["n7", "n8"]])
async def test_output_that_nobody_keeps_any_more_is_said_to_be_gone(three, keepers):
    """It was too old, or those that kept it are no members any more, or never were of a cluster that was restored."""
    number = three.fire(1, three.open_session())
    three.complete(number, output_nodes=keepers, output_bytes=8, output_truncated=keepers == ["n2", "n3"])
    error = await refused(read(three, number))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "OUTPUT_GONE")
    assert "attempt 1 printed 8 bytes, and no node keeps them any more" in error.text
    assert await read(three, number, after_position=3) == [], "who was given some of it has had all that there is"
    three.peers["n3"].is_away = True
    error = await refused(read(three, number))
    assert error.reason == "OUTPUT_UNREACHABLE"


@pytest.mark.parametrize("keeper", ["n1", "n2"])
async def test_output_that_cannot_be_read_now_is_not_said_to_be_gone(three, keeper, monkeypatch):
    number = three.fire(1, three.open_session())
    store = three.outputs if keeper == "n1" else three.peers[keeper].outputs
    await keep(three, store, number, b"still there")
    three.complete(number, output_nodes=[keeper], output_bytes=11)

    def refuse(key: OutputKey, first_sequence: int) -> NoReturn:
        raise OutputError("the disk does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(store, "read_batch", refuse)
        error = await refused(read(three, number))
        assert (error.reason, error.metadata) == ("OUTPUT_UNREACHABLE", {"node": keeper})
        answer = await search(three, "there")
        assert (answer.unread_attempt_count, answer.unreachable_nodes) == (1, [keeper])
    assert await read(three, number) == [(1, b"still there")]


async def test_a_copy_that_was_made_later_is_found(three):
    number = three.fire(1, three.open_session(gateway="n2"))
    await keep(three, three.peers["n3"].outputs, number, b"made later")
    three.complete(number, output_nodes=["n2"], output_bytes=10)
    three.peers["n2"].is_away = True
    assert await read(three, number) == [(1, b"made later")]


async def test_what_was_not_sent_again_is_read_from_the_gateway_before(three):
    number = three.fire(1, three.open_session(gateway="n2"))
    await keep(three, three.peers["n2"].outputs, number, b"one", b"two")
    await keep(three, three.outputs, number, b"two", b"three", first=1)
    three.complete(number, output_nodes=["n1", "n3"], output_bytes=8, output_truncated=True)
    assert await read(three, number) == [(1, b"one"), (1, b"two"), (1, b"three")]
    number = three.fire(1, three.open_session(gateway="n2"))
    await keep(three, three.peers["n2"].outputs, number, b"all of it")
    three.complete(number, output_truncated=True)
    assert await read(three, number) == [(1, b"all of it")]


async def test_follow_through_another_node_and_on_from_the_second_copy(three, monkeypatch):
    monkeypatch.setattr(output_reader, "RECHECK_SECONDS", 0.01)
    monkeypatch.setattr(outputs_module, "RECHECK_SECONDS", 0.01)
    n2, n3 = three.peers["n2"], three.peers["n3"]
    number = three.fire(1, three.open_session(gateway="n2"))
    await keep(three, n2.outputs, number, b"one")
    await keep(three, n3.outputs, number, b"one", b"two")
    call = follow(three, number)
    assert (await call.read()).data == b"one"
    n2.is_away = True
    assert (await call.read()).data == b"two"
    # The worker comes back through n3, which goes on where the other one ended.
    three.open_session(gateway="n3")
    await keep(three, n3.outputs, number, b"three", first=2)
    assert (await call.read()).data == b"three"
    three.complete(number, output_nodes=["n3"], output_bytes=11)
    assert await call.read() is grpc.aio.EOF


async def test_a_node_that_says_nothing_is_away(three, monkeypatch):
    """How long the other one may take to answer is not what this is about."""
    number = three.fire(1, three.open_session(gateway="n2"))
    await keep(three, three.peers["n3"].outputs, number, b"second copy")

    class Silent:
        def __init__(self, request: object) -> None:
            monkeypatch.setattr(output_reader, "QUIET_SECONDS", 0.05)

        async def read(self) -> None:
            await asyncio.Event().wait()

        def cancel(self) -> None:
            monkeypatch.setattr(output_reader, "QUIET_SECONDS", 60.0)

    monkeypatch.setattr(three.peers["n2"], "FetchOutput", Silent)
    three.complete(number, output_nodes=["n2", "n3"], output_bytes=11)
    assert await read(three, number) == [(1, b"second copy")]


# Search


async def search(node: FakeNode, text: str = "", **fields: int) -> Api.SearchOutputResponse:
    return await node.output.SearchOutput(Api.SearchOutputRequest(parent=NAME, text=text, **fields))


def lines_of(answer: Api.SearchOutputResponse) -> list[tuple[int, int, list[str]]]:
    return [
        (int(match.execution.rpartition("/")[2]), match.attempt, [line.text for line in match.lines])
        for match in answer.matches
    ]


async def run(node: FakeNode, keepers: dict[str, OutputStore], *data: bytes) -> int:
    number = node.fire(1, node.open_session())
    for store in keepers.values():
        await keep(node, store, number, *data)
    node.complete(number, output_nodes=list(keepers), output_bytes=sum(map(len, data)))
    return number


async def test_a_text_is_found_newest_first_wherever_it_is(three):
    n2, n3 = three.peers["n2"].outputs, three.peers["n3"].outputs
    first = await run(three, {"n1": three.outputs, "n2": n2}, b"error: dis", b"k\nfine\nno end: error")
    await run(three, {"n2": n2, "n3": n3}, b"fine\n")
    third = await run(three, {"n2": n2, "n3": n3}, b"ERROR: net\r\n")
    assert lines_of(await search(three, "error")) == [(first, 1, ["error: disk", "no end: error"])]
    answer = await search(three, "error", ignore_case=True)
    assert lines_of(answer) == [(third, 1, ["ERROR: net"]), (first, 1, ["error: disk", "no end: error"])]
    assert (answer.execution_count, list(answer.unreachable_nodes), answer.next_page_token) == (3, [], "")
    assert len((await search(three)).matches) == 3, "an empty text is every line"
    error = await refused(search(three, "x" * 1001))
    assert "text" in error.fields


async def test_a_search_asks_the_second_keeper_and_says_who_is_away(three):
    n2, n3 = three.peers["n2"].outputs, three.peers["n3"].outputs
    both = await run(three, {"n2": n2, "n3": n3}, b"error\n")
    await run(three, {"n2": n2}, b"error\n")
    three.peers["n2"].is_away = True
    answer = await search(three, "error")
    assert lines_of(answer) == [(both, 1, ["error"])]
    assert (list(answer.unreachable_nodes), answer.unread_attempt_count) == (["n2"], 1)


async def test_a_search_is_bounded_and_goes_on_page_by_page(three, monkeypatch):
    monkeypatch.setattr(output_service, "SEARCH_BYTES_MAX", 20)
    numbers = [await run(three, {"n1": three.outputs}, b"error: 123\n") for _ in range(5)]
    found, token, pages = [], "", 0
    while pages == 0 or token:
        answer = await search(three, "error", page_token=token)
        found += [number for number, _, _ in lines_of(answer)]
        token, pages = answer.next_page_token, pages + 1
    assert found == numbers[::-1]
    assert pages == 3
    answer = await search(three, "error", page_size=1)
    assert (answer.execution_count, bool(answer.next_page_token)) == (1, True)


async def test_all_attempts_are_searched_and_their_last_lines_kept(three, monkeypatch):
    monkeypatch.setattr(output_lines, "LINES_PER_ATTEMPT_MAX", 2)
    number = three.fire(1, three.open_session())
    await keep(three, three.outputs, number, b"a 1\na 2\na 3\n")
    three.complete(number, Outcome.FAILED, retry_delay_ms=1, output_nodes=["n1"], output_bytes=12)
    answer = await search(three, "a")
    assert lines_of(answer) == [(number, 1, ["a 2", "a 3"])]
    assert answer.matches[0].omitted_line_count == 1


def test_a_line_that_does_not_end_is_taken_in_parts(monkeypatch):
    monkeypatch.setattr(output_lines, "LINE_BYTES_MAX", 10)
    lines = output_lines.Lines()
    pieces = [OutputPiece(sequence, 1, b"12345678") for sequence in range(3)]
    assert list(lines.add(pieces)) == [(1, b"1234567812345678")]
    assert list(lines.rest()) == [(1, b"12345678")]
