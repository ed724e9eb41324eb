"""The API's ExecutionService: reading, following and cancelling executions, and the ledger."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from horologe.log.v1 import log_pb2
from horologe.node import errors, paging, views
from horologe.node.catalog import Catalog
from horologe.node.context import NodeContext
from horologe.node.execution_search import ExecutionFilter, ExecutionSearch
from horologe.node.ledger_rows import job_number, ledger_rows, ledger_rows_down, read_outcomes
from horologe.node.names import JobPattern, read_execution_name, read_job_name, read_job_pattern
from horologe.node.writes import Context, Writer, WriteRequest
from horologe.raft.records import LEDGER_KEY, Execution
from horologe.raft.tables import Tables
from horologe.v1 import execution_service_pb2, execution_service_pb2_grpc

WATCH_BATCHES_MAX = 200
"""Batches that wait for a slow watcher; what comes beyond is counted, not kept."""
EXECUTIONS_PER_RESPONSE = 500

_NUMBER_MAX = (1 << 64) - 1


class ChangeQueue(asyncio.Queue[list[int]]):
    """A watcher's queue: never blocks the one who fills it, and counts what did not fit."""

    def __init__(self) -> None:
        super().__init__(WATCH_BATCHES_MAX)
        self.dropped_count = 0

    def put_nowait(self, item: list[int]) -> None:
        if self.full():
            self.dropped_count += len(item)
        else:
            super().put_nowait(item)

    def take(self) -> tuple[list[int], int]:
        """All numbers that wait, each once, and how many were dropped since the last time."""
        numbers: dict[int, None] = {}
        while not self.empty():
            numbers |= dict.fromkeys(self.get_nowait())
        dropped, self.dropped_count = self.dropped_count, 0
        return list(numbers), dropped


class ExecutionService(execution_service_pb2_grpc.ExecutionServiceServicer):
    """See execution_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._writer = Writer(context)
        self._catalog = Catalog()

    # Reading

    async def GetExecution(
        self, request: execution_service_pb2.GetExecutionRequest, context: Context
    ) -> execution_service_pb2.GetExecutionResponse:
        del context
        with self._node.store.read() as tables:
            number, execution = find_execution(tables, self._catalog, request.name)
            return execution_service_pb2.GetExecutionResponse(
                execution=views.execution_view(tables, self._catalog, number, execution, full=True),
                revision=views.revision(tables),
            )

    async def ListExecutions(
        self, request: execution_service_pb2.ListExecutionsRequest, context: Context
    ) -> execution_service_pb2.ListExecutionsResponse:
        del context
        wanted = ExecutionFilter.of(request)
        size, start = paging.page_size(request), paging.start_key(request, wanted.key_length)
        response = execution_service_pb2.ListExecutionsResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            found, end = ExecutionSearch(tables, self._catalog, wanted).page(size, start)
            response.executions.extend(
                views.execution_view(tables, self._catalog, number, execution, full=False)
                for number, execution in found
            )
            if end is not None:
                response.next_page_token = paging.next_token(request, end)
        return response

    async def ListLedger(
        self, request: execution_service_pb2.ListLedgerRequest, context: Context
    ) -> execution_service_pb2.ListLedgerResponse:
        del context
        name = read_job_name(request.parent, "parent")
        size, start = paging.page_size(request), paging.start_key(request, LEDGER_KEY.size)
        wanted = read_outcomes(request.outcomes)
        response = execution_service_pb2.ListLedgerResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            job = job_number(tables, name)
            rows = ledger_rows_down(tables, job, start) if request.latest_first else ledger_rows(tables, job, start)
            last = start
            for looked_at, (key, entry) in enumerate(rows):
                if len(response.rows) >= size or looked_at >= paging.SCAN_ROWS_MAX:
                    # Downwards a page begins below a key, upwards with it.
                    end = last if request.latest_first else key
                    response.next_page_token = paging.next_token(request, end or key)
                    break
                last = key
                if not wanted or entry.outcome in wanted:
                    _, due_ms, number = LEDGER_KEY.unpack(key)
                    response.rows.append(views.ledger_row(tables, self._catalog, job, due_ms, entry, number))
        return response

    # Cancelling

    async def CancelExecution(
        self, request: execution_service_pb2.CancelExecutionRequest, context: Context
    ) -> execution_service_pb2.CancelExecutionResponse:
        if len(request.reason) > errors.MESSAGE_LENGTH_MAX:
            raise errors.invalid_field(
                "reason", f"{len(request.reason)} characters are too many; at most {errors.MESSAGE_LENGTH_MAX}"
            )
        write = WriteRequest.of("CancelExecution", request)
        with self._node.store.read() as tables:
            number, _ = find_execution(tables, self._catalog, request.name)
        command = log_pb2.Command(
            cancel_execution=log_pb2.CancelExecution(execution=number, reason=request.reason or "cancelled by request")
        )
        await self._writer.settle(command, write, context)
        with self._node.store.read() as tables:
            number, execution = find_execution(tables, self._catalog, request.name)
            return execution_service_pb2.CancelExecutionResponse(
                execution=views.execution_view(tables, self._catalog, number, execution, full=True),
                revision=views.revision(tables),
            )

    # Following

    async def WatchExecutions(
        self, request: execution_service_pb2.WatchExecutionsRequest, context: Context
    ) -> AsyncIterator[execution_service_pb2.WatchExecutionsResponse]:
        pattern = read_job_pattern(request.parent, "parent")
        queue = ChangeQueue()
        self._node.changes.append(queue)
        try:
            # Tells the caller that from now on nothing is missed.
            await context.send_initial_metadata(())
            while True:
                first = await queue.get()
                more, dropped = queue.take()
                numbers = list(dict.fromkeys([*first, *more]))
                for start in range(0, len(numbers), EXECUTIONS_PER_RESPONSE):
                    response = self._changes(pattern, numbers[start : start + EXECUTIONS_PER_RESPONSE])
                    response.dropped_count, dropped = dropped, 0
                    if response.executions or response.dropped_count:
                        yield response
        finally:
            self._node.changes.remove(queue)

    # Inside

    def _changes(self, pattern: JobPattern, numbers: list[int]) -> execution_service_pb2.WatchExecutionsResponse:
        response = execution_service_pb2.WatchExecutionsResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            for number in numbers:
                execution = views.read_execution(tables, number)
                if execution is not None and _fits(tables, self._catalog, pattern, execution):
                    response.executions.append(
                        views.execution_view(tables, self._catalog, number, execution, full=True)
                    )
        return response


def find_execution(tables: Tables, catalog: Catalog, name: str) -> tuple[int, Execution]:
    """The execution that a name means; its job may be deleted by now. Raises an ApiError if there is none."""
    pattern, number = read_execution_name(name, "name")
    execution = views.read_execution(tables, number)
    if execution is None or not _fits(tables, catalog, pattern, execution):
        raise errors.execution_not_found(name)
    return number, execution


def _fits(tables: Tables, catalog: Catalog, pattern: JobPattern, execution: Execution) -> bool:
    return pattern.is_everything or pattern.matches(views.job_name_of(tables, catalog, execution))
