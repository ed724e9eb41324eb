"""The API's CalendarService: setting, reading and deleting calendars. What a calendar covers is in `calendars`."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

import asyncio
from itertools import islice

from horologe.log.v1 import log_pb2
from horologe.node import errors, paging, views
from horologe.node.calendars import complete_calendar
from horologe.node.context import NodeContext
from horologe.node.drafts import read_etag
from horologe.node.names import WILDCARD, read_calendar_name, read_namespace
from horologe.node.writes import Context, Writer, WriteRequest
from horologe.raft.calendars import find_calendar, users_of
from horologe.raft.model import Code, Result
from horologe.raft.tables import Tables
from horologe.v1 import calendar_service_pb2, calendar_service_pb2_grpc
from horologe.v1.calendar_pb2 import Calendar

USERS_COUNTED_MAX = 10_000


class CalendarService(calendar_service_pb2_grpc.CalendarServiceServicer):
    """See calendar_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._writer = Writer(context)

    async def SetCalendar(
        self, request: calendar_service_pb2.SetCalendarRequest, context: Context
    ) -> calendar_service_pb2.SetCalendarResponse:
        name = read_calendar_name(request.calendar.name, "calendar.name")
        now_ms = self._node.clock.wall_ms()
        # Expressions that are never due take their time to be found out.
        complete, found = await asyncio.to_thread(complete_calendar, request.calendar, "calendar", now_ms)
        if found:
            raise errors.invalid(found)
        change = log_pb2.SetCalendar(
            calendar=complete, expected_revision=read_etag(request.calendar.etag, "calendar.etag")
        )
        write = WriteRequest.of("SetCalendar", request)
        await self._writer.settle(log_pb2.Command(set_calendar=change), write, context, needs_space=True)
        with self._node.store.read() as tables:
            return calendar_service_pb2.SetCalendarResponse(
                calendar=_read(tables, name), revision=views.revision(tables)
            )

    async def GetCalendar(
        self, request: calendar_service_pb2.GetCalendarRequest, context: Context
    ) -> calendar_service_pb2.GetCalendarResponse:
        del context
        name = read_calendar_name(request.name, "name")
        with self._node.store.read() as tables:
            return calendar_service_pb2.GetCalendarResponse(
                calendar=_read(tables, name), revision=views.revision(tables)
            )

    async def ListCalendars(
        self, request: calendar_service_pb2.ListCalendarsRequest, context: Context
    ) -> calendar_service_pb2.ListCalendarsResponse:
        del context
        namespace = read_namespace(request.parent, "parent", wildcard=True)
        size = paging.page_size(request)
        prefix = "namespaces/" if namespace == WILDCARD else f"namespaces/{namespace}/calendars/"
        response = calendar_service_pb2.ListCalendarsResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            for key, raw in tables.calendar.scan(paging.start_key(request) or prefix.encode()):
                if not bytes(key).startswith(prefix.encode()):
                    break
                if len(response.calendars) >= size:
                    response.next_page_token = paging.next_token(request, bytes(key))
                    break
                response.calendars.append(_view(tables, log_pb2.CalendarRecord.FromString(bytes(raw))))
        return response

    async def DeleteCalendar(
        self, request: calendar_service_pb2.DeleteCalendarRequest, context: Context
    ) -> calendar_service_pb2.DeleteCalendarResponse:
        change = log_pb2.DeleteCalendar(
            name=read_calendar_name(request.name, "name"), expected_revision=read_etag(request.etag, "etag")
        )
        write = WriteRequest.of("DeleteCalendar", request)
        await self._writer.settle(log_pb2.Command(delete_calendar=change), write, context)
        return calendar_service_pb2.DeleteCalendarResponse(revision=self._node.status().revision)


def _read(tables: Tables, name: str) -> Calendar:
    record = find_calendar(tables, name)
    if record is None:
        raise errors.of_result(Result(Code.CALENDAR_NOT_FOUND, text=name))
    return _view(tables, record)


def _view(tables: Tables, record: log_pb2.CalendarRecord) -> Calendar:
    view = Calendar()
    view.CopyFrom(record.calendar)
    view.etag = str(record.revision)
    view.create_time.CopyFrom(views.timestamp(record.create_time_ms))
    view.update_time.CopyFrom(views.timestamp(record.update_time_ms))
    view.job_count = sum(1 for _ in islice(users_of(tables, record.id), USERS_COUNTED_MAX))
    return view
