"""Dead letters and operations in the state: what bounds them, and how they go with the history."""

from __future__ import annotations

import random

import pytest
from support import commands
from support.driver import START_MS, Driver

from horologe.log.v1 import log_pb2
from horologe.node.planner import LeaderPlanner, PlannerSettings
from horologe.node.retention import REST_SECONDS
from horologe.raft.commands import NO_RETRY, Outcome
from horologe.raft.dead_letters import ATTEMPT_NUMBER_MAX, PAST_ATTEMPTS_KEPT
from horologe.raft.model import Code, ExecutionFlag, Overlap
from horologe.raft.records import U64

HOUR_SECONDS = 3_600.0
Record = log_pb2.OperationRecord


def die(machine: Driver, number: int = 1) -> None:
    """The execution's next attempt is its last one."""
    machine.do(commands.plan(assigns=[(number, machine.counters.last_session)]))
    execution = machine.execution(number)
    record = commands.outcome(number, execution.token, execution.attempt, Outcome.FAILED, retry_delay_ms=NO_RETRY)
    machine.do(commands.complete(record, details=[log_pb2.OutcomeDetail(error="disk full", fingerprint=7)]), after_ms=1)


def with_a_dead_letter(machine: Driver) -> None:
    machine.do(commands.create("tick", every_ms=0, max_attempts=1))
    machine.do(commands.connect())
    machine.do(commands.run("tick"))
    die(machine)


@pytest.mark.parametrize("rate", [1e-300, 5e-324])
def test_a_rate_that_no_instant_can_be_told_of_stops_the_operation_and_no_leader(machine: Driver, rate: float) -> None:
    with_a_dead_letter(machine)
    machine.do(commands.redrive_all(rate=rate))
    settings = PlannerSettings(lease_term_seconds=10.0, clock_drift=0.01, history_retention_seconds=HOUR_SECONDS)
    planner = LeaderPlanner(settings, random.Random(1))
    planner.lead(machine.tables, 0.0, machine.now_ms)
    plan = planner.plan(machine.tables, 0.0, machine.now_ms)
    assert isinstance(plan, log_pb2.Plan)
    machine.do(log_pb2.Command(plan=plan))
    assert machine.operation().state == Record.STATE_FAILED
    assert machine.operation().reason.startswith("it cannot be planned: ")
    assert len(machine.dead_letters()) == 1
    machine.check()


def test_old_dead_letters_become_history(machine: Driver) -> None:
    with_a_dead_letter(machine)
    assert machine.counters.dead_letters == 1
    assert machine.do(commands.prune(machine.now_ms, dead_letters=[1])).numbers == (0, 0, 0, 0, 0)
    assert machine.do(commands.prune(machine.now_ms + 1, dead_letters=[1])).numbers == (0, 0, 0, 1, 0)
    assert (machine.dead_letters(), machine.counters.dead_letters) == ([], 0)
    assert machine.do(commands.prune(machine.now_ms + 1, [1])).numbers == (1, 0, 0, 0, 0)
    machine.check()


def test_what_was_driven_again_is_replaced_like_others(machine: Driver) -> None:
    """Its due time is an old one, behind executions that have replaced others: it is found all the same."""
    machine.do(commands.create("tick", every_ms=0, max_attempts=1, overlap=Overlap.REPLACE))
    machine.do(commands.connect())
    machine.do(commands.run("tick"))
    die(machine)
    for number in (2, 3):
        machine.do(commands.run("tick"), after_ms=1)
        if number == 2:
            machine.do(commands.plan(assigns=[(2, 1)]))
    machine.do(commands.complete(commands.outcome(2, machine.execution(2).token)), after_ms=1)
    machine.do(commands.plan(assigns=[(3, 1)]))
    machine.do(commands.complete(commands.outcome(3, machine.execution(3).token)), after_ms=1)
    machine.do(commands.redrive(1))
    machine.do(commands.plan(assigns=[(1, 1)]))
    machine.do(commands.run("tick"), after_ms=1)
    assert [machine.state(number) for number in range(1, 5)] == ["RUNNING", "COMPLETED", "COMPLETED", "SCHEDULED"]
    assert [number for _, number, _, _ in machine.effects.cancelled] == [1]
    machine.check()


def test_attempts_that_are_remembered_are_bounded(machine: Driver) -> None:
    with_a_dead_letter(machine)
    for _ in range(PAST_ATTEMPTS_KEPT + 5):
        assert machine.do(commands.redrive(1)).code is Code.OK
        die(machine)
    assert len(machine.detail().attempts) == PAST_ATTEMPTS_KEPT + 1
    assert machine.detail().attempts[-1].number == machine.execution().attempt == PAST_ATTEMPTS_KEPT + 6
    machine.check()


def test_numbers_of_attempts_do_not_overflow(machine: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    with_a_dead_letter(machine)
    assert ATTEMPT_NUMBER_MAX + 100 < 1 << 16
    monkeypatch.setattr("horologe.raft.dead_letters.ATTEMPT_NUMBER_MAX", 0)
    assert machine.do(commands.redrive(1)).code is Code.ATTEMPTS_EXHAUSTED
    machine.do(commands.redrive_all())
    machine.do(commands.operation_step(1, 0, [1], exhausted=True))
    assert (machine.operation().state, machine.operation().done) == (Record.STATE_DONE, 0)
    assert machine.execution().flags & ExecutionFlag.DEAD_LETTER


def test_a_job_that_was_given_another_queue_takes_its_dead_letters_along(machine: Driver) -> None:
    with_a_dead_letter(machine)
    machine.do(commands.update("tick", every_ms=0, queue="spare", priority=9))
    machine.do(commands.redrive(1))
    assert (machine.execution().queue, machine.execution().priority) == (machine.job_state().queue, 9)
    machine.check()


def test_a_piece_comes_once(machine: Driver) -> None:
    with_a_dead_letter(machine)
    machine.do(commands.redrive_all())
    piece = commands.operation_step(1, 0, [1])
    machine.do(piece)
    assert (machine.operation().step, machine.operation().done) == (1, 1)
    die(machine)
    machine.do(piece)
    assert machine.state() == "DEAD", "the piece that came again did nothing"
    machine.do(commands.cancel_operation(1, "enough"))
    machine.do(commands.operation_step(1, 1, [1]))
    assert machine.state() == "DEAD", "nor does a piece of an operation that is over"
    machine.check()


def test_operations_that_are_over_go_with_the_history(machine: Driver) -> None:
    machine.do(commands.create("tick", every_ms=0))
    for _ in range(2):
        machine.do(commands.redrive_all())
    machine.do(commands.cancel_operation(1))
    settings = PlannerSettings(lease_term_seconds=10.0, clock_drift=0.01, history_retention_seconds=HOUR_SECONDS)
    planner = LeaderPlanner(settings, random.Random(1))
    machine.now_ms += 2_000
    machine.do(commands.purge_all(job=1, from_ms=START_MS))
    planner.lead(machine.tables, 0.0, machine.now_ms)
    machine.now_ms += int(HOUR_SECONDS * 1000)
    while isinstance(plan := planner.plan(machine.tables, REST_SECONDS + 1, machine.now_ms), log_pb2.Plan):
        machine.do(log_pb2.Command(plan=plan))
    assert isinstance(plan, log_pb2.Prune)
    # The first was over an hour ago; the others were begun then, and have just ended.
    assert list(U64.iter_unpack(plan.operations)) == [(1,)]
    assert machine.do(log_pb2.Command(prune=plan)).numbers == (0, 0, 1, 0, 0)
    assert machine.operation(1) == Record()
    machine.check()
