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
    """Jobs of all sorts. Each round all are due, what was queued is given to the worker, and what ran before succeeds with or
    without an exit code.
    """
    machine.do(connect())
    sorts: list[dict[str, object]] = [
        {},
        {"overlap": Overlap.ALLOW},
        {"overlap": Overlap.REPLACE},
        {"max_running": 1},
        {"timeout_ms": 5_000},
        {"execution_timeout_ms": 5 * MINUTE, "overlap": Overlap.ALLOW},
    ]
    revisions = [0]
    for position, fields in enumerate(sorts):
        machine.do(create(f"job-{position}", START_MS + MINUTE, **fields))
        revisions.append(machine.index)
    with_deadline = create("with-deadline", START_MS + MINUTE, overlap=Overlap.ALLOW)
    with_deadline.put_jobs.jobs[0].job.deadline.FromMilliseconds(5 * MINUTE)
    machine.do(with_deadline)
    revisions.append(machine.index)
    queued: list[int] = []
    running: list[bytes] = []
    for turn in range(1, 9):
        due_ms = START_MS + turn * MINUTE
        machine.now_ms = due_ms
        # The last one is a repetition. Each job finds no session in every third round.
        jobs = [*range(1, len(revisions)), 2]
        fires = [fire(job, revisions[job], due_ms, due_ms + MINUTE, session=int((job + turn) % 3 > 0)) for job in jobs]
        # Who is given away twice is not queued any more.
        machine.do(plan(fires=fires, assigns=[(number, 1) for number in [*queued, *queued[:1]]]))
        made.append(machine.effects)
        queued = [number for number in machine.effects.changed if machine.state(number) == "QUEUED"]
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
    done: list[tuple[str, bool]] = []

    def counted(function: Callable[..., bool]) -> Callable[..., bool]:
        def call(*arguments: object) -> bool:
            answer = function(*arguments)
            done.append((function.__name__, answer))
            return answer

        return call

    fast, fast_effects = Driver(), list[Effects]()
    with (
        patch.object(plain.PlainStarts, "fire", counted(plain.PlainStarts.fire)),
        patch.object(plain.PlainStarts, "assign", counted(plain.PlainStarts.assign)),
        patch.object(plain, "complete", counted(plain.complete)),
    ):
        _a_few_rounds(fast, fast_effects)
    for each in ("fire", "assign", "complete"):
        assert done.count((each, True)) >= 5, "much of this is plain"
        assert done.count((each, False)) >= 2, "and some is not"
    slow, slow_effects = Driver(), list[Effects]()
    with (
        patch.object(plain.PlainStarts, "fire", lambda *arguments: False),
        patch.object(plain.PlainStarts, "assign", lambda *arguments: False),
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
