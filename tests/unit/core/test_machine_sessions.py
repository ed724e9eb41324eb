"""Commands on workers' sessions, on requests, and the door itself."""

from __future__ import annotations

import pytest
from support.commands import (
    Command,
    bootstrap,
    cancel,
    close,
    complete,
    connect,
    create,
    drain,
    fire,
    outcome,
    plan,
    requested,
    run,
)
from support.driver import START_MS, Driver
from support.tables import dict_tables, dump

from horologe.log.v1 import log_pb2
from horologe.raft import sessions, wheel
from horologe.raft.commands import EXECUTION_TIMEOUT, CompletionStatus, Outcome
from horologe.raft.machine import StateMachine, cluster_id_of, counters_of
from horologe.raft.model import LEGAL_MOVES, Code, ExecutionState, Overlap, Result
from horologe.raft.records import U64, Execution
from horologe.raft.requests import REQUEST_RETENTION_MS
from horologe.raft.state import InvariantError, State

DUE = START_MS + 60_000


def two_running(machine: Driver) -> int:
    """Executions 1 and 2 run on session 1 of w1. Answers their token."""
    machine.apply(create("tick", DUE, overlap=Overlap.ALLOW), connect(), run("tick"), run("tick"))
    machine.do(plan(assigns=[(1, 1), (2, 1)]))
    return machine.index


def session_of(machine: Driver, number: int) -> log_pb2.SessionRecord:
    return log_pb2.SessionRecord.FromString(machine.tables.session.get(U64.pack(number)) or b"")


# Sessions


def test_open(machine: Driver) -> None:
    assert machine.do(connect("w1", queues=["a", "b"])) == Result(Code.OK, (1,))
    assert machine.effects.sessions_opened == [1]
    assert [key for key, _ in machine.tables.queue.scan()] == [b"a", b"b"]
    assert machine.counters.workers == 1


def test_the_same_process_takes_its_attempts_along(machine: Driver) -> None:
    token = two_running(machine)
    machine.do(cancel(2))
    assert machine.do(connect("w1", incarnation="a")) == Result(Code.OK, (2,))
    assert machine.execution(1).session == machine.execution(2).session == 2
    assert machine.effects.cancelled == [(2, 2, 1, token)]
    assert machine.effects.sessions_closed == [1]
    assert machine.do(complete(outcome(1, token), outcome(2, token))).numbers == (0, 0)
    machine.do(plan(expired=[1]))
    assert machine.counters.workers == 1


def test_whose_time_is_up_is_told_again(machine: Driver) -> None:
    machine.apply(create("tick", execution_timeout_ms=1_000), connect(), run("tick"))
    machine.do(plan(assigns=[(1, 1)]))
    token, end_by_ms = machine.index, machine.execution().end_by_ms
    ended = log_pb2.Plan(execution_timeouts=EXECUTION_TIMEOUT.pack(1, end_by_ms))
    machine.do(log_pb2.Command(plan=ended), after_ms=1_000)
    assert machine.effects.cancelled == [(1, 1, 1, token)]
    machine.do(connect("w1", incarnation="a"))
    assert machine.effects.cancelled == [(2, 1, 1, token)]


def test_another_process_fences_the_old_session(machine: Driver) -> None:
    token = two_running(machine)
    assert machine.do(connect("w1", incarnation="b")) == Result(Code.OK, (2,))
    assert session_of(machine, 1).closed
    assert machine.execution(1).session == 1
    machine.do(run("tick"))
    machine.do(plan(assigns=[(3, 1)]))
    assert machine.state(3) == "QUEUED"
    # The old process may still report while its lease lasts.
    assert machine.do(complete(outcome(1, token))).numbers == (CompletionStatus.RECORDED,)
    machine.do(plan(expired=[1], assigns=[(3, 2)]))
    assert (machine.state(2), machine.state(3)) == ("QUEUED", "RUNNING")
    assert machine.do(complete(outcome(2, token))).numbers == (CompletionStatus.LEASE_LOST,)


