"""How entries travel: batches, the budget per peer, compaction, snapshots, connections, messages that make no sense."""

from __future__ import annotations

import pytest
from by_hand import Hand, PeerMessage, regular
from world import InvariantViolationError, World

from horologe.peer.v1 import peer_service_pb2
from horologe.raft.core import Protections
from horologe.raft.core_engine import BITES_MAX


def put(world: World, name: str, count: int, size_bytes: int = 10) -> None:
    for number in range(count):
        world.propose(name, b"%d " % number + b"." * size_bytes)


def entries_under_way(world: World, sender: str, receiver: str) -> list[int]:
    """The sizes, in entries, of the messages with entries between two members."""
    sizes = [len(message.append_entries.entries) for message in world.network.waiting(sender, receiver)]
    return [size for size in sizes if size]


# --- proposals and batches --------------------------------------------------------------------------------------------


def test_an_entry_leaves_with_the_proposal_and_is_committed_after_one_round_trip() -> None:
    world = World("abc", 1)
    world.make_leader("a")
    index = world.propose("a", b"x")
    assert index == world.core("a").last_index
    assert entries_under_way(world, "a", "b") == [1]
    world.run(0.02)
    assert world.acknowledged == {b"x"}


def test_only_the_leader_takes_proposals() -> None:
    world = World("abc", 1)
    world.make_leader("a")
    assert world.core("b").propose(b"x") is None


def test_a_payload_that_is_too_large_is_the_caller_s_mistake() -> None:
    world = World("a", 1, append_bytes_max=100)
    world.run_until(lambda: world.core("a").may_serve)
    with pytest.raises(ValueError, match="the payload has 100 bytes"):
        world.core("a").propose(b"x" * 100)
    assert world.propose("a", b"x" * 99) is not None


def test_each_entry_is_sent_once_when_nothing_is_lost() -> None:
    world = World("abc", 1)
    world.make_leader("a")
    sent = 0

    def delay_seconds(sender: str, receiver: str, message: PeerMessage) -> float:
        nonlocal sent
        sent += len(message.append_entries.entries) if receiver == "b" else 0
        return 0.05

    world.network.delay_seconds = delay_seconds
    for _ in range(50):
        put(world, "a", 1)
        world.run(0.01)
    world.run(0.5)
    assert sent == 50
    assert world.is_converged()


def test_next_index_does_not_fall_behind_what_is_in_flight() -> None:
    def entries_sent(protections: Protections) -> int:
        world = World("abc", 1, protections)
        world.make_leader("a")
        sent = 0

        def delay_seconds(sender: str, receiver: str, message: PeerMessage) -> float:
            nonlocal sent
            sent += len(message.append_entries.entries) if receiver == "b" else 0
            return 0.05

        world.network.delay_seconds = delay_seconds
        for _ in range(50):
            put(world, "a", 1)
            world.run(0.01)
        return sent

    assert entries_sent(Protections()) == 50
    assert entries_sent(Protections(next_index_kept=False)) > 100


def test_a_follower_that_is_behind_gets_batches() -> None:
    world = World("abc", 1, append_bytes_max=1000)
    world.make_leader("a")
    world.isolate("c")
    put(world, "a", 100, 90)
    world.run(0.2)
    world.network.held.add(("c", "a"))
    world.connect("a", "c")
    world.run(0.05, only="ac")
    world.network.held.clear()
    world.run(0.01, only="a")
    assert all(1 < size <= 11 for size in entries_under_way(world, "a", "c"))
    world.connect("b", "c")
    world.run_until(world.is_converged, seconds=1.0)
    world.check_nothing_lost()


