"""The leader's planner: due times that were missed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.commands import create
from support.driver import START_MS, Driver
from support.leader import Leader

from horologe.log.v1 import log_pb2
from horologe.node import firing as firing_module
from horologe.node.catalog import Catalog
from horologe.node.firing import ON_TIME_MS
from horologe.raft.commands import FIRE
from horologe.raft.model import Catchup, Overlap
from horologe.raft.tables import Tables

MINUTE = 60_000
DUE = START_MS + MINUTE


@pytest.fixture
def leader(machine: Driver) -> Iterator[Leader]:
    yield Leader(machine)


def test_what_was_missed_is_counted_over_as_many_plans_as_it_takes(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enumerated schedules only; plain intervals are counted by arithmetic."""
    monkeypatch.setattr(firing_module, "LOOKS_PER_PLAN", 2)
    command = create("tick", DUE)
    command.put_jobs.jobs[0].job.schedules.add().interval.every.FromMilliseconds(MINUTE)
    for schedule in command.put_jobs.jobs[0].job.schedules:
        schedule.interval.phase.FromMilliseconds(0)
    leader.do(command)
    assert leader.plan(after_ms=5 * MINUTE + 30_000) is None
    assert leader.plan() is None
    assert leader.machine.ledger() == []
    leader.act()
    assert leader.machine.ledger() == [
        (MINUTE, 4 * MINUTE, 4, "COALESCED", "catchup_latest", 1),
        (5 * MINUTE, 5 * MINUTE, 1, "RAN", "", 1),
    ]


def test_one_instant_that_is_late_is_not_counted(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are of them, and whatever the timetables of others take."""
    monkeypatch.setattr(firing_module, "LOOKS_PER_PLAN", 1)
    leader.do(*(create(f"once-{each}", DUE, every_ms=0, once_ms=DUE) for each in range(5)))
    leader.do(create("window", DUE, every_ms=0, once_ms=DUE, catchup_window_ms=1_000))
    leader.do(create("skip", DUE, every_ms=0, once_ms=DUE, catchup=Catchup.SKIP))
    late_ms = MINUTE + ON_TIME_MS + 1
    # The sixth is what does not run any more: there was one look.
    assert len(leader.act(after_ms=late_ms).fires) == 6 * FIRE.size
    leader.act()
    assert [leader.machine.ledger(job) for job in range(1, 6)] == [
        [(MINUTE, MINUTE, 1, "RAN", "", each)] for each in range(1, 6)
    ]
    assert leader.machine.ledger(6) == [(MINUTE, MINUTE, 1, "MISSED", "catchup_window", 0)]
    assert leader.machine.ledger(7) == [(MINUTE, MINUTE, 1, "MISSED", "catchup_skip", 0)]
    assert leader.plan() is None


def test_a_late_interval_is_counted_without_a_timetable(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an outage all of them are late at once."""
    leader.do(create("latest", DUE), create("earliest", DUE, catchup=Catchup.EARLIEST))
    leader.do(create("all", DUE, catchup=Catchup.ALL, overlap=Overlap.ALLOW))
    monkeypatch.setattr(firing_module, "timetable_of", lambda *_: pytest.fail("no timetable is needed"))
    leader.act(after_ms=3 * MINUTE + ON_TIME_MS + 1)
    assert leader.machine.ledger(1) == [
        (MINUTE, 2 * MINUTE, 2, "COALESCED", "catchup_latest", 1),
        (3 * MINUTE, 3 * MINUTE, 1, "RAN", "", 1),
    ]
    assert leader.machine.ledger(2) == [
        (MINUTE, MINUTE, 1, "RAN", "", 2),
        (2 * MINUTE, 3 * MINUTE, 2, "COALESCED", "catchup_earliest", 2),
    ]
    assert leader.machine.ledger(3) == [
        (MINUTE, 2 * MINUTE, 2, "MISSED", "catchup_max", 0),
        (3 * MINUTE, 3 * MINUTE, 1, "RAN", "", 3),
    ]


def test_an_interval_owes_nothing_of_before_it_was_there(leader: Leader) -> None:
    """Its first due time was chosen before it came through the log, which took long."""
    leader.machine.now_ms += 4 * MINUTE
    leader.do(create("tick", DUE))
    leader.act(after_ms=4 * MINUTE + ON_TIME_MS + 1)
    assert leader.machine.ledger() == [(MINUTE, MINUTE, 1, "RAN", "", 1)]


def test_who_waits_for_its_count_is_not_read_meanwhile(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firing_module, "LOOKS_PER_PLAN", 2)
    for name in ("a", "b", "c", "d"):
        command = create(name, DUE)
        command.put_jobs.jobs[0].job.schedules.add().CopyFrom(command.put_jobs.jobs[0].job.schedules[0])
        leader.do(command)
    read: list[int] = []

    def record(catalog: Catalog, tables: Tables, job: int, revision: int | None = None) -> log_pb2.JobRecord | None:
        read.append(job)
        return known(catalog, tables, job, revision)

    known = Catalog.record
    monkeypatch.setattr(Catalog, "record", record)
    late_ms = 2 * MINUTE + 30_000
    assert len(leader.act(after_ms=late_ms).fires) == FIRE.size
    assert read == [1, 2, 3, 4]
    read.clear()
    assert len(leader.act().fires) == FIRE.size
    assert read == [2]
    leader.act()
    leader.act()
    assert [len(leader.machine.ledger(job)) for job in range(1, 5)] == [2] * 4


def test_the_window_is_where_it_was_when_the_count_began(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firing_module, "LOOKS_PER_PLAN", 2)
    command = create("tick", DUE, catchup_window_ms=5 * MINUTE)
    command.put_jobs.jobs[0].job.schedules.add().CopyFrom(command.put_jobs.jobs[0].job.schedules[0])
    leader.do(command)
    assert leader.plan(after_ms=5 * MINUTE + 50_000) is None
    leader.plan(after_ms=20_000)
    leader.act()
    assert [row[3] for row in leader.machine.ledger()] == ["COALESCED", "RAN"]


@pytest.mark.parametrize("catchup", list(Catchup))
def test_a_due_time_that_the_schedule_no_longer_names_is_accounted_for_all_the_same(
    leader: Leader, catchup: Catchup
) -> None:
    """Time-zone data of this node differs from that of the node which computed the due time."""
    command = create("tick", DUE - 7_000, catchup=catchup)
    # Enumerated, as those that depend on time-zone data are.
    command.put_jobs.jobs[0].job.schedules.add().CopyFrom(command.put_jobs.jobs[0].job.schedules[0])
    leader.do(command)
    leader.act(after_ms=MINUTE - 1_000)
    assert [row[:3] for row in leader.machine.ledger()] == [(MINUTE - 7_000, MINUTE - 7_000, 1)]
    assert leader.machine.job_state().next_due_ms == DUE
