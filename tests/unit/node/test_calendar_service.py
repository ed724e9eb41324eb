"""Calendars over the API, and the jobs that name them."""

from __future__ import annotations

import pytest
from service_harness import START_MS, FakeNode, refused

from horologe.v1 import calendar_service_pb2 as api
from horologe.v1 import job_service_pb2 as jobs
from horologe.v1.calendar_pb2 import Calendar
from horologe.v1.job_pb2 import Job

HOLIDAYS = "namespaces/default/calendars/holidays"


def holidays(*dates: str) -> Calendar:
    return Calendar(name=HOLIDAYS, dates=dates)


def job(*calendars: str) -> Job:
    made = Job(name="namespaces/default/jobs/nightly", calendars=calendars)
    made.schedules.add().cron.expression = "0 2 * * *"
    made.action.shell.argv.append("true")
    return made


async def set_calendar(node: FakeNode, calendar: Calendar, **fields: str) -> Calendar:
    return (await node.calendars.SetCalendar(api.SetCalendarRequest(calendar=calendar, **fields))).calendar


async def test_a_calendar_is_set_read_listed_and_deleted(node: FakeNode) -> None:
    stored = await set_calendar(node, holidays("*-12-25"))
    assert (stored.time_zone, stored.job_count, stored.create_time.ToMilliseconds()) == ("UTC", 0, START_MS)
    read = await node.calendars.GetCalendar(api.GetCalendarRequest(name=HOLIDAYS))
    assert read.calendar == stored
    changed = await set_calendar(node, holidays("*-12-25", "*-01-01"))
    assert changed.etag != stored.etag
    again = await set_calendar(node, holidays("*-12-25", "*-01-01"))
    assert again.etag == changed.etag
    listed = await node.calendars.ListCalendars(api.ListCalendarsRequest(parent="namespaces/-"))
    assert [each.name for each in listed.calendars] == [HOLIDAYS]
    await node.calendars.DeleteCalendar(api.DeleteCalendarRequest(name=HOLIDAYS, etag=changed.etag))
    assert (
        await refused(node.calendars.GetCalendar(api.GetCalendarRequest(name=HOLIDAYS)))
    ).reason == "CALENDAR_NOT_FOUND"


async def test_pages(node: FakeNode) -> None:
    for name in ("a", "b", "c"):
        await set_calendar(node, Calendar(name=f"namespaces/default/calendars/{name}"))
    first = await node.calendars.ListCalendars(api.ListCalendarsRequest(page_size=2))
    rest = await node.calendars.ListCalendars(api.ListCalendarsRequest(page_size=2, page_token=first.next_page_token))
    names = [each.name.rpartition("/")[2] for each in [*first.calendars, *rest.calendars]]
    assert (names, rest.next_page_token) == (["a", "b", "c"], "")


@pytest.mark.parametrize(
    ("calendar", "reason"),
    [
        (Calendar(name="holidays"), "INVALID_FIELD"),
        (Calendar(name=HOLIDAYS, dates=["christmas"]), "INVALID_FIELD"),
        (Calendar(name=HOLIDAYS, etag="12"), "ETAG_MISMATCH"),
        (Calendar(name=HOLIDAYS, etag="x"), "INVALID_FIELD"),
    ],
)
async def test_refusals(node: FakeNode, calendar: Calendar, reason: str) -> None:
    assert (await refused(node.calendars.SetCalendar(api.SetCalendarRequest(calendar=calendar)))).reason == reason


async def test_a_job_is_not_due_when_its_calendar_says_so(node: FakeNode) -> None:
    create = jobs.CreateJobRequest(job=job("holidays"))
    assert (await refused(node.jobs.CreateJob(create))).reason == "CALENDAR_NOT_FOUND"
    await set_calendar(node, holidays("2027-01-16/2027-01-17"))
    stored = (await node.jobs.CreateJob(create)).job
    assert stored.next_due_time.ToJsonString() == "2027-01-18T02:00:00Z"
    in_use = node.calendars.DeleteCalendar(api.DeleteCalendarRequest(name=HOLIDAYS))
    assert (await refused(in_use)).reason == "CALENDAR_IN_USE"
    assert (await node.calendars.GetCalendar(api.GetCalendarRequest(name=HOLIDAYS))).calendar.job_count == 1
    await node.jobs.DeleteJob(jobs.DeleteJobRequest(name=stored.name))
    await node.calendars.DeleteCalendar(api.DeleteCalendarRequest(name=HOLIDAYS))


async def test_a_preview_of_a_whole_job(node: FakeNode) -> None:
    await set_calendar(node, holidays("2027-01-17"))
    definition = job("holidays")
    definition.jitter.FromSeconds(60)
    definition.end_time.FromJsonString("2027-01-20T00:00:00Z")
    answer = await node.jobs.PreviewSchedule(jobs.PreviewScheduleRequest(definition=definition))
    assert [each.ToJsonString()[:10] for each in answer.due_times] == ["2027-01-16", "2027-01-18", "2027-01-19"]
    delays = [
        fire.ToMilliseconds() - due.ToMilliseconds()
        for due, fire in zip(answer.due_times, answer.fire_times, strict=True)
    ]
    assert all(0 <= delay <= 60_000 for delay in delays) and any(delays)
    unknown = jobs.PreviewScheduleRequest(definition=job("weekends"))
    assert (await refused(node.jobs.PreviewSchedule(unknown))).reason == "CALENDAR_NOT_FOUND"
    assert (await refused(node.jobs.PreviewSchedule(jobs.PreviewScheduleRequest()))).reason == "INVALID_FIELD"
    wrong = jobs.PreviewScheduleRequest(definition=job("x" * 600))
    assert (await refused(node.jobs.PreviewSchedule(wrong))).reason == "INVALID_FIELD"
