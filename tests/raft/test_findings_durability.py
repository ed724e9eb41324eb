"""Findings about disk, restart, apply and outcomes in pysyncobj 0.3.17: each is shown with and without its protection.

Some protections are duties of the core's caller (commit before release, stop on failure, outcome from apply); the world's
`Duties` switch those off.
"""

from __future__ import annotations

import pytest
from by_hand import Hand, regular
from world import Duties, InvariantViolationError, Node, World
from world_store import MemoryStore

from horologe.raft.core import CoreStoppedError, Protections, RaftInvariantError
from horologe.raft.journal import CorruptLogError, Journal


def put(world: World, name: str, count: int, text: str = "command") -> None:
    for number in range(count):
        world.propose(name, f"{text} {number}".encode())


# --- finding 1 and contract point 11: nothing was durable before it was visible ----------------------------------------


def acknowledged_then_crashed(duties: Duties) -> World:
    """F takes in an entry and crashes before its commit; then the leader dies too."""
    world = World("CFL", 2, duties=duties)
    world.make_leader("L")
    world.connect_only("LF")
    world.propose("L", b"precious")
    world.run(0.01, only="")
    world.step("F", commit=False)
    world.run(0.1, only="L")
    world.crash("F")
    world.crash("L")
    world.start("F")
    world.connect("F", "C")
    world.run_until(lambda: world.leader() is not None and world.core(world.leader() or "").may_serve)
    world.run(0.3)
    return world


def test_finding_01_what_is_visible_is_durable() -> None:
    world = acknowledged_then_crashed(Duties())
    assert world.acknowledged == set()
    world.check_nothing_lost()


def test_finding_01_an_acknowledged_command_is_lost_when_messages_leave_before_the_commit() -> None:
    world = acknowledged_then_crashed(Duties(commit_before_release=False))
    with pytest.raises(InvariantViolationError, match="lacks acknowledged"):
        world.check_nothing_lost()


# --- finding 6: at a restart, a dump newer than the log made the log start again there ---------------------------------


def restart_after_compaction(*, log_begins_at_the_state: bool) -> World:
    """F has acknowledged entries that it has not applied yet, compacts, and is killed together with the leader."""
    world = World("CFL", 5)
    world.make_leader("L")
    put(world, "L", 30)
    world.run(0.5)
    world.connect_only("LF")
    world.network.delay_seconds = lambda sender, receiver, message: (
        1000.0 if sender == "L" and not message.append_entries.entries else 0.001
    )
    put(world, "L", 10, "late")
    world.run(0.05, only="LF")
    assert len(world.acknowledged) == 40
    core = world.core("F")
    assert core.applied_index < core.last_index
    core.compact(core.applied_index)
    world.stores["F"].commit()
    applied_index, applied_term = core.applied_index, core.term_at(core.applied_index) or 0
    world.crash("L")
    world.crash("F")
    if log_begins_at_the_state:
        store = world.stores["F"]
        Journal.reset_to(store, applied_index, applied_term, Journal(store).hard_state)
        store.commit()
    world.network.delay_seconds = lambda sender, receiver, message: 0.005
    world.start("F")
    world.connect("F", "C")
    world.run_until(lambda: world.leader() is not None and world.core(world.leader() or "").may_serve)
    world.run(0.5)
    return world


def test_finding_06_entries_after_the_state_survive_a_restart() -> None:
    restart_after_compaction(log_begins_at_the_state=False).check_nothing_lost()


def test_finding_06_acknowledged_entries_are_lost_when_the_log_begins_again_at_the_state() -> None:
    world = restart_after_compaction(log_begins_at_the_state=True)
    with pytest.raises(InvariantViolationError, match="lacks acknowledged"):
        world.check_nothing_lost()


# --- finding 7: compaction deleted first and wrote again afterwards ----------------------------------------------------


class KilledError(Exception):
    """kill -9."""


class KilledWhileDeleting(MemoryStore):
    """Dies after the first few entries are deleted. Deletes inside the transaction."""

    def log_delete_to(self, index: int) -> None:
        super().log_delete_to(min(index, 10))
        if index > 10:
            raise KilledError


