"""Findings about replication in pysyncobj 0.3.17: each scenario holds on our core, and breaks without the protection."""

from __future__ import annotations

import pytest
from by_hand import Hand, regular
from world import InvariantViolationError, PeerMessage, World

from horologe.raft.core import Protections

# What the engine does by itself with replies.
ENGINE_REPLIES = {"resets_in_order": False, "resets_clamped": False, "next_index_kept": False}


# --- finding 2: a follower truncated entries that match, and that it had acknowledged ----------------------------------


def two_resets_in_flight(protections: Protections) -> World:
    """A volley is lost with its connection; two resets are on their way when the next volleys begin; the leader dies."""
    world = World(
        "CFL", 11, protections, append_bytes_max=1000, election_timeout_ms_min=2000, election_timeout_ms_max=4000
    )
    world.make_leader("L")
    world.connect_only("LF")
    base = world.core("L").last_index
    world.network.held.add(("L", "F"))
    for number in range(12):
        world.propose("L", b"value %02d" % number + b"." * 200)
    world.run(0.3, only="L")
    world.disconnect("L", "F")
    world.network.held.clear()
    first_batches = 0

    def delay_seconds(sender: str, receiver: str, message: PeerMessage) -> float:
        nonlocal first_batches
        if (sender, receiver) == ("L", "F") and message.append_entries.entries:
            if message.append_entries.previous_index == base:
                first_batches += 1
            elif first_batches == 2:
                return 5.0
        return 0.12

    world.network.delay_seconds = delay_seconds
    world.connect("L", "F")
    world.run(1.6, only="LF")
    assert len(world.acknowledged) == 12
    world.crash("L")
    world.network.delay_seconds = lambda sender, receiver, message: 0.005
    world.connect("F", "C")
    world.run_until(lambda: world.leader() is not None and world.core(world.leader() or "").may_serve)
    world.run(0.5)
    return world


@pytest.mark.parametrize("protections", [Protections(), Protections(**ENGINE_REPLIES)])
def test_finding_02_matching_tail_is_kept(protections: Protections) -> None:
    two_resets_in_flight(protections).check_nothing_lost()


def test_finding_02_acknowledged_entries_are_lost_without_it() -> None:
    world = two_resets_in_flight(Protections(keep_matching_tail=False, **ENGINE_REPLIES))
    with pytest.raises(InvariantViolationError, match="lacks acknowledged"):
        world.check_nothing_lost()


# --- finding 3: an acknowledgement of an earlier term was believed -----------------------------------------------------


def late_acknowledgement(protections: Protections) -> World:
    """B acknowledges to A in term 1; the answers arrive when A leads again, in term 3, and B's log is another one."""
    world = World("ABCDE", 7, protections)
    world.make_leader("A")
    for name in "BCDE":
        world.delay_election(name, 1000.0)
    world.connect_only("AB", "CDE")
    world.network.held.add(("B", "A"))
    for number in range(4):
        world.propose("A", b"term 1, %d" % number)
    world.run(0.3, only="AB")
    world.delay_election("C", 0.6)
    world.run_until(lambda: world.core("C").may_serve, only="CDE")
    world.propose("C", b"term 2")
    world.run(0.3, only="CDE")
    world.connect_only("ABCDE")
    world.run(1.0)
    assert world.core("A").leader == "C"

    # C falls silent, B hears only A and reaches only A; what A appends reaches D alone.
    world.connect_only("AB", "ADE")
    world.network.delay_seconds = lambda sender, receiver, message: (
        1000.0 if sender == "A" and receiver in "BE" and message.HasField("append_entries") else 0.005
    )
    for name in "BDE":
        world.delay_election(name, 1000.0)
    world.run_until(lambda: world.core("A").is_leader, only="ADE")
    world.propose("A", b"term 3")
    world.network.held.clear()
    world.run(0.3, only="AD")

    world.crash("A")
    world.crash("D")
    world.network.delay_seconds = lambda sender, receiver, message: 0.005
    world.connect_only("BCE")
    for name in "BCE":
        world.delay_election(name, world.random.random())
    world.run_until(lambda: world.leader() is not None and world.core(world.leader() or "").may_serve)
    world.propose(world.leader() or "", b"term 4")
    world.propose(world.leader() or "", b"term 4 again")
    world.run(0.5)
    return world


