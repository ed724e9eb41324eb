"""Dialects with seconds around changes of the clocks, against a scan of every local second."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wall_clock_scan import SECOND, Expected, scan, utc

from horologe.node.cron import CronRule, next_due_ms
from horologe.node.cron_words import DayMatch, Dialect, GapPolicy, OverlapPolicy
from horologe.node.zones import instant_from_ms, load_zone, ms_from_instant

CHANGES = [
    ("Europe/Berlin", utc(2027, 3, 28, 1)),
    ("Europe/Berlin", utc(2027, 10, 31, 1)),
    ("Australia/Lord_Howe", utc(2026, 10, 3, 15, 30)),
    ("Australia/Lord_Howe", utc(2027, 4, 3, 15)),
    ("America/Sao_Paulo", utc(2018, 2, 18, 2)),
    ("America/Sao_Paulo", utc(2018, 11, 4, 3)),
    ("Africa/Casablanca", utc(2026, 2, 15, 2)),
    ("Africa/Casablanca", utc(2026, 3, 22, 2)),
    ("Antarctica/Troll", utc(2027, 3, 28, 1)),
    ("Antarctica/Troll", utc(2027, 10, 31, 1)),
]
AROUND = timedelta(hours=2, minutes=15)
# No clock here is moved by more than two hours.
MARGIN = timedelta(hours=2, minutes=1)
DIALECTS = (Dialect.UNIX_SECONDS_FIRST, Dialect.UNIX_SECONDS_LAST, Dialect.QUARTZ)


def field(highest: int, some: list[int], least_step: int = 1) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    """The text of a field with the numbers it stands for."""
    return st.one_of(
        st.integers(least_step, highest).map(lambda n: (f"*/{n}", frozenset(range(0, highest + 1, n)))),
        st.lists(st.sampled_from(some), min_size=1, max_size=3).map(lambda ns: (",".join(map(str, ns)), frozenset(ns))),
    )


@st.composite
def expressions(draw: st.DrawFn) -> tuple[Expected, Dialect]:
    dialect = draw(st.sampled_from(DIALECTS))
    seconds = draw(field(59, [0, 1, 30, 59], least_step=17))
    minutes = draw(field(59, [0, 1, 29, 30, 31, 59]))
    hours = draw(field(23, [0, 1, 2, 3, 22, 23]))
    weekday = draw(st.sampled_from(["*", "sat", "sun"]))
    last = "?" if dialect is Dialect.QUARTZ and weekday == "*" else weekday
    day = "?" if dialect is Dialect.QUARTZ and last != "?" else "*"
    texts = [minutes[0], hours[0], day, "*", last]
    texts.insert(len(texts) if dialect is Dialect.UNIX_SECONDS_LAST else 0, seconds[0])
    expected = Expected(
        " ".join(texts),
        minutes[1],
        hours[1],
        frozenset(range(1, 32)),
        frozenset(range(1, 13)),
        {"*": frozenset(range(7)), "sat": frozenset({6}), "sun": frozenset({0})}[weekday],
        day_fields_are_alternatives=False,
        follows_elapsed_time=hours[0].startswith("*"),
        seconds=seconds[1],
    )
    return expected, dialect


@settings(max_examples=100, deadline=None)
@given(
    drawn=expressions(),
    change=st.sampled_from(CHANGES),
    gap=st.sampled_from(GapPolicy),
    overlap=st.sampled_from(OverlapPolicy),
    started_seconds=st.integers(-8_000, 8_000),
)
def test_due_times_are_those_of_a_scan_of_every_local_second(
    drawn: tuple[Expected, Dialect],
    change: tuple[str, datetime],
    gap: GapPolicy,
    overlap: OverlapPolicy,
    started_seconds: int,
) -> None:
    expected, dialect = drawn
    zone, instant = change
    rule = CronRule(expected.expression, zone, gap, overlap, DayMatch.EITHER, dialect)
    start, end = instant - AROUND, instant + AROUND
    scanned = scan(expected, rule, start, end, SECOND, MARGIN)
    found = []
    after_ms = ms_from_instant(start)
    while (due_ms := next_due_ms(rule, after_ms)) is not None and due_ms <= ms_from_instant(end):
        assert due_ms > after_ms, "due times strictly increase"
        found.append(instant_from_ms(due_ms))
        after_ms = due_ms
    assert found == scanned
    # Asked from any place, also from the middle of a second, a gap or an overlap, the answer is the same.
    somewhere = instant + timedelta(seconds=started_seconds, milliseconds=250)
    rest = [due for due in scanned if due > somewhere]
    asked = next_due_ms(rule, ms_from_instant(somewhere))
    assert asked is not None
    assert instant_from_ms(asked) == rest[0] if rest else instant_from_ms(asked) > end


@pytest.mark.parametrize(
    ("rule", "start", "due"),
    [
        (
            CronRule("*/20 59 1 * * *", "Europe/Berlin", dialect=Dialect.UNIX_SECONDS_FIRST),
            "2027-03-28T00:59:20+00:00",
            ["03-28T01:59:40+01:00", "03-29T01:59:00+02:00"],
        ),
        # All times of the gap are one, also together with the one at its end.
        (
            CronRule("*/20 59 2 ? * *", "Europe/Berlin", dialect=Dialect.QUARTZ),
            "2027-03-28T00:59:20+00:00",
            ["03-28T03:00:00+02:00", "03-29T02:59:00+02:00"],
        ),
        (
            CronRule("59 59 2 ? * *", "Europe/Berlin", GapPolicy.SKIP, dialect=Dialect.QUARTZ),
            "2027-03-28T00:59:20+00:00",
            ["03-29T02:59:59+02:00"],
        ),
        (
            CronRule("59 2 * * * 59", "Europe/Berlin", overlap=OverlapPolicy.BOTH, dialect=Dialect.UNIX_SECONDS_LAST),
            "2027-10-31T00:00:00+00:00",
            ["10-31T02:59:59+02:00", "10-31T02:59:59+01:00", "11-01T02:59:59+01:00"],
        ),
    ],
)  # fmt: skip
def test_table_of_seconds(rule: CronRule, start: str, due: list[str]) -> None:
    zone = load_zone(rule.time_zone)
    after_ms = ms_from_instant(datetime.fromisoformat(start))
    for expected in due:
        found = next_due_ms(rule, after_ms)
        assert found is not None
        assert instant_from_ms(found).astimezone(zone).isoformat() == f"2027-{expected}"
        after_ms = found
