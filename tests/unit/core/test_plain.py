"""The plain case in one piece does what the general one does: same bytes, same effects; and what is decoded is what is stored."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import pytest
from support import invariants
from support.commands import complete, connect, create, fire, outcome, plan
from support.driver import START_MS, Driver
from support.tables import dump

from horologe.raft import plain, recent
from horologe.raft.model import Effects, Overlap
from horologe.raft.recent import Shelf
from horologe.raft.records import Execution, JobState

MINUTE = 60_000


def _a_few_rounds(machine: Driver, made: list[Effects]) -> None:
    """Jobs of all sorts; each round all are due, and what ran before succeeds with or without an exit code."""
    machine.do(connect())
    sorts: list[dict[str, object]] = [
        {},
        {"overlap": Overlap.ALLOW},
        {"overlap": Overlap.REPLACE},
        {"max_running": 1},
        {"timeout_ms": 5_000},
    ]
    revisions = [0]
    for position, fields in enumerate(sorts):
        machine.do(create(f"job-{position}", START_MS + MINUTE, **fields))
        revisions.append(machine.index)
    running: list[bytes] = []
    for turn in range(1, 6):
        due_ms = START_MS + turn * MINUTE
        machine.now_ms = due_ms
        # The last one is a repetition, and the first is gone through without a session.
        jobs = [*range(1, len(revisions)), 2]
        fires = [fire(job, revisions[job], due_ms, due_ms + MINUTE, session=int(job > 1 or turn > 1)) for job in jobs]
        machine.do(plan(fires=fires))
        made.append(machine.effects)
        running += [
            outcome(number, token, attempt=attempt, exit_code=0 if number % 2 else None, start_delay_ms=7)
            for _, number, _, attempt, _, token, _ in machine.effects.assigned
        ]
        # Some run across the next due time; those that ended are told of twice.
        ended, running = running[::2], running[1::2]
        machine.do(complete(*ended, *ended[:1]), after_ms=100)
        made.append(machine.effects)
        machine.check()


def test_the_plain_case_in_one_piece_leaves_the_same_bytes_and_effects() -> None:
    done: list[bool] = []

    def counted(function: Callable[..., bool]) -> Callable[..., bool]:
        def call(*arguments: object) -> bool:
            done.append(function(*arguments))
            return done[-1]

        return call

    fast, fast_effects = Driver(), list[Effects]()
    with (
        patch.object(plain.PlainFires, "fire", counted(plain.PlainFires.fire)),
        patch.object(plain, "complete", counted(plain.complete)),
    ):
        _a_few_rounds(fast, fast_effects)
    assert done.count(True) >= 12, "most of this is plain"
    assert done.count(False) >= 6, "and some is not"
    slow, slow_effects = Driver(), list[Effects]()
    with (
        patch.object(plain.PlainFires, "fire", lambda *arguments: False),
        patch.object(plain, "complete", lambda *arguments: False),
    ):
        _a_few_rounds(slow, slow_effects)
    assert slow_effects == fast_effects
    assert dump(slow.tables) == dump(fast.tables)


def test_what_was_changed_and_not_stored_is_noticed(machine: Driver) -> None:
    """The invariants that all random histories are held to would see it."""
    machine.do(create("tick", START_MS + MINUTE))
    machine.check()
    kept = machine.tables.recent.job_states.look(1)
    assert kept is not None
    kept.unfinished += 1
    with pytest.raises(AssertionError, match="the state of job 1 was changed and not stored"):
        invariants.check(machine.tables)
    machine.tables.recent.clear()


def test_a_record_is_taken_once_and_forgotten_after_many_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "RECORDS_MAX", 3)
    shelf: Shelf[JobState] = Shelf()
    for number in range(5):
        shelf.put(number, JobState(revision=number))
    assert shelf.look(0) == JobState(revision=0), "as many again are kept"
    # Stored anew by somebody who had read it from the table: there is one truth.
    shelf.put(0, JobState(revision=10))
    assert shelf.take(0) == JobState(revision=10)
    assert shelf.take(0) is None
    for number in range(5, 9):
        shelf.put(number, JobState(revision=number))
    assert shelf.take(1) is None
    assert sorted(shelf.items()) == [3, 4, 5, 6, 7, 8]


def test_who_aborts_believes_nothing_of_it(machine: Driver) -> None:
    machine.tables.recent.executions.put(1, Execution(1, 2, 3))
    machine.tables.recent.clear()
    assert machine.tables.recent.executions.take(1) is None
