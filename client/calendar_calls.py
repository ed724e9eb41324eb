"""The methods of CalendarService, as `calls.py` has those of the other services."""

from __future__ import annotations

from collections.abc import Iterable

from horologe.client import names
from horologe.client.calls import PAGE_SIZE, Call, Method, Pages, request_id_or_new
from horologe.v1 import calendar_service_pb2 as calendars
from horologe.v1.calendar_pb2 import Calendar

__all__ = ["delete_calendar", "get_calendar", "list_calendars", "set_calendar"]

_SERVICE = "CalendarService"
SET_CALENDAR = Method(
    _SERVICE, "SetCalendar", calendars.SetCalendarRequest, calendars.SetCalendarResponse, is_write=True
)
GET_CALENDAR = Method(_SERVICE, "GetCalendar", calendars.GetCalendarRequest, calendars.GetCalendarResponse)
LIST_CALENDARS = Method(_SERVICE, "ListCalendars", calendars.ListCalendarsRequest, calendars.ListCalendarsResponse)
DELETE_CALENDAR = Method(
    _SERVICE, "DeleteCalendar", calendars.DeleteCalendarRequest, calendars.DeleteCalendarResponse, is_write=True
)


def set_calendar(namespace: str, calendar: Calendar, *, request_id: str = "") -> Call[Calendar]:
    """Creates a calendar or replaces its definition, and returns it as stored. With an `etag`, Conflict if it has changed."""
    request = calendars.SetCalendarRequest(calendar=calendar, request_id=request_id_or_new(request_id))
    request.calendar.name = names.calendar_name(calendar.name, namespace)
    return Call(SET_CALENDAR, request, _calendar)


def get_calendar(namespace: str, name: str) -> Call[Calendar]:
    """Reads a calendar. NotFound if there is none."""
    request = calendars.GetCalendarRequest(name=names.calendar_name(name, namespace))
    return Call(GET_CALENDAR, request, _calendar)


def list_calendars(namespace: str, *, parent: str = "", page_size: int = PAGE_SIZE) -> Pages[Calendar]:
    """Calendars by name, page after page. `parent="-"` lists all namespaces."""
    request = calendars.ListCalendarsRequest(parent=names.namespace_name(parent or namespace), page_size=page_size)

    def pick(answer: calendars.ListCalendarsResponse) -> Iterable[Calendar]:
        return answer.calendars

    return Pages(LIST_CALENDARS, request, pick)


def delete_calendar(namespace: str, name: str, *, etag: str = "", request_id: str = "") -> Call[None]:
    """Deletes a calendar. FailedPrecondition if a job names it. With `etag`, Conflict if it has changed since."""
    request = calendars.DeleteCalendarRequest(
        name=names.calendar_name(name, namespace), etag=etag, request_id=request_id_or_new(request_id)
    )

    def pick(_: calendars.DeleteCalendarResponse) -> None:
        return None

    return Call(DELETE_CALENDAR, request, pick)


def _calendar(answer: calendars.SetCalendarResponse | calendars.GetCalendarResponse) -> Calendar:
    return answer.calendar
