"""Who leads, who may disturb a leader, and how the leadership is handed over. Finding 14 is here too."""

from __future__ import annotations

import pytest
from by_hand import Hand, PeerMessage
from world import InvariantViolationError, World
from world_store import MemoryStore

from horologe.peer.v1 import peer_service_pb2
from horologe.raft.core import CoreSettings, Protections
from horologe.raft.journal import Journal


def vote(term: int) -> PeerMessage:
    return PeerMessage(sender_term=term, vote=peer_service_pb2.Vote(term=term))


def request_vote(term: int, last_index: int = 1, last_term: int = 0) -> PeerMessage:
    request = peer_service_pb2.RequestVote(term=term, last_log_index=last_index, last_log_term=last_term)
    return PeerMessage(sender_term=term, request_vote=request)


# --- finding 14: votes were counted, not recorded ---------------------------------------------------------------------


def leaders_with_repeated_votes(seed: int, protections: Protections) -> World:
    """Five members in two parts, a and b alone in one; every vote is delivered twice."""
    world = World("abcde", seed, protections)
    world.network.repeated = lambda sender, receiver, message: message.HasField("vote")
    world.connect_only("ab", "cde")
    world.run(8.0, step_seconds=0.02)
    return world


def test_finding_14_a_vote_counts_once() -> None:
    without_pre_vote = {"epochs_checked": False, "pre_vote": False, "leader_stickiness": False}
    for seed in range(3):
        world = leaders_with_repeated_votes(seed, Protections(**without_pre_vote))
        assert set(world.leaders.values()) <= set("cde")
        world.check()


def test_finding_14_two_of_five_elect_a_leader_without_it() -> None:
    engine_alone = {"votes_counted_once": False, "epochs_checked": False, "pre_vote": False, "leader_stickiness": False}
    worlds = [leaders_with_repeated_votes(seed, Protections(**engine_alone)) for seed in range(3)]
    assert any(set(world.leaders.values()) & set("ab") for world in worlds)


def candidate(protections: Protections) -> Hand:
    """One of five, standing for term 1."""
    hand = Hand(protections, "abcde")
    hand.tick(2.0)
    hand.tick(0.01)
    assert hand.core.term == 1
    return hand


def test_finding_14_a_stranger_s_vote_does_not_count() -> None:
    hand = candidate(Protections(pre_vote=False))
    assert not hand.core.receive("x", vote(1), hand.now)
    for stranger in "xy":
        hand.connect(stranger)
        assert hand.say(stranger, vote(1))
    assert not hand.core.is_leader


def test_finding_14_strangers_elect_a_leader_without_it() -> None:
    hand = candidate(Protections(pre_vote=False, voters_only=False))
    for stranger in "xy":
        hand.connect(stranger)
        hand.say(stranger, vote(1))
    assert hand.core.is_leader


# --- votes ------------------------------------------------------------------------------------------------------------


def test_a_vote_survives_a_restart() -> None:
    hand = Hand()
    hand.say("b", request_vote(5))
    assert len(hand.answers("vote")) == 1
    hand.store.commit()
    reborn = Hand(store=hand.store)
    reborn.say("c", request_vote(5))
    assert reborn.answers("vote") == []
    assert reborn.core.hard_state == (5, "b")


def test_a_snapshot_does_not_bring_another_member_s_vote() -> None:
    hand = Hand()
    hand.say("b", request_vote(5))
    own = hand.core.hard_state
    copied = MemoryStore()
    Journal(copied).setCurrentTerm(5, "c")
    Journal.reset_to(copied, 40, 4, own)
    assert Journal(copied).hard_state == (5, "b")


# --- pre-vote and stickiness ------------------------------------------------------------------------------------------


def leader_changes_with_a_broken_link(protections: Protections) -> int:
    """The link between the leader and one follower is cut for half a minute."""
    world = World("abc", 3, protections)
    world.make_leader("a")
    before = len(world.leaders)
    world.disconnect("a", "b")
    world.run(30.0, step_seconds=0.02)
    world.check()
    return len(world.leaders) - before


def test_a_member_that_does_not_hear_the_leader_deposes_nobody() -> None:
    assert leader_changes_with_a_broken_link(Protections()) == 0


