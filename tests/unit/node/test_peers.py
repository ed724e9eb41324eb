"""The line of messages to one peer is bounded by bytes."""

from __future__ import annotations

import pytest

from horologe.node import peers
from horologe.node.peers import Message, _Link
from horologe.peer.v1 import peer_service_pb2


def of_bytes(count: int) -> Message:
    entry = peer_service_pb2.LogEntry(index=1, term=1, command=bytes(count))
    return Message(append_entries=peer_service_pb2.AppendEntries(term=1, entries=[entry]))


def test_a_peer_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "LINK_BYTES_MAX", 10_000)
    link = _Link(epoch=1, up=True, begun=True)
    for _ in range(4):
        link.send(of_bytes(2_000))
    assert not link.closed.is_set()
    assert link.wake.is_set()
    link.send(of_bytes(2_000))
    assert link.closed.is_set()