def test_what_has_piled_up_is_applied_bit_by_bit_and_meanwhile_others_are_answered() -> None:
    hand = Hand()
    command = regular("x" * (hand.core.settings.apply_bytes_max // 2))
    entries = [(index, 1, command) for index in range(2, 12)]
    hand.append("b", 1, (1, 0), entries, commit_index=11)
    hand.tick()
    assert hand.answers("append_reply") and not hand.applied
    applied = []
    while hand.core.applied_index < 11:
        assert hand.core.tick_at(hand.now) == hand.now, "there is more to do at once"
        hand.tick()
        applied.append(len(hand.applied))
        assert hand.core.commit_index == 11
        hand.answers("append_reply")
        hand.append("b", 1, (11, 1), [], commit_index=11)
        assert hand.answers("append_reply"), "a heartbeat between two ticks is answered"
    assert applied == [2, 4, 6, 8, 10]
    assert [index for index, _, _ in hand.applied] == list(range(2, 12))
    assert hand.core.tick_at(hand.now) > hand.now


def test_what_takes_long_to_apply_waits_until_the_acknowledgement_has_left_and_no_longer() -> None:
    hand = Hand()
    command = regular("x" * hand.core.settings.acknowledge_first_bytes)
    hand.append("b", 1, (1, 0), [(2, 1, command)])
    hand.append("b", 1, (2, 1), [(3, 1, command)], commit_index=2)
    hand.tick()
    assert not hand.applied
    assert hand.core.tick_at(hand.now) == hand.now, "the next step is made at once"
    assert [reply.append_reply.next_index for reply in hand.answers("append_reply")] == [3, 4]
    hand.append("b", 1, (3, 1), [(4, 1, command)], commit_index=3)
    hand.tick()
    assert [index for index, _, _ in hand.applied] == [2, 3], "not even for another acknowledgement"


def test_a_heartbeat_puts_nothing_off() -> None:
    hand = Hand()
    hand.append("b", 1, (1, 0), [(2, 1, regular("x" * hand.core.settings.acknowledge_first_bytes))])
    hand.tick()
    hand.append("b", 1, (2, 1), [], commit_index=2)
    hand.tick()
    assert [index for index, _, _ in hand.applied] == [2]


def test_what_is_applied_quickly_is_applied_with_the_acknowledgement() -> None:
    hand = Hand()
    hand.append("b", 1, (1, 0), [(2, 1, regular("x"))])
    hand.append("b", 1, (2, 1), [(3, 1, regular("y"))], commit_index=2)
    hand.tick()
    assert [index for index, _, _ in hand.applied] == [2]


def test_a_large_pile_is_applied_in_larger_bites() -> None:
    hand = Hand()
    command = regular("x" * hand.core.settings.apply_bytes_max)
    hand.append("b", 1, (1, 0), [(index, 1, command) for index in range(2, 102)], commit_index=101)
    hand.tick()
    bites = []
    while hand.core.applied_index < 101:
        before = len(hand.applied)
        hand.tick()
        bites.append(len(hand.applied) - before)
    assert max(bites) == bites[0] == BITES_MAX
    assert bites == sorted(bites, reverse=True) and bites[-1] == 1


# --- the budget per peer ----------------------------------------------------------------------------------------------


def test_a_peer_that_does_not_answer_gets_heartbeats_but_no_more_entries_than_its_budget() -> None:
    world = World("abc", 1, append_bytes_max=1000, peer_bytes_max=5000)
    world.make_leader("a")
    world.network.held |= {("a", "c"), ("c", "a")}
    put(world, "a", 100, 490)
    world.run(2.0)
    under_way = world.network.waiting("a", "c")
    entry_bytes = sum(len(entry.command) for message in under_way for entry in message.append_entries.entries)
    assert 5000 <= entry_bytes < 6000
    assert len(under_way) > 15
    assert len(world.acknowledged) == 100
    assert world.core("a").is_leader
    world.network.held.clear()
    world.run_until(world.is_converged, seconds=1.0)
    world.check_nothing_lost()


def test_a_peer_within_its_budget_does_not_wait_for_the_next_heartbeat() -> None:
    world = World("ab", 1, append_bytes_max=1000, peer_bytes_max=1000)
    world.make_leader("a")
    put(world, "a", 50, 900)
    world.run_until(world.is_converged, seconds=1.0)


# --- compaction and snapshots -----------------------------------------------------------------------------------------


def follower_behind_the_log() -> World:
    world = World("abc", 3)
    world.make_leader("a")
    world.crash("c")
    put(world, "a", 50)
    world.run(0.5)
    for name in "ab":
        world.core(name).compact(world.core(name).applied_index)
        world.stores[name].commit()
    world.start("c")
    world.connect("a", "c")
    world.connect("b", "c")
    return world


def test_a_follower_behind_the_log_is_offered_a_snapshot_and_goes_on_from_it() -> None:
    world = follower_behind_the_log()
    world.run_until(lambda: world.core("c").snapshot_needed, seconds=1.0)
    put(world, "a", 5)
    assert world.install_offered_snapshot("c")
    world.run_until(world.is_converged, seconds=2.0)
    assert world.core("c").first_index > 50
    put(world, "a", 5)
    world.run(0.2)
    world.restart("c")
    world.run(1.0)
    assert world.state("c") == world.state("a")
    world.check_nothing_lost()


def test_a_follower_that_was_restored_from_a_snapshot_can_lead() -> None:
    world = follower_behind_the_log()
    world.run_until(lambda: world.core("c").snapshot_needed)
    world.install_offered_snapshot("c")
    world.run(0.5)
    world.make_leader("c")
    put(world, "c", 5)
    world.run(0.3)
    assert world.is_converged()
    world.check_nothing_lost()


def test_offers_are_repeated_at_most_once_per_election_timeout() -> None:
    world = follower_behind_the_log()
    offers = 0

    def delay_seconds(sender: str, receiver: str, message: PeerMessage) -> float:
        nonlocal offers
        offers += message.HasField("snapshot_offer")
        return 0.005

    world.network.delay_seconds = delay_seconds
    world.run(5.0)
    assert 4 <= offers <= 6


def test_the_leader_stays_while_a_follower_waits_for_a_snapshot() -> None:
    world = follower_behind_the_log()
    world.isolate("b")
    world.run(5.0)
    assert world.leader() == "a"
    assert world.core("a").may_serve


def test_a_follower_that_has_the_first_entry_needs_no_snapshot() -> None:
    """It has all entries, but knows of no commit, so that it asks to go back to the beginning."""
    world = World("abc", 3)
    world.make_leader("a")
    world.network.delay_seconds = lambda sender, receiver, message: (
        1000.0 if receiver == "c" and message.append_entries.commit_index > 2 else 0.005
    )
    put(world, "a", 20)
    world.run(0.5)
    world.network.delay_seconds = lambda sender, receiver, message: 0.005
    last_index = world.core("c").last_index
    assert world.core("c").commit_index <= 2 < last_index
    world.disconnect("a", "c")
    put(world, "a", 20)
    world.run(0.2)
    world.core("a").compact(last_index)
    world.connect("a", "c")
    world.run_until(world.is_converged, seconds=1.0)
    assert not world.core("c").snapshot_needed
    world.check_nothing_lost()


def test_compaction_keeps_what_is_not_applied_and_two_entries() -> None:
    world = World("abc", 3)
    world.make_leader("a")
    put(world, "a", 10)
    world.run(0.2)
    core = world.core("a")
    world.network.held |= {("b", "a"), ("c", "a")}
    put(world, "a", 5)
    core.compact(10_000)
    assert core.first_index == core.applied_index < core.last_index - 3
    world.network.held.clear()
    world.run(0.5)
    core.compact(10_000)
    assert core.first_index == core.last_index - 1


def test_a_state_that_the_log_already_contains_may_not_be_installed() -> None:
    hand = Hand()
    hand.append("b", 1, (1, 0), [(index, 1, regular("x")) for index in range(2, 10)], commit_index=4)
    assert not hand.core.may_install(4, 1)
    assert not hand.core.may_install(8, 1)
    assert hand.core.may_install(8, 2)
    assert hand.core.may_install(10, 1)


def test_an_offer_counts_only_from_the_leader() -> None:
    hand = Hand()
    hand.append("b", 3, (1, 0), [])
    offer = peer_service_pb2.SnapshotOffer(term=3)
    hand.say("c", PeerMessage(sender_term=3, snapshot_offer=offer))
    assert not hand.core.snapshot_needed
    hand.say("b", PeerMessage(sender_term=3, snapshot_offer=offer))
    assert hand.core.snapshot_needed
    assert (hand.core.take_snapshot_offer(), hand.core.take_snapshot_offer()) == ("b", None)


# --- a member that lost its disk --------------------------------------------------------------------------------------


def test_a_member_that_lost_what_it_had_acknowledged_is_named_and_gets_no_further() -> None:
    world = World("abc", 3)
    world.make_leader("a")
    put(world, "a", 10)
    world.run(0.5)
    world.crash("c")
    world.stores["c"] = type(world.stores["c"])()
    world.restart("c")
    put(world, "a", 1)
    world.run(1.0)
    assert world.core("a").members_that_forgot == {"c"}
    assert world.payloads("c") == []
    with pytest.raises(InvariantViolationError, match="c lost what it had acknowledged to a"):
        world.check()


# --- the life of a connection -----------------------------------------------------------------------------------------


def heartbeat(sequence: int) -> PeerMessage:
    append = peer_service_pb2.AppendEntries(term=1, commit_index=1, previous_index=1, previous_term=0, round=sequence)
    return PeerMessage(sender_term=1, sequence=sequence, append_entries=append)


def test_a_gap_ends_the_connection_for_good() -> None:
    hand = Hand()
    assert hand.core.receive("b", heartbeat(1), hand.now)
    assert not hand.core.receive("b", heartbeat(3), hand.now)
    assert not hand.core.receive("b", heartbeat(2), hand.now)
    assert len(hand.answers("append_reply")) == 1
    hand.core.peer_disconnected("b", hand.now)
    assert not hand.core.receive("b", heartbeat(1), hand.now)
    hand.core.peer_connected("b", hand.now)
    assert hand.core.receive("b", heartbeat(1), hand.now)


def test_a_repeated_message_is_dropped_without_harm() -> None:
    hand = Hand()
    assert hand.core.receive("b", heartbeat(1), hand.now)
    assert hand.core.receive("b", heartbeat(1), hand.now)
    assert len(hand.answers("append_reply")) == 1


def test_a_sender_that_numbers_from_one_again_ends_the_connection() -> None:
    hand = Hand()
    assert hand.core.receive("b", heartbeat(1), hand.now)
    assert hand.core.receive("b", heartbeat(2), hand.now)
    assert not hand.core.receive("b", heartbeat(1), hand.now)
    assert not hand.core.receive("b", heartbeat(3), hand.now)


def test_messages_are_numbered_from_one_in_each_epoch() -> None:
    world = World("ab", 1)
    world.make_leader("a")
    world.disconnect("a", "b")
    world.connect("a", "b")
    assert [message.sequence for message in world.network.waiting("a", "b")] == [1]


def test_nothing_is_sent_to_a_peer_that_is_not_connected() -> None:
    world = World("abc", 1)
    world.make_leader("a")
    world.disconnect("a", "c")
    world.core("a").propose(b"x")
    assert {receiver for receiver, _ in world.core("a").outbox} == {"b"}


# --- how far the log is committed -------------------------------------------------------------------------------------


def commit_notices(world: World, receiver: str) -> int:
    """Messages on their way from a that only tell the commit index."""
    return sum(message.append_entries.commit_only for message in world.network.waiting("a", receiver))


def test_a_commit_index_waits_a_moment_for_entries_to_travel_with() -> None:
    world = World("abc", 1, commit_notice_ms=50)
    world.make_leader("a")
    world.run(1.0)
    index = world.propose("a", b"x")
    world.run_until(lambda: world.core("a").commit_index == index)
    world.run(0.02)
    assert [world.core(name).commit_index for name in "bc"] == [index - 1] * 2
    world.propose("a", b"y")
    world.run(0.01)
    assert [world.core(name).commit_index for name in "bc"] == [index] * 2


def test_a_commit_index_that_no_entry_carries_is_told_by_itself_and_not_answered() -> None:
    world = World(
        "abc", 1, commit_notice_ms=50, heartbeat_ms=400, election_timeout_ms_min=1300, election_timeout_ms_max=2000
    )
    world.make_leader("a")
    world.run(1.0)
    index = world.propose("a", b"x")
    world.run_until(lambda: commit_notices(world, "b") == commit_notices(world, "c") == 1)
    world.run(0.02)
    assert [world.core(name).applied_index for name in "bc"] == [index] * 2
    assert [list(world.network.waiting(name, "a")) for name in "bc"] == [[], []]


def test_whoever_must_know_is_told_a_commit_index_at_once() -> None:
    world = World("abc", 1, commit_notice_ms=100)
    world.make_leader("a")
    world.run(1.0)
    index = world.propose("a", b"x")
    world.run_until(lambda: world.core("a").commit_index == index)
    world.core("a").tell_commit(["b", "nobody"])
    world.step("a")
    assert [commit_notices(world, name) for name in "bc"] == [1, 0]


def test_a_follower_whose_log_does_not_match_answers_a_commit_index_too() -> None:
    hand = Hand()
    append = peer_service_pb2.AppendEntries(
        term=1, commit_index=9, previous_index=9, previous_term=1, round=3, commit_only=True
    )
    hand.say("b", PeerMessage(sender_term=1, append_entries=append))
    (answer,) = hand.answers("append_reply")
    assert answer.append_reply.reset
    assert (answer.append_reply.next_index, hand.core.commit_index) == (2, 1)


# --- messages that make no sense --------------------------------------------------------------------------------------

APPEND = {"term": 2, "commit_index": 1, "previous_index": 1, "previous_term": 0, "round": 1}
ENTRY = {"index": 2, "term": 2, "command": regular("x")}


@pytest.mark.parametrize(
    "message",
    [
        PeerMessage(),
        PeerMessage(renew=peer_service_pb2.Renew()),
        PeerMessage(sender_term=-1, vote=peer_service_pb2.Vote(term=1)),
        PeerMessage(vote=peer_service_pb2.Vote(term=0)),
        PeerMessage(term_notice=peer_service_pb2.TermNotice(term=-4)),
        PeerMessage(request_vote=peer_service_pb2.RequestVote(term=3, last_log_index=0)),
        PeerMessage(append_reply=peer_service_pb2.AppendReply(next_index=0, round=1, success=True)),
        PeerMessage(append_reply=peer_service_pb2.AppendReply(next_index=1, round=1)),
        PeerMessage(append_entries=peer_service_pb2.AppendEntries(**APPEND | {"previous_index": 0})),
        PeerMessage(append_entries=peer_service_pb2.AppendEntries(**APPEND | {"previous_term": 3})),
        PeerMessage(append_entries=peer_service_pb2.AppendEntries(**APPEND, entries=[ENTRY | {"index": 3}])),
        PeerMessage(append_entries=peer_service_pb2.AppendEntries(**APPEND, entries=[ENTRY | {"term": 3}])),
        PeerMessage(append_entries=peer_service_pb2.AppendEntries(**APPEND, entries=[ENTRY | {"command": b""}])),
        PeerMessage(append_entries=peer_service_pb2.AppendEntries(**APPEND, entries=[ENTRY | {"command": b"\x03x"}])),
    ],
)
def test_a_message_that_makes_no_sense_is_refused_and_changes_nothing(message: PeerMessage) -> None:
    hand = Hand()
    assert not hand.say("b", message)
    assert hand.core.counters["message_malformed"] == 1
    assert (hand.core.term, hand.core.last_index, hand.core.outbox) == (0, 1, [])
    hand.tick()


def test_the_engine_fails_half_way_when_messages_are_not_checked() -> None:
    hand = Hand(Protections(messages_validated=False))
    append = peer_service_pb2.AppendEntries(**APPEND, entries=[ENTRY, ENTRY | {"index": 9}])
    with pytest.raises(AssertionError, match="entry 9"):
        hand.say("b", PeerMessage(append_entries=append))
