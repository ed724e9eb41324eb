"""Days in words of a month (`L`, `LW`, `15W`, `5L`, `6#3`) beside plain ones, against a slow reading of the calendar."""

from __future__ import annotations

from calendar import monthcalendar, monthrange
from datetime import UTC, date, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from horologe.node.cron import CronRule, next_due_ms
from horologe.node.cron_words import DayMatch, Dialect
from horologe.node.zones import instant_from_ms, ms_from_instant

DAYS_LOOKED_AT = 800
NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def working_day_near(year: int, month: int, day: int) -> int:
    """The nearest of all working days of the month; no two are equally near, because a weekend has two days."""
    length = monthrange(year, month)[1]
    working = [each for each in range(1, length + 1) if date(year, month, each).isoweekday() <= 5]
    return min(working, key=lambda each: abs(each - day))


def days_of_month(item: str, year: int, month: int) -> set[int]:
    """What an item of the day-of-month field means."""
    length = monthrange(year, month)[1]
    base = item.removesuffix("W")
    if base.startswith("L"):
        day = length - int(base[2:] or 0)
    elif base == "*":
        return set(range(1, length + 1))
    else:
        day = int(base)
    if not 1 <= day <= length:
        return set()
    return {working_day_near(year, month, day) if item.endswith("W") else day}


def days_of_week(item: str, year: int, month: int) -> set[int]:
    """What an item of the day-of-week field means; items here begin with a name."""
    if item == "*":
        return set(range(1, monthrange(year, month)[1] + 1))
    column = (NAMES.index(item[:3]) - 1) % 7  # weeks of the calendar begin on Monday
    days = [week[column] for week in monthcalendar(year, month) if week[column]]
    if item.endswith("L"):
        return {days[-1]}
    if "#" in item:
        return set(days[int(item[4:]) - 1 : int(item[4:])])
    return set(days)


DAY_ITEMS = st.one_of(
    st.integers(1, 31).map(str),
    st.integers(1, 31).map("{}W".format),
    st.sampled_from(["L", "LW", "L-1", "L-29", "L-30", "L-2W", "L-27W"]),
)
WEEKDAY_ITEMS = st.one_of(
    st.sampled_from(NAMES),
    st.tuples(st.sampled_from(NAMES), st.integers(1, 5)).map(lambda pair: f"{pair[0]}#{pair[1]}"),
    st.sampled_from(NAMES).map("{}L".format),
)


def field(items: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.one_of(st.just(["*"]), st.lists(items, min_size=1, max_size=4))


@settings(max_examples=300, deadline=None)
@given(
    month_items=field(DAY_ITEMS),
    week_items=field(WEEKDAY_ITEMS),
    months=st.one_of(st.just(["*"]), st.lists(st.integers(1, 12).map(str), min_size=1, max_size=3)),
    start=st.dates(date(1995, 1, 1), date(2110, 1, 1)),
    day_match=st.sampled_from(DayMatch),
    dialect=st.sampled_from([Dialect.UNIX, Dialect.UNIX_SECONDS_FIRST, Dialect.UNIX_SECONDS_LAST, Dialect.QUARTZ]),
)
def test_days_are_those_of_a_slow_reading(
    month_items: list[str], week_items: list[str], months: list[str], start: date, day_match: DayMatch, dialect: Dialect
) -> None:
    if dialect is Dialect.QUARTZ:  # one of the two fields is open
        week_items = ["*"] if month_items != ["*"] else week_items
    texts = [",".join(month_items), ",".join(months), ",".join(week_items)]
    is_either = day_match is DayMatch.EITHER and "*" not in (texts[0], texts[2])
    if dialect is Dialect.QUARTZ:
        position = 2 if texts[2] == "*" else 0
        texts[position] = "?"
    before, after = {
        Dialect.UNIX: ("0 0 ", ""),
        Dialect.UNIX_SECONDS_LAST: ("0 0 ", " 0"),
        Dialect.UNIX_SECONDS_FIRST: ("0 0 0 ", ""),
        Dialect.QUARTZ: ("0 0 0 ", ""),
    }[dialect]
    rule = CronRule(f"{before}{' '.join(texts)}{after}", dialect=dialect, day_match=day_match)

    def matches(day: date) -> bool:
        in_month = any(day.day in days_of_month(item, day.year, day.month) for item in month_items)
        in_week = any(day.day in days_of_week(item, day.year, day.month) for item in week_items)
        fits = (in_month or in_week) if is_either else (in_month and in_week)
        return fits and (months == ["*"] or str(day.month) in months)

    days = (start + timedelta(days=number) for number in range(DAYS_LOOKED_AT))
    expected = next((day for day in days if matches(day)), None)
    found_ms = next_due_ms(rule, ms_from_instant(datetime(start.year, start.month, start.day, tzinfo=UTC)) - 1)
    found = None if found_ms is None else instant_from_ms(found_ms).date()
    if expected is not None:
        assert found == expected
    else:
        assert found is None or found >= start + timedelta(days=DAYS_LOOKED_AT)
