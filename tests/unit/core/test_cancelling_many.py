"""Deleting a job with `cancel_running` when very much of it is left: a bounded number per entry, and in the end all of it."""

from __future__ import annotations

import random

import pytest
from support import commands, invariants
from support.driver import START_MS, Driver

from horologe.log.v1 import log_pb2
from horologe.node.planner import LeaderPlanner, PlannerSettings
from horologe.raft import cancellation
from horologe.raft.model import ExecutionFlag, ExecutionState, Overlap
from horologe.raft.records import U64

SETTINGS = PlannerSettings(lease_term_seconds=10.0, clock_drift=0.01, history_retention_seconds=3_600.0)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Two run, three were driven again, three are of a backfill, and the rest waits: twelve in all, among finished ones."""
    monkeypatch.setattr(cancellation, "CANCELLED_PER_ENTRY", 4)
    driver = Driver()
    driver.do(commands.connect("w1", slot_count=10))
    driver.do(commands.create("tick", every_ms=0, overlap=Overlap.ALLOW, max_attempts=1))
    driver.do(commands.create("other", every_ms=0, overlap=Overlap.ALLOW))
    driver.do(commands.run("other"))
    driver.apply(*[commands.run("tick") for _ in range(12)])
    start(driver, range(2, 8))
    end(driver, range(2, 5), commands.records.Outcome.FAILED)
    end(driver, (5,), commands.records.Outcome.SUCCEEDED)
    driver.apply(*map(commands.redrive, range(2, 5)))
    backfill = driver.do(commands.backfill(1, START_MS - 9, START_MS, max_running=3)).numbers[0]
    driver.do(commands.operation_step(backfill, 0, [START_MS - 3, START_MS - 2, START_MS - 1], exhausted=True))
    return driver


def start(driver: Driver, numbers: range) -> None:
    driver.do(commands.plan(assigns=[(number, 1) for number in numbers]))


def end(driver: Driver, numbers: range | tuple[int, ...], said: commands.records.Outcome) -> None:
    for number in numbers:
        token = driver.execution(number).token
        driver.do(commands.complete(commands.outcome(number, token, 1, said, retry_delay_ms=-1)))


def test_a_few_per_entry_and_in_the_end_all(driver: Driver) -> None:
    planner = LeaderPlanner(SETTINGS, random.Random(1))
    planner.lead(driver.tables, 0.0, driver.now_ms)
    # Nobody takes anything on meanwhile.
    driver.do(commands.drain("w1"))
    before = unfinished(driver)
    driver.do(commands.delete("tick", cancel_running=True))
    sizes = [before - unfinished(driver)]
    while driver.tables.cancelling.get(U64.pack(1)) is not None:
        driver.check()
        made = planner.plan(driver.tables, 0.0, driver.now_ms)
        assert isinstance(made, log_pb2.Plan) and made.cancellations == U64.pack(1)
        before = unfinished(driver)
        driver.do(log_pb2.Command(plan=made))
        sizes.append(before - unfinished(driver))
    driver.check()
    assert max(sizes) == 4 and len(sizes) > 2
    asked = [found for found in of_tick(driver) if found.state == ExecutionState.RUNNING]
    assert len(asked) == 2 and all(found.flags & ExecutionFlag.CANCEL_REQUESTED for found in asked)
    assert unfinished(driver) == 2
    assert driver.state(1) == "QUEUED", "of another job"


def test_what_ends_by_itself_meanwhile_and_an_old_plan(driver: Driver) -> None:
    driver.do(commands.delete("tick", cancel_running=True))
    go_on = log_pb2.Command(plan=log_pb2.Plan(cancellations=U64.pack(1)))
    for number in (6, 7):
        driver.do(commands.complete(commands.outcome(number, driver.execution(number).token)))
    for _ in range(10):
        driver.do(go_on)
        driver.check()
    assert unfinished(driver) == 0
    assert driver.tables.cancelling.get(U64.pack(1)) is None


def of_tick(driver: Driver) -> list[invariants.Execution]:
    return [found for found in invariants.read_executions(driver.tables).values() if found.job == 1]


def unfinished(driver: Driver) -> int:
    return driver.job_state(1).unfinished