def test_a_member_that_does_not_hear_the_leader_deposes_it_without_pre_vote_and_stickiness() -> None:
    assert leader_changes_with_a_broken_link(Protections(pre_vote=False, leader_stickiness=False)) > 0


def test_a_member_that_was_cut_off_comes_back_in_the_same_term() -> None:
    world = World("abc", 8)
    world.make_leader("a")
    term = world.core("a").term
    world.isolate("b")
    world.run(10.0, step_seconds=0.05)
    world.connect_only("abc")
    world.run(3.0)
    assert {world.core(name).term for name in "abc"} == {term}


def test_a_member_with_a_shorter_log_gets_no_pre_vote() -> None:
    hand = Hand()
    hand.append("b", 3, (1, 0), [(2, 3, b"\x00x")])
    hand.tick(5.0)
    hand.core.outbox = []
    request = peer_service_pb2.RequestPreVote(term=4, last_log_index=9, last_log_term=2)
    hand.say("c", PeerMessage(sender_term=3, request_pre_vote=request))
    assert hand.answers("pre_vote") == []
    request = peer_service_pb2.RequestPreVote(term=4, last_log_index=2, last_log_term=3)
    hand.say("c", PeerMessage(sender_term=3, request_pre_vote=request))
    assert len(hand.answers("pre_vote")) == 1
    assert hand.core.term == 3


# --- finding 22: check-quorum -----------------------------------------------------------------------------------------


def seconds_of_belief(protections: Protections) -> float:
    """For how long a leader that was cut off believes that it leads."""
    world = World("abc", 9, protections)
    world.make_leader("a")
    for other in "bc":
        world.network.held |= {("a", other), (other, "a")}
    since = world.now
    while world.core("a").is_leader and world.now < since + 10:
        world.run(0.05)
        assert not world.core("a").may_serve or world.now - since <= 0.61
    world.check()
    return world.now - since


def test_finding_22_a_leader_that_is_cut_off_steps_down_within_an_election_timeout() -> None:
    assert seconds_of_belief(Protections()) <= 1.2


def test_finding_22_a_leader_that_is_cut_off_believes_in_itself_without_it() -> None:
    assert seconds_of_belief(Protections(check_quorum=False)) > 9


def test_an_answer_counts_from_the_sending_of_the_question() -> None:
    world = World("abc", 9)
    world.make_leader("a")
    world.network.delay_seconds = lambda sender, receiver, message: 0.6 if receiver == "a" else 0.005
    world.run(0.9)
    assert not world.core("a").heard_quorum(world.now)
    assert not world.core("a").may_serve


def test_a_leader_serves_only_after_an_entry_of_its_own_term_is_applied() -> None:
    world = World("abc", 9)
    world.run_until(lambda: world.leader() is not None)
    leader = world.core(world.leader() or "")
    assert not leader.may_serve
    world.run_until(lambda: leader.may_serve)
    assert leader.applied_index == 2


# --- finding 24: members that are stuck with another term -------------------------------------------------------------


def member_with_a_newer_term(protections: Protections) -> World:
    world = World("abc", 12, protections)
    world.make_leader("a")
    world.crash("c")
    Journal(world.stores["c"]).setCurrentTerm(50, None)
    world.stores["c"].commit()
    world.restart("c")
    world.run(5.0)
    world.propose(world.leader() or "", b"for all")
    world.run(1.0)
    return world


def test_finding_24_a_member_with_a_newer_term_is_taken_along() -> None:
    world = member_with_a_newer_term(Protections())
    assert b"for all" in world.payloads("c")
    assert world.core("c").term > 50
    world.check_nothing_lost()


def test_finding_24_a_member_with_a_newer_term_is_stuck_without_term_notices() -> None:
    world = member_with_a_newer_term(Protections(term_notice=False))
    assert b"for all" not in world.payloads("c")


# --- handing over -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["b", "c", None])
def test_the_leadership_is_handed_over_at_once(target: str | None) -> None:
    world = World("abc", 2)
    world.make_leader("a")
    assert world.core("a").transfer_leadership(target)
    assert world.core("a").propose(b"too late") is None
    world.run_until(lambda: world.leader() not in (None, "a"), seconds=0.2)
    assert target in (None, world.leader())
    world.run(0.5)
    assert len(world.leaders) == max(world.leaders)
    world.check()


