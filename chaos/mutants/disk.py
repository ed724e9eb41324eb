"""Mutants of what a node owes its disk: nothing leaves before it is durable, nothing is forgotten, and damage is noticed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from horologe.chaos.mutants.ground import LOOK_SECONDS, NODE_STOPPED, TERM_KEPT, VOTE_KEPT, Ground
from horologe.chaos.mutants.log import LOST, NO_MAJORITY, OTHER_RESULT
from horologe.chaos.mutants.mutant import Course, Mutant
from horologe.chaos.sim.disk import DiskFault, SimStore
from horologe.chaos.sim.world import WorldOptions
from horologe.raft import snapshot
from horologe.raft.cipher import Cipher
from horologe.raft.core import RaftCore
from horologe.raft.journal import HardState, Journal, _seal_entry
from horologe.raft.replica import Replica
from horologe.raft.step import Inbox, Outbox
from horologe.raft.store import Store, StoreError

NO_WORKERS = WorldOptions(workers=0)
ROUNDS = 6
"""How often the fault happens in one world."""


# --- worlds -----------------------------------------------------------------------------------------------------------


def power_cuts_before_the_commit(ground: Ground) -> None:
    """n3 is away, so n1 needs n2, whose power fails before the commit of what it was sent. Again and again."""
    _fail_commits(ground, DiskFault.CUT_BEFORE)


def commits_that_fail(ground: Ground) -> None:
    """As above, but n2's disk says no."""
    ground.stops_expected = (StoreError,)
    _fail_commits(ground, DiskFault.WRITE_FAILS)


def _fail_commits(ground: Ground, fault: DiskFault) -> None:
    ground.begin("n1")
    ground.connect_only("n1 n2")
    ground.run(0.5)
    for _ in range(ROUNDS):
        ground.nodes["n2"].disk.next_fault = fault
        ground.propose("n1", 2)
        ground.run(0.1 + ground.random.random() / 5)
        ground.restart("n2")
        ground.wait(lambda: ground.leader() is not None and ground.core("n2").leader is not None, "n2 is back")
    ground.heal()
    ground.wait(ground.is_converged, "all agree")


def restarts(ground: Ground) -> None:
    """Every node is killed and started again, in turn, while entries come in."""
    ground.begin("n1")
    for name in ground.nodes:
        ground.propose(ground.leader() or "", 5)
        ground.restart(name)
        ground.run(1.5 + ground.random.random())
    ground.wait(ground.is_converged, "all agree")


def something_fails_while_applying(ground: Ground) -> None:
    """Applying an entry fails a few times on n2, for a reason that has nothing to do with the entry."""
    ground.stops_expected = (OSError,)
    ground.begin("n1")
    ground.connect_only("n1 n2")
    ground.run(0.5)
    machine = ground.replica("n2")._machine
    apply = machine.apply
    failures = iter(range(5))

    def fail(*arguments: Any) -> Any:
        if next(failures, None) is None:
            return apply(*arguments)
        raise OSError("no memory for a moment")

    vars(machine)["apply"] = fail
    for number in range(200):
        ground.submit("n1", Inbox(commands=[ground.harmless(f"{number}")]))
        ground.run(0.0005)
    ground.run(1.0)
    ground.restart("n2")
    ground.heal()
    ground.wait(ground.is_converged, "all agree")


def a_snapshot_of_an_older_term(ground: Ground) -> None:
    """While n3 fetches a snapshot from n1, over a slow link, n2 is elected with n3's vote."""
    ground.begin("n1")
    ground.crash("n3")
    ground.propose("n1", 60)
    ground.run(0.2)
    for name in ("n1", "n2"):
        ground.core(name).compact(ground.core(name).applied_index)
    ground.network.slow_down("n1", "n3", 0.4)
    ground.restart("n3")
    ground.run(LOOK_SECONDS)
    ground.wait(lambda: _is_fetching(ground, "n3"), "n3 fetches a snapshot")
    ground.network.block("n1", "n3")
    ground.put_off_elections("n2", "n3")
    ground.lost = lambda sender, receiver, message: (sender, receiver) == ("n1", "n2")
    ground.run(0.6)
    ground.stand_for_election("n2")
    ground.wait(lambda: ground.core("n3").hard_state.voted_for == "n2", "n3 votes for n2")
    ground.network.heal("n1", "n3")
    ground.run(2.0)
    ground.lost = lambda sender, receiver, message: False
    ground.heal()
    ground.wait(ground.is_converged, "all agree")


