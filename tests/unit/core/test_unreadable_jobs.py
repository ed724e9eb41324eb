"""A job whose timetable a leader cannot read: a node with younger time zones took it, or a log holds what no service wrote.

It waits, and nothing of it is lost; no leader falls over it, and the other jobs go on.
"""

from __future__ import annotations

import random

import pytest
from support import commands
from support.driver import START_MS, Driver

from horologe.log.v1 import log_pb2
from horologe.node.firing import PUT_OFF_MS
from horologe.node.planner import LeaderPlanner, PlannerSettings
from horologe.v1.calendar_pb2 import Calendar

MINUTE = 60_000
SETTINGS = PlannerSettings(lease_term_seconds=10.0, clock_drift=0.01, history_retention_seconds=3_600.0)
CALENDAR = "namespaces/default/calendars/c1"
ZONE = "Mars/Phobos"


def draft(name: str, zone: str, **fields: object) -> log_pb2.JobDraft:
    job = commands.job(name)
    job.schedules[0].cron.expression = "* * * * *"
    job.schedules[0].cron.time_zone = zone
    job.calendars.extend(fields.get("calendars", ()))  # type: ignore[arg-type]
    return commands.draft(job, START_MS + MINUTE)


@pytest.fixture
def driver() -> Driver:
    """Job 1 cannot be read, job 2 is like others."""
    driver = Driver()
    driver.apply(commands.put(commands.CREATE, draft("odd", ZONE), draft("plain", "UTC")))
    return driver


def lead(driver: Driver, after_ms: int = 0) -> int:
    """A new leader plans until nothing is left to do; answers how many plans that took."""
    driver.now_ms += after_ms
    planner = LeaderPlanner(SETTINGS, random.Random(1))
    planner.lead(driver.tables, 0.0, driver.now_ms)
    for count in range(20):
        made = planner.plan(driver.tables, 0.0, driver.now_ms)
        if made is None:
            return count
        driver.apply(log_pb2.Command(**{"plan" if isinstance(made, log_pb2.Plan) else "prune": made}))
        planner.observe(driver.effects)
    raise AssertionError("a leader does not come to an end")


def test_others_are_fired_and_nothing_is_lost(driver: Driver) -> None:
    for _ in range(3):
        lead(driver, after_ms=MINUTE)
        assert driver.job_state(1).next_due_ms == START_MS + MINUTE
        assert driver.job_state(1).next_fire_ms == driver.now_ms + PUT_OFF_MS
        driver.check()
    assert driver.job_state(2).executions == 1, "it was due three times, and overlaps"
    assert driver.ledger(1) == [] and len(driver.ledger(2)) == 3


def test_a_leader_that_can_read_it_goes_on_where_it_was(driver: Driver) -> None:
    lead(driver, after_ms=MINUTE)
    job = driver.job(1)
    job.job.schedules[0].cron.time_zone = "UTC"
    driver.tables.job.put((1).to_bytes(8, "big"), job.SerializeToString())
    lead(driver, after_ms=2 * MINUTE)
    assert [row[3] for row in driver.ledger(1)] == ["COALESCED", "RAN"]
    assert driver.ledger(1)[0][:3] == (MINUTE, 2 * MINUTE, 2)


def test_it_stays_parked(driver: Driver) -> None:
    driver.do(commands.pause_scope(""))
    lead(driver, after_ms=MINUTE)
    driver.do(commands.resume_scope(""), after_ms=MINUTE)
    lead(driver)
    driver.check()
    assert [row[3:5] for row in driver.ledger(2)] == [("SKIPPED", "paused")]
    assert driver.ledger(1) == []


def test_a_calendar_that_cannot_be_read(driver: Driver) -> None:
    calendar = Calendar(name=CALENDAR, time_zone="UTC")
    driver.do(log_pb2.Command(set_calendar=log_pb2.SetCalendar(calendar=calendar)))
    driver.do(commands.put(commands.CREATE, draft("closed", "UTC", calendars=["c1"])))
    calendar.time_zone = ZONE
    driver.do(log_pb2.Command(set_calendar=log_pb2.SetCalendar(calendar=calendar)))
    lead(driver)
    assert driver.job_state(3).next_due_ms == START_MS + MINUTE
    lead(driver, after_ms=MINUTE)
    assert driver.job_state(2).executions == 1 and driver.ledger(3) == []


def test_a_backfill_of_it_fails(driver: Driver) -> None:
    driver.do(commands.backfill(1, START_MS - MINUTE, START_MS))
    lead(driver)
    assert driver.operation().state == log_pb2.OperationRecord.STATE_FAILED
    assert "cannot be planned" in driver.operation().reason and ZONE in driver.operation().reason