def test_a_goodbye_gives_back_what_was_not_begun(machine: Driver) -> None:
    token = two_running(machine)
    machine.do(cancel(2))
    assert machine.do(close(1)) == Result(Code.OK, (1,))
    assert (machine.state(1), machine.state(2)) == ("QUEUED", "CANCELLED")
    assert machine.execution(1).attempt == 0
    assert machine.do(close(1)) == Result(Code.SESSION_NOT_FOUND, text="1")
    assert machine.do(complete(outcome(1, token))).numbers == (CompletionStatus.LEASE_LOST,)
    machine.do(connect("w1"))
    machine.do(plan(assigns=[(1, 2)]))
    assert machine.execution(1).attempt == 1


def test_a_broken_stream_is_left_to_the_lease(machine: Driver) -> None:
    two_running(machine)
    assert machine.do(close(1, clean=False)) == Result(Code.OK, (1,))
    assert machine.state(1) == "RUNNING"


def test_a_lost_session_gives_up_a_bounded_number_per_entry(machine: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "LOST_PER_ENTRY_MAX", 1)
    two_running(machine)
    machine.do(plan(expired=[1]))
    assert (machine.state(1), machine.state(2)) == ("QUEUED", "RUNNING")
    assert session_of(machine, 1).closed
    machine.do(plan(expired=[1]))
    assert machine.state(2) == "QUEUED"
    assert machine.counters.workers == 0
    machine.do(plan(expired=[1]))


def test_drain(machine: Driver) -> None:
    assert machine.do(drain("w1")) == Result(Code.WORKER_NOT_FOUND, text="w1")
    machine.do(create("tick", DUE, overlap=Overlap.ALLOW))
    machine.do(connect())
    machine.do(run("tick"))
    assert machine.do(drain("w1")) == Result(Code.OK, (1,))
    assert machine.effects.sessions_drained == [1]
    assert machine.do(drain("w1")) == Result(Code.OK, (1,))
    assert machine.effects.sessions_drained == []
    machine.do(plan(assigns=[(1, 1)]))
    assert machine.state(1) == "QUEUED"
    machine.do(connect("w1", incarnation="a"))
    assert session_of(machine, 2).draining
    machine.do(close(2))
    assert machine.do(drain("w1")) == Result(Code.WORKER_NOT_FOUND, text="w1")


# Requests


def test_a_request_sent_again_gets_the_first_answer(machine: Driver) -> None:
    command = requested(create("tick", DUE), b"one")
    first = machine.do(command)
    assert machine.do(command, after_ms=5_000) == first
    assert machine.counters.jobs == 1
    assert machine.effects.jobs_changed == []


def test_a_refusal_is_remembered_too(machine: Driver) -> None:
    command = requested(run("tick"), b"one")
    assert machine.do(command) == Result(Code.JOB_NOT_FOUND, text="tick")
    machine.do(create("tick", DUE))
    assert machine.do(command) == Result(Code.JOB_NOT_FOUND, text="tick")


def test_a_request_id_with_another_request_is_refused(machine: Driver) -> None:
    machine.do(requested(create("tick", DUE), b"one", b"digest 1"))
    assert machine.do(requested(create("tock", DUE), b"one", b"digest 2")) == Result(Code.REQUEST_ID_REUSED)
    assert machine.counters.jobs == 1


def test_old_requests_are_forgotten_two_at_a_time(machine: Driver) -> None:
    for number in range(5):
        machine.do(requested(bootstrap("c"), b"old %d" % number))
    machine.do(requested(bootstrap("c"), b"new"), after_ms=REQUEST_RETENTION_MS - 1)
    assert len(list(machine.tables.request.scan())) == 6
    machine.do(requested(bootstrap("c"), b"newer"), after_ms=1)
    assert len(list(machine.tables.request.scan())) == 5


# The door


