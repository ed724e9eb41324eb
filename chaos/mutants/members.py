"""Mutants of membership and identity: who belongs to the cluster, who votes, and what nobody says who runs this program.

Some protections only count against a member that says what no member of ours says (another program, damaged memory). Their
stories let one node say it.
"""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from unittest.mock import patch

from horologe.chaos.mutants.elections import TWO_LEADERS
from horologe.chaos.mutants.ground import LIVENESS, NODE_STOPPED, Ground, PeerMessage
from horologe.chaos.mutants.log import LOST, OTHER_ENTRY
from horologe.chaos.mutants.mutant import Course, Mutant
from horologe.chaos.sim.world import WorldOptions
from horologe.log.v1 import log_pb2
from horologe.node.admission import Admission, MemberRemovedError, OtherDataError, Verdict
from horologe.peer.v1 import peer_service_pb2
from horologe.raft.core_context import Context
from horologe.raft.core_peers import Peer
from horologe.raft.membership import Member, to_message
from horologe.raft.step import Inbox, Status

NO_WORKERS = WorldOptions(workers=0)
# What the engine would do with it: it unpickles ["add", "n9"].
ADD_A_MEMBER = b"\x02(lp0\nVadd\np1\naVn9\np2\na."


def two_changes_at_once(ground: Ground) -> None:
    """n1 leads, and makes n4 and n5 voters without a word from the others; they go on without n1."""
    ground.begin("n1")
    everybody = ["n1", "n2", "n3", "n4", "n5"]
    for name in ("n4", "n5"):
        ground.add_node(name, everybody, join=True).start()
    ground.connect_only("n1 n4 n5", "n2 n3")
    replica = ground.replica("n1")

    def change_twice(now: float, wall_ms: int) -> None:
        # In place of the leader's own part (reconfiguration.py), which would wait by itself.
        del now
        vars(replica).pop("_reconfigure")
        configuration = replica._core.configuration
        for name in ("n4", "n5"):
            configuration = configuration.with_member(Member(name, "", f"{name}:7500"))
            change = log_pb2.ChangeMembership(configuration=to_message(configuration))
            replica._append([log_pb2.Command(change_membership=change)], wall_ms)

    vars(replica)["_reconfigure"] = change_twice
    ground.propose("n1", 3, text="here")
    ground.run(1.0)
    ground.wait(lambda: ground.leads("n2") or ground.leads("n3"), "a leader of those who know nothing of it")
    ground.propose(ground.leader() or "", 3, text="there")
    ground.run(2.0)
    ground.heal()
    ground.wait(lambda: len(_agreed(ground, "n1", "n2", "n3")) == 1, "the three agree")


def _agreed(ground: Ground, *names: str) -> set[object]:
    statuses = [ground.nodes[name].status for name in names]
    return {None if status is None else (status.leader, status.revision, status.last_index) for status in statuses}


def a_folder_is_lost(ground: Ground) -> None:
    """n1 and n3 have decided something; n1 dies, and n3 comes back with an empty folder. n2 knows nothing of it."""
    _lose_a_folder(ground, join=False)


def a_folder_is_lost_and_its_node_joins(ground: Ground) -> None:
    """As above, but n3 is told to join, as a new node is."""
    _lose_a_folder(ground, join=True)


def _lose_a_folder(ground: Ground, *, join: bool) -> None:
    ground.stops_expected = (OtherDataError,)
    ground.begin("n1")
    ground.connect_only("n1 n3", "n2")
    ground.propose("n1", 5, text="decided")
    ground.run(0.5)
    ground.crash("n1")
    ground.crash("n3")
    ground.network.break_connections("n1", "n2")
    ground.run(0.1)
    node = ground.nodes["n3"]
    shutil.rmtree(node.config.data_dir)
    node.config = node.config.model_copy(update={"join": join})
    node._folder_id = f"{ground.random.getrandbits(64):016x}"
    ground.heal()
    ground.restart("n3")
    ground.run(5.0)
    ground.restart("n1")
    ground.wait(lambda: ground.leader() in ("n1", "n2") and len(_agreed(ground, "n1", "n2")) == 1, "n1 and n2 agree")


def any_folder_will_do(ground: Ground) -> AbstractContextManager[object]:
    """Whoever has a member's name is that member."""
    del ground

    def judge(admission: Admission, hello: peer_service_pb2.Hello, own: object, status: object) -> Verdict:
        del admission, hello, own, status
        return Verdict()

    return patch.object(Admission, "_judge_membership", judge)


def a_learner_votes_unasked(ground: Ground) -> None:
    """The leader dies. n1 and n2 stand for election, cut off from each other, and a learner gives both its vote, unasked."""
    ground.begin("n3")
    ground.add_node("n4", ["n1", "n2", "n3", "n4"], join=True).start()
    put = log_pb2.ChangeMembership(put=log_pb2.Member(name="n4", peer_address="n4:7500"))
    ground.submit("n3", Inbox(commands=[log_pb2.Command(change_membership=put)]))
    ground.wait(lambda: ground.is_converged() and "n4" in ground.core("n1").configuration.by_name, "n4 is a learner")
    ground.run(1.0)
    ground.crash("n3")
    ground.put_off_elections("n1", "n2")
    ground.connect_only("n1 n4", "n2 n4")
    for name in ("n1", "n2"):
        ground.stand_for_election(name)
    ground.run(0.05)
    learner = ground.core("n4")._context
    for name in ("n1", "n2"):
        vote = peer_service_pb2.Vote(term=ground.core(name).term)
        learner.post(learner.peers[name], PeerMessage(vote=vote))
    ground.poke("n4")
    ground.run(0.5)
    ground.heal()
    ground.restart("n3")
    ground.wait(ground.is_converged, "all agree")


