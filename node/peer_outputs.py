"""What other nodes may ask of the output that this one keeps: to read it, to search it, and to keep a second copy.

The other ends are in output_reader.py, output_search.py and output_copies.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from horologe.node import views
from horologe.node.context import NodeContext
from horologe.node.output_lines import find_lines
from horologe.node.outputs import OutputKey, OutputPiece, OutputStore
from horologe.peer.v1 import peer_service_pb2
from horologe.raft.machine import cluster_id_of
from horologe.raft.model import ExecutionState

_INT64_MAX = (1 << 63) - 1
_UINT32_MAX = (1 << 32) - 1
_TIME_MS_MAX = 253_402_300_799_999
"""The end of the year 9999."""


class StrangeOutputError(Exception):
    """What was sent is not kept. The text says what is wrong with it."""


class PeerOutputs:
    """This node's output, as its peers see it. Belongs to the event loop."""

    def __init__(self, context: NodeContext, outputs: OutputStore) -> None:
        self._context = context
        self._outputs = outputs

    async def fetch(
        self, request: peer_service_pb2.FetchOutputRequest
    ) -> AsyncGenerator[peer_service_pb2.FetchOutputResponse, None]:
        """What is kept here of an attempt. With `follow`, goes on while this node is the attempt's gateway.

        Raises StrangeOutputError, or OutputError if it cannot be read now.
        """
        key = key_of(request.key)

        def still_running() -> bool:
            return request.follow and self._is_gateway_of(key)

        async with aclosing(self._outputs.follow(key, still_running, max(0, request.first_sequence))) as batches:
            async for batch in batches:
                response = peer_service_pb2.FetchOutputResponse()
                for piece in batch:
                    response.pieces.add(
                        sequence=piece.sequence, stream=piece.stream, data=piece.data, damaged=piece.is_damaged
                    )
                yield response

    async def store(self, request: peer_service_pb2.StoreOutputRequest) -> None:
        """Keeps a second copy; it is on the disk afterwards. Raises StrangeOutputError, or OutputError."""
        with self._context.store.read() as tables:
            cluster_id = cluster_id_of(tables)
        if request.cluster_id != cluster_id:
            raise StrangeOutputError(f"the output is of cluster {request.cluster_id}, this node is of {cluster_id}")
        pieces = []
        for parcel in request.parcels:
            key = key_of(parcel.key)
            for piece in parcel.pieces:
                if not 0 <= piece.sequence <= _INT64_MAX or not 0 <= piece.stream <= 255:
                    raise StrangeOutputError("a piece has a sequence or a stream that no worker could have given it")
                pieces.append((key, OutputPiece(piece.sequence, piece.stream, piece.data)))
        await self._outputs.append_async(pieces)

    async def find(self, request: peer_service_pb2.FindInOutputRequest) -> peer_service_pb2.FindInOutputResponse:
        """Looks for a text in what is kept here. Raises StrangeOutputError, or OutputError if it cannot be read now."""
        response = peer_service_pb2.FindInOutputResponse()
        for key in [key_of(key) for key in request.keys]:
            found = await asyncio.to_thread(
                find_lines, self._outputs, key, request.text, ignore_case=request.ignore_case
            )
            response.found.append(found)
        return response

    def _is_gateway_of(self, key: OutputKey) -> bool:
        """Whether the attempt runs, and what it prints comes to this node."""
        with self._context.store.read() as tables:
            execution = views.read_execution(tables, key.execution)
            if execution is None or execution.state != ExecutionState.RUNNING or execution.attempt != key.attempt:
                return False
            session = views.read_session(tables, execution.session)
        return session is not None and session.open.gateway == self._context.config.name


def key_of(message: peer_service_pb2.OutputKey) -> OutputKey:
    """Raises StrangeOutputError if no attempt can have it."""
    if not (
        0 < message.execution <= _INT64_MAX
        and 0 < message.attempt <= _UINT32_MAX
        and 0 <= message.assign_time_ms <= _TIME_MS_MAX
    ):
        raise StrangeOutputError("the numbers of the attempt are out of range")
    return OutputKey(message.execution, message.attempt, message.assign_time_ms)
