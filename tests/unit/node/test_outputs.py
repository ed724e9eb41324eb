"""Captured output on disk: kept, capped, followed, dropped by day, and readable where it is damaged."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from horologe.node import outputs as outputs_module
from horologe.node.outputs import OutputError, OutputPiece, OutputSize, OutputStore

DAY_MS = 86_400_000
NOON_MS = int(datetime(2027, 1, 15, 12, tzinfo=UTC).timestamp() * 1000)


class Clock:
    def __init__(self) -> None:
        self.now_ms = NOON_MS

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return self.now_ms / 1000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[OutputStore]:
    store = OutputStore(tmp_path, clock, bytes_per_attempt_max=100)
    yield store
    store.close()


def piece(sequence: int, data: bytes, *, execution: int = 7, attempt: int = 1, stream: int = 1, at_ms: int = NOON_MS):
    return OutputPiece(execution, attempt, sequence, stream, data, at_ms)


def text(store: OutputStore, execution: int = 7, attempt: int = 1, at_ms: int = NOON_MS) -> bytes:
    return b"".join(data for _, data in store.read(execution, attempt, at_ms))


def test_what_was_appended_is_read_in_order_by_attempt_and_stream(store):
    store.append([piece(0, b"a"), piece(0, b"x", attempt=2), piece(1, b"b", stream=2), piece(0, b"y", execution=8)])
    store.append([piece(2, b"c")])
    assert list(store.read(7, 1, NOON_MS)) == [(1, b"a"), (2, b"b"), (1, b"c")]
    assert text(store, attempt=2) == b"x"
    assert text(store, execution=8) == b"y"
    assert text(store, execution=9) == b""


def test_it_is_there_after_a_restart(tmp_path, clock):
    first = OutputStore(tmp_path, clock)
    first.append([piece(0, b"kept" * 1000)])
    first.close()
    second = OutputStore(tmp_path, clock)
    assert text(second) == b"kept" * 1000
    assert second.size(7, 1) == OutputSize(4000, False)
    second.close()


def test_one_commit_for_many_pieces(store, monkeypatch):
    store.append([piece(0, b"a")])
    environment = next(iter(store._days.values()))
    before = environment.info()["last_txnid"]
    store.append([piece(sequence, b"x", execution=execution) for execution in range(20) for sequence in range(4)])
    assert environment.info()["last_txnid"] == before + 1


def test_a_piece_that_comes_again_is_dropped(store):
    store.append([piece(0, b"a"), piece(1, b"b")])
    store.append([piece(1, b"b"), piece(2, b"c")])
    assert text(store) == b"abc"
    assert store.size(7, 1) == OutputSize(3, False)


def test_output_is_cut_at_the_cap_and_says_so(store):
    store.append([piece(0, b"a" * 90), piece(1, b"b" * 20), piece(2, b"c")])
    store.append([piece(3, b"d")])
    assert text(store) == b"a" * 90 + b"b" * 10
    assert store.size(7, 1) == OutputSize(100, True)


def test_a_full_attempt_is_not_a_cut_one(store):
    store.append([piece(0, b"a" * 100)])
    assert store.size(7, 1) == OutputSize(100, False)


def test_the_cap_holds_across_a_restart(tmp_path, clock):
    for sequence in range(4):
        store = OutputStore(tmp_path, clock, bytes_per_attempt_max=100)
        store.append([piece(sequence, b"x" * 40)])
        size = store.size(7, 1)
        store.close()
    assert size == OutputSize(100, True)


def test_days(store, clock, tmp_path):
    store.append([piece(0, b"today")])
    clock.now_ms += DAY_MS
    store.append([piece(0, b"assigned yesterday", attempt=2, at_ms=NOON_MS), piece(1, b", later", attempt=1, at_ms=0)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2027-01-15", "2027-01-16"]
    assert text(store) == b"today, later"
    assert text(store, attempt=2) == b"assigned yesterday"
    assert text(store, at_ms=NOON_MS + DAY_MS) == b"today, later", "the day before counts: clocks differ"
    assert text(store, at_ms=NOON_MS + 2 * DAY_MS) == b", later"
    assert store.drop_before(date(2027, 1, 16)) == 1
    assert text(store) == b", later"
    assert [path.name for path in tmp_path.iterdir()] == ["2027-01-16"]


def test_old_days_go_when_a_new_one_begins(tmp_path, clock):
    store = OutputStore(tmp_path, clock, retention_days=2)
    for _ in range(5):
        store.append([piece(0, b"x", at_ms=clock.now_ms)])
        clock.now_ms += DAY_MS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2027-01-17", "2027-01-18", "2027-01-19"]
    store.close()


def test_much_output_is_read_in_parts(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(outputs_module, "READ_BYTES_PER_BATCH", 100)
    store = OutputStore(tmp_path, clock)
    data = [os.urandom(70) for _ in range(20)]
    store.append([piece(sequence, each) for sequence, each in enumerate(data)])
    assert text(store) == b"".join(data)
    store.close()


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8))
def test_the_size_is_what_is_read(tmp_path_factory, pieces):
    store = OutputStore(tmp_path_factory.mktemp("outputs"), Clock(), bytes_per_attempt_max=100)
    store.append([piece(sequence, data) for sequence, data in enumerate(pieces)])
    whole = b"".join(pieces)
    assert text(store) == whole[:100]
    assert store.size(7, 1) == OutputSize(min(len(whole), 100), len(whole) > 100)
    store.close()


# Following


async def follow(store: OutputStore, still_running) -> list[bytes]:
    return [data async for _, data in store.follow(7, 1, NOON_MS, still_running)]


async def test_follow_reads_on_until_the_attempt_is_over(store):
    running = True
    pieces = store.follow(7, 1, NOON_MS, lambda: running)
    await store.append_async([piece(0, b"one")])
    assert await anext(pieces) == (1, b"one")
    waiting = asyncio.ensure_future(anext(pieces))
    await store.append_async([piece(1, b"two")])
    assert await waiting == (1, b"two")
    await store.append_async([piece(2, b"three")])
    running = False
    store.finished(7, 1)
    assert [data async for _, data in pieces] == [b"three"]
    assert not store._followers


async def test_follow_of_an_attempt_that_is_over_ends_by_itself(store):
    await store.append_async([piece(0, b"one")])
    assert await follow(store, lambda: False) == [b"one"]


async def test_follow_notices_the_end_even_if_nobody_tells_it(store, monkeypatch):
    monkeypatch.setattr(outputs_module, "RECHECK_SECONDS", 0.01)
    answers = iter([True, True, False])
    assert await asyncio.wait_for(follow(store, lambda: next(answers)), 5) == []


async def test_two_followers(store):
    ended = False
    tasks = [asyncio.ensure_future(follow(store, lambda: not ended)) for _ in range(2)]
    await store.append_async([piece(0, b"one")])
    ended = True
    store.finished(7, 1)
    assert await asyncio.gather(*tasks) == [[b"one"], [b"one"]]


# Damage


def test_a_damaged_piece_is_marked_and_the_rest_is_read(store):
    store.append([piece(0, b"before"), piece(1, b"damaged"), piece(2, b"after")])
    environment = next(iter(store._days.values()))
    with environment.begin(write=True) as transaction:
        cursor = transaction.cursor()
        cursor.last()
        cursor.prev()
        key, value = cursor.item()
        transaction.put(key, value[:-1] + bytes([value[-1] ^ 1]))
    assert [stream for stream, _ in store.read(7, 1, NOON_MS)] == [1, 2, 1]
    assert b"damaged on disk" in text(store)
    assert text(store).startswith(b"before")
    assert text(store).endswith(b"after")
    with environment.begin(write=True) as transaction:
        transaction.put(key, b"short")
    assert b"damaged on disk" in text(store)


@pytest.mark.parametrize("damage", ["garbage", "cut"])
def test_a_damaged_day_costs_that_day_only(tmp_path, clock, damage):
    store = OutputStore(tmp_path, clock, bytes_per_attempt_max=10_000)
    store.append([piece(0, os.urandom(4000)), piece(0, b"tomorrow", execution=8, at_ms=NOON_MS + DAY_MS)])
    store.close()
    file = tmp_path / "2027-01-15" / "data.mdb"
    if damage == "garbage":
        file.write_bytes(b"not a database" * 1000)
    else:
        os.truncate(file, 8192)
    store = OutputStore(tmp_path, clock)
    assert text(store) == b""
    assert text(store, execution=8) == b"tomorrow"
    store.append([piece(1, b"goes on")])
    assert text(store) == b"goes on"
    assert any(path.name.endswith(".damaged") for path in tmp_path.iterdir())
    store.close()


def test_a_disk_that_takes_nothing_more(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(outputs_module, "DAY_BYTES_MAX", 1 << 16)
    store = OutputStore(tmp_path, clock)
    with pytest.raises(OutputError, match="2027-01-15: output cannot be written"):
        for sequence in range(100):
            store.append([piece(sequence, os.urandom(4000))])
    assert len(text(store)) % 4000 == 0
    assert store.size(7, 1).bytes_kept == len(text(store))
    store.close()


def test_a_folder_that_cannot_be_opened(tmp_path, clock, monkeypatch):
    def refuse(folder: Path) -> None:
        raise lmdb.DiskError("input/output error")

    store = OutputStore(tmp_path, clock)
    monkeypatch.setattr(outputs_module, "_open_environment", refuse)
    with pytest.raises(OutputError):
        store.append([piece(0, b"x")])
    store.close()