def entries_that_do_not_follow(ground: Ground) -> None:
    """The leader sends an entry under a wrong index, once."""
    ground.begin("n1")
    ground.run(1.0)
    spoiled: list[int] = []

    def spoil(sender: str, peer: Peer, message: PeerMessage, context: Context) -> None:
        del context
        entries = message.append_entries.entries
        if (sender, peer.name) == ("n1", "n3") and entries and peer.connected and not spoiled:
            entries[-1].index += 1
            spoiled.append(entries[-1].index)

    ground.sent.append(spoil)
    ground.propose("n1", 3)
    ground.run(1.0)
    ground.propose("n1", 3)
    ground.wait(ground.is_converged, "all agree")


def an_entry_of_the_engine(ground: Ground) -> None:
    """The leader sends n3 an entry that changes the engine's own membership, and dies."""
    ground.begin("n1")
    ground.run(1.0)
    context = ground.core("n1")._context
    last = context.journal.last_index
    append = peer_service_pb2.AppendEntries(
        term=context.engine.term,
        commit_index=context.engine.commit_index,
        previous_index=last,
        previous_term=context.journal.last_term,
        round=1,
        entries=[peer_service_pb2.LogEntry(index=last + 1, term=context.engine.term, command=ADD_A_MEMBER)],
    )
    context.post(context.peers["n3"], PeerMessage(append_entries=append))
    ground.poke("n1")
    # n1 must die before it hears that n3 has an entry which it has not got itself; a sound n3 takes no such entry.
    for _ in range(20):
        if ground.core("n3").last_index == last:
            ground.run(0.001)
    ground.crash("n1")
    ground.wait(lambda: ground.leads("n2") or ground.leads("n3"), "a leader without n1", seconds=10.0)
    ground.restart("n1")
    ground.wait(ground.is_converged, "all agree")


def a_member_is_removed_while_it_is_down(ground: Ground) -> None:
    """n3 is removed while it is down, and comes back without knowing it."""
    ground.stops_expected = (MemberRemovedError,)
    ground.begin("n1")
    ground.crash("n3")
    ground.run(1.0)
    remove = log_pb2.ChangeMembership(remove="n3")
    ground.submit("n1", Inbox(commands=[log_pb2.Command(change_membership=remove)]))
    ground.wait(lambda: ground.core("n2").voters == ("n1", "n2"), "n3 is removed")
    ground.run(1.0 + ground.random.random())
    ground.restart("n3")
    ground.wait(lambda: not ground.nodes["n3"].is_up, "n3 hears it and stops", seconds=10.0)


def the_removed_may_stay(ground: Ground) -> AbstractContextManager[object]:
    """Nobody tells a node that it was removed."""
    del ground
    return patch.object(Status, "removed", ())


TWO_CHANGES = Course("two changes of the members at once", two_changes_at_once, NO_WORKERS)
LOST_FOLDER = Course("a member's folder is lost", a_folder_is_lost, NO_WORKERS)
LOST_AND_JOINS = Course("a member's folder is lost, and it joins", a_folder_is_lost_and_its_node_joins, NO_WORKERS)
UNASKED = Course("a learner votes unasked", a_learner_votes_unasked, NO_WORKERS)
NONSENSE = Course("entries that do not follow", entries_that_do_not_follow, NO_WORKERS)
ENGINE_ENTRY = Course("an entry of the engine's own", an_entry_of_the_engine, NO_WORKERS)


REMOVED = Course("a member is removed while it is down", a_member_is_removed_while_it_is_down, NO_WORKERS)
MUTANTS = (
    Mutant(
        "removed_members_refused",
        "A node that was removed may connect like any other",
        REMOVED,
        (LIVENESS,),
        patch=the_removed_may_stay,
    ),
    Mutant(
        "one_change_at_a_time",
        "The members change again before the change before is applied (the leader's part, which waits by itself, is passed over)",
        TWO_CHANGES,
        (LOST, OTHER_ENTRY),
        ("one_change_at_a_time",),
    ),
    Mutant(
        "newcomers_wait",
        "A member that knows of no configuration stands for election and votes",
        LOST_AND_JOINS,
        (TWO_LEADERS, LOST),
        ("newcomers_wait",),
    ),
    Mutant(
        "folder_id_checked",
        "Whoever has a member's name is that member, whatever its folder has forgotten",
        LOST_FOLDER,
        (LOST,),
        patch=any_folder_will_do,
    ),
    Mutant(
        "voters_only",
        "Every vote counts. Nobody asks a learner for one, so here a learner votes unasked",
        UNASKED,
        (TWO_LEADERS,),
        ("voters_only",),
    ),
    Mutant(
        "messages_validated",
        "Messages reach the engine whatever they say. Here a member sends an entry under a wrong index",
        NONSENSE,
        (NODE_STOPPED,),
        ("messages_validated",),
    ),
    Mutant(
        "static_membership",
        "The engine takes its own kind of membership change from the log; and messages are not validated, which would hide it",
        ENGINE_ENTRY,
        (LIVENESS,),
        ("static_membership", "messages_validated"),
    ),
)
