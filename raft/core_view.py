"""What the caller of a core may ask it: who leads, how far the log is, whether to serve, whether a snapshot is needed.

Only questions; nothing here changes anything except taking the outbox and a snapshot offer. What the caller does is in core.py.
"""

from __future__ import annotations

from collections import Counter

from horologe.raft.core_context import Context, PeerMessage
from horologe.raft.core_peers import Peer
from horologe.raft.elections import Elections
from horologe.raft.journal import HardState
from horologe.raft.membership import Configuration
from horologe.raft.replication import Replication

CAUGHT_UP_ENTRIES = 20
"""A learner this close to the end of the log has what it lacks within a round trip or two, and will not hold up commits."""


class CoreView:
    """The questions that a core answers.

    Attributes:
        members_that_forgot: Peers that lost entries which they had acknowledged (a wiped disk). They get no further here; such
            a node must rejoin under a new name.
        counters: How often each protection acted, for metrics.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._replication = Replication(context)
        self._elections = Elections(context)
        self.settings = context.settings
        self.protections = context.protections
        self.counters: Counter[str] = context.counters
        self.members_that_forgot: set[str] = context.members_that_forgot

    @property
    def outbox(self) -> list[tuple[str, PeerMessage]]:
        """Messages to send, as (peer, message), in order. Take them after the commit and put an empty list here."""
        return self._context.outbox

    @outbox.setter
    def outbox(self, messages: list[tuple[str, PeerMessage]]) -> None:
        self._context.outbox = messages

    @property
    def is_leader(self) -> bool:
        """Whether this member believes that it leads. Another may do so too, in a newer term: see `may_serve`."""
        return self._context.engine.is_leader

    @property
    def may_serve(self) -> bool:
        """Whether this member leads, has applied an entry of its own term, and was lately answered by a majority."""
        return self.heard_quorum(self._context.now) and self._context.journal.has_entry(self.applied_index, self.term)

    @property
    def leader(self) -> str | None:
        """The member that leads, as far as known. None when it has been silent for the longest election timeout."""
        leader = self._context.engine.leader
        if leader == self._context.settings.name or leader is None:
            return leader
        silent_seconds = self._elections.leader_silent_seconds()
        return leader if silent_seconds <= self._context.settings.election_timeout_seconds_max else None

    @property
    def term(self) -> int:
        """The newest term that this member knows."""
        return self._context.engine.term

    @property
    def commit_index(self) -> int:
        """All entries up to this one are committed."""
        return self._context.engine.commit_index

    @property
    def leader_commit_index(self) -> int:
        """All entries up to this one are committed, as a leader has said; our log may not reach it yet."""
        return self._replication.leader_commit_index

    @property
    def applied_index(self) -> int:
        """All entries up to this one are applied."""
        return self._context.engine.applied_index

    @property
    def first_index(self) -> int:
        """The oldest entry in the log."""
        return self._context.journal.first_index

    @property
    def last_index(self) -> int:
        """The newest entry in the log."""
        return self._context.journal.last_index

    @property
    def hard_state(self) -> HardState:
        """Term and vote, which a member must keep when a snapshot replaces its store."""
        return self._context.journal.hard_state

    def term_at(self, index: int) -> int | None:
        """The term of an entry, or None when it is not in the log."""
        item = self._context.journal.entry_at(index)
        return None if item is None else item[2]

    @property
    def voters(self) -> tuple[str, ...]:
        """The members that vote."""
        return tuple(sorted(self._context.configuration.voters))

    @property
    def configuration(self) -> Configuration:
        """Who the members are: the newest configuration in the log, or the one that the cluster begins with."""
        return self._context.configuration

    @property
    def committed_configuration(self) -> Configuration:
        """The newest configuration in the log that is committed; an empty one while there is none."""
        logged = self._context.journal.configuration_at(self.commit_index)
        return logged.configuration if logged is not None else Configuration()

    @property
    def configuration_index(self) -> int:
        """The entry that brought it; 0 while the log has held none."""
        logged = self._context.journal.configuration
        return logged.index if logged is not None else 0

    @property
    def is_changing_members(self) -> bool:
        """Whether a change of the members is on its way: it is in the log and not applied yet."""
        return self.configuration_index > self.applied_index

    def may_lose(self, name: str) -> bool:
        """On the leader: whether a majority of the voters would be at hand if this member were removed."""
        context = self._context
        voters = context.configuration.voters - {name}
        at_hand = sum(1 for peer in context.voting_peers() if peer.name != name and self._answers(peer))
        return len(voters) > 0 and (context.settings.name in voters) + at_hand >= len(voters) // 2 + 1

    def has_caught_up(self, name: str) -> bool:
        """On the leader: whether a member answers, and has all that is committed but for what was sent just now.

        It must have the configuration that names it: whoever knows of none does not vote, and as a voter might be missed.
        """
        peer = self._context.peers.get(name)
        if peer is None or not peer.is_member or not self.is_leader:
            return False
        match_index = self._context.engine.match_index(peer)
        is_near = self.commit_index - match_index <= CAUGHT_UP_ENTRIES
        return self._answers(peer) and is_near and match_index >= self.configuration_index

    def _answers(self, peer: Peer) -> bool:
        return peer.connected and self._context.answered_lately(peer, self._context.now)

    def match_indexes(self) -> dict[str, int]:
        """On the leader: up to where each peer has acknowledged the log. Elsewhere: empty."""
        if not self.is_leader:
            return {}
        engine, peers = self._context.engine, self._context.peers.values()
        return {peer.name: engine.match_index(peer) for peer in peers if peer.is_member}

    def heard_quorum(self, now: float) -> bool:
        """On the leader: whether a majority has answered messages that were sent within the shortest election timeout.

        In that time no other member can have won an election (given `leader_stickiness` and bounded clock drift).
        """
        return self.is_leader and self._context.heard_quorum(now)

    def tick_at(self, now: float) -> float:
        """When `tick` has something to do next, if nothing comes in before: entries to apply, a heartbeat, an election, a leader
        gone silent."""
        engine, settings = self._context.engine, self._context.settings
        if engine.applied_index < engine.commit_index:
            return now
        if engine.is_leader:
            notice_at = self._replication.commit_notice_at
            return engine.heartbeat_at if notice_at is None else min(engine.heartbeat_at, notice_at)
        silent_at = now - self._elections.leader_silent_seconds() + settings.election_timeout_seconds_max
        return min(engine.election_deadline, silent_at) if silent_at > now else engine.election_deadline

    @property
    def is_handing_over(self) -> bool:
        """Whether this leader waits for its successor to take over; it takes no proposals meanwhile."""
        return self._elections.is_handing_over

    @property
    def snapshot_needed(self) -> bool:
        """Whether the leader has offered its state because its log no longer reaches back to ours."""
        return self._replication.snapshot_offered_by is not None

    def take_snapshot_offer(self) -> str | None:
        """The member to fetch the state from, once per offer. Offers are repeated while they are needed."""
        return self._replication.take_snapshot_offer()

    def may_install(self, index: int, term: int) -> bool:
        """Whether a state as of this entry may replace ours. Ask at the moment of installing, not when the fetch begins.

        A log that has this entry may hold acknowledged entries after it, which an install would throw away.
        """
        return index > self.commit_index and not self._context.journal.has_entry(index, term)
