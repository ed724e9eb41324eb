"""Linearizable reads: readers share barriers, and nobody gets one that was proposed before they came."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from service_harness import FakeNode, refused

from horologe.node.barriers import Barriers
from horologe.node.cluster_service import ClusterService
from horologe.node.errors import ApiError
from horologe.node.proposals import NoLeaderError, OutcomeUnknownError, ProposalError
from horologe.raft.model import Code, Result
from horologe.v1 import cluster_service_pb2, job_service_pb2


class Log:
    """Takes proposals, and lets a test say when each is applied."""

    def __init__(self) -> None:
        self.proposed: list[asyncio.Future[Result]] = []

    async def propose(self, command, timeout_seconds):
        assert command.WhichOneof("kind") == "barrier"
        assert timeout_seconds > 0
        self.proposed.append(asyncio.get_running_loop().create_future())
        return await self.proposed[-1]


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_come_while_one_is_on_its_way_share_the_next():
    log = Log()
    barriers = Barriers(log)
    first = asyncio.create_task(barriers.passed())
    await _settle()
    others = [asyncio.create_task(barriers.passed()) for _ in range(100)]
    await _settle()
    assert len(log.proposed) == 1
    log.proposed[0].set_result(Result(Code.OK))
    await first
    await _settle()
    # That one may have been in the log before a write that was acknowledged before they came.
    assert not any(other.done() for other in others)
    assert len(log.proposed) == 2
    log.proposed[1].set_result(Result(Code.OK))
    await asyncio.gather(*others)
    assert len(log.proposed) == 2
    last = asyncio.create_task(barriers.passed())
    await _settle()
    assert len(log.proposed) == 3
    log.proposed[2].set_result(Result(Code.OK))
    await last


async def test_a_reader_that_leaves_takes_nothing_from_the_others():
    log = Log()
    barriers = Barriers(log)
    leaving, staying = asyncio.create_task(barriers.passed()), asyncio.create_task(barriers.passed())
    await _settle()
    leaving.cancel()
    await _settle()
    log.proposed[0].set_result(Result(Code.OK))
    await staying


@pytest.mark.parametrize("error", [NoLeaderError("none"), OutcomeUnknownError("who knows")])
async def test_without_an_answer_nobody_reads_and_the_next_one_is_tried(error: ProposalError):
    log = Log()
    barriers = Barriers(log)
    reading = [asyncio.create_task(barriers.passed()) for _ in range(3)]
    await _settle()
    log.proposed[0].set_exception(error)
    for reader in reading:
        with pytest.raises(type(error)):
            await reader
    again = asyncio.create_task(barriers.passed())
    await _settle()
    log.proposed[1].set_result(Result(Code.OK))
    await again


async def test_calls_ask_for_it_by_metadata(tmp_path):
    async with FakeNode(tmp_path).serve() as node:
        request = job_service_pb2.ListJobsRequest(parent="namespaces/default")
        await node.jobs.ListJobs(request)
        assert not node.commands
        await node.jobs.ListJobs(request, metadata=(("horologe-read", "linearizable"),))
        assert [command.WhichOneof("kind") for command in node.commands] == ["barrier"]
        error = await refused(node.jobs.ListJobs(request, metadata=(("horologe-read", "fast"),)))
        assert "horologe-read" in error.fields
        node.failures = [NoLeaderError("none"), OutcomeUnknownError("who knows")]
        error = await refused(node.jobs.ListJobs(request, metadata=(("horologe-read", "linearizable"),)))
        assert error.reason == "NO_LEADER"
        error = await refused(node.jobs.ListJobs(request, metadata=(("horologe-read", "linearizable"),)))
        assert error.reason == "BEHIND"


async def test_checkpoints_and_their_digests(tmp_path):
    async with FakeNode(tmp_path).serve() as node:
        taken = await node.cluster.TakeCheckpoint(cluster_service_pb2.TakeCheckpointRequest())
        found = await node.cluster.GetStateDigest(cluster_service_pb2.GetStateDigestRequest(revision=taken.revision))
        assert (found.node, found.revision, len(found.digest)) == ("n1", taken.revision, 32)
        assert found.record_count > 0
        node.apply(node.commands[-1].__class__(barrier={}))
        request = cluster_service_pb2.GetStateDigestRequest(revision=taken.revision + 1)
        error = await refused(node.cluster.GetStateDigest(request))
        assert error.reason == "DIGEST_NOT_FOUND"
        request.revision += 100
        # A little before its caller gives up, which might come first over a connection.
        call: Any = SimpleNamespace(time_remaining=lambda: 0.05)
        with pytest.raises(ApiError) as behind:
            await ClusterService(node.context, node.peers.__getitem__).GetStateDigest(request, call)
        assert behind.value.reason == "BEHIND"
        node.failures = [NoLeaderError("none")]
        error = await refused(node.cluster.TakeCheckpoint(cluster_service_pb2.TakeCheckpointRequest()))
        assert error.reason == "NO_LEADER"
