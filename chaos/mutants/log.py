"""Mutants of replication: what a follower keeps and claims, and which replies a leader believes."""

from __future__ import annotations

from horologe.chaos.mutants.ground import (
    APPLIED_KEPT,
    LIVENESS,
    NODE_STOPPED,
    SENT_AFTER_ACKNOWLEDGED,
    SENT_AGAIN,
    SENT_THRICE,
    Ground,
    PeerMessage,
    Repetitions,
)
from horologe.chaos.mutants.mutant import Course, Mutant
from horologe.chaos.sim.world import WorldOptions

# What the engine does by itself with replies.
ENGINE_REPLIES = ("resets_in_order", "resets_clamped", "next_index_kept")
NO_MAJORITY = "committed is on the disks of a majority"
LOST = "leader completeness"
OTHER_ENTRY = "state machine safety"
OTHER_RESULT = "same results everywhere"
QUIET = {"election_timeout_ms_min": 3000, "election_timeout_ms_max": 6000, "lease_term_ms": 60_000}


def a_volley_is_lost(ground: Ground) -> None:
    """The leader's volley goes down with its connection; on the next one, which is slow, each heartbeat brings a reset."""
    ground.begin("n1")
    Repetitions(ground)
    _lose_a_volley(ground)
    ground.run(1.5 + ground.random.random())
    ground.heal()
    ground.wait(ground.is_converged, "all agree")


def two_resets_and_a_dead_leader(ground: Ground) -> None:
    """As above, but only the first message of the second repetition arrives; when all is acknowledged, the leader dies."""
    ground.begin("n1")
    base = _lose_a_volley(ground)
    repetitions = 0

    def lost(sender: str, receiver: str, message: PeerMessage) -> bool:
        nonlocal repetitions
        if (sender, receiver) == ("n1", "n2") and message.append_entries.entries:
            repetitions += message.append_entries.previous_index == base
            return repetitions == 2 and message.append_entries.previous_index != base
        return False

    ground.lost = lost
    ground.run(1.5 + ground.random.random())
    ground.crash("n1")
    ground.heal()
    ground.wait(lambda: ground.leads("n2") or ground.leads("n3"), "a leader without n1")
    ground.propose(ground.leader() or "", 20)
    ground.restart("n1")
    ground.wait(ground.is_converged, "all agree")


def _lose_a_volley(ground: Ground) -> int:
    """n1 leads, n3 is away. Answers the index of the last entry before the volley."""
    ground.connect_only("n1 n2")
    ground.run(0.5)
    base = ground.core("n1").last_index
    ground.network.block("n1", "n2")
    ground.propose("n1", 12, text="." * 100)
    ground.network.break_connections("n1", "n2")
    ground.run(0.1)
    ground.network.slow_down("n1", "n2", 0.12)
    ground.network.slow_down("n2", "n1", 0.12)
    ground.network.heal("n1", "n2")
    return base


def a_slow_link_under_load(ground: Ground) -> None:
    """Entry after entry goes over a link on which an answer takes long."""
    ground.begin("n1")
    Repetitions(ground)
    ground.network.slow_down("n1", "n2", 0.1 + ground.random.random() / 10)
    ground.network.slow_down("n2", "n1", 0.1)
    ground.propose("n1", 50)
    ground.heal()
    ground.wait(ground.is_converged, "all agree")


def a_follower_comes_back_under_load(ground: Ground) -> None:
    """A follower that was down comes back over slow links, while entry after entry comes in."""
    ground.begin("n1")
    ground.crash("n3")
    ground.propose("n1", 10)
    ground.network.slow_down("n1", "n3", 0.12)
    ground.network.slow_down("n3", "n1", 0.12 + ground.random.random() / 50)
    ground.restart("n3")
    ground.propose("n1", 150)
    ground.heal()
    ground.wait(ground.is_converged, "all agree")


def a_follower_knows_less_than_it_has(ground: Ground) -> None:
    """The follower has acknowledged an entry and not heard that it is committed; then a volley is lost with its connection."""
    ground.begin("n1")
    Repetitions(ground)
    ground.connect_only("n1 n2")
    ground.lost = lambda sender, receiver, message: (
        (sender, receiver) == ("n1", "n2") and message.HasField("append_entries") and not message.append_entries.entries
    )
    ground.propose("n1", 4)
    ground.run(0.05)
    ground.network.block("n1", "n2")
    ground.propose("n1", 4)
    ground.network.break_connections("n1", "n2")
    ground.run(0.1)
    ground.lost = lambda sender, receiver, message: False
    ground.heal()
    ground.wait(ground.is_converged, "all agree")


def _is_heartbeat(message: PeerMessage) -> bool:
    return message.HasField("append_entries") and not message.append_entries.entries


