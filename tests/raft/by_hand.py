"""One core and a peer written by hand: for tests that need exactly one message."""

from __future__ import annotations

import random

from world_store import MemoryStore

from horologe.peer.v1 import peer_service_pb2
from horologe.raft.core import CoreSettings, Protections, RaftCore
from horologe.raft.journal import Journal

PeerMessage = peer_service_pb2.PeerMessage


class Hand:
    """A core named "a" in a cluster of a, b, c (or more), connected to all; the test speaks for the others."""

    def __init__(
        self, protections: Protections | None = None, members: str = "abc", store: MemoryStore | None = None
    ) -> None:
        self.now = 50.0
        self.store = store or MemoryStore()
        self.applied: list[tuple[int, int, bytes]] = []
        protections = protections or Protections()
        self.core = RaftCore(
            CoreSettings(name="a", members=tuple(members)),
            Journal(self.store, guarded=protections.journal_guarded),
            lambda index, term, payload: self.applied.append((index, term, payload)),
            random.Random(1),
            self.now,
            protections,
        )
        self.sequences: dict[str, int] = {}
        for peer in members[1:]:
            self.connect(peer)

    def connect(self, peer: str) -> None:
        """A connection to a node comes up."""
        self.sequences[peer] = 0
        self.core.peer_connected(peer, self.now)

    def say(self, peer: str, message: PeerMessage) -> bool:
        """Deliver the peer's next message."""
        self.sequences[peer] += 1
        message.sequence = self.sequences[peer]
        return self.core.receive(peer, message, self.now)

    def append(
        self,
        peer: str,
        term: int,
        previous: tuple[int, int],
        entries: list[tuple[int, int, bytes]],
        commit_index: int = 1,
    ) -> bool:
        """Deliver entries (index, term, command) from a leader."""
        append = peer_service_pb2.AppendEntries(
            term=term,
            commit_index=commit_index,
            previous_index=previous[0],
            previous_term=previous[1],
            round=7,
            entries=[
                peer_service_pb2.LogEntry(index=index, term=entry_term, command=command)
                for index, entry_term, command in entries
            ],
        )
        return self.say(peer, PeerMessage(sender_term=term, append_entries=append))

    def answers(self, kind: str) -> list[PeerMessage]:
        """Take the messages of one kind out of the outbox."""
        found = [message for _, message in self.core.outbox if message.WhichOneof("kind") == kind]
        self.core.outbox = []
        return found

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass."""
        self.now += seconds
        self.core.tick(self.now)


def regular(text: str) -> bytes:
    """A command of ours, as it stands in the log."""
    return b"\x00" + text.encode()
