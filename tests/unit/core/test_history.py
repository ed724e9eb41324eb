"""What goes of history, and what stays: ages and counts of namespaces, runs, dead letters, operations, deleted jobs."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from support import commands
from support.driver import Driver
from support.flow import Flow

from horologe.log.v1 import log_pb2
from horologe.node import retention as retention_module
from horologe.node.planner import LeaderPlanner, PlannerSettings
from horologe.node.retention import LATE_SECONDS, REST_SECONDS, WALK_SECONDS, Retention
from horologe.raft import history
from horologe.raft.commands import NO_RETRY, Outcome
from horologe.raft.history import RECENT_MS
from horologe.raft.keeping import Kept, read_kept
from horologe.raft.model import Code, ExecutionState, Overlap
from horologe.raft.records import U64
from horologe.raft.requests import REQUEST_RETENTION_MS

HOUR = 3_600_000
DAY = 24 * HOUR
SHOP, DEFAULT = "namespaces/shop/jobs/tick", "namespaces/default/jobs/tick"


class Leader:
    """Walks over history until it rests."""

    def __init__(self, driver: Driver, retention_seconds: float = 30 * 86_400.0) -> None:
        self.driver = driver
        self._retention = Retention(retention_seconds)
        self._now = 0.0
        self._retention.begin(self._now)

    def proposals(self) -> Iterator[log_pb2.Prune]:
        """Of one walk; the caller applies them or does not."""
        self._now += REST_SECONDS
        while True:
            made = self._retention.plan(self.driver.tables, self._now, self.driver.now_ms)
            if made is not None:
                yield made
            self._now += WALK_SECONDS
            if not self._retention.is_late(self._now + LATE_SECONDS):
                return

    def walk(self) -> list[tuple[int, ...]]:
        """Answers the result of each entry."""
        return [self.driver.do(log_pb2.Command(prune=made)).numbers for made in self.proposals()]


@pytest.fixture
def driver(machine: Driver) -> Driver:
    for name in (DEFAULT, SHOP):
        machine.do(commands.create(name, every_ms=0, overlap=Overlap.ALLOW))
    return machine


def cancelled(driver: Driver, name: str, count: int = 1) -> list[int]:
    """So many executions that are over."""
    numbers = []
    for _ in range(count):
        number = driver.do(commands.run(name)).numbers[0]
        driver.do(commands.cancel(number))
        numbers.append(number)
    return numbers


def left(driver: Driver) -> list[int]:
    return [U64.unpack(key)[0] for key, _ in driver.tables.execution.scan()]


def kept(driver: Driver, namespace: int) -> Kept:
    return read_kept(driver.tables, namespace)


def test_each_namespace_has_an_age_of_its_own(driver: Driver) -> None:
    leader = Leader(driver)
    (in_default,), (in_shop,) = cancelled(driver, DEFAULT), cancelled(driver, SHOP)
    driver.do(commands.keep_history("shop", history_ms=14 * DAY))
    driver.now_ms += 14 * DAY
    assert leader.walk() == []
    driver.now_ms += 1
    # The state looks again: a leader with another opinion drops nothing too early.
    everything = commands.prune(driver.now_ms - 20 * DAY, [in_default, in_shop])
    assert driver.do(everything).numbers[0] == 1
    assert left(driver) == [in_default]
    driver.now_ms += 16 * DAY
    assert leader.walk() == [(1, 0, 0, 0, 0)]
    assert left(driver) == []
    driver.do(commands.keep_history("shop", history_ms=60 * DAY))
    (late,) = cancelled(driver, SHOP)
    driver.now_ms += 31 * DAY
    assert driver.do(commands.prune(driver.now_ms, [late])).numbers[0] == 0
    driver.do(commands.keep_history("shop", history_ms=0))
    assert leader.walk() == [(1, 0, 0, 0, 0)]


def test_the_oldest_go_when_there_are_too_many(driver: Driver) -> None:
    leader = Leader(driver)
    others = cancelled(driver, DEFAULT, 5)
    unfinished = driver.do(commands.run(SHOP)).numbers[0]
    mine = cancelled(driver, SHOP, 5)
    driver.do(commands.keep_history("shop", count_max=2))
    assert kept(driver, 2) == Kept(0, 0, 2, 5, 0)
    assert leader.walk() == [], "they are young"
    assert driver.do(commands.prune(0, mine)).numbers[0] == 0
    driver.now_ms += RECENT_MS + 1
    # Whatever is proposed, no more go than are too many.
    assert driver.do(commands.prune(0, [unfinished, *others, *mine[:1]])).numbers[0] == 1
    assert leader.walk() == [(2, 0, 0, 0, 0)]
    assert left(driver) == sorted([*others, unfinished, *mine[3:]])
    assert kept(driver, 2).executions == 2
    assert leader.walk() == []


def test_due_times_that_made_nothing_are_counted_by_themselves(driver: Driver) -> None:
    leader = Leader(driver)
    driver.do(commands.create("namespaces/shop/jobs/often", driver.now_ms + HOUR, overlap=Overlap.SKIP))
    job, revision = 3, driver.job_state(3).revision
    driver.do(commands.run("namespaces/shop/jobs/often"))
    for _ in range(4):
        due_ms = driver.job_state(job).next_due_ms
        driver.now_ms = due_ms
        driver.do(commands.plan(fires=[commands.fire(job, revision, due_ms, due_ms + HOUR)]))
    assert [row[3] for row in driver.ledger(job)] == ["RAN"] + ["SKIPPED"] * 4
    driver.do(commands.keep_history("shop", count_max=3))
    assert kept(driver, 2).idle == 4
    assert leader.walk() == [(0, 1, 0, 0, 0)]
    driver.now_ms += 30 * DAY + 1
    assert leader.walk() == [(0, 3, 0, 0, 0)]
    assert [row[3] for row in driver.ledger(job)] == ["RAN"]


def test_a_step_is_bounded_whatever_there_is(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_module, "ROWS_PER_WALK", 4)
    leader = Leader(driver)
    cancelled(driver, DEFAULT, 5)
    cancelled(driver, SHOP, 5)
    driver.now_ms += 31 * DAY
    assert leader.walk() == [(4, 0, 0, 0, 0), (4, 0, 0, 0, 0), (2, 0, 0, 0, 0)]
    monkeypatch.setattr(history, "ROWS_PER_ENTRY", 3)
    numbers = cancelled(driver, DEFAULT, 5)
    assert driver.do(commands.prune(driver.now_ms + 1, numbers)).numbers[0] == 3


def test_what_stays_is_not_looked_at_again(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A namespace that keeps its history for long does not stand in the way of one that does not."""
    leader = Leader(driver)
    driver.do(commands.keep_history("default", history_ms=365 * DAY))
    cancelled(driver, DEFAULT, 50)
    cancelled(driver, SHOP, 2)
    driver.now_ms += 31 * DAY
    monkeypatch.setattr(retention_module, "ROWS_PER_WALK", 4)
    assert leader.walk() == [(2, 0, 0, 0, 0)], "one row of the other namespace is looked at"


