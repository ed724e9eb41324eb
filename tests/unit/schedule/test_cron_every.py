"""`@every`: a period of elapsed time."""

from __future__ import annotations

from itertools import islice

import pytest

from horologe.node.cron import CronRule
from horologe.node.cron_every import is_every, next_every_ms, read_every
from horologe.node.cron_preview import due_times
from horologe.node.cron_words import CronError, Dialect


@pytest.mark.parametrize(
    ("text", "period_ms"),
    [
        ("@every 1h30m", 5_400_000),
        ("@EVERY 1H30M", 5_400_000),
        (" @every\t1h 30m ", 5_400_000),
        ("@every 90s", 90_000),
        ("@every 1.5h", 5_400_000),
        ("@every 1500ms", 1_500),
        ("@every 1s500000us", 1_500),
        ("@every 1000000000ns", 1_000),
        ("@every .5m", 30_000),
        ("@every 1w2d", 9 * 86_400_000),
        ("@every 366d", 366 * 86_400_000),
        ("@every1m", 60_000),
    ],
)
def test_a_period_is_read(text: str, period_ms: int) -> None:
    assert is_every(text)
    assert read_every(text) == period_ms


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@every", "write it like @every 1h30m or @every 90s"),
        ("@every 5", "write it like"),
        ("@every five minutes", "write it like"),
        ("@every -5m", "write it like"),
        ("@every 5m,", "write it like"),
        ("@every ٣m", "write it like"),
        ("@every " + "1h" * 100, "write it like"),
        ("@every 999ms", "the period is outside 1 second to 366 days"),
        ("@every 367d", "the period is outside 1 second to 366 days"),
        ("@every 1s1us", "the period is not a whole number of milliseconds"),
    ],
)
def test_a_period_that_is_not_usable(text: str, message: str) -> None:
    with pytest.raises(CronError) as refused:
        read_every(text)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["@everyday", "every 5m", "@hourly", "0 0 * * *", "5 @every 1m"])
def test_what_is_something_else(text: str) -> None:
    assert not is_every(text)


def test_it_is_counted_from_1970_and_knows_no_zones() -> None:
    assert next_every_ms(5_400_000, 0) == 5_400_000
    assert next_every_ms(5_400_000, -1) == 0
    assert next_every_ms(5_400_000, 5_399_999) == 5_400_000
    for dialect in Dialect:
        rule = CronRule("@every 1h30m", "Europe/Berlin", dialect=dialect)
        assert list(islice(due_times(rule, 5_400_000, 3), 5)) == [10_800_000, 16_200_000, 21_600_000]
