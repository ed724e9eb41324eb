"""The API's BackfillService: running a job for due times of the past."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

import asyncio
from itertools import islice

from google.protobuf.timestamp_pb2 import Timestamp

from horologe.log.v1 import log_pb2
from horologe.node import errors, views
from horologe.node.backfills import due_times_of, timetable_now
from horologe.node.context import NodeContext
from horologe.node.names import read_job_name
from horologe.node.operation_views import describe, operation_view, read_operation
from horologe.node.writes import Context, Writer, WriteRequest, accepted
from horologe.raft.backfills import is_wanted
from horologe.raft.model import Code, Result
from horologe.v1 import backfill_service_pb2, backfill_service_pb2_grpc, operation_pb2

DUE_TIMES_MAX = 100_000
"""Of one backfill: counting them takes seconds for the slowest schedules."""
DUE_TIMES_PER_READ = 1_000
"""Looked up in one read transaction, which is kept short."""
DUE_TIMES_SHOWN = 10
MAX_RUNNING = (1, 1_000)

_Request = backfill_service_pb2.BackfillJobRequest


class BackfillService(backfill_service_pb2_grpc.BackfillServiceServicer):
    """See backfill_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._writer = Writer(context)

    async def BackfillJob(
        self, request: backfill_service_pb2.BackfillJobRequest, context: Context
    ) -> backfill_service_pb2.BackfillJobResponse:
        write = WriteRequest.of("BackfillJob", request)
        result = self._writer.first_answer(write)
        if result is None:
            start = await asyncio.to_thread(self._read, request)
            if request.validate_only:
                return await asyncio.to_thread(self._preview, start)
            command = log_pb2.Command(start_operation=start)
            result = await self._writer.propose(command, write, context, needs_space=True)
        number = accepted(result).numbers[0]
        with self._node.store.read() as tables:
            record = read_operation(tables, number)
            if record is None:
                raise errors.of_result(Result(Code.OPERATION_NOT_FOUND, text=str(number)))
            return backfill_service_pb2.BackfillJobResponse(
                operation=operation_view(tables, record), revision=views.revision(tables)
            )

    def _read(self, request: backfill_service_pb2.BackfillJobRequest) -> log_pb2.StartOperation:
        """In a thread: what is asked for, with its due times counted. Raises an ApiError if it is wrong."""
        name = read_job_name(request.name, "name")
        from_ms, to_ms = _read_range(request, self._node.clock.wall_ms())
        if request.order not in _Request.Order.values():
            raise errors.invalid_field("order", f"{request.order} is not a known order")
        if request.only not in _Request.Only.values():
            raise errors.invalid_field("only", f"{request.only} is not a known choice")
        low, high = MAX_RUNNING
        max_running = request.max_running or low
        if not low <= max_running <= high:
            raise errors.invalid_field("max_running", f"{max_running} is outside {low} to {high}")
        with self._node.store.read() as tables:
            record = views.find_job(tables, name)
            if record is None:
                raise errors.job_not_found(name)
            timetable = timetable_now(tables, record)
        run = timetable.missed(from_ms, to_ms - 1, DUE_TIMES_MAX + 1)
        if run.count > DUE_TIMES_MAX:
            raise errors.invalid_field(
                "end_time", f"the range has more than {DUE_TIMES_MAX} due times; split it into shorter ones"
            )
        only: log_pb2.Backfill.Only.ValueType = request.only or _Request.ONLY_MISSING  # type: ignore[assignment]
        return log_pb2.StartOperation(
            namespace=name.split("/")[1],
            total=run.count,
            backfill=log_pb2.Backfill(
                job=record.id,
                from_ms=from_ms,
                to_ms=to_ms,
                backwards=request.order == _Request.ORDER_BACKWARDS,
                only=only,
                max_running=max_running,
            ),
        )

    def _preview(self, start: log_pb2.StartOperation) -> backfill_service_pb2.BackfillJobResponse:
        """In a thread: what would be run, as things stand."""
        backfill = start.backfill
        response = backfill_service_pb2.BackfillJobResponse()
        with self._node.store.read() as tables:
            record = views.read_job(tables, backfill.job)
            assert record is not None, "a job is never dropped"
            due_times = due_times_of(tables, record, backfill, b"").take(lambda: True)
        while part := list(islice(due_times, DUE_TIMES_PER_READ)):
            with self._node.store.read() as tables:
                wanted = [due_ms for due_ms in part if is_wanted(tables, backfill.job, due_ms, backfill.only)]
                response.revision = views.revision(tables)
            response.wanted_count += len(wanted)
            room = DUE_TIMES_SHOWN - len(response.first_due_times)
            response.first_due_times.extend(views.timestamp(due_ms) for due_ms in wanted[:room])
        response.operation.CopyFrom(
            operation_pb2.Operation(
                kind=operation_pb2.Operation.KIND_BACKFILL,
                job=record.job.name,
                description=describe(start),
                total_count=start.total,
            )
        )
        return response


def _read_range(request: backfill_service_pb2.BackfillJobRequest, now_ms: int) -> tuple[int, int]:
    for field in ("start_time", "end_time"):
        if not request.HasField(field):
            raise errors.invalid_field(field, "it is missing; a backfill has a beginning and an end")
    from_ms, to_ms = _read_ms(request.start_time, "start_time"), _read_ms(request.end_time, "end_time")
    if to_ms <= from_ms:
        raise errors.invalid_field("end_time", "it is not after start_time; give the end of the range")
    if to_ms > now_ms:
        raise errors.invalid_field(
            "end_time", "it lies in the future, where the schedule itself fires; give a past time"
        )
    return from_ms, to_ms


def _read_ms(given: Timestamp, field: str) -> int:
    try:
        time_ms = given.ToMilliseconds()
    except ValueError as error:
        raise errors.invalid_field(field, str(error)) from error
    if time_ms < 0:
        raise errors.invalid_field(field, "it is before 1970")
    return time_ms