def a_snapshot_that_is_out_of_date(ground: Ground) -> None:
    """While n3 fetches a snapshot from n1, which is slow, n2 is elected and sends n3 its log; with n3 it decides more."""
    ground.begin("n1")
    ground.crash("n3")
    ground.propose("n1", 60)
    ground.run(0.2)
    ground.core("n1").compact(ground.core("n1").applied_index)
    ground.network.slow_down("n1", "n3", 0.4)
    ground.restart("n3")
    ground.run(LOOK_SECONDS)
    ground.wait(lambda: _is_fetching(ground, "n3"), "n3 fetches a snapshot")
    ground.network.block("n1", "n3")
    ground.put_off_elections("n2", "n3")
    ground.lost = lambda sender, receiver, message: "n1" in (sender, receiver)
    ground.run(0.6)
    ground.stand_for_election("n2")
    ground.wait(lambda: ground.leads("n2") and ground.core("n3").leader == "n2", "n3 follows n2")
    ground.propose("n2", 10, text="decided without n1")
    ground.run(0.2)
    ground.network.heal("n1", "n3")
    ground.run(1.0)
    ground.crash("n2")
    ground.lost = lambda sender, receiver, message: False
    ground.heal()
    ground.wait(lambda: ground.leader() in ("n1", "n3"), "a leader without n2", seconds=30.0)
    ground.propose(ground.leader() or "", 5)
    ground.restart("n2")
    ground.wait(ground.is_converged, "all agree")


def _is_fetching(ground: Ground, name: str) -> bool:
    node = ground.nodes[name].node
    assert node is not None
    task = node._peers._fetching
    return task is not None and not task.done()


# --- mutants ----------------------------------------------------------------------------------------------------------


def release_before_commit(ground: Ground) -> AbstractContextManager[object]:
    """What a step has to say leaves before it is durable."""

    step = Replica._step

    def release(replica: Replica, inbox: Inbox, now: float, wall_ms: int) -> Outbox:
        outbox = step(replica, inbox, now, wall_ms)
        node = ground.nodes[replica.settings.name].node
        if node is not None:
            node._deliver(outbox)
        return Outbox()

    return patch.object(Replica, "_step", release)


def go_on_after_a_failed_commit(ground: Ground) -> AbstractContextManager[object]:
    """The disk said no, and the step's messages leave all the same."""
    del ground
    whole = SimStore.commit

    def commit(store: SimStore) -> None:
        try:
            whole(store)
        except StoreError:
            store.abort()

    return patch.object(SimStore, "commit", commit)


def try_a_failed_step_again(ground: Ground) -> AbstractContextManager[object]:
    """Whatever a step raises, the next one follows."""
    del ground
    whole = Replica.step

    def step(replica: Replica, inbox: Inbox, now: float, wall_ms: int) -> Outbox:
        try:
            return whole(replica, inbox, now, wall_ms)
        except OSError:
            return Outbox()

    return patch.object(Replica, "step", step)


def forget_the_vote(ground: Ground) -> AbstractContextManager[object]:
    """Term and vote are kept in memory only."""
    del ground

    def set_current_term(journal: Journal, term: int, voted_for: str | None) -> None:
        journal._hard_state = HardState(term, voted_for)

    return patch.object(Journal, "setCurrentTerm", set_current_term)


