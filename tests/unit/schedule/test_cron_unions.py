"""Cron schedules as a job has them: in every dialect, several at once, in any order."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from horologe.node import schedule
from horologe.node.timetable import Timetable
from horologe.v1.job_pb2 import CronSchedule, Schedule

NAME = "namespaces/default/jobs/nightly"
# The 27th of March 2027, 23:00 in UTC: two hours before clocks in Europe are moved.
START_MS = 1_806_188_400_000
DAY_MS = 86_400_000

KINDS = [
    (CronSchedule.DIALECT_UNSPECIFIED, "30 2 * * *"),
    (CronSchedule.DIALECT_UNIX, "*/30 * * * *"),
    (CronSchedule.DIALECT_UNIX, "H/20 H * * *"),
    (CronSchedule.DIALECT_UNIX, "0 3 L,15W * mon#1"),
    (CronSchedule.DIALECT_UNIX_SECONDS_FIRST, "15,45 0 */2 * * *"),
    (CronSchedule.DIALECT_UNIX_SECONDS_LAST, "0 2,3 * * * */30"),
    (CronSchedule.DIALECT_QUARTZ, "0 0/45 22-4 ? * SAT-MON 2026-2099"),
    (CronSchedule.DIALECT_KUBERNETES, "@hourly"),
]
ZONES = ["", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca"]


def cron(dialect: CronSchedule.Dialect.ValueType, expression: str, zone: str = "") -> Schedule:
    return Schedule(cron=CronSchedule(expression=expression, dialect=dialect, time_zone=zone))


def due_times(schedules: list[Schedule], count: int = 0) -> list[int]:
    """The next ones, or all of a day and a half."""
    timetable = Timetable(schedules, NAME)
    found = []
    after_ms: int | None = START_MS
    while after_ms is not None and (len(found) < count or not count):
        after_ms = timetable.next_after(after_ms)
        if after_ms is None or (not count and after_ms > START_MS + DAY_MS * 3 // 2):
            break
        found.append(after_ms)
    return found


SCHEDULES = st.builds(lambda kind, zone: cron(*kind, zone), st.sampled_from(KINDS), st.sampled_from(ZONES))


@settings(max_examples=60, deadline=None)
@given(schedules=st.lists(SCHEDULES, min_size=1, max_size=4), dice=st.randoms(use_true_random=False))
def test_a_union_is_all_of_its_parts_in_any_order(schedules: list[Schedule], dice: object) -> None:
    union = due_times(schedules)
    assert all(earlier < later for earlier, later in pairwise(union))
    assert union == sorted({due_ms for each in schedules for due_ms in due_times([each])})
    shuffled = sorted(schedules, key=lambda _: dice.random())  # type: ignore[attr-defined]
    assert due_times(shuffled) == union


@pytest.mark.parametrize(("dialect", "expression"), KINDS)
def test_every_dialect_is_valid_and_stays_what_it_is(dialect: CronSchedule.Dialect.ValueType, expression: str) -> None:
    given_schedule = cron(dialect, expression, "Europe/Berlin")
    assert schedule.validate(given_schedule, "s", START_MS, NAME) == []
    stored = schedule.normalise(given_schedule, START_MS)
    assert stored.cron.dialect == (dialect or CronSchedule.DIALECT_UNIX)
    assert due_times([stored], 3) == due_times([given_schedule], 3)
    assert schedule.describe(stored, NAME).endswith("(Europe/Berlin)")


@pytest.mark.parametrize(
    ("dialect", "expression", "message"),
    [
        (CronSchedule.DIALECT_UNSPECIFIED, "0 0 2 * * *", "Six can be read as unix-seconds-first"),
        (CronSchedule.DIALECT_UNIX, "@every 1x", "write it like @every 1h30m"),
        (CronSchedule.DIALECT_QUARTZ, "0 0 2 * * *", "exactly one is"),
        (CronSchedule.DIALECT_QUARTZ, "0 0 0 1 1 ? 2020", "its years have passed"),
        (CronSchedule.DIALECT_KUBERNETES, "0 0 L * *", "not part of the kubernetes dialect"),
    ],
)
def test_a_violation_says_what_to_do(dialect: CronSchedule.Dialect.ValueType, expression: str, message: str) -> None:
    (violation,) = schedule.validate(cron(dialect, expression), "s", START_MS, NAME)
    assert violation.field == "s.cron.expression"
    assert message in violation.description


def test_hashed_values_are_of_the_job() -> None:
    hashed = cron(CronSchedule.DIALECT_UNIX, "H H * * *")
    dues = {Timetable([hashed], f"namespaces/default/jobs/j{number}").next_after(START_MS) for number in range(50)}
    assert len(dues) > 45
    assert schedule.describe(hashed).endswith("(UTC; `H` as of a job without a name)")


def test_every_becomes_an_interval() -> None:
    stored = schedule.normalise(cron(CronSchedule.DIALECT_KUBERNETES, "@every 1h30m", "Europe/Berlin"), START_MS)
    assert schedule.validate(stored, "s", START_MS, NAME) == []
    assert stored.WhichOneof("kind") == "interval"
    assert stored.interval.every.seconds == 5_400
    assert not stored.interval.HasField("phase")
    assert schedule.normalise(stored, START_MS) == stored
    assert schedule.describe(stored) == "every 1 hour 30 minutes"
