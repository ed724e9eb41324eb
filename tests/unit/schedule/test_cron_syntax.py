"""What a cron expression may look like, and what is said about one that may not."""

from __future__ import annotations

import pytest

from horologe.node.cron import CronRule, check_rule
from horologe.node.cron_syntax import EXPRESSION_LENGTH_MAX, MACROS, read_expression
from horologe.node.cron_words import CronError

NOW_MS = 1_800_000_000_000


@pytest.mark.parametrize(
    ("field", "position", "numbers"),
    [
        ("0", 0, [0]),
        ("05", 0, [5]),
        ("*/15", 0, [0, 15, 30, 45]),
        ("*/45", 0, [0, 45]),
        ("*/100", 0, [0]),
        ("5-5", 0, [5]),
        ("5-9/100", 0, [5]),
        ("10-20/5", 0, [10, 15, 20]),
        ("50/5", 0, [50, 55]),
        ("3,1,2,1", 0, [1, 2, 3]),
        ("1,10-12,*/30", 0, [0, 1, 10, 11, 12, 30]),
        ("22-23", 1, [22, 23]),
        ("*/100", 2, [1]),
        ("*/10", 2, [1, 11, 21, 31]),
        ("jan", 3, [1]),
        ("Jan-MAR,dec", 3, [1, 2, 3, 12]),
        ("9/2", 3, [9, 11]),
        ("*", 4, [0, 1, 2, 3, 4, 5, 6]),
        ("0", 4, [0]),
        ("7", 4, [0]),
        ("0,7", 4, [0]),
        ("sun", 4, [0]),
        ("5-7", 4, [0, 5, 6]),
        ("fri-7", 4, [0, 5, 6]),
        ("0-7", 4, [0, 1, 2, 3, 4, 5, 6]),
        ("MON-fri", 4, [1, 2, 3, 4, 5]),
        ("sun-tue", 4, [0, 1, 2]),
        ("1/2", 4, [1, 3, 5]),
        ("7/2", 4, [0, 2, 4, 6]),
        ("*/2", 4, [0, 2, 4, 6]),
        ("*/100", 4, [0]),
    ],
)
def test_a_field_stands_for_numbers(field: str, position: int, numbers: list[int]) -> None:
    texts = ["*"] * 5
    texts[position] = field
    fields = read_expression(" ".join(texts))
    read = (fields.minutes, fields.hours, fields.days_of_month, fields.months, fields.days_of_week)
    assert list(read[position]) == numbers


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "empty"),
        (" \t ", "empty"),
        ("* * * *", "has 4 fields; the unix dialect has five"),
        ("0 0 2 * * *", 'unix-seconds-first ("0 2 * * *" at second "0")'),
        ("0 0 2 * * *", 'unix-seconds-last ("0 0 2 * *" at second "*")'),
        ("0 0 2 * * *", "or as quartz (seconds first, perhaps a year last, 1 is Sunday"),
        ("0 0 2 ? * MON 2027", "Seven can only be read as quartz"),
        ("* * * * * * * *", "has 8 fields"),
        ("60 * * * *", 'minute field "60": "60" is outside 0 to 59'),
        ("* 24 * * *", "outside 0 to 23"),
        ("* * 0 * *", "outside 1 to 31"),
        ("* * 32 * *", "outside 1 to 31"),
        ("* * * 13 *", "outside 1 to 12"),
        ("* * * 0 *", "outside 1 to 12"),
        ("* * * * 8", "outside 0 to 7"),
        ("-1 * * * *", "a number is missing"),
        ("1- * * * *", "a number is missing"),
        ("/5 * * * *", "a number is missing"),
        ("1,,2 * * * *", "nothing between two commas"),
        (", * * * *", "nothing between two commas"),
        ("*/0 * * * *", "a step of 0"),
        ("*/ * * * *", 'the step "" is not a whole number'),
        ("*/-1 * * * *", 'the step "-1" is not a whole number'),
        ("*/1/2 * * * *", 'the step "1/2" is not a whole number'),
        ("*-5 * * * *", 'minute field "*-5": "*" is not a number'),
        ("5-* * * * *", '"*" is not a number'),
        ("1-2-3 * * * *", '"2-3" is not a number'),
        ("1.5 * * * *", '"1.5" is not a number'),
        ("٣ * * * *", "is not a number"),
        ("*/٣ * * * *", "is not a whole number"),
        ("50-10 * * * *", "the range 50-10 runs backwards; write it as two: 50-59,0-10"),
        ("* * * nov-feb *", "the range 11-2 runs backwards; write it as two: 11-12,1-2"),
        ("* * * * fri-sun", "as the end of a range, Sunday is 7: write 5-7"),
        ("* * * * 6-1", "runs backwards; write it as two: 6-6,0-1"),
        ("* * * january *", 'full names are not read; write "jan"'),
        ("* * * * Monday", 'full names are not read; write "mon"'),
        ("* * * mon *", '"mon" is not a number from 1 to 12, or a name such as jan'),
        ("jan * * * *", '"jan" is not a number from 0 to 59'),
        ("* L * * *", 'hour field "L": "l" is not a number'),
        ("* * L-31 * *", "is before every month; use L-30 at most"),
        ("* * L5 * *", "days are counted as in L (the last), L-3"),
        ("* * L/2 * *", "days are counted as in L (the last), L-3"),
        ("* * WL * *", "days are counted as in L (the last), L-3"),
        ("* * W * *", "days are counted as in L (the last), L-3"),
        ("* * W15 * *", "days are counted as in L (the last), L-3"),
        ("* * 1-15W * *", "days are counted as in L (the last), L-3"),
        ("* * 15W/2 * *", "days are counted as in L (the last), L-3"),
        ("* * 6#3 * *", "days are counted as in L (the last), L-3"),
        ("* * 32W * *", '"32" is outside 1 to 31'),
        ("* * 0W * *", '"0" is outside 1 to 31'),
        ("* * * * L", "weekdays are counted as in fri#3 (the third Friday)"),
        ("* * * * L5", "weekdays are counted as in fri#3 (the third Friday)"),
        ("* * * * 15W", "weekdays are counted as in fri#3 (the third Friday)"),
        ("* * * * 8L", '"8" is outside 0 to 7'),
        ("* * * * mon-friL", '"mon-fri" is not a number'),
        ("* * * * 6#6", '"6" after `#` is not a number from 1 to 5'),
        ("* * * * 6#0", '"0" after `#` is not a number from 1 to 5'),
        ("* * * * 6#", '"" after `#` is not a number from 1 to 5'),
        ("* * * * #3", "a number is missing"),
        ("* * * * 6#1#2", "weekdays are counted as in fri#3"),
        ("* * * * 1-5#1", '"1-5" is not a number'),
        ("* * * * monday#1", 'full names are not read; write "mon"'),
        ("* * ? * *", "`?` is Quartz; write `*`"),
        ("H(5) * * * *", 'the range in "H(5)" is not two values such as 0-29'),
        ("H() * * * *", 'the range in "H()" is not two values'),
        ("H(9-3) * * * *", 'the range in "H(9-3)" runs backwards'),
        ("H(0-60) * * * *", '"60" is outside 0 to 59'),
        ("H/0 * * * *", "a step of 0"),
        ("H-5 * * * *", '"h" is not a number'),
        ("H5 * * * *", '"h5" is not a number'),
        ("R * * * *", "random values"),
        ("R(0-9) * * * *", "random values"),
        ("0~30 * * * *", "random values"),
        ("@fortnightly", "is not a macro; known are @yearly"),
        ("@every 5m", "interval schedule"),
        ("@every five minutes", "write it like @every 1h30m"),
        ("@everyday", "is not a macro"),
        ("@reboot", "machines that start"),
        ("CRON_TZ=Europe/Berlin 0 2 * * *", "the time zone is a field of its own"),
        ("0 0 * * *\n", "not a number"),
        ("0\u00a00 * * *", "has 4 fields"),
        ("*" * (EXPRESSION_LENGTH_MAX + 1), "has 1,001 characters; at most 1,000"),
    ],
)
def test_an_expression_is_refused_with_what_to_do(expression: str, message: str) -> None:
    with pytest.raises(CronError) as refused:
        read_expression(expression)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_macros_stand_for_expressions_in_any_case() -> None:
    for macro, expression in MACROS.items():
        assert read_expression(macro) == read_expression(expression) == read_expression(f" {macro.upper()}\t")


def test_blanks_and_tabs_separate_fields() -> None:
    assert read_expression("\t0  2 *\t* * ") == read_expression("0 2 * * *")


@pytest.mark.parametrize(
    ("hours", "follows"),
    [("*", True), ("*/2", True), ("*/100", True), ("0-23", False), ("*,3", False), ("*/2,3", False), ("2", False)],
)
def test_only_a_starred_hour_follows_elapsed_time(hours: str, follows: bool) -> None:
    assert read_expression(f"*/5 {hours} * * *").follows_elapsed_time is follows


@pytest.mark.parametrize(
    "expression", ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30-31 feb *", "0 0 31 2 */2", "* * 31 2 *"]
)
def test_an_expression_that_is_never_due_is_refused(expression: str) -> None:
    with pytest.raises(CronError, match="is never due: no month it names has a day 3"):
        check_rule(CronRule(expression), NOW_MS)


@pytest.mark.parametrize("expression", ["0 0 29 2 *", "0 0 31 2 1", "0 0 31 1,2 *"])
def test_a_rare_expression_is_not_refused(expression: str) -> None:
    check_rule(CronRule(expression), NOW_MS)
