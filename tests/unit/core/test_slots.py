"""The leader's view of the workers: slots, turns, reservations, leases."""

from __future__ import annotations

import pytest
from support.commands import cancel, close, complete, connect, create, drain, outcome, plan, run
from support.driver import Driver

from horologe.log.v1 import log_pb2
from horologe.node.slots import Slots

QUEUE = 1  # "default", the first queue that is named


class View:
    """Slots kept up by the effects of a machine."""

    def __init__(self, machine: Driver) -> None:
        self.machine = machine
        self.slots = Slots(5.0)
        self.slots.rebuild(machine.tables, 0.0)

    def do(self, *commands: log_pb2.Command) -> None:
        self.machine.apply(*commands)
        self.slots.observe(self.machine.effects)

    def take_all(self, queue: int = QUEUE) -> list[int]:
        """What one plan could take."""
        self.slots.begin_plan(self.machine.tables, 0.0)
        return list(iter(lambda: self.slots.take(queue), 0))


@pytest.fixture
def view(machine: Driver) -> View:
    return View(machine)


def test_nobody_is_there(view: View) -> None:
    assert view.take_all() == []
    assert view.slots.queues() == []


def test_sessions_take_turns(view: View) -> None:
    view.do(connect("w1", slot_count=3), connect("w2", slot_count=1), connect("w3", slot_count=2))
    assert view.take_all() == [1, 2, 3, 1, 3, 1]


def test_reservations_last_for_one_plan(view: View) -> None:
    view.do(connect("w1", slot_count=2))
    for _ in range(3):
        assert view.take_all() == [1, 1]


def test_running_attempts_take_slots_and_give_them_back(view: View) -> None:
    view.do(create("tick", every_ms=0), connect("w1", slot_count=2), run("tick"))
    view.take_all()
    view.do(plan(assigns=[(1, 1)]))
    token = view.machine.index
    assert view.take_all() == [1]
    view.do(complete(outcome(1, token)))
    assert view.take_all() == [1, 1]


def test_a_worker_is_offered_only_for_its_queues(view: View) -> None:
    view.do(connect("w1", queues=["default"], slot_count=1), connect("w2", queues=["other", "other"], slot_count=1))
    assert view.take_all(queue=2) == [2]
    assert view.take_all(queue=1) == [1]
    assert view.take_all(queue=9) == []


def test_draining_closed_and_fenced_sessions_get_nothing(view: View) -> None:
    view.do(connect("w1"), connect("w2"), connect("w3"))
    assert set(view.take_all()) == {1, 2, 3}
    view.do(drain("w1"))
    view.do(close(2))
    view.do(connect("w3", incarnation="b", slot_count=1))
    assert view.take_all() == [4]


def test_a_reconnection_carries_its_running_attempts(view: View) -> None:
    view.do(create("tick", every_ms=0), connect("w1", slot_count=2), run("tick"))
    view.take_all()
    view.do(plan(assigns=[(1, 1)]))
    token = view.machine.index
    view.do(connect("w1", slot_count=2))
    assert view.take_all() == [2]
    view.do(complete(outcome(1, token)))
    assert view.take_all() == [2, 2]


def test_what_is_followed_equals_what_is_rebuilt(view: View) -> None:
    view.do(create("tick", every_ms=0), connect("w1", slot_count=3), connect("w2", slot_count=2))
    for number in range(1, 5):
        view.do(run("tick", force=True))
        view.do(plan(assigns=[(number, view.take_all()[0])]))
    view.do(cancel(1), complete(outcome(2, 1)))
    view.do(plan(expired=[2]))
    assert sorted(view.take_all()) == sorted(View(view.machine).take_all())


def test_leases(view: View) -> None:
    view.do(connect("w1"), connect("w2"), connect("w3"))
    view.slots.begin_plan(view.machine.tables, 10.0)
    assert view.slots.expired(20.0, 10.0, 10) == []
    assert view.slots.hear([2], 15.0, view.machine.tables) == ([2], [])
    assert view.slots.expired(20.5, 10.0, 10) == [1, 3]
    assert view.slots.expired(20.5, 10.0, 1) == [1]
    view.slots.forget(1)
    assert view.slots.expired(20.5, 10.0, 10) == [3]


def test_a_session_is_heard_before_any_plan_has_read_it(view: View) -> None:
    view.do(connect("w1", slot_count=1))
    assert view.slots.hear([1], 1.0, view.machine.tables) == ([1], [])
    assert view.take_all() == [1]


def test_a_session_that_its_node_knows_before_the_leader_does_is_not_gone(view: View) -> None:
    """A leader with much to apply may be behind the node that has told the worker its number."""
    assert view.slots.hear([1], 1.0, view.machine.tables) == ([], [])
    view.do(connect("w1"))
    assert view.slots.hear([1], 2.0, view.machine.tables) == ([1], [])
    view.do(close(1), plan(expired=[1]))
    view.slots.forget(1)
    assert view.slots.hear([1, 2], 3.0, view.machine.tables) == ([], [1])


def test_fewer_slots_than_running_attempts(view: View) -> None:
    """A worker may come back with fewer slots than it has attempts."""
    view.do(create("tick", every_ms=0), connect("w1", slot_count=2), run("tick"), run("tick", force=True))
    view.do(plan(assigns=[(1, 1), (2, 1)]))
    token = view.machine.index
    view.do(connect("w1", slot_count=1))
    assert view.take_all() == []
    view.do(complete(outcome(1, token)))
    assert view.take_all() == []
    view.do(complete(outcome(2, token)))
    assert view.take_all() == [2]


def test_a_session_that_is_forgotten_leaves_its_lines(view: View) -> None:
    view.do(connect("w1"))
    view.slots.begin_plan(view.machine.tables, 0.0)
    assert view.slots.queues() == [QUEUE]
    view.slots.forget(1)
    assert view.slots.queues() == []


def test_a_silent_session_gets_nothing_until_it_is_heard_again(view: View) -> None:
    view.do(connect("w1", slot_count=1), connect("w2", slot_count=1))
    assert view.take_all() == [1, 2]
    view.slots.hear([2], 4.0, view.machine.tables)
    view.slots.begin_plan(view.machine.tables, 6.0)
    assert [view.slots.take(QUEUE), view.slots.take(QUEUE)] == [2, 0]
    view.slots.hear([1], 6.5, view.machine.tables)
    view.slots.begin_plan(view.machine.tables, 7.0)
    assert sorted([view.slots.take(QUEUE), view.slots.take(QUEUE)]) == [1, 2]


def test_after_a_long_silence_workers_get_nothing_until_they_are_heard(view: View) -> None:
    view.do(connect("w1", slot_count=1), connect("w2", slot_count=1))
    view.slots.rebuild(view.machine.tables, 0.0, is_old=True)
    assert view.take_all() == []
    view.slots.hear([2], 0.0, view.machine.tables)
    assert view.take_all() == [2]
    view.do(connect("w3", slot_count=1))
    assert sorted(view.take_all()) == [2, 3], "who opens a session is there"
    assert view.slots.expired(5.0, 10.0, 10) == [], "and nobody's lease is shorter for it"
