"""A cluster that has lost its majority for good: one member goes on alone, as another cluster with this one's data.

This breaks what Raft promises, on purpose and knowingly: what only the lost members had is gone, and what is in this member's
log counts as committed although no majority may have had it. What must not happen is that the two lives are mistaken for one
another. So the new cluster has another identity, begins in a newer term at an index that the old one has not come to (tokens and
revisions are indexes), and leaves a gap in the numbers that it gives away. The log before is dropped, as after a snapshot.

Pure: the caller owns the transaction. What people are asked and told is in node/recover.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from horologe.log.v1 import log_pb2
from horologe.raft.core_messages import NO_OP_COMMAND_TYPE
from horologe.raft.journal import HardState, Journal, Logged, LogStore
from horologe.raft.machine import StateMachine, after_gap, cluster_id_of
from horologe.raft.membership import Configuration, Member, to_message
from horologe.raft.model import Counters
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
