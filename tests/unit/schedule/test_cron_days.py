"""Which days an expression names: Vixie's rule for the two day fields, and the far future."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from horologe.node.cron import EARLIEST_MS, LATEST_MS, CronRule, next_due_ms
from horologe.node.cron_syntax import read_expression
from horologe.node.cron_words import DayMatch, Dialect, GapPolicy
from horologe.node.zones import instant_from_ms, ms_from_instant

EITHER, BOTH = DayMatch.EITHER, DayMatch.BOTH


def next_days(rule: CronRule, start: date, count: int) -> list[str]:
    days = []
    after_ms: int | None = ms_from_instant(datetime(start.year, start.month, start.day, tzinfo=UTC)) - 1
    for _ in range(count):
        assert after_ms is not None
        after_ms = next_due_ms(rule, after_ms)
        days.append("never" if after_ms is None else f"{instant_from_ms(after_ms):%m-%d}")
    return days


@pytest.mark.parametrize(
    ("expression", "day_match", "days"),
    [
        # 2027-01-01 is a Friday.
        ("0 0 13 * 5", EITHER, ["01-01", "01-08", "01-13", "01-15"]),
        ("0 0 13 * 5", BOTH, ["08-13"]),
        ("0 0 */10 * 1", EITHER, ["01-11", "02-01", "03-01"]),
        ("0 0 */10 * *", EITHER, ["01-01", "01-11", "01-21", "01-31", "02-01"]),
        ("0 0 1,11,21,31 * 1", EITHER, ["01-01", "01-04", "01-11", "01-18"]),
        ("0 0 2 * */2", EITHER, ["01-02", "02-02", "03-02", "05-02"]),
        ("0 0 1-31 * 1", EITHER, ["01-01", "01-02", "01-03"]),
        ("0 0 1-31 * 1", BOTH, ["01-04", "01-11"]),
        ("0 0 2 * 0-6", EITHER, ["01-01", "01-02", "01-03"]),
        ("0 0 2 * 0-6", BOTH, ["01-02", "02-02"]),
        ("0 0 * * 1-1", EITHER, ["01-04", "01-11"]),
        ("0 0 5-5 * *", EITHER, ["01-05", "02-05"]),
        ("0 0 31 2 1", EITHER, ["02-01", "02-08"]),
        ("0 0 31 * *", EITHER, ["01-31", "03-31", "05-31", "07-31", "08-31"]),
    ],
)
def test_day_rule(expression: str, day_match: DayMatch, days: list[str]) -> None:
    assert next_days(CronRule(expression, day_match=day_match), date(2027, 1, 1), len(days)) == days


@pytest.mark.parametrize(
    ("rule", "after", "due"),
    [
        (CronRule("0 0 29 2 *"), datetime(2096, 2, 29, tzinfo=UTC), datetime(2104, 2, 29, tzinfo=UTC)),
        (CronRule("0 0 29 2 1", day_match=BOTH), datetime(2072, 3, 1, tzinfo=UTC), datetime(2112, 2, 29, tzinfo=UTC)),
        (
            CronRule("59 23 31 12 *"),
            datetime(2026, 12, 31, 23, 59, tzinfo=UTC),
            datetime(2027, 12, 31, 23, 59, tzinfo=UTC),
        ),
    ],
)
def test_the_far_future(rule: CronRule, after: datetime, due: datetime) -> None:
    found = next_due_ms(rule, ms_from_instant(after))
    assert found is not None
    assert instant_from_ms(found) == due


def test_times_that_daylight_saving_always_leaves_out_are_given_up_after_the_horizon() -> None:
    rule = CronRule("30 2 31 3 0", "Europe/Berlin", gap=GapPolicy.SKIP, day_match=BOTH)
    assert next_due_ms(rule, ms_from_instant(datetime(2026, 1, 1, tzinfo=UTC))) is None


def test_the_ends_of_the_calendar() -> None:
    rule = CronRule("0 0 29 2 1", "Pacific/Apia", day_match=BOTH)
    assert next_due_ms(rule, LATEST_MS) is None
    assert next_due_ms(rule, LATEST_MS - 1) is not None
    assert next_due_ms(rule, EARLIEST_MS - 10**15) == next_due_ms(rule, EARLIEST_MS)
    assert next_due_ms(CronRule("* * * * *"), -1) == 0


def days_in_order(start: date, years: int) -> list[date]:
    return [start + timedelta(days=days) for days in range(years * 366)]


FIELDS = st.tuples(
    st.one_of(st.sampled_from(["*", "*/7", "*/30"]), st.lists(st.integers(1, 31), min_size=1, max_size=3)),
    st.one_of(st.just("*"), st.lists(st.integers(1, 12), min_size=1, max_size=3)),
    st.one_of(st.sampled_from(["*", "*/3"]), st.lists(st.integers(0, 7), min_size=1, max_size=3)),
)


@settings(max_examples=200, deadline=None)
@given(
    fields=FIELDS,
    day_match=st.sampled_from(DayMatch),
    dialect=st.sampled_from([Dialect.UNIX, Dialect.KUBERNETES]),
    start=st.dates(date(1990, 1, 1), date(2110, 1, 1)),
)
def test_days_are_those_of_a_scan_of_all_days(
    fields: tuple[str | list[int], ...], day_match: DayMatch, dialect: Dialect, start: date
) -> None:
    texts = [field if isinstance(field, str) else ",".join(map(str, field)) for field in fields]
    expression = f"0 0 {' '.join(texts)}"
    read = read_expression(expression, dialect)
    # In Kubernetes a step of `*` restricts the days; in Vixie cron it does not.
    open_fields = [text for text in (texts[0], texts[2]) if text == "*" or (dialect is Dialect.UNIX and text[0] == "*")]
    either = day_match is EITHER and not open_fields

    def matches(day: date) -> bool:
        in_month, in_week = day.day in read.days_of_month, day.isoweekday() % 7 in read.days_of_week
        return day.month in read.months and (in_month or in_week if either else in_month and in_week)

    expected = next((day for day in days_in_order(start, 41) if matches(day)), None)
    after_ms = ms_from_instant(datetime(start.year, start.month, start.day, tzinfo=UTC)) - 1
    found = next_due_ms(CronRule(expression, day_match=day_match, dialect=dialect), after_ms)
    assert (None if found is None else instant_from_ms(found).date()) == expected