def write_entries_later(ground: Ground) -> AbstractContextManager[object]:
    """An entry reaches the disk with the entry after it."""
    del ground
    late: dict[int, Callable[[], None]] = {}

    def add(journal: Journal, command: bytes, index: int, term: int) -> None:
        journal._items.append((command, index, term))
        journal._note_configuration(journal._items[-1])
        write = late.pop(id(journal), None)
        if write is not None:
            write()
        late[id(journal)] = lambda: journal._store.log_put(index, term, _seal_entry(command, index, term))

    return patch.object(Journal, "add", add)


def keep_the_senders_vote(ground: Ground) -> AbstractContextManager[object]:
    """A snapshot is taken over as it is, with the term and the vote of the member that it comes from."""
    del ground
    own = snapshot.make_own

    def make_own(
        folder: Path, node: str, id_: str, position: snapshot.Position, state: HardState, cipher: Cipher
    ) -> None:
        store = Store(folder, node, adopt=True, id_=id_, open_cipher=lambda: cipher)
        try:
            copied = Journal(store).hard_state
        finally:
            store.close()
        own(folder, node, id_, position, copied, cipher)

    return patch.object(snapshot, "make_own", make_own)


def install_whatever_comes(ground: Ground) -> AbstractContextManager[object]:
    """A snapshot takes the place of the own state, however far that has come meanwhile."""
    del ground
    return patch.object(RaftCore, "may_install", lambda *arguments: True)


CUTS = Course("power cuts before the commit", power_cuts_before_the_commit, NO_WORKERS)
FAILED_COMMITS = Course("commits that fail", commits_that_fail, NO_WORKERS)
RESTARTS = Course("restarts", restarts, NO_WORKERS)
FAILS_ONCE = Course("something fails while applying", something_fails_while_applying, NO_WORKERS)
OLD_SNAPSHOT = Course("a snapshot of an older term", a_snapshot_of_an_older_term, NO_WORKERS)


OUT_OF_DATE = Course("a snapshot that is out of date", a_snapshot_that_is_out_of_date, NO_WORKERS)
MUTANTS = (
    Mutant(
        "old_snapshots_refused",
        "A snapshot takes the place of the own state, however far that has come meanwhile",
        OUT_OF_DATE,
        (LOST, NO_MAJORITY),
        patch=install_whatever_comes,
    ),
    Mutant(
        "commit_before_release",
        "What a step has to say leaves before its commit",
        CUTS,
        (NO_MAJORITY,),
        patch=release_before_commit,
    ),
    Mutant(
        "entries_durable",
        "An entry is acknowledged first and written with the one after it",
        CUTS,
        (NO_MAJORITY,),
        patch=write_entries_later,
    ),
    Mutant(
        "vote_durable",
        "Term and vote are kept in memory only",
        RESTARTS,
        (TERM_KEPT, VOTE_KEPT),
        patch=forget_the_vote,
    ),
    Mutant(
        "failed_commit_stops",
        "A step whose commit has failed is released all the same",
        FAILED_COMMITS,
        (NO_MAJORITY,),
        patch=go_on_after_a_failed_commit,
    ),
    Mutant(
        "failures_stop_the_core",
        "After an error the core takes calls; and the node tries again, which the core would not let it",
        FAILS_ONCE,
        (NO_MAJORITY, NODE_STOPPED),
        ("failures_stop_the_core",),
        try_a_failed_step_again,
    ),
    Mutant(
        "applied_index_restored",
        "After a restart the log is applied from its beginning",
        RESTARTS,
        (NODE_STOPPED,),
        ("applied_index_restored",),
    ),
    Mutant(
        "apply_in_sequence",
        "Entries are applied whatever was applied before; and after a restart from the beginning of the log",
        RESTARTS,
        (NODE_STOPPED, OTHER_RESULT),
        ("apply_in_sequence", "applied_index_restored"),
    ),
    Mutant(
        "snapshot_keeps_own_vote",
        "With a snapshot a member takes over the term and the vote of the sender",
        OLD_SNAPSHOT,
        (TERM_KEPT, VOTE_KEPT),
        patch=keep_the_senders_vote,
    ),
)
