"""What goes into a step, what comes out of it, and how the replica stands afterwards.

Plain data between the one thread that steps (replica.py) and all others. What a step does is not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from horologe.log.v1 import log_pb2
from horologe.peer.v1 import peer_service_pb2
from horologe.raft.membership import Configuration
from horologe.raft.model import Effects, Result
from horologe.raft.reconfiguration import Introduction
from horologe.raft.resealing import Resealing
from horologe.raft.store import StateSnapshot


@dataclass(slots=True)
class Inbox:
    """What came in since the last step."""

    connected: list[tuple[str, int]] = field(default_factory=list)
    """Peer, and the number of the epoch that begins; told back in `Outbox.epochs`."""
    disconnected: list[str] = field(default_factory=list)
    messages: list[tuple[str, peer_service_pb2.PeerMessage]] = field(default_factory=list)
    commands: list[log_pb2.Command] = field(default_factory=list)
    heartbeats: list[tuple[int, list[int]]] = field(default_factory=list)
    """Round, sessions: told back in `Outbox.renewed`."""
    transfer_to: str | None = None
    """A member's name, or the empty string for the one that is furthest."""
    introductions: list[Introduction] = field(default_factory=list)
    """How other nodes introduced themselves."""
    resealing: Resealing | None = None
    """Records that shall be encrypted anew; a piece of it is done in this step."""


@dataclass(slots=True)
class Outbox:
    """What may leave after the commit."""

    messages: list[tuple[str, peer_service_pb2.PeerMessage]] = field(default_factory=list)
    results: list[tuple[int, Result]] = field(default_factory=list)
    refused: list[tuple[int, bool]] = field(default_factory=list)
    """origin_id, overloaded: commands that are in no log, for certain."""
    effects: list[Effects] = field(default_factory=list)
    renewed: list[tuple[int, list[int]]] = field(default_factory=list)
    """Round, sessions whose lease the leader has renewed."""
    gone: list[int] = field(default_factory=list)
    epochs: list[tuple[str, int]] = field(default_factory=list)
    """Epochs that began with this step: messages to that peer are for this epoch from now on."""
    dropped: list[str] = field(default_factory=list)
    """Peers whose connection must end: they sent nonsense, or messages of theirs were lost."""
    snapshot_from: str | None = None
    """The leader says that the log no longer reaches back to us."""
    leader_changed: bool = False
    configuration_changed: bool = False
    """Who the members are has changed; see `Status.configuration`."""
    checkpoints: list[StateSnapshot] = field(default_factory=list)
    """The state as it was after each of the last few checkpoints. Whoever takes the outbox releases them."""
    resealed: Resealing | None = None
    """A piece of it is durable."""
    state_replaced: bool = False
    """A snapshot was installed: what was derived from the state must be derived again."""

    def is_empty(self) -> bool:
        return not any(getattr(self, name) for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class Status:
    """How the replica stands after a step; read by other threads as one value."""

    leader: str
    is_leader: bool
    may_serve: bool
    term: int
    commit_index: int
    revision: int
    first_index: int
    last_index: int
    has_quorum: bool
    match_indexes: dict[str, int]
    connected: frozenset[str]
    clock_correction_ms: int
    """What to add to this node's wall clock to get the cluster's time; 0 while it is near that of the others."""
    configuration: Configuration
    """In force on this node: the newest one in its log, committed or not."""
    committed_configuration: Configuration
    """The newest one that is committed. While a change is on its way it is the one before; without members while the log has
    held none. What it says nobody can take back, so whom it condemns is condemned for good."""

    leader_commit_index: int = 0
    """The last entry that this node has heard to be committed, by whoever leads; its own log may not reach it yet."""
    introductions: Mapping[str, Introduction] = field(default_factory=dict)
    """What the nodes said of themselves when they connected last, this one included."""
    cluster_version: int = 1
    """As of the last applied entry; see cluster_version.py."""
    version_held: bool = False

    @property
    def configuration_is_committed(self) -> bool:
        """Whether the one in force is the committed one."""
        return self.configuration == self.committed_configuration

    @property
    def removed(self) -> tuple[str, ...]:
        """Names of members that left for good."""
        return self.committed_configuration.removed
