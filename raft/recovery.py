"""A cluster that begins with the data of another: of one that has lost its majority for good, or of a backup.

In the first case one member goes on alone, as another cluster with this one's data.

This breaks what Raft promises, on purpose and knowingly: what only the lost members had is gone, and what is in this member's
log counts as committed although no majority may have had it. What must not happen is that the two lives are mistaken for one
another. So the new cluster has another identity, begins in a newer term at an index that the old one has not come to (tokens and
revisions are indexes), and leaves a gap in the numbers that it gives away. The log before is dropped, as after a snapshot. A
cluster that is restored from a backup does the same, and is paused: what is due is decided when people have looked at it.

Pure: the caller owns the transaction. What people are asked and told is in node/recover.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from horologe.log.v1 import log_pb2
from horologe.raft import pauses
from horologe.raft.cluster_version import THIS_PROGRAM, UnfitProgramError
from horologe.raft.core_messages import NO_OP_COMMAND_TYPE
from horologe.raft.journal import FIRST_TERM, HardState, Journal, Logged, LogStore
from horologe.raft.machine import StateMachine, after_gap, cluster_id_of
from horologe.raft.membership import Configuration, Member, to_message
from horologe.raft.model import Counters
from horologe.raft.state import State
from horologe.raft.tables import Tables


class CannotRecoverError(Exception):
    """This member is none that a cluster could be recovered from. The text says why."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a stopped member has. Whoever recovers compares those of all members that are left, and takes the furthest."""

    cluster_id: str
    last_index: int
    last_term: int
    commit_index: int
    """Up to here it knows that a majority had what its log holds."""
    applied_index: int
    term: int
    log_time_ms: int
    """Time of the last entry that was applied."""
    configuration: Configuration | None
    """None: the cluster still had the members of its configuration files."""

    @property
    def unconfirmed_count(self) -> int:
        """Entries of which nobody knows whether a majority had them."""
        return self.last_index - self.commit_index


def findings(journal: Journal, tables: Tables, name: str) -> Findings:
    """What this member has. Raises CannotRecoverError if nothing can be made of it."""
    logged = journal.configuration
    try:
        THIS_PROGRAM.check(tables)
    except UnfitProgramError as error:
        raise CannotRecoverError(str(error)) from error
    found = Findings(
        cluster_id=cluster_id_of(tables),
        last_index=journal.last_index,
        last_term=journal.last_term,
        commit_index=journal.commit_index,
        applied_index=journal.applied_index,
        term=journal.hard_state.term,
        log_time_ms=Counters.load(tables).log_time_ms,
        configuration=logged.configuration if logged is not None else None,
    )
    if not found.cluster_id:
        raise CannotRecoverError(f"{name} holds no data of a cluster: there is nothing to recover")
    if found.configuration is not None and name in found.configuration.removed:
        raise CannotRecoverError(
            f"{name} was removed from the cluster before; recover from one that was a member to the end"
        )
    return found


def recover(journal: Journal, store: LogStore, tables: Tables, member: Member, cluster_id: str) -> int:
    """Makes the member the only one of a new cluster. Returns the index at which that one begins.

    Everything is in the store's open transaction; the journal must not be used any more.
    """
    machine = StateMachine()
    for index in range(journal.applied_index + 1, journal.last_index + 1):
        item = journal.entry_at(index)
        if item is not None and item[0][0] != NO_OP_COMMAND_TYPE:
            machine.apply(tables, index, log_pb2.Entry.FromString(item[0][1:]))
    logged = journal.configuration
    removed = logged.configuration.removed if logged is not None else ()
    configuration = Configuration((member,), removed, cluster_id)
    change = log_pb2.ChangeMembership(record=True, configuration=to_message(configuration))
    begin = after_gap(journal.last_index)
    machine.apply(tables, begin, log_pb2.Entry(commands=[log_pb2.Command(change_membership=change)]))
    term = journal.hard_state.term + 1
    Journal.reset_to(store, begin, term, HardState(term, None), Logged(begin, configuration))
    return begin


def restore(
    store: LogStore,
    tables: Tables,
    member: Member,
    cluster_id: str,
    came_from: log_pb2.NoteDenied,
    time_ms: int,
    pause_reason: str = "",
) -> int:
    """Makes the member the only one of a new cluster with the state that the tables hold; the log is empty.

    `came_from` goes into the audit chain. With a reason the cluster begins paused. Returns the index at which it begins.
    """
    configuration = Configuration((member,), (), cluster_id)
    change = log_pb2.ChangeMembership(record=True, configuration=to_message(configuration))
    begin = after_gap(Counters.load(tables).revision)
    commands = [log_pb2.Command(change_membership=change), log_pb2.Command(note_denied=came_from)]
    StateMachine().apply(tables, begin, log_pb2.Entry(time_ms=time_ms, commands=commands))
    if pause_reason:
        begin += 1
        state = State(tables, begin, time_ms)
        pauses.pause_scope(state, log_pb2.PauseScope(paused=True, reason=pause_reason, by="horologe cluster restore"))
        state.save()
    Journal.reset_to(store, begin, FIRST_TERM + 1, HardState(FIRST_TERM + 1, None), Logged(begin, configuration))
    return begin
