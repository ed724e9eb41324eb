"""What a Raft core is built with: its settings, the switches of its protections, and its errors.

Nothing here acts; see core.py for the core, and core_messages.py, core_peers.py and elections.py for its parts.
"""

from __future__ import annotations

from dataclasses import dataclass


class CoreStoppedError(RuntimeError):
    """The core met an unexpected error before and takes no more calls: the process must stop without committing."""


class RaftInvariantError(AssertionError):
    """Something happened that Raft rules out: a defect, or a damaged or foreign member. The node must stop."""


@dataclass(frozen=True)
class CoreSettings:
    """Who we are, who votes, and how patient everybody is.

    Attributes:
        name: This member's name. Identity is the name, never an address.
        members: The names of all voters of a cluster that begins, this one included; none if this member joins one that exists.
            Once the log holds a configuration, that one counts.
        heartbeat_ms: How often the leader speaks when it has nothing to say.
        election_timeout_ms_min: For so long a member that heard the leader votes for nobody else; and a leader that a majority
            did not answer for so long serves no more.
        election_timeout_ms_max: A member that hears no leader asks for votes after a random time between the two; a leader
            that a majority did not answer for this long steps down.
        append_bytes_max: Entries in one AppendEntries message, and the largest entry.
        peer_bytes_max: Entries sent to one peer and not answered yet; beyond this, only heartbeats go there.
        commit_notice_ms: How long the leader waits for entries that could carry a new commit index to its followers, before it
            tells them by itself. Whoever must know sooner is told by `RaftCore.tell_commit`.
        acknowledge_first_bytes: A follower that has new entries to acknowledge, and as much as this to apply, applies it in the
            next tick. So much takes longer than one more step and its commit: some 3 ms.
        apply_bytes_max: A tick applies no further entry after so much. A member that is busy applying neither hears the others
            nor answers them, so that what has piled up must not be applied in one go; a large pile, in up to four times as much.
    """

    name: str
    members: tuple[str, ...] = ()
    heartbeat_ms: int = 100
    election_timeout_ms_min: int = 500
    election_timeout_ms_max: int = 1000
    append_bytes_max: int = 4 * 1024 * 1024
    peer_bytes_max: int = 16 * 1024 * 1024
    commit_notice_ms: int = 0
    acknowledge_first_bytes: int = 4 * 1024
    apply_bytes_max: int = 32 * 1024

    def __post_init__(self) -> None:
        if self.members and self.name not in self.members:
            raise ValueError(f"members {self.members!r} do not contain this member, {self.name!r}: add it")
        if len(set(self.members)) != len(self.members) or not all(self.members):
            raise ValueError(f"members {self.members!r} must be different names that are not empty")
        if self.heartbeat_ms < 1:
            raise ValueError(f"heartbeat_ms is {self.heartbeat_ms}, must be at least 1")
        if self.election_timeout_ms_min <= 3 * self.heartbeat_ms:
            raise ValueError(
                f"election_timeout_ms_min is {self.election_timeout_ms_min}, must be more than three times heartbeat_ms "
                f"({self.heartbeat_ms}): one late heartbeat is no dead leader"
            )
        if self.election_timeout_ms_max <= self.election_timeout_ms_min:
            raise ValueError(
                f"election_timeout_ms_max is {self.election_timeout_ms_max}, must be more than election_timeout_ms_min "
                f"({self.election_timeout_ms_min}): members that wait equally long split the vote"
            )
        if not 0 <= self.commit_notice_ms <= self.heartbeat_ms:
            raise ValueError(
                f"commit_notice_ms is {self.commit_notice_ms}, must be from 0 to heartbeat_ms ({self.heartbeat_ms}): a heartbeat "
                "tells the commit index anyway"
            )
        if min(self.append_bytes_max, self.peer_bytes_max, self.apply_bytes_max) < 1:
            raise ValueError("append_bytes_max, peer_bytes_max and apply_bytes_max must be at least 1")

    @property
    def heartbeat_seconds(self) -> float:
        """How often the leader speaks."""
        return self.heartbeat_ms / 1000

    @property
    def commit_notice_seconds(self) -> float:
        """How long a new commit index may wait for entries to travel with."""
        return self.commit_notice_ms / 1000

    @property
    def election_timeout_seconds_min(self) -> float:
        """The shortest wait for a leader."""
        return self.election_timeout_ms_min / 1000

    @property
    def election_timeout_seconds_max(self) -> float:
        """The longest wait for a leader."""
        return self.election_timeout_ms_max / 1000


@dataclass(frozen=True)
class Protections:
    """What keeps the engine safe. All on, except in tests that show what goes wrong without one of them.

    Attributes:
        keep_matching_tail: A follower deletes only entries that conflict with the leader's.
        acknowledge_only_verified: An acknowledgement claims what the message verified, not all that the follower has.
        commit_only_verified: A follower commits no further than what the message verified.
        stale_replies_dropped: Replies of another term say nothing about this term's log.
        resets_in_order: A reset that answers a message sent before the last reset was accepted is dropped.
        resets_clamped: A reset does not go below what the follower has acknowledged.
        reset_hint_at_commit: A follower asks to go back to its commit index at once, instead of one entry per round trip.
        next_index_kept: A reply to an older message does not send again what is in flight.
        votes_counted_once: One vote per member and term.
        voters_only: Only votes of members that vote are counted.
        epochs_checked: Messages of one connection arrive in order; repeated ones are dropped, a gap ends the connection.
        messages_validated: A message that makes no sense is refused before the engine sees it.
        term_notice: A message of an older term is answered with the newer term.
        pre_vote: Before a member starts a term it asks whether it could win.
        leader_stickiness: A member that hears a working leader votes for nobody else.
        check_quorum: A leader that no majority answers steps down within an election timeout.
        static_membership: Entries that would change the engine's own membership are refused.
        one_change_at_a_time: The members change only when the change before is applied, and an entry of the own term.
        newcomers_wait: A member that knows of no configuration, or was removed, neither votes nor stands for election.
        applied_index_restored: After a restart, applying goes on where the state stands.
        apply_in_sequence: Each entry is applied exactly once, in order.
        failures_stop_the_core: After an unexpected error the core takes no more calls.
        journal_guarded: Committed and applied entries are never truncated.
    """

    keep_matching_tail: bool = True
    acknowledge_only_verified: bool = True
    commit_only_verified: bool = True
    stale_replies_dropped: bool = True
    resets_in_order: bool = True
    resets_clamped: bool = True
    reset_hint_at_commit: bool = True
    next_index_kept: bool = True
    votes_counted_once: bool = True
    voters_only: bool = True
    epochs_checked: bool = True
    messages_validated: bool = True
    term_notice: bool = True
    pre_vote: bool = True
    leader_stickiness: bool = True
    check_quorum: bool = True
    static_membership: bool = True
    one_change_at_a_time: bool = True
    newcomers_wait: bool = True
    applied_index_restored: bool = True
    apply_in_sequence: bool = True
    failures_stop_the_core: bool = True
    journal_guarded: bool = True