def a_long_conflict(ground: Ground) -> None:
    """n1 leads alone and appends what nobody else has; the others go on with another leader. Links are slow when it is back."""
    ground.begin("n1")
    ground.connect_only("n1", "n2 n3")
    ground.propose("n1", 60, text="alone")
    ground.wait(lambda: ground.leads("n2") or ground.leads("n3"), "a leader without n1")
    ground.propose(ground.leader() or "", 60, text="together")
    for other in ("n2", "n3"):
        ground.network.break_connections("n1", other)
    ground.run(0.5)
    ground.heal()
    for other in ("n2", "n3"):
        ground.network.slow_down("n1", other, 0.05)
        ground.network.slow_down(other, "n1", 0.05)
    ground.wait(ground.is_converged, "the conflict is repaired", seconds=4.0)


def orphans_behind_a_compacted_log(ground: Ground) -> None:
    """n1 leads alone and appends what nobody else has. The next leader has dropped the part of the log that n1 would ask for.

    It therefore only asks n1 whether it has its first entry, which n1 has, with the orphans behind it; and n3 is gone.
    """
    ground.begin("n1")
    # The others do not hear what is committed, and n1 does not hear what they have.
    ground.lost = lambda sender, receiver, message: (
        (sender == "n1" and _is_heartbeat(message)) or (receiver == "n1" and message.HasField("append_reply"))
    )
    ground.propose("n1", 30, text="shared")
    ground.lost = lambda sender, receiver, message: False
    ground.connect_only("n1", "n2 n3")
    ground.propose("n1", 60, text="orphan")
    ground.wait(lambda: ground.leads("n2") or ground.leads("n3"), "a leader without n1")
    leader = ground.leader() or ""
    ground.propose(leader, 5, text="kept")
    ground.core(leader).compact(ground.core(leader).applied_index - 20)
    other = "n3" if leader == "n2" else "n2"
    ground.crash(other)
    ground.lost = lambda sender, receiver, message: message.HasField("snapshot_offer")
    for one in ("n2", "n3"):
        ground.network.break_connections("n1", one)
    ground.run(0.2)
    ground.heal()
    ground.run(0.2)
    ground.propose(leader, 5, text="alone")
    ground.run(1.0)
    ground.lost = lambda sender, receiver, message: False
    ground.restart(other)
    ground.wait(ground.is_converged, "all agree")


SMALL_MESSAGES = {"append_bytes_max": 400}
LOST_VOLLEY = Course(
    "a volley is lost on a slow link", a_volley_is_lost, WorldOptions(node_options=QUIET), SMALL_MESSAGES
)
DEAD_LEADER = Course(
    "two resets and a dead leader", two_resets_and_a_dead_leader, WorldOptions(node_options=QUIET), SMALL_MESSAGES
)
SLOW_LINK = Course("a slow link under load", a_slow_link_under_load)
UNDER_LOAD = Course("a follower comes back under load", a_follower_comes_back_under_load)
KNOWS_LESS = Course("a follower knows less than it has", a_follower_knows_less_than_it_has)
LONG_CONFLICT = Course("a long conflict over slow links", a_long_conflict)
ORPHANS = Course("orphans behind a compacted log", orphans_behind_a_compacted_log)


TAIL = ("keep_matching_tail", *ENGINE_REPLIES)
MUTANTS = (
    Mutant(
        "keep_matching_tail",
        "A follower deletes what matches, too; and resets are believed in any order, without which it would not come to that",
        DEAD_LEADER,
        (NO_MAJORITY, LOST),
        TAIL,
    ),
    Mutant(
        "journal_guarded",
        "Applied entries may be truncated; so may what matches, and resets are believed in any order, else nobody would",
        UNDER_LOAD,
        (APPLIED_KEPT,),
        ("journal_guarded", *TAIL),
    ),
    Mutant(
        "acknowledge_only_verified",
        "A follower acknowledges all that it has, not what the message has verified",
        ORPHANS,
        (NO_MAJORITY, NODE_STOPPED),
        ("acknowledge_only_verified",),
    ),
    Mutant(
        "commit_only_verified",
        "A follower commits as far as the leader has, not as far as the message has verified",
        ORPHANS,
        (OTHER_ENTRY, OTHER_RESULT),
        ("commit_only_verified",),
    ),
    Mutant(
        "resets_in_order",
        "Every reset is believed, whichever message it answers",
        LOST_VOLLEY,
        (SENT_THRICE,),
        ("resets_in_order",),
    ),
    Mutant(
        "resets_clamped",
        "A reset may go below what the follower has acknowledged",
        KNOWS_LESS,
        (SENT_AFTER_ACKNOWLEDGED,),
        ("resets_clamped",),
    ),
    Mutant(
        "reset_hint_at_commit",
        "A follower asks to go back by one entry per round trip",
        LONG_CONFLICT,
        (LIVENESS,),
        ("reset_hint_at_commit",),
    ),
    Mutant(
        "next_index_kept",
        "The answer to an older message moves the leader back to what it has sent already",
        SLOW_LINK,
        (SENT_AGAIN,),
        ("next_index_kept",),
    ),
)
