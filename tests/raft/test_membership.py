"""Members come and go: learners first, one change at a time, and whoever has forgotten everything decides nothing."""

from __future__ import annotations

import pytest
from by_hand import Hand, PeerMessage
from world import World

from horologe.peer.v1 import peer_service_pb2
from horologe.raft.core import Protections
from horologe.raft.membership import Configuration, Member


def learner(name: str) -> Member:
    return Member(name, is_voter=False)


def with_learner(names: str, new: str) -> World:
    """A cluster led by its first member, and a learner that has caught up."""
    world = World(names, 3)
    world.make_leader(names[0])
    world.propose(names[0], b"before")
    world.join(new)
    assert world.change(names[0], world.core(names[0]).configuration.with_member(learner(new))) is not None
    world.run_until(lambda: world.core(names[0]).has_caught_up(new))
    world.run(0.1)
    return world


def test_a_learner_receives_the_log_and_does_not_count() -> None:
    world = with_learner("ab", "c")
    assert b"before" in world.payloads("c")
    assert world.core("c").voters == ("a", "b")
    # The learner is no replacement for b in a majority of two.
    world.isolate("b")
    world.propose("a", b"alone")
    world.run(0.3)
    assert b"alone" not in world.acknowledged
    world.run(3.0)
    assert world.leader() is None
    assert world.core("c").term == world.core("a").term


def test_a_learner_has_not_caught_up_before_it_knows_that_it_is_one() -> None:
    world = World("ab", 3)
    world.make_leader("a")
    world.join("c")
    world.network.held.add(("a", "c"))
    assert world.change("a", world.core("a").configuration.with_member(learner("c"))) is not None
    world.run(0.5)
    # The log is short, so that it would be near its end with nothing.
    assert not world.core("a").has_caught_up("c")
    world.network.held.clear()
    world.run_until(lambda: world.core("a").has_caught_up("c"))
    assert "c" in world.core("c").configuration.by_name


def test_a_promoted_learner_counts() -> None:
    world = with_learner("ab", "c")
    assert world.change("a", world.core("a").configuration.with_member(Member("c"))) is not None
    world.run(0.3)
    world.isolate("b")
    world.propose("a", b"with c")
    world.run(0.5)
    assert b"with c" in world.acknowledged
    world.crash("a")
    world.connect("b", "c")
    world.run_until(lambda: world.leader() == "c")
    assert b"with c" in world.payloads("c")


def test_a_configuration_survives_restarts_and_compaction() -> None:
    world = with_learner("abc", "d")
    for name in "abcd":
        world.core(name).compact(world.core(name).applied_index)
        world.stores[name].commit()
        world.restart(name)
    world.run_until(lambda: world.leader() is not None)
    assert {world.core(name).configuration.members for name in "abcd"} == {
        (Member("a"), Member("b"), Member("c"), learner("d"))
    }


def test_a_follower_far_behind_gets_the_configuration_with_the_snapshot() -> None:
    world = with_learner("abc", "d")
    world.isolate("c")
    assert world.change("a", world.core("a").configuration.with_member(Member("d"))) is not None
    for number in range(30):
        world.propose("a", b"%d" % number)
    world.run(0.5)
    for name in "abd":
        world.core(name).compact(world.core(name).applied_index)
        world.stores[name].commit()
    world.connect("a", "c")
    world.run_until(lambda: world.core("c").snapshot_needed)
    world.install_offered_snapshot("c")
    assert world.core("c").voters == ("a", "b", "c", "d")
    world.run(0.5)
    world.check_nothing_lost()


def test_a_removed_member_disturbs_nobody_and_decides_nothing() -> None:
    world = World("abc", 3)
    world.make_leader("a")
    assert world.change("a", world.core("a").configuration.without("c")) is not None
    world.run(5.0)
    assert world.core("a").may_serve
    assert len(world.leaders) == 1
    world.isolate("b")
    world.propose("a", b"with c only")
    world.run(0.4)
    assert b"with c only" not in world.acknowledged


def test_who_is_removed_does_not_get_the_entry_and_may_still_be_needed() -> None:
    """The leader dies with its change before any other voter has it: the three that are left are a majority of the four."""
    world = World("abcd", 3)
    world.make_leader("a")
    world.disconnect("a", "b")
    world.disconnect("a", "c")
    assert world.change("a", world.core("a").configuration.without("d")) is not None
    world.run(0.1)
    assert "d" in world.core("d").voters
    world.crash("a")
    world.run_until(lambda: world.leader() in ("b", "c", "d"))


def test_only_one_change_is_on_its_way() -> None:
    world = World("abc", 3)
    world.make_leader("a")
    world.isolate("a")
    configuration = world.core("a").configuration
    assert world.change("a", configuration.with_member(learner("d"))) is not None
    assert world.change("a", world.core("a").configuration.with_member(learner("e"))) is None


def disjoint_majorities(protections: Protections) -> World:
    """Leader a adds d and e, and removes b and c, without a word from anybody; b and c go on without a."""
    world = World("abc", 3, protections)
    world.make_leader("a")
    for name in "de":
        world.join(name)
    world.connect_only("ade", "bc")
    configuration = world.core("a").configuration
    for after in (
        configuration.with_member(Member("d")),
        configuration.with_member(Member("d")).with_member(Member("e")),
    ):
        world.change("a", after)
    world.propose("a", b"here")
    world.run(4.0)
    leader = world.leader()
    if leader in ("b", "c"):
        world.propose(leader, b"there")
    world.run(0.5)
    return world


def test_two_changes_at_once_are_refused_and_nothing_is_decided_twice() -> None:
    disjoint_majorities(Protections()).check()


def test_two_changes_at_once_make_two_majorities_without_it() -> None:
    world = disjoint_majorities(Protections(one_change_at_a_time=False, check_quorum=False))
    assert world.violations


def test_a_change_that_was_never_committed_is_taken_back() -> None:
    world = World("abc", 3)
    world.make_leader("a")
    world.isolate("a")
    assert world.change("a", world.core("a").configuration.without("b")) is not None
    assert world.core("a").voters == ("a", "c")
    world.run_until(lambda: world.leader() in ("b", "c"))
    world.propose(world.leader() or "", b"instead")
    for other in "bc":
        world.connect("a", other)
    world.run(1.0)
    assert world.core("a").voters == ("a", "b", "c")
    assert b"instead" in world.payloads("a")
    world.check()


@pytest.mark.parametrize(("protections", "votes"), [(Protections(), 0), (Protections(newcomers_wait=False), 1)])
def test_whoever_knows_of_no_member_does_not_vote(protections: Protections, votes: int) -> None:
    hand = Hand(protections, "")
    hand.connect("b")
    request = peer_service_pb2.RequestVote(term=5, last_log_index=9, last_log_term=4)
    hand.say("b", PeerMessage(sender_term=5, request_vote=request))
    assert len(hand.answers("vote")) == votes


def test_whoever_knows_of_no_member_stands_for_nothing() -> None:
    hand = Hand(members="")
    for _ in range(50):
        hand.tick(0.1)
    assert (hand.core.term, hand.core.is_leader) == (0, False)


def test_the_majority_grows_with_the_first_entry_of_the_change() -> None:
    world = with_learner("a", "b")
    world.isolate("a")
    configuration = Configuration((Member("a"), Member("b")))
    assert world.change("a", configuration) is not None
    world.propose("a", b"needs both")
    world.run(0.3)
    assert b"needs both" not in world.acknowledged
    world.connect("a", "b")
    world.run(2.0)
    assert b"needs both" in world.payloads("b")
