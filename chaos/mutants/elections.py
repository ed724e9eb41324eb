"""Mutants of elections: who may lead, who may disturb a leader that works, and what a vote is worth."""

from __future__ import annotations

from horologe.chaos.mutants.ground import LIVENESS, Ground
from horologe.chaos.mutants.log import LOST, NO_MAJORITY
from horologe.chaos.mutants.mutant import Course, Mutant
from horologe.chaos.sim.observer import InvariantBrokenError
from horologe.chaos.sim.world import WorldOptions

TWO_LEADERS = "one leader per term"
DISTURBED = "a leader that a majority follows goes on leading"
FIVE = WorldOptions(nodes=5, workers=0)


def an_acknowledgement_of_an_earlier_term(ground: Ground) -> None:
    """n2 acknowledges to n1 in one term; the answers arrive when n1 leads again, and n2's log has become another one."""
    ground.begin("n1")
    ground.put_off_elections("n2", "n3", "n4", "n5")
    ground.connect_only("n1 n2", "n3 n4 n5")
    ground.network.block("n2", "n1")
    ground.propose("n1", 4, text="first")
    # Until nobody stands by n1 any more.
    ground.run(0.6)
    ground.stand_for_election("n3")
    ground.wait(lambda: ground.leads("n3"), "n3 leads")
    ground.propose("n3", 1, text="second")
    # n2 hears n3 and nobody else; what it has said to n1 is still on its way.
    ground.connect_only("n1 n3 n4 n5", "n2")
    ground.network.heal("n3", "n2")
    ground.network.heal("n2", "n3")
    ground.wait(lambda: ground.core("n2").leader == "n3" and ground.core("n1").leader == "n3", "all follow n3")
    ground.run(0.3)
    # n3 falls silent. n1 leads again, and reaches n4 alone; n2 reaches n1 alone.
    ground.put_off_elections("n2", "n4", "n5")
    ground.lost = lambda sender, receiver, message: (
        sender == "n1" and receiver in ("n2", "n5") and message.HasField("append_entries")
    )
    ground.connect_only("n1 n4 n5", "n2", "n3")
    ground.put_off_elections("n1")
    ground.run(0.6)
    ground.stand_for_election("n1")
    ground.wait(lambda: ground.core("n1").is_leader, "n1 leads again")
    ground.propose("n1", 1, text="third")
    ground.network.heal("n2", "n1")
    ground.run(0.3)
    ground.crash("n1")
    ground.crash("n4")
    ground.lost = lambda sender, receiver, message: False
    ground.connect_only("n2 n3 n5")
    for name in ("n2", "n3", "n5"):
        ground.put_off_elections(name, seconds=ground.random.random())
        ground.poke(name)
    ground.wait(lambda: ground.leader() in ("n2", "n3", "n5"), "a leader without n1 and n4")
    ground.propose(ground.leader() or "", 6, text="fourth")
    ground.restart("n1")
    ground.restart("n4")
    ground.heal()
    ground.wait(ground.is_converged, "all agree")


def a_split_vote_with_repeated_votes(ground: Ground) -> None:
    """The leader dies, the four others are cut in two halves, and one of each half stands for election. Votes come twice."""
    ground.begin("n5")
    ground.crash("n5")
    ground.put_off_elections("n1", "n2", "n3", "n4")
    ground.connect_only("n1 n2", "n3 n4")
    # Until nobody stands by the old leader any more.
    ground.run(1.5)
    ground.network.faults.repeated = 1.0
    ground.stand_for_election("n1")
    ground.stand_for_election("n3")
    ground.run(1.0)
    ground.network.faults.repeated = 0.0
    ground.restart("n5")
    ground.heal()
    ground.wait(ground.is_converged, "all agree")


def a_follower_comes_back(ground: Ground) -> None:
    """A follower is cut off for a while and comes back. Nothing was wrong with the others."""
    ground.begin("n1")
    before = ground.core("n1").term
    ground.connect_only("n1 n2", "n3")
    ground.run(4 + ground.random.random())
    ground.heal()
    ground.run(4)
    _expect_leader(ground, "n1", before)