class KilledWhileWritingAgain(MemoryStore):
    """What the engine's own journal does: empty the file, then write what is kept, entry by entry."""

    def log_delete_to(self, index: int) -> None:
        kept = [row for row in self.log_get_all() if row[0] >= index]
        super().log_delete_from(0)
        self.commit()
        for row in kept[:3]:
            self.log_put(*row)
            self.commit()
        if kept:
            raise KilledError


def killed_in_compaction(store: MemoryStore) -> None:
    journal = Journal(store)
    for index in range(2, 101):
        journal.add(regular(str(index)), index, 1)
    journal.setRaftCommitIndex(60)
    journal.set_applied_index(60)
    store.commit()
    with pytest.raises(KilledError):
        journal.compact(20)
    store.roll_back()


def test_finding_07_a_crash_in_compaction_loses_nothing() -> None:
    store = KilledWhileDeleting()
    killed_in_compaction(store)
    journal = Journal(store)
    assert (journal.first_index, journal.last_index, journal.applied_index) == (1, 100, 60)


def test_finding_07_a_crash_in_compaction_is_noticed_when_it_was_not_one_transaction() -> None:
    store = KilledWhileWritingAgain()
    killed_in_compaction(store)
    with pytest.raises(CorruptLogError, match="do not fit together"):
        Journal(store)


# --- finding 8: several membership changes in flight make two majorities -----------------------------------------------

# The engine unpickles membership commands: protocol 0 of ["add", name].
ADD_D, ADD_E = (b"\x02(lp0\nVadd\np1\naV" + name + b"\np2\na." for name in (b"d", b"e"))


def test_finding_08_entries_that_change_the_engine_s_membership_are_refused() -> None:
    hand = Hand()
    assert not hand.append("b", 1, (1, 0), [(2, 1, ADD_D), (3, 1, ADD_E)])
    assert (hand.core.voters, hand.core.last_index) == (("a", "b", "c"), 1)


def test_finding_08_uncommitted_entries_change_who_votes_without_it() -> None:
    hand = Hand(Protections(static_membership=False, messages_validated=False))
    hand.append("b", 1, (1, 0), [(2, 1, ADD_D), (3, 1, ADD_E)])
    assert hand.core.commit_index == 1
    assert {node.id for node in hand.core._engine._engine.otherNodes} == set("bcde")


# --- findings 12 and 16: an exception while applying ------------------------------------------------------------------

UNSAFE_FAILURES = (Protections(failures_stop_the_core=False), Duties(stop_on_failure=False))


def waiter_raises_once(world: World, follower: str) -> Node:
    """Something that hangs on `apply` raises after the state was changed, once."""
    node = world.nodes[follower]

    def after_apply_hook(index: int, payload: bytes) -> None:
        node.after_apply_hook = None
        raise RuntimeError("the caller is gone")

    node.after_apply_hook = after_apply_hook
    return node


def test_finding_12_each_entry_is_applied_once_whatever_raises() -> None:
    world = World("abc", 1)
    world.make_leader("a")
    waiter_raises_once(world, "b")
    world.propose("a", b"X")
    world.run(1.0)
    assert [name for name, _ in world.failures] == ["b"]
    world.failures.clear()
    world.restart("b")
    world.run_until(world.is_converged)
    assert world.payloads("b") == world.payloads("a") == [b"X"]
    world.check_nothing_lost()


def test_finding_12_an_entry_is_applied_twice_when_a_failed_step_is_tried_again() -> None:
    world = World("abc", 1, *UNSAFE_FAILURES)
    world.make_leader("a")
    waiter_raises_once(world, "b")
    world.propose("a", b"X")
    world.run(1.0)
    assert world.payloads("b") == [b"X", b"X"]
    with pytest.raises(InvariantViolationError, match="b applied an entry twice"):
        world.check()