def test_a_dead_letter_has_its_own_time(driver: Driver) -> None:
    leader = Leader(driver)
    driver.do(commands.keep_history("shop", history_ms=2 * DAY, dead_letters_ms=4 * DAY))
    driver.do(commands.connect())
    number = driver.do(commands.run(SHOP)).numbers[0]
    driver.do(commands.plan(assigns=[(number, 1)]))
    token = driver.execution(number).token
    driver.do(commands.complete(commands.outcome(number, token, outcome=Outcome.FAILED, retry_delay_ms=NO_RETRY)))
    assert driver.dead_letters() == [number]
    driver.now_ms += 3 * DAY
    assert leader.walk() == []
    assert driver.do(commands.prune(driver.now_ms, [number], dead_letters=[number])).numbers == (0, 0, 0, 0, 0)
    driver.now_ms += DAY + 1
    assert leader.walk() == [(0, 0, 0, 1, 0)]
    assert (driver.state(number), driver.dead_letters()) == ("DEAD", [])
    assert leader.walk() == [(1, 0, 0, 0, 0)]
    assert driver.do(commands.prune(driver.now_ms, dead_letters=[number, 99])).numbers[3] == 0


def test_a_run_goes_when_all_of_it_may(driver: Driver) -> None:
    leader = Leader(driver)
    flow = Flow(driver)
    flow.create({"a": [], "b": ["a"]})
    root = flow.run()
    flow.end("a", root)
    driver.now_ms += 31 * DAY
    assert leader.walk() == [], "it is not over"
    flow.end("b", root)
    first = flow.node("b", root)
    driver.now_ms += 20 * DAY
    assert leader.walk() == [], "its root is young"
    assert flow.rerun(first).code is Code.OK
    flow.end("b", root)
    driver.now_ms += 20 * DAY
    assert leader.walk() == [], "what was run twice is whole as well"
    assert first in left(driver)
    driver.now_ms += 11 * DAY
    results = leader.walk() + leader.walk()
    assert sum(numbers[0] for numbers in results) == 4
    assert left(driver) == []


