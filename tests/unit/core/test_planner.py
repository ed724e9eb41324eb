"""The leader's planner: a state in, a plan out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.commands import (
    cancel,
    close,
    complete,
    connect,
    create,
    drain,
    outcome,
    purge_all,
    run,
    set_limit,
    set_queue,
    update,
)
from support.driver import START_MS, Driver
from support.leader import TERM, Leader

from horologe.log.v1 import log_pb2
from horologe.node import firing as firing_module
from horologe.node import limit_lines
from horologe.node import planner as planner_module
from horologe.node import retention as retention_module
from horologe.node.catalog import Catalog
from horologe.node.firing import ON_TIME_MS
from horologe.node.planner import (
    IDLE_MS,
    TIMEOUT_GRACE_MS,
)
from horologe.raft.commands import ASSIGN, CALL, FIRE, GIVE_UP, RETRY, SESSION, TIMEOUT, Outcome
from horologe.raft.model import Catchup, Overlap
from horologe.raft.records import U64
from horologe.raft.sealed import CorruptStateError
from horologe.raft.tables import Tables
from horologe.v1 import calendar_pb2

MINUTE = 60_000
DUE = START_MS + MINUTE


@pytest.fixture
def leader(machine: Driver) -> Iterator[Leader]:
    yield Leader(machine)


def assigns(made: object) -> list[tuple[int, int]]:
    return list(ASSIGN.iter_unpack(made.assigns)) if isinstance(made, log_pb2.Plan) else []


def expired(made: object) -> list[int]:
    return [row[0] for row in SESSION.iter_unpack(made.expired_sessions)] if isinstance(made, log_pb2.Plan) else []


# Due times


def test_nothing_to_do(leader: Leader) -> None:
    assert leader.plan() is None
    assert leader.planner.next_wakeup_ms(leader.machine.tables, START_MS) == START_MS + IDLE_MS
    leader.do(create("tick", START_MS + 100))
    assert leader.plan() is None
    assert leader.planner.next_wakeup_ms(leader.machine.tables, START_MS) == START_MS + 100


def test_a_due_time_is_fired_with_a_worker_if_one_is_free(leader: Leader) -> None:
    leader.do(create("a", DUE), create("b", DUE), connect("w1", slot_count=1))
    made = leader.act(after_ms=MINUTE)
    assert list(FIRE.iter_unpack(made.fires)) == [
        (1, 1, DUE, DUE + MINUTE, DUE + MINUTE, 1, 0, 0, 0, 0, 1),
        (2, 1, DUE, DUE + MINUTE, DUE + MINUTE, 0, 0, 0, 0, 0, 1),
    ]
    assert (leader.machine.state(1), leader.machine.state(2)) == ("RUNNING", "QUEUED")


def test_a_little_late_is_not_missed(leader: Leader) -> None:
    leader.do(create("tick", DUE, every_ms=1_000, overlap=Overlap.ALLOW))
    while leader.machine.job_state().next_due_ms <= DUE + ON_TIME_MS:
        leader.act(after_ms=MINUTE + ON_TIME_MS if leader.machine.now_ms == START_MS else 0)
    assert [row[3] for row in leader.machine.ledger()] == ["RAN"] * 6


def test_catch_up_latest(leader: Leader) -> None:
    leader.do(create("tick", DUE))
    leader.act(after_ms=4 * MINUTE + 30_000)
    assert leader.machine.ledger() == [
        (MINUTE, 3 * MINUTE, 3, "COALESCED", "catchup_latest", 1),
        (4 * MINUTE, 4 * MINUTE, 1, "RAN", "", 1),
    ]
    assert leader.machine.job_state().next_due_ms == START_MS + 5 * MINUTE


def test_catch_up_latest_of_one_due_time(leader: Leader) -> None:
    leader.do(create("tick", DUE))
    leader.act(after_ms=MINUTE + 30_000)
    assert leader.machine.ledger() == [(MINUTE, MINUTE, 1, "RAN", "", 1)]


def test_catch_up_skip(leader: Leader) -> None:
    leader.do(create("tick", DUE, catchup=Catchup.SKIP))
    leader.act(after_ms=4 * MINUTE + 30_000)
    assert leader.machine.ledger() == [(MINUTE, 4 * MINUTE, 4, "MISSED", "catchup_skip", 0)]


def test_catch_up_looks_back_as_far_as_its_window(leader: Leader) -> None:
    leader.do(create("tick", DUE, catchup_window_ms=2 * MINUTE))
    leader.act(after_ms=5 * MINUTE + 30_000)
    leader.act()
    assert leader.machine.ledger() == [
        (MINUTE, 3 * MINUTE, 3, "MISSED", "catchup_window", 0),
        (4 * MINUTE, 4 * MINUTE, 1, "COALESCED", "catchup_latest", 1),
        (5 * MINUTE, 5 * MINUTE, 1, "RAN", "", 1),
    ]


def test_a_far_due_time_comes_down_the_wheel(leader: Leader) -> None:
    day = 24 * 60 * MINUTE
    leader.do(create("tick", START_MS + day, every_ms=day))
    tables = leader.machine.tables
    wakeups = 0
    while leader.machine.counters.fired == 0:
        if leader.plan() is None:
            at_ms = planner_module.wheel.next_attention_ms(tables.timer)
            assert at_ms is not None and at_ms > leader.machine.now_ms
            leader.machine.now_ms = at_ms
            wakeups += 1
        else:
            leader.act()
    assert leader.machine.now_ms == START_MS + day
    assert wakeups <= 3


def test_a_backoff_ends_on_a_free_worker(leader: Leader) -> None:
    leader.do(create("tick", DUE), connect("w1", slot_count=1))
    leader.act(after_ms=MINUTE)
    failed = outcome(1, leader.machine.index, outcome=Outcome.FAILED, retry_delay_ms=3_000)
    leader.do(complete(failed))
    assert leader.plan() is None
    made = leader.act(after_ms=3_000)
    assert list(RETRY.iter_unpack(made.retries)) == [(1, DUE + 3_000, 1)]


# Assignments


def test_urgent_and_old_first(leader: Leader) -> None:
    leader.do(create("low", every_ms=0, priority=1), create("high", every_ms=0, priority=9, overlap=Overlap.ALLOW))
    leader.do(run("low"), run("high"))
    leader.do(run("high"), after_ms=1)
    leader.do(connect("w1", slot_count=2))
    assert assigns(leader.act()) == [(2, 1), (3, 1)]
    assert leader.plan() is None


def test_workers_take_turns_and_only_from_their_queues(leader: Leader) -> None:
    leader.do(create("tick", every_ms=0, overlap=Overlap.ALLOW))
    leader.do(connect("w1"), connect("w2"), connect("w3", queues=["other"]))
    leader.do(*[run("tick")] * 6)
    assert assigns(leader.act()) == [(1, 1), (2, 2), (3, 1), (4, 2), (5, 1), (6, 2)]


def test_what_waits_goes_before_what_falls_due(leader: Leader) -> None:
    leader.do(create("first", every_ms=0), create("second", DUE), connect("w1", slot_count=1))
    leader.do(run("first"), after_ms=MINUTE)
    made = leader.act()
    assert assigns(made) == [(1, 1)]
    assert leader.machine.state(2) == "QUEUED"


def test_a_slot_comes_free(leader: Leader) -> None:
    leader.do(create("tick", every_ms=0, overlap=Overlap.ALLOW), connect("w1", slot_count=1))
    leader.do(run("tick"), run("tick"))
    assert assigns(leader.act()) == [(1, 1)]
    assert leader.plan() is None
    leader.do(complete(outcome(1, leader.machine.index)))
    assert assigns(leader.act()) == [(2, 1)]


def test_a_plan_that_comes_to_nothing_loses_no_slot(leader: Leader) -> None:
    leader.do(create("tick", every_ms=0, overlap=Overlap.ALLOW), connect("w1", slot_count=1))
    leader.do(run("tick"))
    made = leader.plan()
    leader.do(cancel(1))
    leader.do(log_pb2.Command(plan=made))
    leader.do(run("tick"))
    assert assigns(leader.act()) == [(2, 1)]


def test_a_plan_that_comes_to_nothing_loses_no_execution(leader: Leader) -> None:
    """The worker it chose was drained before the plan was applied: what stays queued goes to the next one."""
    leader.do(create("tick", every_ms=0), connect("w1", slot_count=1))
    leader.do(run("tick"))
    made = leader.plan()
    assert assigns(made) == [(1, 1)]
    leader.do(drain("w1"))
    leader.do(log_pb2.Command(plan=made))
    assert leader.machine.state(1) == "QUEUED"
    leader.do(connect("w2", slot_count=1))
    assert assigns(leader.act()) == [(1, 2)]


def test_a_plan_that_was_refused_loses_nothing(leader: Leader) -> None:
    """The log was full: the plan never came to be applied."""
    leader.do(create("tick", every_ms=0), connect("w1", slot_count=1))
    leader.do(run("tick"))
    assert assigns(leader.plan()) == [(1, 1)]
    assert assigns(leader.act()) == [(1, 1)]


def test_queues_that_share_workers_take_turns(leader: Leader) -> None:
    for name, queue in (("tick", "default"), ("tock", "other")):
        leader.do(create(name, every_ms=0, overlap=Overlap.ALLOW, queue=queue), run(name), run(name), run(name))
    leader.do(connect("w1", queues=["default", "other"], slot_count=1))
    lanes = []
    for _ in range(4):
        ((number, _),) = assigns(leader.act())
        execution = leader.machine.execution(number)
        lanes.append(execution.queue)
        leader.do(complete(outcome(number, execution.token)))
    assert lanes == [1, 2, 1, 2]


def test_a_raised_limit_lets_many_in_with_one_plan(leader: Leader) -> None:
    leader.do(set_limit("db", 1), create("tick", every_ms=0, overlap=Overlap.ALLOW, limits=["db"]))
    leader.do(connect("w1", slot_count=100), *[run("tick") for _ in range(50)])
    assert sorted(session for _, session in assigns(leader.act())) == [0] * 49 + [1]
    assert leader.machine.counters.running == 1
    leader.do(set_limit("db", 30))
    (called,) = CALL.iter_unpack(leader.act().calls)
    assert called[2] == 29
    assert len(assigns(leader.act())) == 29
    assert leader.machine.counters.running == 30


def test_a_limit_that_is_gone_lets_everybody_in_plan_by_plan(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_lines, "CALLED_UP_MAX", 4)
    leader.do(create("tick", every_ms=0, overlap=Overlap.ALLOW, max_running=1))
    leader.do(connect("w1", slot_count=100), *[run("tick") for _ in range(10)])
    leader.act()
    leader.do(update("tick", every_ms=0, overlap=Overlap.ALLOW))
    called = [row[2] for _ in range(3) for row in CALL.iter_unpack(leader.act().calls)]
    assert called == [4, 4, 4]
    leader.act()
    assert leader.machine.counters.running == 10
    assert leader.plan() is None


def test_what_has_no_room_takes_no_slot_from_others(leader: Leader) -> None:
    leader.do(set_limit("db", 1), create("load", every_ms=0, overlap=Overlap.ALLOW, limits=["db"], priority=9))
    leader.do(create("other", every_ms=0, overlap=Overlap.ALLOW))
    leader.do(connect("w1", slot_count=3), *[run("load") for _ in range(20)], run("other"), run("other"))
    leader.act()
    running = [leader.machine.state(number) for number in (1, 21, 22)]
    assert running == ["RUNNING"] * 3


def test_a_new_leader_finds_lines_with_room(leader: Leader) -> None:
    leader.do(create("tick", every_ms=0, overlap=Overlap.ALLOW, max_running=1))
    leader.do(connect("w1"), run("tick"), run("tick"))
    leader.act()
    leader.machine.do(update("tick", every_ms=0, overlap=Overlap.ALLOW))  # nobody tells the leader
    assert leader.plan() is None
    fresh = Leader(leader.machine)
    fresh.act()
    assert len(assigns(fresh.act())) == 1


def test_a_leader_wakes_up_when_the_next_token_comes(leader: Leader) -> None:
    leader.do(set_queue("default", (1, 100, 1)), create("tick", every_ms=0, overlap=Overlap.ALLOW))
    leader.do(connect("w1"), run("tick"), run("tick"))
    assert len(assigns(leader.act())) == 1
    assert leader.plan() is None
    assert leader.planner.next_wakeup_ms(leader.machine.tables, leader.machine.now_ms) == leader.machine.now_ms + 100
    assert len(assigns(leader.act(after_ms=100))) == 1


def test_a_new_leader_finds_what_waits(leader: Leader) -> None:
    leader.do(create("tick", every_ms=0), create("tock", every_ms=0, queue="other"))
    leader.do(run("tick"), run("tock"))
    leader.do(connect("w1", queues=["default", "other"]))
    assert assigns(Leader(leader.machine).plan()) == [(1, 1), (2, 1)]


# Leases


def test_a_lease_ends_a_term_and_the_drift_after_the_last_heartbeat(leader: Leader) -> None:
    leader.do(connect("w1"), connect("w2"))
    assert leader.plan() is None
    assert leader.planner.renew([2], leader.machine.tables, 5.0) == ([2], [])
    assert leader.plan(after_ms=10_100) is None
    made = leader.plan(after_ms=1)
    assert expired(made) == [1]
    leader.do(log_pb2.Command(plan=made))
    assert leader.planner.renew([1], leader.machine.tables, leader.now) == ([], [1])
    assert expired(leader.plan(after_ms=5_000)) == [2]


def test_a_new_leader_gives_everybody_a_full_term(leader: Leader) -> None:
    leader.do(connect("w1"), after_ms=1)
    assert leader.plan() is None
    leader.machine.now_ms += 9_000
    successor = Leader(leader.machine)
    assert expired(successor.plan(after_ms=10_000)) == []
    assert expired(successor.plan(after_ms=101)) == [1]


def test_a_session_that_said_goodbye_is_forgotten_without_an_entry(leader: Leader) -> None:
    leader.do(connect("w1"))
    assert leader.plan() is None
    leader.do(close(1))
    assert leader.plan(after_ms=20_000) is None


def test_a_fenced_session_is_not_renewed(leader: Leader) -> None:
    leader.do(connect("w1", incarnation="a"))
    leader.do(connect("w1", incarnation="b"))
    assert leader.planner.renew([1, 2], leader.machine.tables, 1.0) == ([2], [1])


# Timeouts


def test_the_cluster_waits_for_the_workers_own_timeout_first(leader: Leader) -> None:
    leader.do(create("tick", DUE, timeout_ms=MINUTE), connect("w1", slot_count=1))
    leader.act(after_ms=MINUTE)
    token = leader.machine.index
    for _ in range((MINUTE + TIMEOUT_GRACE_MS) // 1_000):
        leader.planner.renew([1], leader.machine.tables, leader.now)
        made = leader.plan(after_ms=1_000)
        assert not (isinstance(made, log_pb2.Plan) and made.timeouts)
        if isinstance(made, log_pb2.Plan):
            leader.do(log_pb2.Command(plan=made))
    leader.planner.renew([1], leader.machine.tables, leader.now)
    made = leader.act(after_ms=1_000)
    assert [row[:2] for row in TIMEOUT.iter_unpack(made.timeouts)] == [(1, token)]


def test_timeouts_are_looked_at_in_slices(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_module, "TIMEOUT_ROWS_PER_CHECK", 2)
    leader.do(create("tick", every_ms=0, timeout_ms=1, overlap=Overlap.ALLOW), connect("w1"))
    leader.do(*[run("tick")] * 5)
    leader.act()
    found: list[list[int]] = []
    for _ in range(4):
        leader.planner.renew([1], leader.machine.tables, leader.now + 20)
        made = leader.plan(after_ms=20_000)
        assert isinstance(made, log_pb2.Plan) and not made.expired_sessions
        found.append([row[0] for row in TIMEOUT.iter_unpack(made.timeouts)])
    assert found == [[1, 2], [3, 4], [5], [1, 2]]


# History


def test_history_is_walked_a_little_at_a_time(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_module, "ROWS_PER_WALK", 2)
    leader.do(create("tick", every_ms=0, overlap=Overlap.ALLOW))
    leader.do(*[run("tick")] * 5)
    leader.do(*[cancel(number) for number in (1, 3, 5)])
    rest_ms, walk_ms = int(retention_module.REST_SECONDS * 1000), int(retention_module.WALK_SECONDS * 1000)
    dropped: list[int] = []
    for after_ms in (3_601_000, walk_ms):
        made = leader.plan(after_ms=after_ms)
        assert isinstance(made, log_pb2.Prune)
        dropped += [number for (number,) in U64.iter_unpack(made.executions)]
        leader.do(log_pb2.Command(prune=made))
        assert leader.plan(after_ms=1) is None
    assert dropped == [1, 3, 5]
    assert leader.machine.execution(2)
    # What is left has not ended: there is nothing to propose, however old it is.
    assert leader.plan(after_ms=rest_ms) is None


def test_the_cluster_waits_for_the_grace_before_and_the_lease_after_a_timeout(leader: Leader) -> None:
    command = create("tick", DUE, timeout_ms=MINUTE)
    command.put_jobs.jobs[0].job.grace.FromMilliseconds(MINUTE)
    leader.do(command, connect("w1", slot_count=1))
    leader.act(after_ms=MINUTE)
    leader.machine.now_ms += 2 * MINUTE + TIMEOUT_GRACE_MS - 1
    leader.planner.renew([1], leader.machine.tables, leader.now)
    made = leader.plan()
    assert not (isinstance(made, log_pb2.Plan) and made.timeouts)
    if isinstance(made, log_pb2.Plan):
        leader.do(log_pb2.Command(plan=made))
    leader.planner.renew([1], leader.machine.tables, leader.now)
    made = leader.act(after_ms=2_000)
    ((_, _, retry_delay_ms),) = TIMEOUT.iter_unpack(made.timeouts)
    assert retry_delay_ms >= MINUTE + TERM * 1_000


def test_a_timeout_that_the_policy_does_not_take_ends_the_execution(leader: Leader) -> None:
    leader.do(create("tick", DUE, timeout_ms=MINUTE, do_not_retry_on=["timeout"]), connect("w1", slot_count=1))
    leader.act(after_ms=MINUTE)
    leader.machine.now_ms += MINUTE + TIMEOUT_GRACE_MS + 1
    leader.planner.renew([1], leader.machine.tables, leader.now)
    made = leader.act()
    ((_, _, retry_delay_ms),) = TIMEOUT.iter_unpack(made.timeouts)
    assert retry_delay_ms == GIVE_UP
    assert leader.machine.state() == "FAILED"


def test_who_leads_again_knows_what_has_changed_meanwhile(leader: Leader) -> None:
    leader.do(create("tick", DUE, timeout_ms=MINUTE, do_not_retry_on=["timeout"]), connect("w1", slot_count=1))
    leader.act(after_ms=MINUTE)
    leader.machine.now_ms += MINUTE + TIMEOUT_GRACE_MS + 1

    def delay_ms() -> int:
        leader.machine.now_ms += 2_000
        leader.planner.renew([1], leader.machine.tables, leader.now)
        made = leader.plan()
        assert isinstance(made, log_pb2.Plan)
        ((_, _, retry_delay_ms),) = TIMEOUT.iter_unpack(made.timeouts)
        return int(retry_delay_ms)

    assert delay_ms() == GIVE_UP
    leader.planner.follow()
    leader.machine.apply(update("tick", timeout_ms=MINUTE))
    leader.planner.lead(leader.machine.tables, leader.now, leader.machine.now_ms)
    assert delay_ms() > 0


def test_all_calendars_are_looked_at_once_and_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new leader does not know which ones its predecessor had got to; one that changes is looked at again."""
    driver, reads, left = Driver(), list[int](), list[int]()
    for number in range(7):
        calendar = calendar_pb2.Calendar(name=f"namespaces/default/calendars/c{number}")
        driver.do(log_pb2.Command(set_calendar=log_pb2.SetCalendar(calendar=calendar)))
    revisions = firing_module._revisions

    def reading(tables: Tables) -> dict[int, int]:
        reads.append(1)
        return revisions(tables)

    monkeypatch.setattr(firing_module, "_revisions", reading)
    monkeypatch.setattr(firing_module, "CALENDARS_PER_PLAN", 3)
    firing = firing_module.Firing(Catalog())
    firing.lead(driver.tables)
    for _ in range(4):
        firing.recompute(driver.tables, driver.now_ms)
        left.append(len(firing._calendars))
    assert (left, len(reads)) == ([4, 1, 0, 0], 1)
    firing.calendar_changed(1)
    firing.recompute(driver.tables, driver.now_ms)
    assert len(reads) == 2


def test_an_operation_that_begins_in_the_entry_of_another_change_gets_its_turn(leader: Leader) -> None:
    leader.do(create("a", DUE), purge_all())
    made = leader.act()
    assert [step.operation for step in made.operation_steps] == [1]
    leader.do(create("b", DUE), purge_all())
    assert [step.operation for step in leader.act().operation_steps] == [2]


def test_a_definition_that_cannot_be_read_holds_up_nobody_and_damage_stops_the_node(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(firing_module, "_timetable", unreadable)
    leader.do(create("a", DUE, every_ms=0))
    error: Exception = KeyError("no such zone here")
    assert leader.act(after_ms=MINUTE).rearms
    error = CorruptStateError("a damaged calendar")
    with pytest.raises(CorruptStateError):
        leader.plan(after_ms=2 * MINUTE)
