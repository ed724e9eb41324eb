"""Spans of time and instants: what is read, what is refused and why, and that what is written is read back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horologe.client import durations, times


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1 hour and 30 minutes", 5400),
        ("1 hour, 30 minutes", 5400),
        ("every 5 minutes", 300),
        ("every 5m", 300),
        ("Every Minute", 60),
        ("every day", 86400),
        ("1.5h", 5400),
        ("250ms", 0.25),
        ("10us", 0.00001),
        ("2w", 1209600),
        ("2d", 172800),
        ("PT5M", 300),
        ("pt5m", 300),
        ("P1DT12H", 129600),
        ("P2W", 1209600),
        ("PT0.5S", 0.5),
        ("0s", 0),
        (" 7 s ", 7),
        ("366d", 366 * 86400),
    ],
)
def test_durations_that_are_read(text: str, seconds: float) -> None:
    assert durations.parse(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("5", "has no unit; write for example 5s or 5m"),
        ("-5s", "has a sign"),
        ("+5s", "has a sign"),
        ("5 parsecs", "the units are us, ms, s, m, h, d and w, not 'parsecs'"),
        ("five minutes", "is not a duration"),
        ("5m1h", "larger units go first"),
        ("5m5m", "larger units go first"),
        ("5m,", "is not a duration"),
        ("5m and", "is not a duration"),
        ("0.1us", "finer than a microsecond"),
        ("99999999d", "longer than 10,000 years"),
        ("9" * 50 + "s", "too many digits"),
        ("9" * 500 + "s", "too long"),
        ("P1Y", "years and months have no fixed length"),
        ("P1M", "years and months have no fixed length"),
        ("PT", "is not an ISO 8601 duration"),
        ("P", "is not an ISO 8601 duration"),
        ("P1DT", "nothing follows the T"),
        ("٥s", "is not a duration"),
    ],
)
def test_durations_that_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        durations.parse(text)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(seconds=5), "5s"),
        (timedelta(seconds=90), "1m30s"),
        (timedelta(hours=1), "1h"),
        (timedelta(days=7), "7d"),
        (timedelta(milliseconds=1250), "1s250ms"),
        (timedelta(microseconds=1), "1us"),
        (timedelta(seconds=-5), "-5s"),
    ],
)
def test_durations_as_they_are_written(span: timedelta, text: str) -> None:
    assert durations.render(span) == text


@given(st.timedeltas(min_value=timedelta(), max_value=timedelta(days=3_652_000)))
def test_durations_written_are_read_back(span: timedelta) -> None:
    assert durations.parse(durations.render(span)) == span
    assert durations.from_proto(durations.to_proto(span)) == span


@given(st.text(max_size=30))
def test_any_text_is_a_duration_or_a_clear_refusal(text: str) -> None:
    try:
        assert durations.parse(text) >= timedelta()
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "zone", "instant"),
    [
        ("2027-01-01T00:00:00Z", "", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2027-01-01 00:00Z", "", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2027-01-01t00:00:00z", "", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2027-01-01T00:00:00.1234567+01:00", "", datetime(2026, 12, 31, 23, 0, 0, 123456, tzinfo=UTC)),
        ("2027-07-01T12:00:00", "Europe/Berlin", datetime(2027, 7, 1, 10, tzinfo=UTC)),
        ("2027-10-31T02:30:00", "Europe/Berlin", datetime(2027, 10, 31, 0, 30, tzinfo=UTC)),
    ],
)
def test_instants_that_are_read(text: str, zone: str, instant: datetime) -> None:
    assert times.parse(text, zone) == instant


@pytest.mark.parametrize(
    ("text", "zone", "said"),
    [
        ("2027-01-01T00:00:00", "", "is a local time"),
        ("2027-01-01", "", "is not an instant"),
        ("2027-02-30T00:00:00Z", "", "is not an instant: day is out of range"),
        ("2027-01-01T25:00:00Z", "", "is not an instant"),
        ("tomorrow", "", "write it like 2027-01-01T00:00:00Z"),
        ("2027-01-01T00:00:00", "Europe/Atlantis", "is not a time zone"),
        ("2027-01-01T00:00:00", "../etc/passwd", "is not a time zone"),
        ("2027-03-28T02:30:00", "Europe/Berlin", "does not exist in Europe/Berlin"),
    ],
)
def test_instants_that_are_refused(text: str, zone: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        times.parse(text, zone)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("now", datetime(2027, 1, 1, 12, tzinfo=UTC)),
        ("-1h", datetime(2027, 1, 1, 11, tzinfo=UTC)),
        ("-1d12h", datetime(2026, 12, 31, tzinfo=UTC)),
        ("+90s", datetime(2027, 1, 1, 12, 1, 30, tzinfo=UTC)),
        ("2027-01-01T00:00:00Z", datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_instants_seen_from_now(text: str, instant: datetime) -> None:
    assert times.moment(text, now=datetime(2027, 1, 1, 12, tzinfo=UTC)) == instant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1h", "or -1h for an hour ago"),
        ("-1", "has no unit"),
        ("--1h", "has a sign"),
        ("-3000000d", "no calendar"),
        ("-", "is empty"),
    ],
)
def test_instants_that_lead_nowhere(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        times.moment(text)


def test_instants_as_they_are_written() -> None:
    moment = times.parse("2027-01-01T00:00:00.5+00:00")
    assert times.render(times.to_proto(moment)) == "2027-01-01T00:00:00.500Z"
    with pytest.raises(ValueError, match="no time zone"):
        times.to_proto(datetime(2027, 1, 1))
