"""Seeded histories of dead letters, operations and backfills, in which every step does what has a point at that moment.

Jobs fail most of the time; what died is driven again, purged or backfilled, by hand and by operations, while leaders change and
sessions end. After each entry every invariant holds, and in the end every operation is over.
"""

from __future__ import annotations

import random

import pytest
from support import commands, invariants
from support.driver import START_MS, Driver
from support.tables import dict_tables, dump

from horologe.log.v1 import log_pb2
from horologe.node.planner import LeaderPlanner, PlannerSettings
from horologe.raft.commands import GIVE_UP, NO_RETRY, Outcome
from horologe.raft.machine import StateMachine
from horologe.raft.model import ExecutionState, LeaseLoss, Overlap

SECOND, MINUTE = 1_000, 60_000
SETTINGS = PlannerSettings(lease_term_seconds=10.0, clock_drift=0.01, history_retention_seconds=1_800.0)
STEPS = 150
QUEUES = ("default", "spare")


class History:
    """One state machine, one leader, and dice that decide what happens."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.driver = Driver()
        self.planner = LeaderPlanner(SETTINGS, random.Random(1))
        self.old: list[log_pb2.Command] = []
        for name, every_ms, fields in (
            ("a", 10 * SECOND, {"overlap": Overlap.ALLOW, "max_attempts": 2, "execution_timeout_ms": 20 * SECOND}),
            ("b", MINUTE, {"overlap": Overlap.SKIP, "max_attempts": 3, "retry_window_ms": 30 * SECOND}),
            ("c", 30 * SECOND, {"overlap": Overlap.QUEUE_ALL, "max_attempts": 1, "on_lease_loss": LeaseLoss.FAIL}),
        ):
            made = commands.job(name, every_ms=every_ms, timeout_ms=MINUTE, **fields)
            self.do(commands.put(commands.CREATE, commands.draft(made, START_MS + every_ms)))
        self.connect()
        self.lead()

    def do(self, command: log_pb2.Command) -> None:
        self.driver.do(command)
        self.planner.observe(self.driver.effects)
        self.driver.check()

    def lead(self) -> None:
        self.planner = LeaderPlanner(SETTINGS, random.Random(1))
        self.planner.lead(self.driver.tables, self.seconds, self.driver.now_ms)

    @property
    def seconds(self) -> float:
        return (self.driver.now_ms - START_MS) / 1000

    def connect(self) -> None:
        self.do(
            commands.connect(
                self.dice.choice(["w1", "w2"]), incarnation=str(self.driver.index), slot_count=4, queues=QUEUES
            )
        )

    def pass_time(self) -> None:
        self.driver.now_ms += self.dice.choice([0, 1, SECOND, 5 * SECOND, 12 * SECOND])
        self.planner.renew(range(1, 40) if self.dice.random() < 0.9 else [], self.driver.tables, self.seconds)
        for _ in range(self.dice.randrange(1, 8)):
            plan = self.planner.plan(self.driver.tables, self.seconds, self.driver.now_ms)
            if plan is None:
                return
            kind = "plan" if isinstance(plan, log_pb2.Plan) else "prune"
            self.old.append(log_pb2.Command(**{kind: plan}))
            if self.dice.random() < 0.9:  # else it gets lost, or comes later
                self.do(self.old[-1])

    def complete(self, chance_of_success: float = 0.3) -> None:
        for number, execution in invariants.read_executions(self.driver.tables).items():
            if execution.state == ExecutionState.RUNNING and self.dice.random() < 0.7:
                is_good = self.dice.random() < chance_of_success
                said = Outcome.SUCCEEDED if is_good else self.dice.choice([Outcome.FAILED, Outcome.TIMED_OUT])
                delay_ms = self.dice.choice([0, SECOND, 20 * SECOND, NO_RETRY, GIVE_UP])
                self.do(
                    commands.complete(
                        commands.outcome(number, execution.token, execution.attempt, said, retry_delay_ms=delay_ms)
                    )
                )

    def touch_the_dead(self) -> None:
        dead = self.driver.dead_letters()
        some = self.dice.sample(dead, min(len(dead), 2))
        for number in some:
            self.do(self.dice.choice([commands.redrive, commands.redrive, commands.purge])(number))

    def begin_an_operation(self) -> None:
        dice, now_ms = self.dice, self.driver.now_ms
        match dice.randrange(4):
            case 0:
                self.do(commands.redrive_all(job=dice.randrange(4), rate=dice.choice([0.0, 0.2, 5.0])))
            case 1:
                self.do(commands.redrive_all(executions=[*self.driver.dead_letters()[:3], 1]))
            case 2 if dice.random() < 0.3:
                self.do(commands.purge_all(job=dice.randrange(4)))
            case _:
                only = dice.choice(
                    [log_pb2.Backfill.ONLY_MISSING, log_pb2.Backfill.ONLY_FAILED, log_pb2.Backfill.ONLY_ALL]
                )
                span = (max(START_MS - MINUTE, now_ms - dice.randrange(5 * MINUTE)), now_ms)
                backwards, max_running = dice.random() < 0.5, dice.randrange(1, 4)
                job = dice.randrange(1, 4)
                self.do(commands.backfill(job, *span, only, backwards=backwards, max_running=max_running))

    def disturb(self) -> None:
        dice = self.dice
        match dice.randrange(7):
            case 5:
                changed = commands.job(
                    "c", every_ms=30 * SECOND, queue=dice.choice(["default", "spare"]), max_attempts=1
                )
                self.do(commands.put(commands.UPDATE, commands.draft(changed, self.driver.now_ms + 1)))
            case 0:
                self.lead()
            case 1 if self.old:
                self.do(dice.choice(self.old[-20:]))
            case 2:
                self.do(
                    commands.close(dice.randrange(1, 1 + self.driver.counters.last_session), clean=dice.random() < 0.5)
                )
                self.connect()
            case 3:
                self.do(commands.cancel(dice.randrange(1, 2 + self.driver.counters.last_execution)))
            case 4:
                self.do(commands.cancel_operation(dice.randrange(1, 2 + self.driver.counters.last_operation)))
            case _:
                self.connect()


@pytest.mark.parametrize("seed", range(25))
def test_random_operations(seed: int) -> None:
    history = History(seed)
    driver = history.driver
    steps = [history.pass_time, history.complete, history.touch_the_dead, history.begin_an_operation, history.disturb]
    for _ in range(STEPS):
        history.dice.choices(steps, [8, 6, 2, 1, 2])[0]()
    for job in range(1, 4):
        history.do(commands.pause(driver.job(job).job.name))
    for _ in range(400):
        if all(record.state != log_pb2.OperationRecord.STATE_RUNNING for record in operations(driver)):
            break
        history.connect()
        history.pass_time()
        history.complete(chance_of_success=1.0)
    else:
        raise AssertionError(f"these do not end: {operations(driver)}")
    copy = dict_tables()
    for index, entry in driver.entries:
        StateMachine().apply(copy, index, entry)
    assert dump(copy) == dump(driver.tables)


def operations(driver: Driver) -> list[log_pb2.OperationRecord]:
    return [log_pb2.OperationRecord.FromString(value) for _, value in driver.tables.operation.scan()]