def a_follower_does_not_hear_the_leader(ground: Ground) -> None:
    """One link works in one direction only: the leader's words do not reach a follower that everybody hears."""
    ground.begin("n1")
    ground.run(1.0)
    before = ground.core("n1").term
    ground.network.block("n1", "n3")
    ground.run(5 + ground.random.random())
    ground.heal()
    ground.run(1)
    _expect_leader(ground, "n1", before)


def _expect_leader(ground: Ground, name: str, term: int) -> None:
    if not ground.leads(name) or ground.core(name).term != term:
        story = f"{name} led term {term}; now {ground.leader()} leads term {ground.core(name).term}"
        raise InvariantBrokenError(DISTURBED, story)


def a_leader_that_hears_nobody(ground: Ground) -> None:
    """The leader's words reach the others, and theirs do not reach it: it can decide nothing, and keeps them quiet."""
    ground.begin("n1")
    ground.network.isolate(["n2", "n3"], ["n1"], one_way=True)
    ground.wait(lambda: ground.leads("n2") or ground.leads("n3"), "a leader that can decide", seconds=5.0)


def a_hand_over_that_is_lost(ground: Ground) -> None:
    """n3 is told to take over, and its requests for votes are lost: it is in a term of its own, and nobody knows."""
    ground.begin("n1")
    ground.lost = lambda sender, receiver, message: (
        sender == "n3" and message.WhichOneof("kind") in ("request_vote", "request_pre_vote")
    )
    ground.core("n1").transfer_leadership("n3")
    ground.poke("n1")
    ground.wait(lambda: ground.core("n3").term > ground.core("n1").term, "n3 is alone in its term")
    ground.run(ground.core("n1").settings.election_timeout_seconds_max + 0.1)
    ground.lost = lambda sender, receiver, message: False
    ground.wait(ground.is_converged, "n3 follows again", seconds=10.0)


STALE = Course("an acknowledgement of an earlier term", an_acknowledgement_of_an_earlier_term, FIVE)
SPLIT = Course("a split vote, and votes come twice", a_split_vote_with_repeated_votes, FIVE)
COMES_BACK = Course("a follower comes back", a_follower_comes_back)
DEAF = Course("a follower does not hear the leader", a_follower_does_not_hear_the_leader)
UNHEARD = Course("a leader that hears nobody", a_leader_that_hears_nobody)
HAND_OVER = Course("a hand-over that is lost", a_hand_over_that_is_lost)


MUTANTS = (
    Mutant(
        "stale_replies_dropped",
        "An acknowledgement of an earlier term counts for the log of this one",
        STALE,
        (NO_MAJORITY, LOST),
        ("stale_replies_dropped",),
    ),
    Mutant(
        "votes_counted_once",
        "A vote that comes twice counts twice; and repeated messages are taken in, which would hide it",
        SPLIT,
        (TWO_LEADERS,),
        ("votes_counted_once", "epochs_checked"),
    ),
    Mutant(
        "epochs_checked",
        "Repeated messages are taken in; and a vote that comes twice counts twice, since otherwise a repetition does no harm",
        SPLIT,
        (TWO_LEADERS,),
        ("epochs_checked", "votes_counted_once"),
    ),
    Mutant(
        "term_notice",
        "Nobody tells a member of an older term that there is a newer one",
        HAND_OVER,
        (LIVENESS,),
        ("term_notice",),
    ),
    Mutant(
        "pre_vote",
        "A member begins a term without asking whether it could win",
        COMES_BACK,
        (DISTURBED,),
        ("pre_vote",),
    ),
    Mutant(
        "leader_stickiness",
        "A member votes for others although it hears a leader that works",
        DEAF,
        (DISTURBED,),
        ("leader_stickiness",),
    ),
    Mutant(
        "check_quorum",
        "A leader that nobody answers goes on leading",
        UNHEARD,
        (LIVENESS,),
        ("check_quorum",),
    ),
)
