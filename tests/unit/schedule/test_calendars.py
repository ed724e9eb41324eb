"""What calendars cover, and which definitions of them are refused."""

from __future__ import annotations

from datetime import datetime

import pytest
from google.protobuf import text_format

from horologe.node.calendars import complete_calendar, coverage_of
from horologe.node.zones import ms_from_instant
from horologe.v1.calendar_pb2 import Calendar

NOW_MS = ms_from_instant(datetime.fromisoformat("2027-01-15T08:00:00Z"))


def ms(text: str) -> int:
    return ms_from_instant(datetime.fromisoformat(text))


def calendar(text: str, zone: str = "UTC") -> Calendar:
    made = Calendar(name="namespaces/default/calendars/c", time_zone=zone)
    return text_format.Merge(text, made)


@pytest.mark.parametrize(
    ("text", "zone", "inside", "outside"),
    [
        ('dates: "2026-12-25"', "UTC", ["2026-12-25T00:00:00Z", "2026-12-25T23:59:59.999Z"], ["2026-12-26T00:00:00Z"]),
        (
            'dates: "2026-12-25"',
            "Europe/Berlin",
            ["2026-12-24T23:00:00Z"],
            ["2026-12-24T22:59:59Z", "2026-12-25T23:00:00Z"],
        ),
        ('dates: "*-12-25"', "UTC", ["2026-12-25T12:00:00Z", "2031-12-25T12:00:00Z"], ["2026-12-24T23:59:59Z"]),
        ('dates: "*-12-24/*-01-01"', "UTC", ["2026-12-31T12:00:00Z", "2027-01-01T23:00:00Z"], ["2027-01-02T00:00:00Z"]),
        ('dates: "*-02-29"', "UTC", ["2028-02-29T12:00:00Z"], ["2028-03-01T00:00:00Z", "2028-02-28T23:59:59Z"]),
        ('dates: "2026-12-24/2027-01-02"', "UTC", ["2027-01-02T23:59:59Z"], ["2027-01-03T00:00:00Z"]),
        (
            'hours { days: "sat" days: "sun" }',
            "UTC",
            ["2027-01-16T00:00:00Z", "2027-01-17T23:59:59Z"],
            ["2027-01-18T00:00:00Z"],
        ),
        (
            'hours { days: "mon-fri" from: "22:00" to: "06:00" }',
            "UTC",
            ["2027-01-15T22:00:00Z", "2027-01-16T05:59:59Z"],
            ["2027-01-16T06:00:00Z", "2027-01-16T22:00:00Z", "2027-01-18T05:00:00Z"],
        ),
        ('hours { from: "09:00" to: "17:00" }', "Asia/Tokyo", ["2027-01-15T00:00:00Z"], ["2027-01-15T08:00:00Z"]),
        # The clocks go back from 3 to 2: both passes of half past two are covered.
        (
            'hours { from: "02:00" to: "03:00" }',
            "Europe/Berlin",
            ["2027-10-31T00:30:00Z", "2027-10-31T01:30:00Z"],
            ["2027-10-31T02:00:00Z"],
        ),
        (
            'spans { cron { expression: "0 3 * * *" } duration { seconds: 5400 } }',
            "UTC",
            ["2027-01-15T03:00:00Z", "2027-01-15T04:29:59.999Z"],
            ["2027-01-15T02:59:59.999Z", "2027-01-15T04:30:00Z"],
        ),
        ("", "UTC", [], ["2027-01-15T03:00:00Z"]),
    ],
)
def test_coverage(text: str, zone: str, inside: list[str], outside: list[str]) -> None:
    complete, violations = complete_calendar(calendar(text, zone), "calendar", NOW_MS)
    assert violations == []
    coverage = coverage_of(complete)
    for each in inside:
        span = coverage.span_at(ms(each))
        assert span is not None and span.start_ms <= ms(each) < span.end_ms, each
    for each in outside:
        assert coverage.span_at(ms(each)) is None, each


@pytest.mark.parametrize(
    ("text", "field", "description"),
    [
        ('time_zone: "Europe/Berlim"', "time_zone", "did you mean"),
        ('dates: "25.12.2026"', "dates[0]", "dates are written"),
        ('dates: "2026-12-25" dates: "2026-02-30"', "dates[1]", "2026-02-30"),
        ('dates: "2026-12-25/2026-12-24"', "dates[0]", "it ends before it begins"),
        ('dates: "2026-12-25/*-12-26"', "dates[0]", "give both of one kind"),
        ('hours { days: "monday" }', "hours[0]", "is no day; write mon to sun"),
        ('hours { from: "24:00" }', "hours[0]", "is no time of day; write HH:MM"),
        ('hours { to: "9:00" }', "hours[0]", "is no time of day"),
        ('spans { cron { expression: "x" } duration { seconds: 1 } }', "spans[0].cron.expression", "x"),
        ('spans { cron { expression: "* * * * *" } }', "spans[0].duration", "0 s is outside"),
    ],
)
def test_mistakes_are_named(text: str, field: str, description: str) -> None:
    (violation,) = complete_calendar(calendar(text), "calendar", NOW_MS)[1]
    assert violation.field == f"calendar.{field}"
    assert description in violation.description


def test_a_calendar_has_an_end() -> None:
    many = Calendar(name="n", dates=["2026-12-25"] * 1_001)
    (violation,) = complete_calendar(many, "calendar", NOW_MS)[1]
    assert violation.field == "calendar.dates"


def test_spans_are_in_the_zone_of_the_calendar_unless_they_say_so() -> None:
    text = 'spans { cron { expression: "0 3 * * *" } duration { seconds: 60 } }'
    complete, _ = complete_calendar(calendar(text, "Asia/Tokyo"), "calendar", NOW_MS)
    assert complete.spans[0].cron.time_zone == "Asia/Tokyo"
    again, _ = complete_calendar(complete, "calendar", NOW_MS)
    assert again == complete