def poisoned(world: World) -> dict[str, int]:
    """Every node fails at one entry, for ever. Counts how often each tries."""
    world.make_leader("a")
    tries: dict[str, int] = dict.fromkeys(world.names, 0)

    def fail(name: str, payload: bytes) -> None:
        if payload == b"poison":
            tries[name] += 1
            raise ValueError("poison")

    for name, node in world.nodes.items():
        node.apply_hook = lambda index, payload, name=name: fail(name, payload)  # type: ignore[misc]
    world.propose("a", b"poison")
    world.run(3.0)
    return tries


def test_finding_16_an_entry_that_cannot_be_applied_stops_the_node_at_the_first_try() -> None:
    world = World("abc", 1)
    assert set(poisoned(world).values()) <= {0, 1}
    assert world.failures
    assert all(isinstance(error, ValueError) for _, error in world.failures)


def test_finding_16_a_stopped_core_takes_no_more_calls() -> None:
    world = World("a", 1)
    world.run_until(lambda: world.core("a").may_serve)
    core = world.core("a")
    world.nodes["a"].apply_hook = lambda index, payload: 1 / 0  # type: ignore[assignment]
    core.propose(b"x")
    with pytest.raises(ZeroDivisionError):
        core.tick(world.now)
    with pytest.raises(CoreStoppedError):
        core.tick(world.now)
    with pytest.raises(CoreStoppedError):
        core.propose(b"y")


def test_finding_16_the_node_tries_for_ever_when_failures_do_not_stop_it() -> None:
    assert max(poisoned(World("abc", 1, *UNSAFE_FAILURES)).values()) > 50


# --- findings 19 and 20: outcomes that were wrong, or never told -------------------------------------------------------


def leader_deposed_with_work_in_flight(duties: Duties) -> World:
    """A's entries reach B, the answers do not reach A; A is cut off and steps down; B and C commit the entries."""
    world = World("ABC", 4, duties=duties)
    world.make_leader("A")
    world.connect_only("AB")
    world.network.held.add(("B", "A"))
    put(world, "A", 3, "in flight")
    world.run(0.05)
    world.isolate("A")
    world.network.held.clear()
    put(world, "A", 2, "never sent")
    world.run_until(lambda: not world.core("A").is_leader)
    world.connect("B", "C")
    world.run_until(lambda: world.leader() is not None and world.core(world.leader() or "").may_serve)
    world.connect_only("ABC")
    world.run_until(world.is_converged)
    return world


def test_finding_19_and_20_every_outcome_is_told_once_and_is_true() -> None:
    world = leader_deposed_with_work_in_flight(Duties())
    assert world.acknowledged == {b"in flight 0", b"in flight 1", b"in flight 2"}
    assert world.refused <= {b"never sent 0", b"never sent 1"}
    world.check_nothing_lost()
    # What the log has not reached again is still open; one more entry each settles it.
    put(world, world.leader() or "", 5, "later")
    world.run(0.5)
    assert world.refused == {b"never sent 0", b"never sent 1"}
    assert not any(node.waiting for node in world.nodes.values())
    world.check_nothing_lost()


def test_finding_19_a_command_is_reported_as_failed_and_happens_when_a_lost_leader_decides() -> None:
    world = leader_deposed_with_work_in_flight(Duties(outcome_from_apply=False))
    with pytest.raises(InvariantViolationError, match="has refused"):
        world.check_nothing_lost()


# --- finding 21: a restart applied the log again ----------------------------------------------------------------------


def restarted(protections: Protections) -> World:
    world = World("abc", 6, protections)
    world.make_leader("a")
    put(world, "a", 5)
    world.run(0.5)
    for name in "abc":
        world.restart(name)
    world.run(3.0)
    return world


def test_finding_21_a_restart_applies_nothing_again() -> None:
    world = restarted(Protections())
    assert [len(world.payloads(name)) for name in "abc"] == [5, 5, 5]
    world.check_nothing_lost()


def test_finding_21_everything_is_applied_again_without_it() -> None:
    world = restarted(Protections(applied_index_restored=False, apply_in_sequence=False))
    with pytest.raises(InvariantViolationError, match="applied an entry twice"):
        world.check()


def test_finding_21_applying_out_of_sequence_stops_the_node() -> None:
    world = restarted(Protections(applied_index_restored=False))
    assert any(isinstance(error, RaftInvariantError) for _, error in world.failures)
