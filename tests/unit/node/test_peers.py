"""The line of messages to one peer is bounded by bytes; the state goes to members of the own cluster."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import pytest
from service_harness import FakeNode

from horologe.log.v1 import log_pb2
from horologe.node import peers
from horologe.node.key_sources import EnvironmentKeys
from horologe.node.keyring import Keyring
from horologe.node.peers import Message, PeerNetwork, _Link
from horologe.node.state_stream import through_a_file
from horologe.node.surroundings import Surroundings
from horologe.peer.v1 import peer_service_pb2
from horologe.raft.cipher import unpack_keys


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


class RefusedError(Exception):
    """What a caller sees."""


class Call:
    """As much of a call's context as is used."""

    async def abort(self, code: grpc.StatusCode, text: str) -> None:
        raise RefusedError(f"{code.name} {text}")


async def test_the_state_goes_to_members_of_the_own_cluster_only(tmp_path: Path) -> None:
    node = FakeNode(tmp_path, ("n1", "n2"))
    node.apply(log_pb2.Command(bootstrap=log_pb2.Bootstrap(cluster_id="ours")))
    unused: Any = None
    surroundings = Surroundings()
    keyring = Keyring(tmp_path, EnvironmentKeys("ab" * 32), lambda: 0)
    keyring.open()
    surroundings.state_pieces = through_a_file
    network = PeerNetwork(node.context, unused, unused, unused, surroundings, None, keyring)

    async def fetch(name: str, cluster_id: str) -> int:
        request = peer_service_pb2.FetchSnapshotRequest(node=name, cluster_id=cluster_id)
        call: Any = Call()
        return sum([len(response.data) async for response in network.FetchSnapshot(request, call)])

    assert await fetch("n2", "ours") > 0
    assert await fetch("n2", "") > 0
    with pytest.raises(RefusedError, match="PERMISSION_DENIED 'n3' is not a member"):
        await fetch("n3", "ours")
    with pytest.raises(RefusedError, match="FAILED_PRECONDITION n2 belongs to cluster theirs, this node to ours"):
        await fetch("n2", "theirs")
    node.store.close()


async def test_keys_that_a_rotation_destroys_while_a_copy_begins_go_with_it(tmp_path: Path) -> None:
    """The copy may be of the moment before."""
    node = FakeNode(tmp_path, ("n1", "n2"))
    unused: Any = None
    surroundings = Surroundings()
    keyring = Keyring(tmp_path, EnvironmentKeys("ab" * 32), lambda: 0)
    keyring.open().renew()
    [old] = keyring.entries

    async def pieces(store: Any, folder: Path) -> AsyncGenerator[bytes, None]:
        keyring.begin_rotation()
        assert keyring.destroy([old.key.number])
        async for piece in through_a_file(store, folder):
            yield piece

    surroundings.state_pieces = pieces
    network = PeerNetwork(node.context, unused, unused, unused, surroundings, None, keyring)
    call: Any = Call()
    answers = [each async for each in network.FetchSnapshot(peer_service_pb2.FetchSnapshotRequest(node="n2"), call)]
    [new] = keyring.entries
    assert unpack_keys(answers[0].keys) == [old.key, new.key]
    assert not any(each.keys for each in answers[1:])
    node.store.close()
