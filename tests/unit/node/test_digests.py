"""Digests beside the step: kept for whoever asks, given up when their state is needed, and never too many at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from service_harness import HandClock

from horologe.node import digests
from horologe.node.digests import DIGESTS_KEPT, WAITING_MAX, DigestGivenUpError, StateDigests
from horologe.raft.digest import RECORDS_PER_TURN, digest_of
from horologe.raft.records import U64
from horologe.raft.store import CorruptStateError, StateSnapshot, Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(tmp_path / "state", "n1", bytes_max=1 << 26)
    for number in range(RECORDS_PER_TURN + 1):
        made.tables.execution.put(U64.pack(number), b"v")
    made.commit()
    yield made
    made.close()


async def test_the_last_few_are_kept(store: Store) -> None:
    kept = StateDigests(HandClock())
    with store.read() as tables:
        expected = digest_of(tables)
    for revision in range(1, DIGESTS_KEPT + 3):
        kept.take([StateSnapshot(store, revision)])
        assert await kept.find(revision) == expected
    assert kept.find(2) is None
    assert kept.find(3) is not None
    await kept.stop()


async def test_the_state_is_given_back_when_it_is_needed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot that is installed waits for all readers, and so does a node that stops."""
    begun = threading.Event()

    def for_ever(tables: object, pause: Callable[[], None]) -> None:
        begun.set()
        while True:
            pause()

    monkeypatch.setattr(digests, "digest_of", for_ever)
    clock, kept = HandClock(), StateDigests(HandClock())
    store.copy_to(tmp_path / "copy")
    kept.take([StateSnapshot(store, 1)])
    assert await asyncio.to_thread(begun.wait, 60)
    # The event loop may stand still meanwhile: whoever reads there waits for the new files.
    store.replace_with(tmp_path / "copy")
    with pytest.raises(DigestGivenUpError, match="needed for something else"):
        await kept.find(1)
    await kept.stop()
    stopped = StateDigests(clock)
    stopped._stopping.set()
    stopped.take([StateSnapshot(store, 2)])
    with pytest.raises(DigestGivenUpError):
        await stopped.find(2)
    await stopped.stop()


async def test_nobody_waits_for_a_state_that_has_not_come_to_its_reader(store: Store, tmp_path: Path) -> None:
    """It comes by the event loop, which may stand still until the files are replaced."""
    kept = StateDigests(HandClock())
    store.copy_to(tmp_path / "copy")
    on_its_way = StateSnapshot(store, 1)
    store.replace_with(tmp_path / "copy")
    kept.take([on_its_way])
    with pytest.raises(DigestGivenUpError, match="needed for something else"):
        await kept.find(1)
    on_its_way.release()
    assert store._reader_count == 0
    await kept.stop()


async def test_it_does_not_take_for_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "DIGEST_SECONDS_MAX", -1.0)
    kept = StateDigests(HandClock())
    kept.take([StateSnapshot(store, 1)])
    with pytest.raises(DigestGivenUpError, match="not done within"):
        await kept.find(1)
    await kept.stop()


async def test_not_too_many_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(digests, "digest_of", lambda tables, pause: go_on.wait() and digest_of(tables, pause))
    kept = StateDigests(HandClock())
    kept.take([StateSnapshot(store, revision) for revision in range(1, WAITING_MAX + 3)])
    assert [kept.find(revision) is not None for revision in range(1, WAITING_MAX + 3)] == [True, True, False, False]
    go_on.set()
    await kept.find(WAITING_MAX)
    await kept.stop()
    assert store._reader_count == 0


async def test_damage_is_told_to_the_owner(store: Store) -> None:
    told: list[Exception] = []
    store.report = told.append
    store._write().put(b"key", b"no checksum", db=store._databases["execution"])
    store.commit()
    kept = StateDigests(HandClock())
    kept.take([StateSnapshot(store, 1)])
    with pytest.raises(CorruptStateError):
        await kept.find(1)
    assert len(told) == 1
    await kept.stop()
