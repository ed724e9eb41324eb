"""What each dialect makes of an expression, and where they differ."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from horologe.node.cron import CronRule, check_rule, next_due_ms
from horologe.node.cron_syntax import MACROS, read_expression
from horologe.node.cron_words import CronError, DayMatch, Dialect
from horologe.node.zones import instant_from_ms, ms_from_instant

UNIX, QUARTZ, KUBERNETES = Dialect.UNIX, Dialect.QUARTZ, Dialect.KUBERNETES
FIRST, LAST = Dialect.UNIX_SECONDS_FIRST, Dialect.UNIX_SECONDS_LAST
# A Friday.
START_MS = ms_from_instant(datetime(2027, 1, 1, tzinfo=UTC)) - 1


def due_times(rule: CronRule, count: int) -> list[str]:
    found = []
    after_ms: int | None = START_MS
    while len(found) < count and after_ms is not None:
        after_ms = next_due_ms(rule, after_ms)
        found.append("never" if after_ms is None else f"{instant_from_ms(after_ms):%Y-%m-%d %H:%M:%S}")
    return found


@pytest.mark.parametrize(
    ("dialect", "expression", "due"),
    [
        (FIRST, "30 15 2 * * *", ["2027-01-01 02:15:30", "2027-01-02 02:15:30"]),
        (LAST, "15 2 * * * 30", ["2027-01-01 02:15:30", "2027-01-02 02:15:30"]),
        (FIRST, "*/40 59 23 * * *", ["2027-01-01 23:59:00", "2027-01-01 23:59:40", "2027-01-02 23:59:00"]),
        (FIRST, "* * * * * *", ["2027-01-01 00:00:00", "2027-01-01 00:00:01", "2027-01-01 00:00:02"]),
        (QUARTZ, "0 15 10 ? * MON-FRI", ["2027-01-01 10:15:00", "2027-01-04 10:15:00"]),
        (QUARTZ, "0 15 10 ? * 2-6", ["2027-01-01 10:15:00", "2027-01-04 10:15:00"]),
        (QUARTZ, "0 15 10 L * ? *", ["2027-01-31 10:15:00", "2027-02-28 10:15:00"]),
        (QUARTZ, "0 15 10 L-2 * ?", ["2027-01-29 10:15:00", "2027-02-26 10:15:00"]),
        (QUARTZ, "0 0 0 L-3W * ?", ["2027-01-28 00:00:00", "2027-02-25 00:00:00"]),
        (QUARTZ, "0 15 10 ? * 6L 2028-2030", ["2028-01-28 10:15:00", "2028-02-25 10:15:00"]),
        (QUARTZ, "0 15 10 ? * 6#3", ["2027-01-15 10:15:00", "2027-02-19 10:15:00"]),
        (QUARTZ, "0 0 0 ? * L", ["2027-01-02 00:00:00", "2027-01-09 00:00:00"]),
        (QUARTZ, "0 0 0 1/10 * ?", ["2027-01-01 00:00:00", "2027-01-11 00:00:00"]),
        (QUARTZ, "0 /20 * * * ?", ["2027-01-01 00:00:00", "2027-01-01 00:20:00"]),
        (QUARTZ, "0 0 22-2/2 ? * SAT", ["2027-01-02 00:00:00", "2027-01-02 02:00:00", "2027-01-02 22:00:00"]),
        (QUARTZ, "0 0 0 ? * FRI-SUN", ["2027-01-01 00:00:00", "2027-01-02 00:00:00", "2027-01-03 00:00:00"]),
        (QUARTZ, "0 0 0 ? NOV-FEB SUN#1", ["2027-01-03 00:00:00", "2027-02-07 00:00:00", "2027-11-07 00:00:00"]),
        (QUARTZ, "0 0 0 30-2 * ?", ["2027-01-01 00:00:00", "2027-01-02 00:00:00", "2027-01-30 00:00:00"]),
        (QUARTZ, "0 0 0 ? * 2,3,4#1", ["2027-01-04 00:00:00", "2027-01-05 00:00:00", "2027-01-06 00:00:00"]),
        (QUARTZ, "0 0 0 1 1 ? 2027/35", ["2027-01-01 00:00:00", "2062-01-01 00:00:00", "2097-01-01 00:00:00", "never"]),
        (QUARTZ, "0 0 0 29 2 ? 2095-2099", ["2096-02-29 00:00:00", "never"]),
        (KUBERNETES, "0 0 * * 7", ["2027-01-03 00:00:00", "2027-01-10 00:00:00"]),
        (KUBERNETES, "10/20 ? ? ? ?", ["2027-01-01 00:10:00", "2027-01-01 00:30:00"]),
        (UNIX, "0 0 * * mon#2,tue", ["2027-01-05 00:00:00", "2027-01-11 00:00:00", "2027-01-12 00:00:00"]),
        (UNIX, "0 0 * * 1,2,3#1", ["2027-01-04 00:00:00", "2027-01-05 00:00:00", "2027-01-06 00:00:00"]),
        (UNIX, "0 0 * * sat#5,monL", ["2027-01-25 00:00:00", "2027-01-30 00:00:00", "2027-02-22 00:00:00"]),
        (UNIX, "0 0 * * 7#1,7L", ["2027-01-03 00:00:00", "2027-01-31 00:00:00"]),
        (UNIX, "0 0 l,lw,15,15W * *", ["2027-01-15 00:00:00", "2027-01-29 00:00:00", "2027-01-31 00:00:00"]),
        # The nearest working day of the month, also at its ends; a month without the day has none.
        (UNIX, "0 0 1W * *", ["2027-01-01 00:00:00", "2027-02-01 00:00:00", "2027-03-01 00:00:00"]),
        (UNIX, "0 0 1W 5,8 *", ["2027-05-03 00:00:00", "2027-08-02 00:00:00"]),
        (UNIX, "0 0 31W * *", ["2027-01-29 00:00:00", "2027-03-31 00:00:00", "2027-05-31 00:00:00"]),
        (UNIX, "0 0 L-30 * *", ["2027-01-01 00:00:00", "2027-03-01 00:00:00"]),
    ],
)  # fmt: skip
def test_table(dialect: Dialect, expression: str, due: list[str]) -> None:
    assert due_times(CronRule(expression, dialect=dialect), len(due)) == due


@pytest.mark.parametrize(
    ("dialect", "days", "are_alternatives"),
    [
        (UNIX, "*/2 * 1", False),
        (UNIX, "1 * */2", False),
        (UNIX, "*,5 * 1", False),
        (UNIX, "5,* * 1", True),
        (UNIX, "1-31 * 1", True),
        (UNIX, "L * 5", True),
        (UNIX, "H * 5", True),
        (KUBERNETES, "*/2 * 1", True),
        (KUBERNETES, "1 * */2", True),
        (KUBERNETES, "*/1 * 1", False),
        (KUBERNETES, "*/01 * 1", False),
        (KUBERNETES, "? * 1", False),
        (KUBERNETES, "5,* * 1", False),
        (KUBERNETES, "1-31 * 1", True),
    ],
)
def test_when_the_day_fields_are_alternatives(dialect: Dialect, days: str, are_alternatives: bool) -> None:
    assert read_expression(f"0 0 {days}", dialect).restricts_both_days is are_alternatives


def test_day_match_both_asks_for_both_in_every_dialect() -> None:
    for dialect, expression in ((UNIX, "0 0 13 * 5"), (KUBERNETES, "0 0 13 * 5"), (FIRST, "0 0 0 13 * 5")):
        rule = CronRule(expression, day_match=DayMatch.BOTH, dialect=dialect)
        assert due_times(rule, 1) == ["2027-08-13 00:00:00"]
    assert due_times(CronRule("0 0 LW * 1", day_match=DayMatch.BOTH), 1) == ["2027-05-31 00:00:00"]
    assert due_times(CronRule("0 0 LW * 1"), 2) == ["2027-01-04 00:00:00", "2027-01-11 00:00:00"]


@pytest.mark.parametrize(
    ("dialect", "hours", "follows"),
    [
        (QUARTZ, "/2", True),
        (QUARTZ, "*", True),
        (QUARTZ, "0/2", False),
        (KUBERNETES, "?/2", True),
        (FIRST, "H/2", False),
    ],
)
def test_what_follows_elapsed_time(dialect: Dialect, hours: str, follows: bool) -> None:
    parts = ["0", hours, "*", "*", "?" if dialect is QUARTZ else "*"]
    if dialect is not KUBERNETES:
        parts.insert(0, "0")
    assert read_expression(" ".join(parts), dialect).follows_elapsed_time is follows


@pytest.mark.parametrize(
    ("dialect", "expression", "message"),
    [
        (FIRST, "0 2 * * *", "the unix-seconds-first dialect has six: second minute hour day month weekday"),
        (FIRST, "0 2 * * *", "Five are read as unix or kubernetes"),
        (LAST, "0 0 0 2 ? * 1", "the unix-seconds-last dialect has six: minute hour day month weekday second"),
        (LAST, "0 2 * * * 60", 'second field "60": "60" is outside 0 to 59'),
        (KUBERNETES, "0 0 2 * * *", "Six can be read as unix-seconds-first"),
        (KUBERNETES, "0 0 L * *", "`L`, `W` and `#` are not part of the kubernetes dialect"),
        (KUBERNETES, "0 0 15W * *", "`L`, `W` and `#` are not part of the kubernetes dialect"),
        (KUBERNETES, "0 0 * * 5L", "`L`, `W` and `#` are not part of the kubernetes dialect"),
        (KUBERNETES, "0 0 * * 6#3", "`L`, `W` and `#` are not part of the kubernetes dialect"),
        (KUBERNETES, "22-2 * * * *", "runs backwards"),
        (KUBERNETES, "TZ=UTC 0 2 * * *", "the time zone is a field of its own"),
        (FIRST, "50-10 * * * * *", "runs backwards; write it as two: 50-59,0-10"),
        (QUARTZ, "0 0 0 * * *", "neither of them is `?`; in the quartz dialect exactly one is"),
        (QUARTZ, "0 0 0 1 * 2", "neither of them is `?`"),
        (QUARTZ, "0 0 0 ? * ?", "both of them are `?`"),
        (QUARTZ, "0 0 ? 1 * ?", "`?` is all of a day field, and of only one of the two"),
        (QUARTZ, "0 0 0 ?/2 * 2", "neither of them is `?`"),
        (QUARTZ, "0 0 0 ? * 0", "in Quartz 1 is Sunday and 7 is Saturday"),
        (QUARTZ, "0 0 0 ? * 8", "in Quartz 1 is Sunday and 7 is Saturday"),
        (QUARTZ, "0 0 0 ? * MONDAY", 'full names are not read; write "mon"'),
        (QUARTZ, "0 0 0 1 1 ? 2100", 'year field "2100": "2100" is outside 1970 to 2099'),
        (QUARTZ, "0 0 0 1 1 ? 2030-2028", "the range 2030-2028 runs backwards"),
        (QUARTZ, "0 0 0 1 1 ? H", "`H` does not stand for a year"),
        (QUARTZ, "0 0 0 1 1 ? 2020,2025", "is never due: its years have passed (the last is 2025)"),
        (QUARTZ, "0 0 0 29 2 ? 2097-2099", "none of the years it names has such a day ahead"),
        (QUARTZ, "0 0 0 31 2 ?", "no month it names has a day 31 (the longest has 29)"),
        (QUARTZ, "0 0 0 L-29 2 ?", "no month it names has such a day"),
        (UNIX, "0 0 30W 2 *", "no month it names has such a day"),
    ],
)  # fmt: skip
def test_refused_with_what_to_do(dialect: Dialect, expression: str, message: str) -> None:
    with pytest.raises(CronError) as refused:
        check_rule(CronRule(expression, dialect=dialect), START_MS)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("dialect", Dialect)
def test_macros_mean_the_same_in_every_dialect(dialect: Dialect) -> None:
    for macro, expression in MACROS.items():
        assert due_times(CronRule(macro, dialect=dialect), 3) == due_times(CronRule(expression), 3)
