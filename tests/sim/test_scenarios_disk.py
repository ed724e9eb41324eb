"""Scenarios 21 to 28: disks that are slow, full, failing or lying, and snapshots at bad moments."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.keys import store_of
from support.story import Story

from horologe.chaos.sim.disk import DiskFault, SimStore
from horologe.chaos.sim.network import KEEPALIVE_SECONDS
from horologe.client import jobs
from horologe.raft.store import StoreError

SLOW_SECONDS = (5.0, 5.0)
FAST_SECONDS = (0.0005, 0.003)


def _tick(story: Story, seconds: float = 0.1) -> None:
    story.create("tick", jobs.every("1s"), seconds=seconds)


def _check_ticks(story: Story, at_least: int) -> None:
    """Every due time has come once, and ran."""
    story.check_no_gaps(1_000)
    assert len(story.ledger()) >= at_least
    assert len(story.starts()) == len({mark.due_ms for mark in story.starts()})


def test_scenario_21_slow_disk_on_the_leader() -> None:
    """A leader whose commits take 5 s is deposed; what it had begun comes too late to do anything, and nobody loses a lease."""
    with Story() as story:
        story.begin()
        _tick(story)
        story.run(2.0)
        slow = story.the_leader()
        story.nodes[slow].disk.commit_seconds = SLOW_SECONDS
        story.run_until(lambda: story.leader() not in (None, slow), what="another leader")
        story.run(20.0)
        assert story.leader() != slow
        story.nodes[slow].disk.commit_seconds = FAST_SECONDS
        story.run(10.0)
        _check_ticks(story, at_least=30)
        assert story.observer.counts["leases expired"] == 0
        story.run_until(story.is_converged)
        story.check()


def test_scenario_22_slow_disk_on_a_follower() -> None:
    """The others do not notice."""
    with Story() as story:
        story.begin()
        _tick(story)
        leader = story.lead_at_gateway()
        slow = story.others(leader)[0]
        story.nodes[slow].disk.commit_seconds = SLOW_SECONDS
        terms = story.observer.counts["elections won"]
        story.run(20.0)
        assert story.leader() == leader and story.observer.counts["elections won"] == terms
        assert max(mark.delay_ms for mark in story.starts()) < 250
        _check_ticks(story, at_least=19)


def test_scenario_23_disk_is_nearly_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """New jobs are refused while there is still room for what was promised already, and that goes on."""
    with Story(disk_free_bytes_min=1 << 20) as story:
        story.begin()
        _tick(story)
        with monkeypatch.context() as patches:
            patches.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1 << 10))
            story.run(2.0)
            task = jobs.job("more", jobs.manual(), jobs.python("work"))
            refused = story.attempt("create more", lambda sdk, id_: sdk.create_job(task, request_id=id_))
            assert refused.error is not None and "free" in str(refused.error)
            story.run(2.0)
        assert story.counters().jobs == 1
        story.create("more")
        _check_ticks(story, at_least=4)


@pytest.mark.parametrize("whose", ["leader", "follower"])
def test_scenario_23_disk_full_in_the_middle(whose: str) -> None:
    """The step that did not get onto the disk has not happened: the node stops, with a reason, and comes back whole."""
    _failing_disk(DiskFault.FULL, whose)


@pytest.mark.parametrize("whose", ["leader", "follower"])
def test_scenario_24_fsync_fails(whose: str) -> None:
    """EIO: the process ends at once. It never tries that disk again, and what it did not write it has not said."""
    _failing_disk(DiskFault.WRITE_FAILS, whose)


def _failing_disk(fault: DiskFault, whose: str) -> None:
    with Story() as story:
        story.begin()
        _tick(story)
        story.run(2.0)
        leader = story.the_leader()
        victim = leader if whose == "leader" else story.others(leader)[0]
        revision = story.revision(victim)
        story.nodes[victim].disk.next_fault = fault
        story.run_until(lambda: not story.nodes[victim].is_up, what=f"{victim} stops")
        assert fault.value in str(story.nodes[victim].failure)
        story.run(5.0)
        story.restart(victim)
        story.run_until(story.is_converged)
        assert story.revision(victim) > revision
        _check_ticks(story, at_least=7)
        story.check()


def test_scenario_24_a_write_that_did_not_reach_the_disk_is_not_acknowledged() -> None:
    """With one node there is nobody else who could have it: the caller is answered after the restart, and there is one job."""
    with Story(nodes=1, workers=0) as story:
        story.begin()
        story.nodes["n1"].disk.next_fault = DiskFault.WRITE_FAILS
        task = jobs.job("task", jobs.manual(), jobs.python("work"))
        call = story.begin_to("create task", lambda sdk, id_: sdk.create_job(task, request_id=id_))
        story.run_until(lambda: not story.nodes["n1"].is_up)
        assert not call.is_over
        story.restart("n1")
        story.run_until(lambda: call.is_over)
        assert call.error is None and story.counters().jobs == 1
        story.check()


@pytest.mark.parametrize("fault", [DiskFault.CUT_BEFORE, DiskFault.CUT_AFTER], ids=["lost", "kept"])
def test_scenario_25_power_cut_loses_what_was_not_synced(fault: DiskFault) -> None:
    """As a plain crash: nothing rests on what was not on disk. Every node in turn, the leader among them."""
    with Story() as story:
        story.begin()
        _tick(story)
        for name in story.nodes:
            story.run(1.0)
            story.nodes[name].disk.next_fault = fault
            story.run_until(lambda one=name: not story.nodes[one].is_up, what=f"the power of {name} fails")
            story.restart(name)
            story.run_until(story.is_converged)
        story.run(2.0)
        _check_ticks(story, at_least=5)
        assert story.events[fault.value] == 3
        story.check()


def _flip(story: Story, name: str) -> None:
    """A bit of a record of the state."""
    path = story.folder / name / "state" / "data.mdb"
    data = bytearray(path.read_bytes())
    wanted, position, count = b"jobs/tick", -1, 0
    while (position := data.find(wanted, position + 1)) >= 0:
        data[position] ^= 4
        count += 1
    assert count
    path.write_bytes(bytes(data))


def _cut(story: Story, name: str) -> None:
    """The last quarter of the file is gone."""
    path = story.folder / name / "state" / "data.mdb"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 4)


def _flip_in_log(story: Story, name: str) -> None:
    """A bit of the newest entry of the log."""
    store = store_of(story.folder / name, name, bytes_max=64 << 20)
    with store._environment.begin(write=True) as transaction:
        key, stored = list(transaction.cursor(db=store._databases["log"]))[-1]
        transaction.put(key, stored[:-1] + bytes([stored[-1] ^ 1]), db=store._databases["log"])
    store.close()


@pytest.mark.parametrize("damage", [_flip, _flip_in_log, _cut], ids=["state", "log", "torn"])
def test_scenario_26_bit_flips_and_torn_files(damage: Callable[[Story, str], None]) -> None:
    """The node that finds damage does not start; the others go on without it."""
    with Story() as story:
        story.begin()
        _tick(story)
        story.run(3.0)
        leader = story.the_leader()
        victim = story.others(leader)[0]
        story.crash(victim)
        damage(story, victim)
        story.restart(victim)
        story.run(3.0)
        assert not story.nodes[victim].is_up
        assert any(word in str(story.nodes[victim].failure) for word in ("damaged", "cut")), story.nodes[victim].failure
        assert story.leader() == leader
        _check_ticks(story, at_least=5)
        story.check()


def test_scenario_26_bit_flip_under_a_running_node() -> None:
    """It stops at the first step or call that meets the record, and its leadership ends with it."""
    with Story() as story:
        story.begin()
        _tick(story)
        story.run(3.0)
        leader = story.the_leader()
        store = story.nodes[leader].store
        assert store is not None
        with store._environment.begin(write=True) as transaction:
            database = store._databases["job_state"]
            key, stored = next(iter(transaction.cursor(db=database)))
            transaction.put(key, bytes([stored[0] ^ 1]) + stored[1:], db=database)
        # What a node still knows by heart it does not read, but writes again as it was: this record it has to read.
        store._recent.clear()
        story.run_until(lambda: not story.nodes[leader].is_up, what="the damage is found")
        assert "damaged" in str(story.nodes[leader].failure)
        story.run(3.0)
        _check_ticks(story, at_least=5)
        story.check()


def _fall_behind(story: Story, victim: str) -> None:
    """Cuts a node off until the log of the others no longer reaches back to it, and nothing is on its way to it any more.

    That it comes to agree with them after that proves that it has taken a snapshot.
    """
    story.partition([victim], [*story.others(victim), *story.workers, "c1"])
    revision = story.revision(victim)
    story.run_until(lambda: story.leader() not in (None, victim), what="another leader")

    def is_out_of_reach() -> bool:
        status = story.nodes[story.the_leader()].status
        return status is not None and status.first_index > revision + 1

    story.run_until(is_out_of_reach, 120, what="the log has moved on")
    story.run(KEEPALIVE_SECONDS + 1.0)


def test_scenario_27_snapshot_for_a_node_that_was_firing() -> None:
    """A leader with a firing under way is cut off, and comes back so late that it needs a snapshot. What it had under way is gone
    with its state; when it leads again it fires what is due then, and nothing twice."""
    with Story(log_entries_kept=10) as story:
        story.begin()
        _tick(story)
        old = story.the_leader()
        story.run_to(lambda: story.counters().fired == 2)
        story.run(0.9)
        _fall_behind(story, old)
        assert "plan" in story.uncommitted(old)
        story.heal()
        story.run_until(story.is_converged)
        assert story.snapshots_fetched(old) == 1
        story.lead(old)
        story.run(5.0)
        _check_ticks(story, at_least=10)
        ran = [row for row in story.ledger() if row[1] == "RAN"]
        assert len(story.starts()) == len(ran) and ran[-1] == story.ledger()[-1]
        story.check()


def test_scenario_28_snapshot_arrives_damaged() -> None:
    """It is refused without harm, and fetched again."""
    with Story(log_entries_kept=10) as story:
        story.begin()
        _tick(story)
        victim = story.others(story.the_leader())[0]
        story.run(1.5)
        _fall_behind(story, victim)
        story.network.faults.damaged = 1.0
        story.heal()
        story.run_until(lambda: story.network.counts["snapshot chunks damaged"] > 0)
        story.run(1.0)
        assert story.nodes[victim].is_up and not story.is_converged()
        story.network.faults.damaged = 0.0
        story.run_until(story.is_converged)
        assert story.snapshots_fetched(victim) >= 2
        _check_ticks(story, at_least=5)
        story.check()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_scenario_28_snapshot_import_fails_half_way(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends, and acknowledges nothing; it comes back with the old state or the new one, and catches up."""
    with Story(log_entries_kept=10) as story:
        story.begin()
        _tick(story)
        victim = story.others(story.the_leader())[0]
        story.run(1.5)
        _fall_behind(story, victim)
        take_files = SimStore._take_files

        def fail(store: SimStore, folder: Path) -> None:
            if moment == "after":
                take_files(store, folder)
            raise StoreError("the disk fails while the files are being replaced")

        with monkeypatch.context() as patches:
            patches.setattr(SimStore, "_take_files", fail)
            story.heal()
            story.run_until(lambda: not story.nodes[victim].is_up, what=f"{victim} stops")
        story.run(1.0)
        story.restart(victim)
        story.run_until(story.is_converged)
        _check_ticks(story, at_least=5)
        story.check()
