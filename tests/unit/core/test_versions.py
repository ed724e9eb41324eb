"""Versions of jobs, apply sets, and plans that are done as a whole or not at all."""

from __future__ import annotations

import pytest
from support.commands import APPLY, create, delete, draft, job, pause, put, update
from support.driver import START_MS, Driver

from horologe.log.v1 import log_pb2
from horologe.raft.apply_sets import jobs_of_set
from horologe.raft.model import Code, Result
from horologe.raft.records import PAIR
from horologe.raft.versions import VERSIONS_MAX

DUE = START_MS + 60_000


def versions_of(machine: Driver, number: int = 1) -> list[log_pb2.JobRecord]:
    return [
        log_pb2.JobRecord.FromString(value)
        for key, value in machine.tables.version.scan()
        if PAIR.unpack(key)[0] == number
    ]


def test_every_change_of_the_definition_is_a_version(machine: Driver) -> None:
    machine.do(put(APPLY, draft(job("tick", description="first"), DUE), author="ada@home"))
    machine.now_ms += 1_000
    machine.do(put(APPLY, draft(job("tick", description="second"), DUE), author="bob@work"))
    assert [
        (found.revision, found.job.description, found.author, found.update_time_ms) for found in versions_of(machine)
    ] == [
        (1, "first", "ada@home", START_MS),
        (2, "second", "bob@work", START_MS + 1_000),
    ]
    assert machine.job().author == "bob@work"


def test_the_first_version_says_what_was_written_and_no_more(machine: Driver) -> None:
    machine.do(put(APPLY, draft(job("tick"), DUE, paused=True), author="ada@home"))
    definition = machine.job().job
    assert versions_of(machine) == [
        log_pb2.JobRecord(
            job=definition, id=1, revision=1, create_time_ms=START_MS, update_time_ms=START_MS, author="ada@home"
        )
    ]
    assert machine.job().schedule_time_ms == START_MS
    assert machine.job().paused


def test_what_changes_nothing_is_no_version(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    machine.do(put(APPLY, draft(job("tick"), DUE)))
    machine.do(pause("tick"))
    assert [found.revision for found in versions_of(machine)] == [1]


def test_the_last_versions_are_kept(machine: Driver) -> None:
    machine.do(create("tick", DUE))
    machine.do(create("other", DUE))
    for number in range(VERSIONS_MAX + 5):
        machine.do(update("tick", DUE, description=str(number)))
    kept = versions_of(machine)
    assert len(kept) == VERSIONS_MAX
    assert kept[-1].job.description == str(VERSIONS_MAX + 4)
    assert kept[0].job.description == "5"
    assert len(versions_of(machine, 2)) == 1


def test_a_deleted_job_leaves_no_versions(machine: Driver) -> None:
    machine.do(create("tick", DUE, apply_set="shop"))
    machine.do(delete("tick"))
    assert versions_of(machine) == []
    machine.do(create("tick", DUE))
    assert [found.revision for found in versions_of(machine, 2)] == [3]


def test_sets_follow_their_jobs(machine: Driver) -> None:
    machine.do(create("a", DUE, apply_set="shop"))
    machine.do(create("b", DUE, apply_set="shop"))
    machine.do(create("c", DUE, apply_set="shops"))
    machine.do(create("d", DUE))
    assert list(jobs_of_set(machine.tables, "shop")) == [1, 2]
    machine.do(update("a", DUE, apply_set="shops"))
    machine.do(delete("b"))
    assert list(jobs_of_set(machine.tables, "shop")) == []
    assert list(jobs_of_set(machine.tables, "shops")) == [1, 3]


def test_a_plan_creates_updates_and_deletes_in_one_entry(machine: Driver) -> None:
    machine.do(create("old", DUE))
    machine.do(create("tick", DUE))
    plan = put(
        APPLY,
        draft(job("new"), DUE, expected_absent=True),
        draft(job("tick", description="changed"), DUE, expected_revision=2),
        deletions=[("old", 1)],
    )
    assert machine.do(plan).code is Code.OK
    assert [bytes(name).decode() for name, _ in machine.tables.job_name.scan()] == ["new", "tick"]
    assert machine.counters.jobs == 2


@pytest.mark.parametrize(
    ("plan", "name"),
    [
        (put(APPLY, draft(job("new")), draft(job("tick"), expected_absent=True), deletions=[("old", 1)]), "tick"),
        (put(APPLY, draft(job("new")), draft(job("tick"), expected_revision=1), deletions=[("old", 1)]), "tick"),
        (put(APPLY, draft(job("new"), expected_revision=1), deletions=[("old", 1)]), "new"),
        (put(APPLY, draft(job("new")), deletions=[("old", 1), ("tick", 1)]), "tick"),
        (put(APPLY, draft(job("new")), deletions=[("old", 1), ("gone", 0)]), "gone"),
        (put(APPLY, draft(job("new")), deletions=[("old", 1), ("old", 1)]), "old"),
        (put(APPLY, draft(job("new")), draft(job("old")), deletions=[("old", 1)]), "old"),
    ],
)
def test_a_plan_that_the_world_has_left_behind_does_nothing(machine: Driver, plan: log_pb2.Command, name: str) -> None:
    machine.do(create("old", DUE))
    machine.do(create("tick", DUE))
    before = machine.counters
    assert machine.do(plan) == Result(Code.ETAG_MISMATCH, text=name)
    assert [bytes(found).decode() for found, _ in machine.tables.job_name.scan()] == ["old", "tick"]
    assert machine.counters.jobs == before.jobs
    assert len(versions_of(machine)) == len(versions_of(machine, 2)) == 1
