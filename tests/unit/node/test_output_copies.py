"""Two copies of what attempts print, before their outcome is proposed; one if there is nobody to give the other one to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NoReturn

import pytest
from service_harness import FakeNode, FakePeer, interval_job
from structlog.testing import capture_logs

from horologe.log.v1 import log_pb2
from horologe.node import output_copies, output_mates
from horologe.node.gateway import Gateway
from horologe.node.output_copies import OutputCopies
from horologe.node.output_mates import OutputMates
from horologe.node.outputs import OutputError, OutputKey
from horologe.node.peer_outputs import StrangeOutputError
from horologe.node.sessions import WorkerSession
from horologe.peer.v1 import peer_service_pb2
from horologe.v1 import job_pb2, job_service_pb2, worker_pb2

SUCCEEDED = worker_pb2.AttemptResult.OUTCOME_SUCCEEDED


async def create(node: FakeNode) -> None:
    job = interval_job()
    job.overlap = job_pb2.OVERLAP_POLICY_ALLOW
    await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="tick", job=job))


class Here:
    """A gateway with one worker, and what it says."""

    def __init__(self, node: FakeNode, folder: Path) -> None:
        self.node = node
        node.connected = frozenset({"n2", "n3"})
        node.peers |= {name: FakePeer(node, name, folder) for name in ("n2", "n3")}
        self.n2: FakePeer = node.peers["n2"]
        self.n3: FakePeer = node.peers["n3"]
        self.copies = OutputCopies(node.context, node.outputs, node.peers.__getitem__)
        self.gateway = Gateway(node.context, node.outputs, self.copies)
        self.session = WorkerSession(0, "w1")

    async def run(self) -> int:
        """A new attempt; answers its execution."""
        self.session.number = session = self.node.open_session()
        number = self.node.fire(1, session)
        await self.gateway.open(self.session, [])
        return number

    def prints(self, number: int, sequence: int, data: bytes) -> None:
        token = self.node.execution(number).token
        chunk = worker_pb2.OutputChunk(
            execution=number, attempt=1, fencing_token=token, stream=1, data=data, sequence=sequence
        )
        self.gateway.output(self.session, chunk)

    def ends(self, number: int, chunk_count: int = 0) -> None:
        token = self.node.execution(number).token
        result = worker_pb2.AttemptResult(
            execution=number, attempt=1, fencing_token=token, outcome=SUCCEEDED, output_chunk_count=chunk_count
        )
        self.gateway.results(self.session, worker_pb2.AttemptResults(results=[result]))

    async def finish(self, number: int) -> log_pb2.OutcomeDetail:
        """Ends the attempt; answers what was proposed of it."""
        self.ends(number)
        return await self.completed()

    async def completed(self) -> log_pb2.OutcomeDetail:
        await self.gateway.drained()
        return self.node.commands[-1].complete.details[0]

    def kept(self, name: str, number: int) -> bytes:
        store = self.node.outputs if name == "n1" else self.node.peers[name].outputs
        execution = self.node.execution(number)
        pieces = store.read_batch(OutputKey(number, execution.attempt, execution.assign_ms))
        return b"".join(piece.data for piece in pieces)


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that nobody tells of."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with FakeNode(tmp_path, members=("n1", "n2", "n3")).serve() as node:
        await create(node)
        here = Here(node, tmp_path)
        yield here
        await here.copies.stop()
        for peer in node.peers.values():
            peer.outputs.close()


async def test_output_is_on_two_nodes_before_its_outcome_is_proposed(here):
    number = await here.run()
    here.n2.may_answer.clear()
    here.prints(number, 0, b"one ")
    here.prints(number, 1, b"two")
    here.ends(number)
    await until(lambda: bool(here.n2.asked))
    proposed = len(here.node.commands)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(here.node.commands) == proposed, "the second copy is not there yet"
    here.n2.may_answer.set()
    detail = await here.completed()
    assert (list(detail.output_nodes), detail.output_bytes, detail.output_truncated) == (["n1", "n2"], 7, False)
    assert here.kept("n1", number) == here.kept("n2", number) == b"one two"
    assert len(here.n2.asked) == 1, "all that came together goes together"
    assert here.n3.asked == []


async def test_who_prints_nothing_waits_for_nobody(here):
    loud = await here.run()
    here.n2.may_answer.clear()
    here.prints(loud, 0, b"loud")
    here.ends(loud)
    quiet = await here.run()
    here.ends(quiet)
    await until(lambda: here.node.execution(quiet).end_ms > 0)
    assert here.node.execution(loud).end_ms == 0
    assert not here.node.commands[-1].complete.details
    here.n2.may_answer.set()
    await here.gateway.drained()
    assert here.node.execution(loud).end_ms > 0


async def test_another_node_gets_all_of_it_when_the_first_one_fails(here):
    first, second = await here.run(), None
    here.prints(first, 0, b"one ")
    await here.copies.settled()
    here.n2.is_away = True
    here.prints(first, 1, b"two")
    await here.copies.settled()
    detail = await here.finish(first)
    assert list(detail.output_nodes) == ["n1", "n3"]
    assert here.kept("n3", first) == b"one two"
    assert here.kept("n2", first) == b"one "
    here.n2.is_away = False
    second = await here.run()
    here.prints(second, 0, b"again")
    assert list((await here.finish(second)).output_nodes) == ["n1", "n3"], "a choice stays while it is well"


async def test_one_copy_when_nobody_takes_the_other_one_and_the_log_says_so_once(here, monkeypatch):
    monkeypatch.setattr(output_copies, "COPY_SECONDS", 0.0)
    here.node.connected = frozenset()
    with capture_logs() as lines:
        for _ in range(3):
            number = await here.run()
            here.prints(number, 0, b"alone")
            assert list((await here.finish(number)).output_nodes) == ["n1"]
        monkeypatch.setattr(output_copies, "COPY_SECONDS", 2.0)
        here.node.connected = frozenset({"n3"})
        number = await here.run()
        here.prints(number, 0, b"both")
        assert list((await here.finish(number)).output_nodes) == ["n1", "n3"]
    assert [line["event"] for line in lines if line["event"].startswith("output has")] == [
        "output has one copy only: no other voter takes it",
        "output has two copies again",
    ]


async def test_a_second_copy_is_made_at_the_end_if_there_was_nobody_before(here, monkeypatch):
    monkeypatch.setattr(output_copies, "COPY_SECONDS", 0.0)
    number = await here.run()
    here.prints(number, 0, b"one")
    await here.copies.settled()
    monkeypatch.setattr(output_copies, "COPY_SECONDS", 2.0)
    assert list((await here.finish(number)).output_nodes) == ["n1", "n2"]
    assert here.kept("n2", number) == b"one"


async def test_a_second_copy_is_made_good_later(here, monkeypatch):
    monkeypatch.setattr(output_copies, "DEBT_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(output_copies, "COPY_SECONDS", 0.0)
    number = await here.run()
    here.prints(number, 0, b"owed")
    await here.finish(number)
    assert here.n2.asked == []
    paying = asyncio.create_task(here.copies.pay_debts())
    await until(lambda: not here.copies._debts)
    paying.cancel()
    assert here.kept("n2", number) == b"owed"


async def test_what_cannot_be_read_here_is_not_said_to_be_on_another_node(here, monkeypatch):
    first = await here.run()
    here.prints(first, 0, b"one ")
    await here.copies.settled()
    here.n2.is_away = True

    def refuse(key: OutputKey, first_sequence: int) -> NoReturn:
        raise OutputError("the disk does not answer")

    monkeypatch.setattr(here.node.outputs, "read_batch", refuse)
    second = await here.run()
    here.prints(first, 1, b"two")
    here.prints(second, 0, b"new")
    await here.copies.settled()
    assert list((await here.finish(second)).output_nodes) == ["n1", "n3"]
    assert list((await here.finish(first)).output_nodes) == ["n1"]
    monkeypatch.undo()
    assert here.kept("n1", first) == b"one two"


async def test_a_node_alone_needs_no_other(tmp_path):
    async with FakeNode(tmp_path).serve() as node:
        await create(node)
        here = Here(node, tmp_path)
        with capture_logs() as lines:
            number = await here.run()
            here.prints(number, 0, b"alone")
            assert list((await here.finish(number)).output_nodes) == ["n1"]
        assert not any(line["event"].startswith("output") for line in lines)
        assert not here.copies._debts
        for peer in node.peers.values():
            peer.outputs.close()


async def test_a_disk_that_takes_nothing_leaves_the_copy_elsewhere(here, monkeypatch):
    def refuse(pieces: object) -> None:
        raise OutputError("the disk is full")

    number = await here.run()
    with monkeypatch.context() as patches, capture_logs() as lines:
        patches.setattr(here.node.outputs, "append", refuse)
        here.prints(number, 0, b"one ")
        await here.copies.settled()
        here.prints(number, 1, b"two")
        await here.copies.settled()
    detail = await here.finish(number)
    assert (list(detail.output_nodes), detail.output_truncated) == (["n2"], False)
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["output is not kept here"]


async def test_output_that_nobody_takes_is_marked_as_cut(here, monkeypatch):
    def refuse(pieces: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(output_copies, "COPY_SECONDS", 0.0)
    monkeypatch.setattr(here.node.outputs, "append", refuse)
    number = await here.run()
    here.prints(number, 0, b"lost")
    assert (await here.finish(number)).output_truncated


async def test_much_output_goes_in_parts_and_outcomes_wait_for_their_own_only(here, monkeypatch):
    monkeypatch.setattr(output_copies, "BATCH_BYTES_MAX", 10)
    monkeypatch.setattr(output_copies, "REQUEST_BYTES_MAX", 10)
    first, second = await here.run(), await here.run()
    here.prints(first, 0, b"0123456789")
    here.ends(first)
    for sequence in range(5):
        here.prints(second, sequence, b"0123456789")
    here.n2.may_answer.clear()
    await until(lambda: bool(here.n2.asked))
    here.n2.may_answer.set()
    await until(lambda: here.node.execution(first).end_ms > 0)
    detail = await here.finish(second)
    assert (list(detail.output_nodes), detail.output_bytes) == (["n1", "n2"], 50)
    assert here.kept("n2", second) == b"0123456789" * 5
    assert all(len(request.parcels) == 1 for request in here.n2.asked)


async def test_more_than_the_disks_take_is_cut(here, monkeypatch):
    monkeypatch.setattr(output_copies, "WAITING_BYTES_MAX", 10)
    number = await here.run()
    here.prints(number, 0, b"0123456789")
    here.prints(number, 1, b"more")
    detail = await here.finish(number)
    assert (detail.output_bytes, detail.output_truncated) == (10, True)
    assert here.kept("n1", number) == b"0123456789"


async def test_the_cap_of_an_attempt(tmp_path):
    async with FakeNode(tmp_path, output_bytes_per_attempt_max=10).serve() as node:
        await create(node)
        here = Here(node, tmp_path)
        full, cut = await here.run(), await here.run()
        here.prints(full, 0, b"0123456789")
        detail = await here.finish(full)
        assert (detail.output_bytes, detail.output_truncated) == (10, False)
        for sequence in range(3):
            here.prints(cut, sequence, b"01234567")
        detail = await here.finish(cut)
        assert (detail.output_bytes, detail.output_truncated) == (10, True)
        assert here.kept("n1", cut) == b"0123456701"
        for peer in node.peers.values():
            peer.outputs.close()


async def test_a_worker_that_comes_back_goes_on_where_the_disk_ends(here):
    number = await here.run()
    here.prints(number, 0, b"one ")
    await here.copies.settled()
    execution = here.node.execution(number)
    held = worker_pb2.AttemptId(execution=number, attempt=1, fencing_token=execution.token)
    here.session = WorkerSession(here.node.open_session(), "w1")
    assert await here.gateway.open(here.session, [held]) == []
    for sequence, data in enumerate([b"one ", b"two ", b"three"]):
        here.prints(number, sequence, data)
    detail = await here.finish(number)
    assert (list(detail.output_nodes), detail.output_bytes) == (["n1", "n2"], 13)
    assert here.kept("n1", number) == here.kept("n2", number) == b"one two three"


async def test_output_with_a_piece_missing_is_marked_as_cut(here):
    number = await here.run()
    here.prints(number, 3, b"the end")
    assert (await here.finish(number)).output_truncated


async def test_what_a_worker_could_not_send_again_is_marked_as_cut(here):
    number = await here.run()
    here.ends(number, chunk_count=2)
    detail = await here.completed()
    assert (detail.output_truncated, detail.output_bytes, list(detail.output_nodes)) == (True, 0, [])
    number = await here.run()
    here.prints(number, 0, b"one of two")
    here.ends(number, chunk_count=2)
    assert (await here.completed()).output_truncated


async def test_workers_wait_while_the_disks_are_busy_and_not_when_they_are_stuck(here, monkeypatch):
    monkeypatch.setattr(output_copies, "WAITING_BYTES_HIGH", 10)
    monkeypatch.setattr(output_copies, "BATCH_BYTES_MAX", 10)
    monkeypatch.setattr(output_copies, "ROOM_SECONDS", 3_600.0)
    number = await here.run()
    here.n2.may_answer.clear()
    here.prints(number, 0, b"on its way")
    await until(lambda: bool(here.n2.asked))
    here.prints(number, 1, b"waits for it, and so does who")
    here.prints(number, 2, b"sends more")
    room = asyncio.create_task(here.gateway.output_room())
    await asyncio.sleep(0)
    assert not room.done()
    here.n2.may_answer.set()
    await asyncio.wait_for(room, 60)
    await here.copies.settled()
    monkeypatch.setattr(output_copies, "ROOM_SECONDS", 0.01)
    here.n2.may_answer.clear()
    for sequence in range(3, 6):
        here.prints(number, sequence, b"one more of these")
    await asyncio.wait_for(here.gateway.output_room(), 60)
    await asyncio.wait_for(here.gateway.output_room(), 60)
    here.n2.may_answer.set()
    assert not (await here.finish(number)).output_truncated


async def test_what_is_not_ours_is_not_kept(here):
    request = peer_service_pb2.StoreOutputRequest(cluster_id="theirs")
    with pytest.raises(StrangeOutputError, match="of cluster theirs"):
        await here.n2.StoreOutput(request, timeout=1.0)
    request.cluster_id = ""
    parcel = request.parcels.add(key=peer_service_pb2.OutputKey(execution=-1, attempt=1))
    with pytest.raises(StrangeOutputError, match="out of range"):
        await here.n2.StoreOutput(request, timeout=1.0)
    parcel.key.execution = 1
    parcel.pieces.add(sequence=-1, stream=1, data=b"x")
    with pytest.raises(StrangeOutputError, match="no worker"):
        await here.n2.StoreOutput(request, timeout=1.0)


# Who


def test_a_choice_stays_while_it_is_well(tmp_path):
    node = FakeNode(tmp_path, members=("n1", "n2", "n3", "n4"))
    node.connected = frozenset({"n3", "n4", "n9"})
    mates = OutputMates("n1", node.status, node.clock.monotonic)
    assert mates.choose() == "n3", "the next one in the ring that is connected"
    node.connected = frozenset({"n2", "n3", "n4"})
    assert mates.choose() == "n3"
    mates.failed("n3")
    assert mates.choose() == "n2"
    mates.failed("n2")
    assert mates.choose() == "n4"
    mates.failed("n4")
    assert mates.choose() == ""
    node.clock.now_ms += int(output_mates.REST_SECONDS * 1000)
    assert mates.choose() == "n2"
    assert OutputMates("n3", node.status, node.clock.monotonic).choose() == "n4"
    assert OutputMates("n4", node.status, node.clock.monotonic).choose() == "n2"
    assert not mates.is_alone
    node.store.close()
    node.outputs.close()