def test_handing_over_waits_until_the_target_has_the_whole_log() -> None:
    world = World("abc", 2)
    world.make_leader("a")
    world.network.held.add(("a", "b"))
    world.propose("a", b"last words")
    assert world.core("a").transfer_leadership("b")
    world.run(0.3)
    assert world.leader() == "a"
    world.network.held.clear()
    world.run_until(lambda: world.leader() == "b", seconds=0.3)
    world.run(0.3)
    world.check_nothing_lost()
    assert b"last words" in world.payloads("b")


def test_nobody_who_is_silent_is_chosen_to_take_over() -> None:
    world = World("abc", 2)
    world.make_leader("a")
    # c has the whole log and would be chosen by its name, but it stands still.
    world.run(0.7, only="ab")
    assert world.core("a").transfer_leadership()
    world.run(0.3, only="ab")
    assert world.leader() == "b"


def test_handing_over_is_given_up_after_an_election_timeout() -> None:
    world = World("abc", 2)
    world.make_leader("a")
    world.network.held.add(("a", "b"))
    world.propose("a", b"not for b")
    assert world.core("a").transfer_leadership("b")
    assert world.propose("a", b"refused") is None
    world.run(1.2)
    assert world.leader() == "a"
    assert world.propose("a", b"taken") is not None


def test_handing_over_needs_a_leader_and_a_connected_target() -> None:
    world = World("abc", 2)
    world.make_leader("a")
    assert not world.core("b").transfer_leadership("c")
    world.disconnect("a", "b")
    assert not world.core("a").transfer_leadership("b")
    assert not world.core("a").transfer_leadership("nobody")


def test_in_a_cluster_of_five_the_leadership_is_handed_over_too() -> None:
    world = World("abcde", 2)
    world.make_leader("a")
    term = world.core("a").term
    world.core("a").transfer_leadership("b")
    world.run_until(lambda: world.leader() == "b", seconds=0.2)
    world.run(2.0)
    # In one election: those who hear the old leader do not stand by it when it wants to go.
    assert world.leader() == "b"
    assert world.core("b").term == term + 1
    world.check()


# --- small clusters and settings --------------------------------------------------------------------------------------


def test_a_single_member_leads_itself() -> None:
    world = World("a", 1)
    world.run(1.2)
    assert world.core("a").may_serve
    world.propose("a", b"x")
    world.run(0.02)
    assert world.acknowledged == {b"x"}
    world.restart("a")
    world.run(1.2)
    world.check_nothing_lost()


def test_two_leaders_in_one_term_stop_the_node() -> None:
    world = World("abc", 2)
    world.make_leader("a")
    append = peer_service_pb2.AppendEntries(
        term=world.core("a").term, commit_index=1, previous_index=1, previous_term=0, round=1
    )
    world.isolate("a")
    world.connect("a", "b")
    world.run(0.02, only="a")
    message = PeerMessage(sender_term=append.term, sequence=1, append_entries=append)
    with pytest.raises(AssertionError, match="and so do we"):
        world.core("a").receive("b", message, world.now)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"name": "x"}, "do not contain this member"),
        ({"members": ("a", "a")}, "must be different"),
        ({"heartbeat_ms": 0}, "heartbeat_ms is 0"),
        ({"election_timeout_ms_min": 300}, "more than three times"),
        ({"election_timeout_ms_max": 500}, "split the vote"),
        ({"peer_bytes_max": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object], complaint: str) -> None:
    settings: dict[str, object] = {"name": "a", "members": ("a", "b", "c")}
    with pytest.raises(ValueError, match=complaint):
        CoreSettings(**(settings | wrong))  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_history() -> None:
    def history() -> tuple[object, ...]:
        world = World("abc", 77)
        world.run(2.0)
        world.propose(world.leader() or "", b"x")
        world.run(0.5)
        return world.leaders, world.chosen, [world.core(name).last_index for name in "abc"]

    assert history() == history()


def test_violations_are_seen() -> None:
    world = World("abc", 1)
    world.violations.append("made up")
    with pytest.raises(InvariantViolationError, match="made up"):
        world.check()
