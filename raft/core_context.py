"""What the parts of a core share: settings, journal, engine, peers, the time of the call, and the way out.

No decisions here. The engine is described by what the parts use of it; core_engine.py has the one implementation.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

from horologe.peer.v1 import peer_service_pb2
from horologe.raft.core_peers import Peer
from horologe.raft.core_settings import CoreSettings, Protections
from horologe.raft.journal import Journal
from horologe.raft.membership import Configuration

PeerMessage = peer_service_pb2.PeerMessage

# An election deadline that is not after this time means: begin at the next tick.
ELECTION_NOW = 0.0


class Engine(Protocol):
    """The Raft engine, as far as the parts of a core look at it and steer it. Times are in seconds."""

    @property
    def is_leader(self) -> bool:
        """Whether it leads its term."""

    @property
    def leader(self) -> str | None:
        """The last leader it knows of."""

    @property
    def term(self) -> int:
        """The newest term it knows."""

    @property
    def commit_index(self) -> int:
        """All entries up to this one are committed."""

    @property
    def applied_index(self) -> int:
        """All entries up to this one are applied."""

    @property
    def election_deadline(self) -> float:
        """When it begins an election."""

    @election_deadline.setter
    def election_deadline(self, deadline: float) -> None: ...

    def deliver(self, peer: Peer, message: dict[str, Any]) -> None:
        """Hand it a message, in its own form."""

    @property
    def heartbeat_at(self) -> float:
        """On the leader: when it speaks next."""

    def heartbeat_sent(self, next_heartbeat_at: float) -> None:
        """Tell it when the next heartbeat is due."""

    def match_index(self, peer: Peer) -> int:
        """On the leader: up to where the peer has acknowledged the log."""

    def next_index(self, peer: Peer) -> int:
        """On the leader: the next entry to send to the peer."""

    def set_next_index(self, peer: Peer, index: int) -> None:
        """Change what to send next."""

    def answered_at(self, peer: Peer) -> float:
        """On the leader: when the peer answered last, as check-quorum counts it."""

    def set_answered_at(self, peer: Peer, seconds: float) -> None:
        """Change when the peer answered last."""

    def set_members(self, voters: list[Peer], learners: list[Peer]) -> None:
        """Change who votes and who only receives the log, this member left out."""

    def tell_to_take_over(self, peer: Peer) -> None:
        """On the leader: send the peer the order to begin an election at once."""


class EngineOwner(Protocol):
    """What the engine calls back."""

    def engine_applies(self, index: int, command: bytes) -> None:
        """A committed entry, in order."""

    def engine_may_apply(self) -> bool:
        """Whether committed entries are to be applied in this tick."""

    def engine_replicates(self) -> None:
        """The leader shall speak to all peers."""

    def engine_sends(self, peer: str, message: dict[str, Any]) -> None:
        """A message in the engine's own form."""

    def engine_changed_state(self, is_leader: bool) -> None:
        """It became follower, candidate or leader."""


@dataclass
class Context:
    """One core's common ground.

    Attributes:
        now: The time of the call that runs at the moment, in seconds.
        configuration: The one in force.
        outbox: Messages that leave after the caller's commit.
        counters: How often each protection acted.
        members_that_forgot: Peers that lost entries which they had acknowledged.
    """

    settings: CoreSettings
    protections: Protections
    journal: Journal
    engine: Engine
    peers: dict[str, Peer]
    chance: random.Random
    now: float
    configuration: Configuration
    outbox: list[tuple[str, PeerMessage]] = field(default_factory=list)
    counters: Counter[str] = field(default_factory=Counter)
    members_that_forgot: set[str] = field(default_factory=set)

    def post(self, peer: Peer, message: PeerMessage) -> None:
        """Put a message into the outbox, with the sender's term and its number in the epoch."""
        if not peer.connected:
            return
        message.sender_term = self.engine.term
        message.sequence = peer.next_sequence()
        self.outbox.append((peer.name, message))

    def post_term_notice(self, peer: Peer) -> None:
        """Tell a member of an older term about ours; otherwise it might wait for answers for ever."""
        if self.protections.term_notice:
            self.counters["term_notice"] += 1
            self.post(peer, PeerMessage(term_notice=peer_service_pb2.TermNotice(term=self.engine.term)))

    def heard_quorum(self, now: float) -> bool:
        """On the leader: whether a majority answered messages sent within the shortest election timeout."""
        answered_lately = sum(1 for peer in self.voting_peers() if self.answered_lately(peer, now))
        return self.is_voter + answered_lately >= self.configuration.majority

    def answered_lately(self, peer: Peer, now: float) -> bool:
        """On the leader: whether a member answered a message sent within the shortest election timeout."""
        return self.engine.answered_at(peer) > now - self.settings.election_timeout_seconds_min

    @property
    def is_voter(self) -> bool:
        """Whether this member votes, as far as it knows."""
        return self.settings.name in self.configuration.voters

    def may_vote(self) -> bool:
        """Whether this member may take part in elections at all.

        One without any configuration is new, or has lost its folder: it may have voted before and not know it. A learner may:
        it can have become a voter by an entry that it has not got.
        """
        if not self.protections.newcomers_wait:
            return True
        return bool(self.configuration.members) and self.settings.name not in self.configuration.removed

    def voting_peers(self) -> list[Peer]:
        """Who votes beside this member."""
        return [peer for peer in self.peers.values() if peer.is_voter]
