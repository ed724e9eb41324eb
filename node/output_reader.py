"""The output of one attempt, read from whichever node has it, and from another one where that is away or lacks something.

Every node that has a piece has it under the same number, so that reading goes on elsewhere at the very place where it broke off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import NamedTuple

import grpc.aio

from horologe.node import views
from horologe.node.context import NodeContext
from horologe.node.errors import ApiError
from horologe.node.output_copies import StubOf, key_message
from horologe.node.outputs import OutputError, OutputKey
from horologe.node.peer_outputs import PeerOutputs
from horologe.peer.v1 import peer_service_pb2
from horologe.raft.model import AttemptState, ExecutionState
from horologe.raft.records import Execution
from horologe.raft.tables import Tables

QUIET_SECONDS = 4.0
"""A node that is asked for output says something at least every second; one that does not is away."""
RECHECK_SECONDS = 1.0
RETRY_SECONDS = 1.0


Piece = peer_service_pb2.OutputPiece
FetchRequest = peer_service_pb2.FetchOutputRequest
FetchResponse = peer_service_pb2.FetchOutputResponse


class Whereabouts(NamedTuple):
    """Where the output of an attempt is, as far as this node's state tells."""

    key: OutputKey
    nodes: tuple[str, ...]
    """All nodes, likeliest first."""
    keepers: frozenset[str]
    """Those that have all of it."""
    gateway: str
    """Where more of it comes in while the attempt runs; empty when it is over."""
    bytes_kept: int
    """How much there is; -1 while it runs, and when nobody reported it."""
    bytes_reported: int = 0
    """How much there was at least when the attempt ended."""


class _AwayError(Exception):
    """A node does not answer, or cannot read what it keeps."""


class OutputReader:
    """Reads from this node and from the others."""

    def __init__(self, context: NodeContext, here: PeerOutputs, stub_of: StubOf) -> None:
        self._context = context
        self._here = here
        self._stub_of = stub_of
        self._name = context.config.name

    def locate(self, tables: Tables, number: int, execution: Execution, attempt: int) -> Whereabouts:
        """`attempt` is one that the execution has had."""
        assign_ms, gateway, bytes_kept, bytes_reported = execution.assign_ms, "", -1, 0
        keepers: list[str] = []
        if attempt == execution.attempt and execution.state == ExecutionState.RUNNING:
            session = views.read_session(tables, execution.session)
            gateway = session.open.gateway if session is not None else ""
            keepers = [gateway] if gateway else []
        else:
            # An attempt with nothing to say leaves no record.
            bytes_kept = 0
            for past in views.read_detail(tables, number, execution).attempts:
                if past.number == attempt:
                    assign_ms, keepers = past.assign_time_ms, list(past.detail.output_nodes)
                    is_reported = bool(keepers) or past.state not in (AttemptState.LOST, AttemptState.TIMED_OUT)
                    bytes_reported = past.detail.output_bytes
                    bytes_kept = bytes_reported if is_reported and not past.detail.output_truncated else -1
        # Those that were removed, and those of a cluster that was backed up and restored as this one, never come back.
        members = set(self._context.status().configuration.by_name)
        keepers = [node for node in keepers if node in members]
        likely = sorted(keepers, key=lambda node: node != self._name) or [self._name]
        if bytes_kept < 0 and not gateway:
            # Of what is missing nobody knows who has it: perhaps a gateway that the worker was connected to before.
            keepers = []
        others = sorted(members - set(likely))
        key = OutputKey(number, attempt, assign_ms)
        return Whereabouts(key, (*likely, *others), frozenset(keepers), gateway, bytes_kept, bytes_reported)

    async def read(self, where: Whereabouts, first_sequence: int) -> AsyncGenerator[Piece, None]:
        """What there is by now. Raises an ApiError if the nodes that have it are away, or if no node has it any more."""
        following, bytes_left = first_sequence, where.bytes_kept
        away: dict[str, None] = {}
        # Where one copy has a gap, another one may be whole; only if none is, the gap stays.
        for accepts_gaps in (False, True):
            has_gap = False
            for node in where.nodes:
                if bytes_left == 0:
                    return
                is_whole = node in where.keepers
                try:
                    async with aclosing(self._pieces(node, where.key, following, follow=False)) as pieces:
                        async for piece in pieces:
                            if piece.damaged or piece.sequence > following:
                                has_gap, is_whole = True, False
                                if not accepts_gaps:
                                    break
                            following = piece.sequence + 1
                            bytes_left -= len(piece.data)
                            yield piece
                except _AwayError:
                    away[node] = None
                    continue
                if is_whole and (following > 0 or where.gateway):
                    return
            if not has_gap:
                break
        if away and bytes_left and (not following or (where.keepers and not where.gateway)):
            raise _unreachable(list(away))
        if where.bytes_reported and not following and not away:
            raise _gone(where)

    async def follow(self, where: Whereabouts, first_sequence: int) -> AsyncGenerator[Piece, None]:
        """What there is and what comes, as long as the attempt runs under this gateway and that one answers.

        If it does not, what others have of it. Whoever follows locates the attempt again afterwards.
        """
        following = first_sequence
        try:
            async with aclosing(self._pieces(where.gateway, where.key, following, follow=True)) as pieces:
                async for piece in pieces:
                    following = piece.sequence + 1
                    yield piece
        except _AwayError:
            others = where._replace(nodes=where.nodes[1:], keepers=frozenset())
            with suppress(ApiError):
                async with aclosing(self.read(others, following)) as second:
                    async for piece in second:
                        yield piece
        await self.wait_applied()

    async def wait_applied(self) -> None:
        """Until something was applied, or a second has passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RECHECK_SECONDS):
                await self._context.wait_applied()

    # Inside

    async def _pieces(
        self, node: str, key: OutputKey, first_sequence: int, *, follow: bool
    ) -> AsyncGenerator[Piece, None]:
        request = FetchRequest(key=key_message(key), follow=follow, first_sequence=first_sequence)
        responses = self._here.fetch(request) if node == self._name else self._fetch(node, request)
        try:
            async with aclosing(responses):
                async for response in responses:
                    for piece in response.pieces:
                        yield piece
        except OutputError as error:
            raise _AwayError(node) from error

    async def _fetch(self, node: str, request: FetchRequest) -> AsyncGenerator[FetchResponse, None]:
        try:
            call = self._stub_of(node).FetchOutput(request)
            try:
                while True:
                    async with asyncio.timeout(QUIET_SECONDS):
                        response = await call.read()
                    if not isinstance(response, FetchResponse):
                        return
                    yield response
            finally:
                call.cancel()
        except (grpc.aio.AioRpcError, TimeoutError, KeyError) as error:
            raise _AwayError(node) from error


def _gone(where: Whereabouts) -> ApiError:
    return ApiError(
        "OUTPUT_GONE",
        f"attempt {where.key.attempt} printed {where.bytes_reported} bytes, and no node keeps them any more: output is kept for "
        "output_retention_days by the nodes that took it, unless their disks are damaged, and is in no backup",
        metadata={"attempt": str(where.key.attempt)},
    )


def _unreachable(nodes: list[str]) -> ApiError:
    return ApiError(
        "OUTPUT_UNREACHABLE",
        f"the output may be on {' and '.join(nodes)}, which cannot be reached or cannot read it now; try again when they can",
        metadata={"node": ", ".join(nodes)},
        retry_seconds=RETRY_SECONDS,
    )
