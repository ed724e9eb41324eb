"""The API's DeadLetterService: looking at dead letters, driving them again, purging them.

One is driven again, or purged, by one command; many are by an operation, which the leader's planner takes on from there.
"""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from horologe.log.v1 import log_pb2
from horologe.node import errors, paging, views
from horologe.node.actions import payload_violations
from horologe.node.catalog import Catalog
from horologe.node.context import NodeContext
from horologe.node.dead_letter_reader import DeadLetterReader, read_selection
from horologe.node.execution_service import find_execution
from horologe.node.names import read_execution_name, read_namespace
from horologe.node.operation_views import operation_view, read_operation
from horologe.node.writes import Context, Writer, WriteRequest
from horologe.raft.model import Code, ExecutionFlag, Result
from horologe.v1 import dead_letter_service_pb2, dead_letter_service_pb2_grpc, operation_pb2

NAMES_MAX = 1_000
RATE_MIN, RATE_MAX = 1e-5, 10_000.0
"""About one a day, to more than any cluster starts. 0: as fast as it goes."""
_LAST = (1 << 64) - 1


class DeadLetterService(dead_letter_service_pb2_grpc.DeadLetterServiceServicer):
    """See dead_letter_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._writer = Writer(context)
        self._catalog = Catalog()

    # Looking

    async def GetDeadLetter(
        self, request: dead_letter_service_pb2.GetDeadLetterRequest, context: Context
    ) -> dead_letter_service_pb2.GetDeadLetterResponse:
        del context
        with self._node.store.read() as tables:
            number, execution = find_execution(tables, self._catalog, request.name)
            if not execution.flags & ExecutionFlag.DEAD_LETTER:
                raise errors.of_result(Result(Code.DEAD_LETTER_NOT_FOUND, text=str(number)))
            reader = DeadLetterReader(tables, self._catalog)
            return dead_letter_service_pb2.GetDeadLetterResponse(
                dead_letter=reader.view(number, full=True), revision=views.revision(tables)
            )

    async def ListDeadLetters(
        self, request: dead_letter_service_pb2.ListDeadLettersRequest, context: Context
    ) -> dead_letter_service_pb2.ListDeadLettersResponse:
        del context
        namespace = read_namespace(request.parent, "parent")
        size, start = paging.page_size(request), paging.start_key(request)
        response = dead_letter_service_pb2.ListDeadLettersResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            selection = read_selection(tables, namespace, request.filter)
            reader = DeadLetterReader(tables, self._catalog)
            below = b""
            for looked_at, row in enumerate(reader.rows(selection, start)):
                if len(response.dead_letters) >= size or looked_at >= paging.SCAN_ROWS_MAX:
                    response.next_page_token = paging.next_token(request, below)
                    break
                below = row.key
                if reader.fits(selection, row):
                    response.dead_letters.append(reader.view(row.number, full=False))
        return response

    async def ListDeadLetterGroups(
        self, request: dead_letter_service_pb2.ListDeadLetterGroupsRequest, context: Context
    ) -> dead_letter_service_pb2.ListDeadLetterGroupsResponse:
        del context
        namespace = read_namespace(request.parent, "parent")

        def count() -> dead_letter_service_pb2.ListDeadLetterGroupsResponse:
            with self._node.store.read() as tables:
                reader = DeadLetterReader(tables, Catalog())
                groups, incomplete = reader.groups(read_selection(tables, namespace, request.filter))
                return dead_letter_service_pb2.ListDeadLetterGroupsResponse(
                    groups=groups, incomplete=incomplete, revision=views.revision(tables)
                )

        return await asyncio.to_thread(count)

    # Driving again and purging

    async def RedriveDeadLetter(
        self, request: dead_letter_service_pb2.RedriveDeadLetterRequest, context: Context
    ) -> dead_letter_service_pb2.RedriveDeadLetterResponse:
        _check_payload(request)
        command = log_pb2.RedriveDeadLetter(execution=self._number(request.name))
        if request.HasField("payload"):
            command.payload.CopyFrom(request.payload)
        write = WriteRequest.of("RedriveDeadLetter", request)
        await self._writer.settle(log_pb2.Command(redrive_dead_letter=command), write, context, needs_space=True)
        with self._node.store.read() as tables:
            number, execution = find_execution(tables, self._catalog, request.name)
            return dead_letter_service_pb2.RedriveDeadLetterResponse(
                execution=views.execution_view(tables, self._catalog, number, execution, full=True),
                revision=views.revision(tables),
            )

    async def PurgeDeadLetter(
        self, request: dead_letter_service_pb2.PurgeDeadLetterRequest, context: Context
    ) -> dead_letter_service_pb2.PurgeDeadLetterResponse:
        command = log_pb2.Command(purge_dead_letter=log_pb2.PurgeDeadLetter(execution=self._number(request.name)))
        await self._writer.settle(command, WriteRequest.of("PurgeDeadLetter", request), context)
        return dead_letter_service_pb2.PurgeDeadLetterResponse(revision=self._node.status().revision)

    async def RedriveDeadLetters(
        self, request: dead_letter_service_pb2.RedriveDeadLettersRequest, context: Context
    ) -> dead_letter_service_pb2.RedriveDeadLettersResponse:
        _check_payload(request)
        if request.rate != 0 and not RATE_MIN <= request.rate <= RATE_MAX:
            allowed = f"{RATE_MIN:g} to {RATE_MAX:g} a second, or 0 for as fast as it goes"
            raise errors.invalid_field("rate", f"{request.rate:g} is outside {allowed}")
        namespace = read_namespace(request.parent, "parent")
        chosen = self._selection(namespace, request.names, request.filter)
        chosen.rate = request.rate
        if request.HasField("payload"):
            chosen.payload.CopyFrom(request.payload)
        start = log_pb2.StartOperation(namespace=namespace, redrive=chosen, total=len(chosen.executions))
        operation = await self._start(start, WriteRequest.of("RedriveDeadLetters", request), context)
        return dead_letter_service_pb2.RedriveDeadLettersResponse(
            operation=operation, revision=self._node.status().revision
        )

    async def PurgeDeadLetters(
        self, request: dead_letter_service_pb2.PurgeDeadLettersRequest, context: Context
    ) -> dead_letter_service_pb2.PurgeDeadLettersResponse:
        namespace = read_namespace(request.parent, "parent")
        chosen = self._selection(namespace, request.names, request.filter)
        start = log_pb2.StartOperation(namespace=namespace, purge=chosen, total=len(chosen.executions))
        operation = await self._start(start, WriteRequest.of("PurgeDeadLetters", request), context)
        return dead_letter_service_pb2.PurgeDeadLettersResponse(
            operation=operation, revision=self._node.status().revision
        )

    # Inside

    def _number(self, name: str) -> int:
        """A dead letter that was driven again by the same request is found as well: the command answers what it did."""
        with self._node.store.read() as tables:
            return find_execution(tables, self._catalog, name)[0]

    def _selection(
        self, namespace: str, names: Sequence[str], filter_: dead_letter_service_pb2.DeadLetterFilter
    ) -> log_pb2.DeadLetterSelection:
        if len(names) > NAMES_MAX:
            raise errors.invalid_field(
                "names", f"{len(names)} names are too many; at most {NAMES_MAX}, or use a filter"
            )
        if names and filter_.ByteSize():
            raise errors.invalid_field("filter", "names and a filter are given; give one of them")
        numbers = []
        with self._node.store.read() as tables:
            for position, name in enumerate(names):
                pattern, _ = read_execution_name(name, f"names[{position}]")
                number, execution = find_execution(tables, self._catalog, name)
                home = views.job_name_of(tables, self._catalog, execution).split("/")[1]
                if home != namespace:
                    where = f"{pattern.name} is in namespace {home}, not in {namespace}"
                    raise errors.invalid_field(f"names[{position}]", where)
                numbers.append(number)
            return read_selection(tables, namespace, filter_).as_message(list(dict.fromkeys(numbers)))

    async def _start(
        self, start: log_pb2.StartOperation, write: WriteRequest, context: Context
    ) -> operation_pb2.Operation:
        result = await self._writer.settle(log_pb2.Command(start_operation=start), write, context, needs_space=True)
        with self._node.store.read() as tables:
            record = read_operation(tables, result.numbers[0])
            if record is None:
                raise errors.of_result(Result(Code.OPERATION_NOT_FOUND, text=str(result.numbers[0])))
            return operation_view(tables, record)


def _check_payload(
    request: dead_letter_service_pb2.RedriveDeadLetterRequest | dead_letter_service_pb2.RedriveDeadLettersRequest,
) -> None:
    found = payload_violations(request.payload, "payload") if request.HasField("payload") else []
    if found:
        raise errors.invalid(found)
