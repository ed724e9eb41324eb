"""A snapshot that is not whole: noticed on arrival, or at the latest when it is opened, and never put in place."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from horologe.log.v1 import log_pb2
from horologe.node.peers import _receive_file
from horologe.node.state_stream import through_a_pipe
from horologe.peer.v1.peer_service_pb2 import FetchSnapshotResponse
from horologe.raft.core import CoreSettings
from horologe.raft.machine import cluster_id_of
from horologe.raft.replica import Replica
from horologe.raft.step import Inbox
from horologe.raft.store import Store, StoreError
from horologe.raft.tables import Tables

DATA = b"the whole state" * 100
DIGEST = hashlib.sha256(DATA).digest()


class IdlePlanner:
    """Has nothing to do."""

    def __getattr__(self, name: str) -> object:
        return lambda *_: None

    def renew(self, sessions: Sequence[int], tables: Tables, now: float) -> tuple[list[int], list[int]]:
        del tables, now
        return list(sessions), []


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        ([DATA], True),
        ([DATA[:70], DATA[70:]], True),
        ([DATA[:-1]], False),
        ([DATA, b"more"], False),
        ([DATA[:70] + b"?" + DATA[71:]], False),
        ([], False),
    ],
)
async def test_what_arrives_is_compared_with_what_was_announced(
    tmp_path: Path, pieces: list[bytes], whole: bool
) -> None:
    async def stream() -> AsyncIterator[FetchSnapshotResponse]:
        for piece in pieces:
            yield FetchSnapshotResponse(data=piece)
        yield FetchSnapshotResponse(digest=DIGEST, total_bytes=len(DATA))

    assert await _receive_file(stream(), tmp_path / "data.mdb") == (whole, b"")


async def test_a_stream_that_ends_before_its_digest_is_not_whole(tmp_path: Path) -> None:
    async def stream() -> AsyncIterator[FetchSnapshotResponse]:
        yield FetchSnapshotResponse(data=DATA)

    assert await _receive_file(stream(), tmp_path / "data.mdb") == (False, b"")


def _replica(folder: Path) -> Replica:
    """A cluster of one that has got its identity."""
    settings = CoreSettings(
        name="n1", members=("n1",), heartbeat_ms=10, election_timeout_ms_min=50, election_timeout_ms_max=100
    )
    replica = Replica(Store(folder, "n1"), settings, IdlePlanner(), random.Random(1), 0.0)
    now = 0.0
    while not replica.status.may_serve:
        now += 0.01
        replica.step(Inbox(), now, 1_000)
    bootstrap = log_pb2.Command(bootstrap=log_pb2.Bootstrap(cluster_id="ours"), origin="n1", origin_id=1)
    replica.step(Inbox(commands=[bootstrap]), now + 0.01, 1_000)
    for turn in range(2, 5):
        replica.step(Inbox(), now + turn / 100, 1_000)
    return replica


@pytest.mark.parametrize("damage", ["garbage", "cut", "empty", "absent"])
def test_a_damaged_copy_is_refused_and_nothing_has_changed(tmp_path: Path, damage: str) -> None:
    replica = _replica(tmp_path / "own")
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    replica.store.copy_to(tmp_path / "copy")
    whole = (tmp_path / "copy" / "data.mdb").read_bytes()
    content = {"garbage": b"no state at all" * 1_000, "cut": whole[: len(whole) // 2], "empty": b""}
    if damage in content:
        (incoming / "data.mdb").write_bytes(content[damage])
    revision = replica.status.revision
    assert not replica.install(incoming, 10.0)
    assert not incoming.exists()
    assert replica.status.revision == revision
    with replica.store.read() as tables:
        assert cluster_id_of(tables) == "ours"
    replica.step(Inbox(), 10.1, 2_000)
    replica.store.close()


def test_a_folder_belongs_to_one_process_and_its_data_may_not_vanish(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    store = Store(folder, "n1")
    with pytest.raises(StoreError, match="another process"):
        Store(folder, "n1")
    store.close()
    Store(folder, "n1").close()
    (folder / "data.mdb").unlink()
    with pytest.raises(StoreError, match="gone or empty"):
        Store(folder, "n1")


async def test_a_state_that_is_read_while_it_changes_is_one_moment_of_it(tmp_path: Path) -> None:
    replica = _replica(tmp_path / "own")
    fill = {number.to_bytes(8, "big"): bytes(20_000) for number in range(300)}
    for key, value in fill.items():
        replica.store.tables.meta.put(key, value)
    replica.store.commit()
    copy = tmp_path / "copy"
    copy.mkdir()
    with (copy / "data.mdb").open("wb") as file:
        async for piece in through_a_pipe(replica.store, tmp_path):
            file.write(piece)
            for key in fill:
                replica.store.tables.meta.put(key, b"changed")
            replica.store.commit()
    copied = Store(copy, "n2", adopt=True)
    copied.check()
    assert {bytes(copied.tables.meta.get(key) or b"") for key in fill} == {bytes(20_000)}
    copied.close()
    replica.store.close()


async def test_a_reader_that_leaves_ends_the_copy_and_the_state_may_be_replaced(tmp_path: Path) -> None:
    replica = _replica(tmp_path / "own")
    for number in range(300):
        replica.store.tables.meta.put(number.to_bytes(8, "big"), bytes(20_000))
    replica.store.commit()
    pieces = through_a_pipe(replica.store, tmp_path)
    assert await anext(pieces)
    await pieces.aclose()
    # It waits for all readers, the copy among them.
    replica.store.close()


async def test_who_takes_the_state_slowly_does_not_keep_it_from_being_replaced(tmp_path: Path) -> None:
    replica = _replica(tmp_path / "own")
    for number in range(300):
        replica.store.tables.meta.put(number.to_bytes(8, "big"), bytes(20_000))
    replica.store.commit()
    replica.store.copy_to(tmp_path / "copy")
    pieces = through_a_pipe(replica.store, tmp_path)
    assert await anext(pieces)
    # Nobody takes the next piece. The event loop stands still meanwhile, as it does for any reader of its own.
    replica.store.replace_with(tmp_path / "copy")
    with pytest.raises(StoreError, match="could not be copied"):
        async for _ in pieces:
            pass
    assert replica.store.tables.meta.get(bytes(8)) == bytes(20_000)
    replica.store.close()


async def test_a_copy_that_fails_is_no_whole_state(tmp_path: Path) -> None:
    replica = _replica(tmp_path / "own")
    replica.store.close()
    with pytest.raises(StoreError, match="closed"):
        async for _ in through_a_pipe(replica.store, tmp_path):
            pass