def test_the_first_bootstrap_wins(machine: Driver) -> None:
    assert cluster_id_of(machine.tables) == ""
    assert machine.do(bootstrap("one")) == Result(Code.OK)
    assert machine.do(bootstrap("one")) == Result(Code.OK, text="one")
    assert machine.do(bootstrap("two")) == Result(Code.WRONG_CLUSTER, text="one")
    assert cluster_id_of(machine.tables) == "one"


def test_an_unknown_command_stops_the_node(machine: Driver) -> None:
    with pytest.raises(InvariantError, match="entry 1 holds a command of kind None that this program does not know"):
        machine.do(Command(origin="n1"))


def test_an_entry_applied_again_stops_the_node(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    with pytest.raises(InvariantError, match=r"entry 1 was applied already \(revision 1\)"):
        machine.apply(create("tock", DUE), index=1)


def test_replicated_time_never_goes_back(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    machine.do(create("tock", DUE), after_ms=-5_000)
    assert machine.job(2).create_time_ms == START_MS
    assert counters_of(machine.tables).log_time_ms == START_MS


def test_commands_of_one_entry_see_each_other(machine: Driver) -> None:
    results = machine.apply(create("tick", DUE), run("tick"), run("tick"), Command(plan=log_pb2.Plan()))
    assert [result.code for result in results] == [Code.OK, Code.OK, Code.OVERLAP, Code.OK]


def test_the_same_log_makes_the_same_bytes(machine: Driver) -> None:
    two_running(machine)
    machine.do(requested(complete(outcome(1, 2, outcome=Outcome.FAILED, retry_delay_ms=7)), b"one"), after_ms=9)
    copy = dict_tables()
    for index, entry in machine.entries:
        StateMachine().apply(copy, index, log_pb2.Entry.FromString(entry.SerializeToString()))
    assert dump(copy) == dump(machine.tables)


def test_the_wheel_advances_by_the_plan_and_never_back(machine: Driver) -> None:
    month_ms = 30 * 86_400_000
    machine.do(create("far", START_MS + month_ms))
    machine.do(plan(advance_to_ms=START_MS + 5), after_ms=5)
    machine.do(plan(advance_to_ms=START_MS + 3))
    assert machine.counters.cursor_ms == START_MS + 5
    machine.do(plan(advance_to_ms=START_MS + month_ms - 1), after_ms=month_ms)
    machine.do(plan(fires=[fire(1, 1, START_MS + month_ms, 0)]))
    assert machine.state() == "QUEUED"


def test_a_leader_whose_clock_is_behind_still_spreads_what_has_arrived(machine: Driver) -> None:
    """Otherwise it would propose the same advance, and nothing would come of it, until its clock had caught up."""
    border_ms = (START_MS >> 16 << 16) + (64 << 16)
    machine.now_ms = border_ms - 500
    machine.do(plan(advance_to_ms=machine.now_ms))
    machine.do(create("tick", border_ms + (1 << 16) - 1))  # its bucket of level 1 begins at the border
    behind_ms = machine.now_ms - 300
    assert wheel.has_arrived(machine.tables.timer, behind_ms)
    machine.do(plan(advance_to_ms=behind_ms))
    assert not wheel.has_arrived(machine.tables.timer, behind_ms)
    assert machine.counters.cursor_ms == border_ms - 500


@pytest.mark.parametrize("to", list(ExecutionState))
@pytest.mark.parametrize("before", [None, *ExecutionState])
def test_only_legal_moves(before: ExecutionState | None, to: ExecutionState) -> None:
    state = State(dict_tables(), 1, START_MS)
    execution = Execution(job=1, due_ms=DUE, create_ms=START_MS, queue=1, priority=5)
    if before is ExecutionState.QUEUED:
        # It waits in its queue.
        state.move(1, execution, before)
    execution.state = before or 0
    if (before, to) in LEGAL_MOVES:
        state.move(1, execution, to)
        assert execution.state == to
    else:
        with pytest.raises(InvariantError, match="is not a legal move"):
            state.move(1, execution, to)
