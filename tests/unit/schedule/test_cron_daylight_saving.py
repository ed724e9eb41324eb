"""Due times around changes of the clocks: hand-made tables, and a comparison with a scan of every local minute."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wall_clock_scan import Expected, scan, utc

from horologe.node.cron import CronRule, next_due_ms
from horologe.node.cron_words import DayMatch, GapPolicy, OverlapPolicy
from horologe.node.zones import clock_changes, instant_from_ms, load_zone, ms_from_instant

# Zone and instant of a change: half an hour, midnight, a whole day, two hours, far ahead, and plain ones.
CHANGES = [
    ("Europe/Berlin", utc(2027, 3, 28, 1)),
    ("Europe/Berlin", utc(2027, 10, 31, 1)),
    ("America/New_York", utc(2026, 3, 8, 7)),
    ("America/New_York", utc(2026, 11, 1, 6)),
    ("Australia/Lord_Howe", utc(2026, 10, 3, 15, 30)),
    ("Australia/Lord_Howe", utc(2027, 4, 3, 15)),
    ("America/Sao_Paulo", utc(2018, 2, 18, 2)),
    ("America/Sao_Paulo", utc(2018, 11, 4, 3)),
    ("Pacific/Apia", utc(2011, 12, 30, 10)),
    ("Pacific/Kwajalein", utc(1993, 8, 21, 12)),
    ("Africa/Casablanca", utc(2026, 2, 15, 2)),
    ("Africa/Casablanca", utc(2026, 3, 22, 2)),
    ("Antarctica/Troll", utc(2027, 3, 28, 1)),
    ("Antarctica/Troll", utc(2027, 10, 31, 1)),
    ("Europe/Dublin", utc(2040, 3, 25, 1)),
    ("Europe/Dublin", utc(2040, 10, 28, 1)),
    ("America/Caracas", utc(2016, 5, 1, 7)),
    ("Asia/Pyongyang", utc(2015, 8, 14, 15)),
    ("Asia/Gaza", utc(2026, 3, 28, 0)),
    ("UTC", utc(2027, 1, 1)),
]
AROUND = timedelta(hours=40)


@pytest.mark.parametrize(("zone", "instant"), CHANGES[:-1], ids=[f"{zone} {at:%Y-%m}" for zone, at in CHANGES[:-1]])
def test_the_zones_change_where_these_tests_think(zone: str, instant: datetime) -> None:
    around = timedelta(days=2)
    assert [change.instant for change in clock_changes(load_zone(zone), instant - around, instant + around)] == [
        instant
    ]


def due_times(rule: CronRule, start: datetime, end: datetime) -> list[datetime]:
    found = []
    after_ms = ms_from_instant(start)
    while (due_ms := next_due_ms(rule, after_ms)) is not None and due_ms <= ms_from_instant(end):
        assert due_ms > after_ms, "due times strictly increase"
        found.append(instant_from_ms(due_ms))
        after_ms = due_ms
    return found


def field(lowest: int, highest: int, few: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    """The text of a field with the numbers it stands for."""
    everything = frozenset(range(lowest, highest + 1))
    step = st.integers(1, highest + 5)
    return st.one_of(
        st.just(("*", everything)),
        step.map(lambda n: (f"*/{n}", frozenset(range(lowest, highest + 1, n)))),
        st.lists(few, min_size=1, max_size=4).map(lambda ns: (",".join(map(str, ns)), frozenset(ns))),
        st.tuples(few, few, step).map(
            lambda t: (f"{min(t[:2])}-{max(t[:2])}/{t[2]}", frozenset(range(min(t[:2]), max(t[:2]) + 1, t[2])))
        ),
    )


@st.composite
def expressions(draw: st.DrawFn) -> Expected:
    minutes = draw(field(0, 59, st.sampled_from([0, 1, 15, 29, 30, 31, 59])))
    hours = draw(field(0, 23, st.sampled_from([0, 1, 2, 3, 4, 12, 22, 23])))
    days_of_month = draw(field(1, 31, st.integers(1, 31)))
    months = draw(field(1, 12, st.sampled_from([2, 3, 8, 10, 11, 12])))
    days_of_week = draw(field(0, 6, st.integers(0, 6)))
    fields = (minutes, hours, days_of_month, months, days_of_week)
    return Expected(
        " ".join(text for text, _ in fields),
        *(numbers for _, numbers in fields),
        day_fields_are_alternatives=not days_of_month[0].startswith("*") and not days_of_week[0].startswith("*"),
        follows_elapsed_time=hours[0].startswith("*"),
    )


@settings(max_examples=400, deadline=None)
@given(
    expected=expressions(),
    change=st.sampled_from(CHANGES),
    gap=st.sampled_from(GapPolicy),
    overlap=st.sampled_from(OverlapPolicy),
    day_match=st.sampled_from(DayMatch),
    started_minutes=st.integers(-300, 1500),
)
def test_due_times_are_those_of_a_scan_of_every_local_minute(
    expected: Expected,
    change: tuple[str, datetime],
    gap: GapPolicy,
    overlap: OverlapPolicy,
    day_match: DayMatch,
    started_minutes: int,
) -> None:
    zone, instant = change
    rule = CronRule(expected.expression, zone, gap, overlap, day_match)
    scanned = scan(expected, rule, instant - AROUND, instant + AROUND)
    assert due_times(rule, instant - AROUND, instant + AROUND) == scanned
    # Asked from any place, also from the middle of a gap or an overlap, the answer is the same.
    start = instant + timedelta(minutes=started_minutes)
    rest = [due for due in scanned if due > start]
    found = next_due_ms(rule, ms_from_instant(start))
    if rest:
        assert found == ms_from_instant(rest[0])
    else:
        assert found is None or instant_from_ms(found) > instant + AROUND


BERLIN, SAO_PAULO, LORD_HOWE, APIA = "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia"
AFTER, SKIP = GapPolicy.RUN_AFTER, GapPolicy.SKIP
FIRST, SECOND, BOTH = OverlapPolicy.FIRST, OverlapPolicy.SECOND, OverlapPolicy.BOTH


@pytest.mark.parametrize(
    ("rule", "start", "due"),
    [
        # The night that has no 02:30, and the one that has two.
        (CronRule("30 2 * * *", BERLIN, AFTER), "2027-03-28T00:00Z", ["03-28T03:00+02:00", "03-29T02:30+02:00"]),
        (CronRule("30 2 * * *", BERLIN, SKIP), "2027-03-28T00:00Z", ["03-29T02:30+02:00", "03-30T02:30+02:00"]),
        (CronRule("30 2 * * *", BERLIN, AFTER, FIRST), "2027-10-30T22:00Z", ["10-31T02:30+02:00", "11-01T02:30+01:00"]),
        (CronRule("30 2 * * *", BERLIN, AFTER, SECOND), "2027-10-30T22:00Z", ["10-31T02:30+01:00", "11-01T02:30+01:00"]),
        (CronRule("30 2 * * *", BERLIN, AFTER, BOTH), "2027-10-30T22:00Z", ["10-31T02:30+02:00", "10-31T02:30+01:00"]),
        # Both repeated times come twice, as pairs in the order of the clock.
        (
            CronRule("0,30 2 * * *", BERLIN, AFTER, BOTH),
            "2027-10-30T22:00Z",
            ["10-31T02:00+02:00", "10-31T02:30+02:00", "10-31T02:00+01:00", "10-31T02:30+01:00"],
        ),
        # Several times of the gap, and the one at its end, are one.
        (CronRule("*/15 2,3 * * *", BERLIN, AFTER), "2027-03-28T00:00Z", ["03-28T03:00+02:00", "03-28T03:15+02:00"]),
        # A starred hour follows elapsed time.
        (CronRule("30 * * * *", BERLIN, AFTER), "2027-03-28T00:00Z", ["03-28T01:30+01:00", "03-28T03:30+02:00"]),
        (CronRule("0 */2 * * *", BERLIN, AFTER), "2027-03-28T00:00Z", ["03-28T04:00+02:00", "03-28T06:00+02:00"]),
        (
            CronRule("30 * * * *", BERLIN, AFTER, FIRST),
            "2027-10-31T00:00Z",
            ["10-31T02:30+02:00", "10-31T02:30+01:00", "10-31T03:30+01:00"],
        ),
        # Midnight does not exist; the hour before midnight comes twice.
        (CronRule("@daily", SAO_PAULO, AFTER), "2018-11-03T12:00Z", ["11-04T01:00-02:00", "11-05T00:00-02:00"]),
        (CronRule("@daily", SAO_PAULO, SKIP), "2018-11-03T12:00Z", ["11-05T00:00-02:00", "11-06T00:00-02:00"]),
        (CronRule("30 23 * * *", SAO_PAULO, overlap=SECOND), "2018-02-17T12:00Z", ["02-17T23:30-03:00", "02-18T23:30-03:00"]),
        # Half an hour.
        (CronRule("15 2 * * *", LORD_HOWE, AFTER), "2026-10-03T14:00Z", ["10-04T02:30+11:00", "10-05T02:15+11:00"]),
        (CronRule("45 1 * * *", LORD_HOWE, overlap=BOTH), "2027-04-03T13:00Z", ["04-04T01:45+11:00", "04-04T01:45+10:30"]),
        # A day that never was.
        (CronRule("0 9 * * *", APIA, AFTER), "2011-12-29T18:00Z", ["12-29T09:00-10:00", "12-31T00:00+14:00"]),
        (CronRule("0 9 30 12 *", APIA, AFTER), "2011-12-29T18:00Z", ["12-31T00:00+14:00", "12-30T09:00+14:00"]),
        (CronRule("0 * * * *", APIA, AFTER), "2011-12-30T08:30Z", ["12-29T23:00-10:00", "12-31T00:00+14:00"]),
        # Offsets with seconds: Liberia moved from -00:44:30 to +00:00 at midnight.
        (CronRule("30 0 * * *", "Africa/Monrovia"), "1972-01-06T12:00Z", ["01-07T00:44:30+00:00", "01-08T00:30+00:00"]),
        (CronRule("0 12 * * *", "Africa/Monrovia"), "1971-05-01T12:00Z", ["05-01T12:00-00:44:30", "05-02T12:00-00:44:30"]),
    ],
)  # fmt: skip
def test_table(rule: CronRule, start: str, due: list[str]) -> None:
    zone = load_zone(rule.time_zone)
    after_ms = ms_from_instant(datetime.fromisoformat(start))
    for expected in due:
        found = next_due_ms(rule, after_ms)
        assert found is not None
        local = instant_from_ms(found).astimezone(zone)
        wanted = datetime.fromisoformat(f"{local.year}-{expected}")
        assert local.isoformat() == wanted.isoformat()
        after_ms = found
