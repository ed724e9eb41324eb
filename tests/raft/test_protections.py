"""Small protections one at a time: what the core does with one message, and what it does without the protection."""

from __future__ import annotations

import dataclasses

import pytest
from by_hand import Hand, PeerMessage, regular
from world_store import MemoryStore

from horologe.peer.v1 import peer_service_pb2
from horologe.raft.core import Protections
from horologe.raft.journal import Journal


def without(name: str) -> Protections:
    return dataclasses.replace(Protections(), **{name: False})


def leader(protections: Protections) -> Hand:
    """Leads term 1 of a, b, c; its log ends at 6; nobody has acknowledged anything."""
    hand = Hand(protections)
    hand.tick(1.5)
    hand.say("b", PeerMessage(pre_vote=peer_service_pb2.PreVote(term=1)))
    hand.tick(0.01)
    hand.say("b", PeerMessage(sender_term=1, vote=peer_service_pb2.Vote(term=1)))
    assert hand.core.is_leader
    for number in range(4):
        hand.core.propose(b"%d" % number)
    assert hand.core.last_index == 6
    return hand


def rounds_to(hand: Hand, peer: str) -> list[int]:
    """Take the outbox; the rounds of what was sent to a peer."""
    outbox, hand.core.outbox = hand.core.outbox, []
    return [
        message.append_entries.round
        for receiver, message in outbox
        if receiver == peer and message.HasField("append_entries")
    ]


def reply(hand: Hand, round_number: int, next_index: int, *, reset: bool) -> None:
    answer = peer_service_pb2.AppendReply(next_index=next_index, reset=reset, success=not reset, round=round_number)
    hand.say("b", PeerMessage(sender_term=1, append_reply=answer))


def sent_entries(hand: Hand) -> list[int]:
    """Take the outbox; the indexes of the entries that were sent to b."""
    outbox, hand.core.outbox = hand.core.outbox, []
    return [entry.index for receiver, message in outbox if receiver == "b" for entry in message.append_entries.entries]


@pytest.mark.parametrize(
    ("protections", "sent_again"), [(Protections(), [5, 6]), (without("resets_clamped"), [2, 3, 4, 5, 6])]
)
def test_a_reset_does_not_go_below_what_was_acknowledged(protections: Protections, sent_again: list[int]) -> None:
    hand = leader(protections)
    *_, before_last, last = rounds_to(hand, "b")
    reply(hand, before_last, 5, reset=False)
    reply(hand, last, 2, reset=True)
    assert sent_entries(hand) == sent_again


def test_one_loss_brings_one_repetition() -> None:
    hand = leader(Protections())
    *_, before_last, last = rounds_to(hand, "b")
    reply(hand, before_last, 2, reset=True)
    assert sent_entries(hand) == [2, 3, 4, 5, 6]
    reply(hand, last, 2, reset=True)
    assert sent_entries(hand) == []
    assert hand.core.counters["old_reset"] == 1


def test_one_loss_brings_two_repetitions_when_resets_are_believed_in_any_order() -> None:
    hand = leader(without("resets_in_order"))
    *_, before_last, last = rounds_to(hand, "b")
    repeated = []
    for round_number in (before_last, last):
        reply(hand, round_number, 2, reset=True)
        hand.tick(0.2)
        repeated.append(sent_entries(hand))
    assert repeated == [[2, 3, 4, 5, 6]] * 2


@pytest.mark.parametrize(("protections", "hint"), [(Protections(), 2), (without("reset_hint_at_commit"), 6)])
def test_a_follower_asks_to_go_back_to_its_commit_index(protections: Protections, hint: int) -> None:
    hand = Hand(protections)
    hand.append("b", 1, (1, 0), [(index, 1, regular("x")) for index in range(2, 6)])
    hand.core.outbox = []
    hand.append("c", 2, (9, 2), [])
    [answer] = hand.answers("append_reply")
    assert (answer.append_reply.reset, answer.append_reply.next_index) == (True, hint)


@pytest.mark.parametrize(("protections", "taken"), [(Protections(), False), (without("epochs_checked"), True)])
def test_a_message_after_a_gap(protections: Protections, taken: bool) -> None:
    hand = Hand(protections)
    hand.sequences["b"] = 4
    assert hand.append("b", 1, (1, 0), []) is taken


@pytest.mark.parametrize(("protections", "term"), [(Protections(), 3), (without("leader_stickiness"), 9)])
def test_a_candidate_while_the_leader_is_heard(protections: Protections, term: int) -> None:
    hand = Hand(protections)
    hand.append("b", 3, (1, 0), [])
    request = peer_service_pb2.RequestVote(term=9, last_log_index=5, last_log_term=3)
    hand.say("c", PeerMessage(sender_term=9, request_vote=request))
    assert hand.core.term == term


@pytest.mark.parametrize(("protections", "term"), [(Protections(), 0), (without("pre_vote"), 5)])
def test_a_member_that_nobody_would_vote_for(protections: Protections, term: int) -> None:
    hand = Hand(protections)
    for _ in range(5):
        hand.tick(1.5)
    assert hand.core.term == term


@pytest.mark.parametrize(("protections", "told"), [(Protections(), [7]), (without("term_notice"), [])])
def test_a_leader_of_an_older_term(protections: Protections, told: list[int]) -> None:
    hand = Hand(protections)
    hand.append("b", 7, (1, 0), [])
    hand.core.outbox = []
    hand.append("c", 4, (1, 0), [])
    assert [message.term_notice.term for message in hand.answers("term_notice")] == told


def test_a_journal_without_guards_truncates_what_is_applied() -> None:
    journal = Journal(MemoryStore(), guarded=False)
    journal.add(regular("x"), 2, 1)
    journal.setRaftCommitIndex(2)
    journal.set_applied_index(2)
    journal.deleteEntriesFrom(1)
    assert journal.last_index < journal.applied_index


def test_all_protections_are_on_by_default() -> None:
    assert all(vars(Protections()).values())