def test_finding_03_replies_of_an_earlier_term_are_dropped() -> None:
    world = late_acknowledgement(Protections())
    assert b"term 3" not in world.acknowledged
    assert b"term 4 again" in world.acknowledged
    world.check_nothing_lost()


def test_finding_03_an_acknowledged_command_is_lost_without_it() -> None:
    world = late_acknowledgement(Protections(stale_replies_dropped=False))
    with pytest.raises(InvariantViolationError):
        world.check_nothing_lost()


# --- findings 4 and 5: commit and acknowledgement claimed more than the message had verified ---------------------------


def follower_with_orphans(protections: Protections) -> Hand:
    """Entry 2 is shared with everybody; 3 to 5 of term 1 were never committed. A leader of term 2 verifies only entry 2."""
    hand = Hand(protections)
    hand.append("b", 1, (1, 0), [(2, 1, regular("shared")), *((index, 1, regular("orphan")) for index in (3, 4, 5))])
    hand.tick()
    hand.core.outbox = []
    hand.append("c", 2, (2, 1), [], commit_index=200)
    return hand


def test_finding_04_a_follower_commits_only_what_the_message_verified() -> None:
    hand = follower_with_orphans(Protections())
    hand.tick()
    assert hand.core.commit_index == 2
    assert [payload for _, _, payload in hand.applied] == [b"shared"]


def test_finding_04_orphans_are_applied_without_it() -> None:
    hand = follower_with_orphans(Protections(commit_only_verified=False))
    hand.tick()
    assert b"orphan" in [payload for _, _, payload in hand.applied]


def test_finding_05_a_follower_acknowledges_only_what_the_message_verified() -> None:
    [answer] = follower_with_orphans(Protections()).answers("append_reply")
    assert (answer.append_reply.next_index, answer.append_reply.success) == (3, True)


def test_finding_05_orphans_are_acknowledged_without_it() -> None:
    [answer] = follower_with_orphans(Protections(acknowledge_only_verified=False)).answers("append_reply")
    assert answer.append_reply.next_index == 6


def test_finding_05_a_snapshot_that_is_never_installed_acknowledges_nothing() -> None:
    world = World("abc", 3)
    world.make_leader("b")
    world.crash("a")
    for number in range(20):
        world.propose("b", b"%d" % number)
    world.run(0.5)
    world.core("b").compact(world.core("b").applied_index)
    world.crash("c")
    world.start("a")
    world.connect("a", "b")
    world.run_until(lambda: world.core("a").snapshot_needed)
    world.propose("b", b"only b has it")
    world.run(5.0)
    assert b"only b has it" not in world.acknowledged
    assert world.core("b").match_indexes()["a"] < world.core("b").first_index
    world.check()


# --- finding 15: a conflict longer than one message was never repaired ------------------------------------------------


def long_conflict(protections: Protections) -> World:
    """A has 100 entries of 1 kB that nobody else has; B leads with 100 others."""
    world = World("ABC", 1, protections, append_bytes_max=64 * 1024)
    world.make_leader("A")
    world.isolate("A")
    for number in range(100):
        world.propose("A", b"a %d" % number + b"." * 1000)
    world.run_until(lambda: world.core("C").may_serve or world.core("B").may_serve)
    leader = world.leader() or ""
    for number in range(100):
        world.propose(leader, b"c %d" % number + b"." * 1000)
    world.run(1.0)
    # The first volley to A is lost with its connection, so that the leader believes A to be further than it is.
    world.connect("A", leader)
    world.disconnect("A", leader)
    world.connect("A", "B")
    world.connect("A", "C")
    return world


def test_finding_15_a_long_conflict_is_repaired_at_once() -> None:
    world = long_conflict(Protections())
    world.run_until(world.is_converged, seconds=2.0)
    world.check_nothing_lost()


def test_finding_15_a_long_conflict_is_never_repaired_without_the_hint_and_the_order_of_resets() -> None:
    world = long_conflict(Protections(reset_hint_at_commit=False, **ENGINE_REPLIES))
    with pytest.raises(InvariantViolationError, match="did not come to hold"):
        world.run_until(world.is_converged, seconds=60.0)
