"""No text leads to anything but an answer or a refusal, and no answer takes more than a bounded search, in any dialect.

Work is counted in steps, not in seconds; `horologe bench cron` measures the seconds.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from horologe.node import cron
from horologe.node.cron import CronClock, CronRule, check_rule, next_due_ms
from horologe.node.cron_days import DayCalendar
from horologe.node.cron_every import is_every
from horologe.node.cron_preview import due_times, occurrences, warnings
from horologe.node.cron_sentence import describe_cron
from horologe.node.cron_syntax import EXPRESSION_LENGTH_MAX
from horologe.node.cron_words import CronError, DayMatch, Dialect, GapPolicy, OverlapPolicy
from horologe.node.zones import instant_from_ms, ms_from_instant

NOW_MS = 1_800_000_000_000
# Twelve months of fifty years, and a few more for where a search begins again; and two gaps a year, with room to spare.
MONTHS_MAX, WALLS_MAX, FAR_MAX = 2_000, 200, 60

BOTH, SKIP = DayMatch.BOTH, GapPolicy.SKIP
QUARTZ, SECONDS = Dialect.QUARTZ, Dialect.UNIX_SECONDS_FIRST
WORST = [
    (CronRule("0 0 29 2 mon", day_match=BOTH), datetime(2072, 3, 1), datetime(2112, 2, 29)),
    (CronRule("0 0 29W 2 mon", day_match=BOTH), datetime(2072, 3, 1), datetime(2112, 2, 29)),
    (CronRule("0 0 29 2 mon#5", day_match=BOTH), datetime(2072, 3, 1), datetime(2112, 2, 29)),
    (CronRule("0 0 L-28 2 7#1", day_match=BOTH), datetime(2088, 3, 1), datetime(2128, 2, 1)),
    (CronRule("0 0 0 29 2 ? 2095-2099", dialect=QUARTZ), datetime(2026, 1, 1), datetime(2096, 2, 29)),
    (CronRule("59 59 23 ? 12 L#5 1970-2099", dialect=QUARTZ), datetime(2096, 1, 1), datetime(2096, 12, 29)),
    (CronRule("0 0 0 31 12 ? 2099", dialect=QUARTZ), datetime(1970, 1, 1), datetime(2099, 12, 31)),
    (CronRule("0 0 0 1 1 ? 1970-2025", dialect=QUARTZ), datetime(2026, 1, 1), None),
    (CronRule("0 0 30 2 *"), datetime(2026, 1, 1), None),
    (CronRule("0 0 L-29 2 7", day_match=BOTH), datetime(2026, 3, 1), None),
    # Each of their times is left out by daylight saving, year after year.
    (CronRule("30 2 31 3 0", "Europe/Berlin", SKIP, day_match=BOTH), datetime(2026, 1, 1), None),
    (CronRule("30 2 29 3 0L", "Europe/Berlin", SKIP, day_match=BOTH), datetime(2026, 1, 1), None),
    (CronRule("* * 2 * 3 0L", "Europe/Berlin", SKIP, dialect=SECONDS), datetime(2026, 1, 1), None),
    (CronRule("* * 2 ? 3 1L 1970-2099", "Europe/Berlin", SKIP, dialect=QUARTZ), datetime(1996, 4, 1), None),
    (CronRule("0-29 2 * 10 0#1", "Australia/Lord_Howe", SKIP), datetime(2026, 1, 1), None),
    (CronRule("* 2 * 3 7#2", "America/New_York", SKIP), datetime(2026, 1, 1), None),
]


class Steps(Counter[str]):
    """How often the search looked at a month, at a wall time, and into the far future."""

    def check(self) -> None:
        assert self["months"] <= MONTHS_MAX, self
        assert self["walls"] <= WALLS_MAX, self
        assert self["far"] <= FAR_MAX, self


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    counted = Steps()
    days_of, next_wall, find_far_day = DayCalendar._days_of, CronClock.next_wall, cron._find_far_day

    def counting_days_of(calendar: DayCalendar, year: int, month: int) -> tuple[int, ...]:
        counted["months"] += 1
        return days_of(calendar, year, month)

    def counting_next_wall(clock: CronClock, after: datetime) -> datetime | None:
        counted["walls"] += 1
        return next_wall(clock, after)

    def counting_find_far_day(pattern: cron.DayPattern, earliest: date) -> date | None:
        counted["far"] += 1
        return find_far_day(pattern, earliest)

    monkeypatch.setattr(DayCalendar, "_days_of", counting_days_of)
    monkeypatch.setattr(CronClock, "next_wall", counting_next_wall)
    monkeypatch.setattr(cron, "_find_far_day", counting_find_far_day)
    return counted


@pytest.mark.parametrize(
    ("rule", "start", "due"), WORST, ids=[f"{rule.expression} {rule.dialect}" for rule, *_ in WORST]
)
def test_the_worst_expressions_take_a_bounded_search(
    steps: Steps, rule: CronRule, start: datetime, due: datetime | None
) -> None:
    cron._shared_next_due_ms.cache_clear()
    found = next_due_ms(rule, ms_from_instant(start.replace(tzinfo=UTC)))
    assert sum(steps.values()) > 0
    steps.check()
    if due is None:
        assert found is None
    else:
        assert found is not None
        assert instant_from_ms(found).date() == due.date()


ALPHABET = "0123456789*/-,#?@ \tLWHRSMTFJADNOlwhrsmtfjadnoevy~()=_.\n٣é"
NUMBERS = ["*", "0", "1", "2", "5", "*/7", "*/100", "0/15", "5-9", "3-23/4", "H", "H/5", "H(0-9)", "H(1-5)/2"]
DAYS = [
    "*",
    "1",
    "29",
    "30",
    "31",
    "*/2",
    "1-31",
    "25-31",
    "L",
    "L-3",
    "LW",
    "L-30W",
    "15W",
    "31W",
    "1W",
    "H",
    "H(29-31)",
]
MONTHS = ["*", "2", "3", "10", "feb", "2-3", "jan-mar", "*/2", "*/11", "H"]
WEEKDAYS = ["*", "1", "7", "sun", "mon-fri", "5L", "friL", "6#3", "mon#5", "7L", "1#1", "*/2", "2-7/2", "H"]
YEARS = ["*", "2027", "2099", "2095-2099", "2028/40", "2000", "1970-2026", "2096"]


def fields(values: list[str]) -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(values), st.lists(st.sampled_from(values), min_size=2, max_size=3).map(",".join))


@st.composite
def likely_expressions(draw: st.DrawFn) -> str:
    """Most of them are read by one dialect or another."""
    days, weekdays = draw(fields(DAYS)), draw(fields(WEEKDAYS))
    shape = draw(st.sampled_from(["five", "first", "last", "quartz", "year"]))
    if shape in ("quartz", "year"):
        days, weekdays = draw(st.sampled_from([("?", weekdays), (days, "?")]))
    parts = [draw(fields(NUMBERS)), draw(fields(NUMBERS)), days, draw(fields(MONTHS)), weekdays]
    if shape != "five":
        parts.insert(5 if shape == "last" else 0, draw(fields(NUMBERS)))
    if shape == "year":
        parts.append(draw(fields(YEARS)))
    return " ".join(parts)


TEXTS = st.one_of(
    likely_expressions(),
    likely_expressions(),
    st.lists(st.text(ALPHABET, max_size=8), min_size=5, max_size=7).map(" ".join),
    st.text(ALPHABET, max_size=60),
    st.text(max_size=30),
    st.text("0123456789.hmsdwn ", max_size=12).map("@every {}".format),
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca", "Antarctica/Troll"])


@settings(
    max_examples=600,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    text=TEXTS,
    zone=ZONES,
    dialect=st.sampled_from(Dialect),
    gap=st.sampled_from(GapPolicy),
    overlap=st.sampled_from(OverlapPolicy),
    day_match=st.sampled_from(DayMatch),
    identity=st.sampled_from(["", "namespaces/default/jobs/nightly", "\ud800"]),
)
@example("9" * 1_000, "UTC", Dialect.UNIX, SKIP, OverlapPolicy.BOTH, BOTH, "")
@example("*/" + "9" * 990 + " * * * *", "UTC", Dialect.UNIX, SKIP, OverlapPolicy.BOTH, BOTH, "")
@example("0 0 * * " + ",".join(["7"] * 490), "UTC", Dialect.UNIX, SKIP, OverlapPolicy.BOTH, BOTH, "")
@example("* * * * " + ",".join(["mon#5"] * 160), "UTC", Dialect.UNIX, SKIP, OverlapPolicy.BOTH, BOTH, "")
@example(",".join(["0-59"] * 190) + " * * * *", "UTC", Dialect.KUBERNETES, SKIP, OverlapPolicy.BOTH, BOTH, "")
@example("0 " * (EXPRESSION_LENGTH_MAX // 2), "UTC", Dialect.QUARTZ, SKIP, OverlapPolicy.BOTH, BOTH, "")
def test_no_text_leads_to_anything_but_an_answer_or_a_refusal(
    steps: Steps,
    text: str,
    zone: str,
    dialect: Dialect,
    gap: GapPolicy,
    overlap: OverlapPolicy,
    day_match: DayMatch,
    identity: str,
) -> None:
    rule = CronRule(text, zone, gap, overlap, day_match, dialect, identity)
    steps.clear()
    try:
        found = list(due_times(rule, NOW_MS, 1))
    except CronError as error:
        assert "\n" not in str(error)
        return
    finally:
        steps.check()
    assert len(found) == 1
    assert found[0] > NOW_MS
    assert describe_cron(rule)
    if not is_every(text):
        check_rule(rule, NOW_MS)
        assert next_due_ms(rule, NOW_MS) == found[0]
    assert [occurrence.instant for occurrence in occurrences(rule, NOW_MS, 1)] == [instant_from_ms(found[0])]
    assert all(warning and "\n" not in warning for warning in warnings(rule, NOW_MS))
