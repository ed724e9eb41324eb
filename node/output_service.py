"""The API's OutputService: what attempts printed, from any node."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from horologe.node import errors, paging, views
from horologe.node.catalog import Catalog
from horologe.node.context import NodeContext
from horologe.node.errors import ApiError
from horologe.node.execution_service import find_execution
from horologe.node.ledger_rows import numbers_of_job
from horologe.node.names import read_job_name
from horologe.node.output_copies import StubOf
from horologe.node.output_reader import OutputReader, Whereabouts
from horologe.node.output_search import Search
from horologe.node.outputs import OutputStore
from horologe.node.peer_outputs import PeerOutputs
from horologe.node.writes import Context
from horologe.raft.model import FINAL_STATES
from horologe.v1 import output_service_pb2, output_service_pb2_grpc

SEARCH_EXECUTIONS_MAX = 100
SEARCH_ATTEMPTS_MAX = 100
SEARCH_BYTES_MAX = 32 << 20
"""One page looks at about so much: well below a second of work for the nodes that keep it."""
TEXT_CHARACTERS_MAX = 1_000


class OutputService(output_service_pb2_grpc.OutputServiceServicer):
    """See output_service.proto."""

    def __init__(self, context: NodeContext, outputs: OutputStore, stub_of: StubOf) -> None:
        """`stub_of` is the way to other nodes."""
        self._node = context
        self._here = PeerOutputs(context, outputs)
        self._stub_of = stub_of
        self._reader = OutputReader(context, self._here, stub_of)
        self._catalog = Catalog()

    async def ReadOutput(
        self, request: output_service_pb2.ReadOutputRequest, context: Context
    ) -> AsyncIterator[output_service_pb2.ReadOutputResponse]:
        del context
        if request.attempt < 0:
            raise errors.invalid_field(
                "attempt", f"{request.attempt} is no attempt; they are numbered from 1, 0 is the last"
            )
        if request.after_position < 0:
            raise errors.invalid_field("after_position", f"{request.after_position} is no position of an answer")
        position = request.after_position
        while (where := await self._locate(request)) is not None:
            # From now on this one, even if there is another one meanwhile.
            request.attempt = where.key.attempt
            goes_on = request.follow and bool(where.gateway)
            pieces = self._reader.follow(where, position) if goes_on else self._reader.read(where, position)
            async with aclosing(pieces):
                async for piece in pieces:
                    position = piece.sequence + 1
                    yield output_service_pb2.ReadOutputResponse(
                        stream=piece.stream,  # type: ignore[arg-type]  # 1 or 2, as the worker said
                        data=piece.data,
                        position=position,
                        attempt=where.key.attempt,
                    )
            if not goes_on:
                return

    async def SearchOutput(
        self, request: output_service_pb2.SearchOutputRequest, context: Context
    ) -> output_service_pb2.SearchOutputResponse:
        del context
        name = read_job_name(request.parent, "parent")
        if len(request.text) > TEXT_CHARACTERS_MAX:
            raise errors.invalid_field(
                "text", f"{len(request.text)} characters are too many; at most {TEXT_CHARACTERS_MAX}"
            )
        response = output_service_pb2.SearchOutputResponse()
        sought = self._page(request, name, response)
        search = Search(self._node.config.name, self._here, self._stub_of, request.text, request.ignore_case)
        response.unread_attempt_count = len(await search.look_at(sought))
        response.unreachable_nodes.extend(sorted(search.away))
        for where in sought:
            found = search.found.get(where.key)
            if found is not None and found.lines:
                response.matches.add(
                    execution=views.execution_name(name, where.key.execution),
                    attempt=where.key.attempt,
                    lines=found.lines,
                    omitted_line_count=found.omitted_line_count,
                )
        return response

    # Inside

    async def _locate(self, request: output_service_pb2.ReadOutputRequest) -> Whereabouts | None:
        """None if there is nothing to read. With `follow`, waits for the first attempt of an execution that has none yet."""
        while True:
            with self._node.store.read() as tables:
                number, execution = find_execution(tables, self._catalog, request.name)
                last = execution.attempt
                attempt = request.attempt or last
                if attempt and attempt <= last:
                    return self._reader.locate(tables, number, execution, attempt)
            if execution.state in FINAL_STATES or not request.follow:
                if request.attempt:
                    raise ApiError(
                        "OUTPUT_NOT_FOUND",
                        f"{request.name} has no attempt {request.attempt}; it has had {last}",
                        metadata={"execution": request.name, "attempts": str(last)},
                    )
                return None
            await self._reader.wait_applied()

    def _page(
        self,
        request: output_service_pb2.SearchOutputRequest,
        name: str,
        response: output_service_pb2.SearchOutputResponse,
    ) -> list[Whereabouts]:
        """Attempts of the executions that this page looks at, newest first; says in the response where the next one begins."""
        size = min(paging.page_size(request), SEARCH_EXECUTIONS_MAX)
        start = paging.start_key(request)
        sought: list[Whereabouts] = []
        size_bytes = 0
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            last_key = b""
            for looked_at, (key, number) in enumerate(numbers_of_job(tables, name, start)):
                is_full = response.execution_count >= size or len(sought) >= SEARCH_ATTEMPTS_MAX
                if is_full or size_bytes >= SEARCH_BYTES_MAX or looked_at >= paging.SCAN_ROWS_MAX:
                    response.next_page_token = paging.next_token(request, last_key)
                    break
                last_key = key
                execution = views.read_execution(tables, number) if number else None
                if execution is None:
                    continue
                response.execution_count += 1
                for attempt in range(execution.attempt, 0, -1):
                    where = self._reader.locate(tables, number, execution, attempt)
                    size_bytes += (
                        self._node.config.output_bytes_per_attempt_max if where.bytes_kept < 0 else where.bytes_kept
                    )
                    sought.append(where)
        return sought