def test_a_run_stays_while_one_of_it_is_young(driver: Driver) -> None:
    leader = Leader(driver)
    flow = Flow(driver)
    flow.create({"a": [], "b": ["a"]}, workflow="")
    root = flow.run("a")
    flow.start()
    flow.end("a", root)
    driver.now_ms += 31 * DAY
    flow.end("b", root)
    driver.now_ms += HOUR
    assert leader.walk() == []
    assert driver.do(commands.prune(driver.now_ms - DAY, [root])).numbers[0] == 0
    driver.now_ms += 31 * DAY
    assert leader.walk() == [(2, 0, 0, 0, 0)]


def test_a_deleted_job_goes_when_nothing_tells_of_it(driver: Driver) -> None:
    leader = Leader(driver, retention_seconds=3_600.0)
    cancelled(driver, SHOP)
    driver.do(commands.delete(SHOP))
    driver.now_ms += HOUR + 1
    assert leader.walk() == [(1, 0, 0, 0, 0)]
    assert leader.walk() == [], "the request that deleted it may be repeated"
    driver.now_ms += REQUEST_RETENTION_MS
    assert driver.do(commands.prune(driver.now_ms, jobs=[1, 2, 99])).numbers[4] == 1, "the first is not deleted"
    assert [U64.unpack(key)[0] for key, _ in driver.tables.job.scan()] == [1]
    assert driver.do(commands.create(SHOP)).numbers[0] == 3, "its number is not given again"


def test_the_limit_of_a_job_goes_with_it(driver: Driver) -> None:
    driver.do(commands.create("short", every_ms=0, max_running=1))
    driver.do(commands.delete("short"))
    assert len(list(driver.tables.limit_use.scan())) == 1
    driver.now_ms += REQUEST_RETENTION_MS + 1
    assert driver.do(commands.prune(driver.now_ms, jobs=[3])).numbers[4] == 1
    assert list(driver.tables.limit_use.scan()) == []


def test_a_deleted_job_stays_while_it_has_history(driver: Driver) -> None:
    leader = Leader(driver)
    driver.do(commands.delete(SHOP))
    (number,) = cancelled(driver, DEFAULT)
    driver.do(commands.delete(DEFAULT))
    driver.now_ms += 29 * DAY
    assert leader.walk() == []
    driver.now_ms += DAY + 1
    assert driver.do(commands.prune(driver.now_ms, jobs=[1])).numbers[4] == 0
    assert leader.walk() == [(1, 0, 0, 0, 1)]
    assert leader.walk() == [(0, 0, 0, 0, 1)]
    assert number not in left(driver)
    assert list(driver.tables.facet.scan()) == []


def test_operations_go_by_the_age_of_their_namespace(driver: Driver) -> None:
    leader = Leader(driver)
    driver.do(commands.keep_history("default", history_ms=DAY))
    driver.do(commands.redrive_all(job=1))
    driver.do(commands.redrive_all(job=1))
    driver.do(commands.cancel_operation(1, "enough"))
    driver.now_ms += DAY + 1
    assert leader.walk() == [(0, 0, 1, 0, 0)], "the other one is not over"
    assert driver.do(commands.prune(driver.now_ms, operations=[1, 2])).numbers[2] == 0


def test_a_busy_leader_finds_time(driver: Driver) -> None:
    """Dropping history does not wait for a moment without anything else to do, which may never come."""
    settings = PlannerSettings(lease_term_seconds=10.0, clock_drift=0.01, history_retention_seconds=3_600.0)
    planner = LeaderPlanner(settings, random.Random(1))
    planner.lead(driver.tables, 0.0, driver.now_ms)
    numbers = cancelled(driver, DEFAULT, 3)
    driver.now_ms += HOUR + 1
    driver.do(commands.create("tick", driver.now_ms - 1, every_ms=1_000))
    busy = planner.plan(driver.tables, REST_SECONDS, driver.now_ms)
    assert isinstance(busy, log_pb2.Plan)
    assert planner.prune(driver.tables, REST_SECONDS, driver.now_ms) is None, "there may be nothing to do in a moment"
    assert isinstance(planner.plan(driver.tables, REST_SECONDS + 1, driver.now_ms), log_pb2.Plan), (
        "due work does not wait"
    )
    late = planner.prune(driver.tables, REST_SECONDS + 1, driver.now_ms)
    assert late is not None
    assert late.executions == b"".join(map(U64.pack, numbers))
    assert {driver.state(number) for number in numbers} == {ExecutionState.CANCELLED.name}
