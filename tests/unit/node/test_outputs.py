"""Captured output on disk: kept, followed, dropped by day, and readable where it is damaged."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from horologe.node import outputs as outputs_module
from horologe.node.outputs import OutputError, OutputExtent, OutputKey, OutputPiece, OutputStore
from horologe.raft.cipher import Cipher, key_number_of

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
    store = OutputStore(tmp_path, clock)
    yield store
    store.close()


def piece(
    sequence: int, data: bytes, *, execution: int = 7, attempt: int = 1, stream: int = 1, at_ms: int = NOON_MS
) -> tuple[OutputKey, OutputPiece]:
    return OutputKey(execution, attempt, at_ms), OutputPiece(sequence, stream, data)


def pieces_of(
    store: OutputStore, execution: int = 7, attempt: int = 1, at_ms: int = NOON_MS, first: int = 0
) -> list[OutputPiece]:
    found: list[OutputPiece] = []
    while batch := store.read_batch(OutputKey(execution, attempt, at_ms), first):
        found += batch
        first = batch[-1].sequence + 1
    return found


def text(store: OutputStore, execution: int = 7, attempt: int = 1, at_ms: int = NOON_MS) -> bytes:
    return b"".join(piece.data for piece in pieces_of(store, execution, attempt, at_ms))


def test_what_was_appended_is_read_in_order_by_attempt_and_stream(store):
    store.append([piece(0, b"a"), piece(0, b"x", attempt=2), piece(1, b"b", stream=2), piece(0, b"y", execution=8)])
    store.append([piece(2, b"c")])
    assert pieces_of(store) == [(0, 1, b"a", False), (1, 2, b"b", False), (2, 1, b"c", False)]
    assert pieces_of(store, first=2) == [(2, 1, b"c", False)]
    assert text(store, attempt=2) == b"x"
    assert text(store, execution=8) == b"y"
    assert text(store, execution=9) == b""


def test_it_is_there_after_a_restart(tmp_path, clock):
    first = OutputStore(tmp_path, clock)
    first.append([piece(0, b"kept" * 1000)])
    first.close()
    second = OutputStore(tmp_path, clock)
    assert text(second) == b"kept" * 1000
    assert second.extent(OutputKey(7, 1, NOON_MS)) == OutputExtent(4000, 0)
    second.close()


def test_one_commit_for_many_pieces(store):
    store.append([piece(0, b"a")])
    environment = next(iter(store._days.values()))
    before = environment.info()["last_txnid"]
    store.append([piece(sequence, b"x", execution=execution) for execution in range(20) for sequence in range(4)])
    assert environment.info()["last_txnid"] == before + 1


def test_a_piece_that_comes_again_is_dropped(store):
    store.append([piece(0, b"a"), piece(1, b"b")])
    store.append([piece(1, b"b"), piece(2, b"c")])
    assert text(store) == b"abc"
    assert store.extent(OutputKey(7, 1, NOON_MS)) == OutputExtent(3, 2)
    assert store.extent(OutputKey(7, 2, NOON_MS)) == OutputExtent(0, -1)


def test_days(store, clock, tmp_path):
    store.append([piece(0, b"today")])
    clock.now_ms += DAY_MS
    tomorrow_ms = clock.now_ms
    store.append([piece(1, b", and the day after"), piece(0, b"tomorrow", attempt=2, at_ms=tomorrow_ms)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2027-01-15", "2027-01-16"]
    assert text(store) == b"today, and the day after", "an attempt is in one day, that of its assignment"
    assert text(store, attempt=2, at_ms=tomorrow_ms) == b"tomorrow"
    assert text(store, at_ms=NOON_MS - DAY_MS) == b""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2027-01-15", "2027-01-16"], "reading makes no day"


def test_old_days_go_when_a_new_one_begins(tmp_path, clock):
    store = OutputStore(tmp_path, clock, retention_days=2)
    for _ in range(5):
        store.append([piece(0, b"x", at_ms=clock.now_ms)])
        clock.now_ms += DAY_MS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2027-01-17", "2027-01-18", "2027-01-19"]
    store.close()


def test_what_is_kept_is_counted_in_days(tmp_path, clock):
    store = OutputStore(tmp_path, clock, retention_days=2)
    store.append([piece(0, b"x")])
    (tmp_path / "2027-01-14.1.damaged").mkdir()
    clock.now_ms += 2 * DAY_MS
    assert store.drop_old_days() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["2027-01-15"]
    clock.now_ms += DAY_MS
    assert store.drop_old_days() == 1
    assert text(store) == b""
    store.close()


async def test_old_days_go_where_nothing_new_comes(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(outputs_module, "RETENTION_CHECK_SECONDS", 0.0)
    store = OutputStore(tmp_path, clock, retention_days=2)
    store.append([piece(0, b"x")])
    looked: asyncio.Queue[int] = asyncio.Queue()
    drop, loop = store.drop_old_days, asyncio.get_running_loop()

    def look() -> int:
        count = drop()
        loop.call_soon_threadsafe(looked.put_nowait, count)
        return count

    monkeypatch.setattr(store, "drop_old_days", look)
    keeping = asyncio.create_task(store.keep_retention())
    assert await looked.get() == 0
    clock.now_ms += 3 * DAY_MS
    while await looked.get() == 0:
        assert not keeping.done()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert not any(tmp_path.iterdir())
    store.close()


def test_much_output_is_read_in_parts(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(outputs_module, "READ_BYTES_PER_BATCH", 100)
    store = OutputStore(tmp_path, clock)
    data = [os.urandom(70) for _ in range(20)]
    store.append([piece(sequence, each) for sequence, each in enumerate(data)])
    assert len(store.read_batch(OutputKey(7, 1, NOON_MS))) == 2
    assert text(store) == b"".join(data)
    store.close()


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8))
def test_the_extent_is_what_is_read(tmp_path_factory, pieces):
    store = OutputStore(tmp_path_factory.mktemp("outputs"), Clock())
    store.append([piece(sequence, data) for sequence, data in enumerate(pieces)])
    assert text(store) == b"".join(pieces)
    assert store.extent(OutputKey(7, 1, NOON_MS)) == OutputExtent(len(b"".join(pieces)), len(pieces) - 1)
    store.close()


# Following


KEY = OutputKey(7, 1, NOON_MS)


async def follow(store: OutputStore, still_running) -> list[bytes]:
    return [piece.data async for batch in store.follow(KEY, still_running) for piece in batch]


async def next_of(batches) -> list[bytes]:
    return [piece.data for piece in await anext(batches)]


async def test_follow_reads_on_until_the_attempt_is_over(store, monkeypatch):
    # However long the disk takes, it does not say meanwhile that it is there.
    monkeypatch.setattr(outputs_module, "RECHECK_SECONDS", 3_600.0)
    running = True
    batches = store.follow(KEY, lambda: running)
    await store.append_async([piece(0, b"one")])
    assert await next_of(batches) == [b"one"]
    waiting = asyncio.ensure_future(next_of(batches))
    await store.append_async([piece(1, b"two")])
    assert await waiting == [b"two"]
    await store.append_async([piece(2, b"three")])
    running = False
    store.wake_followers(7, 1)
    assert [each.data async for batch in batches for each in batch] == [b"three"]
    assert not store._followers


async def test_follow_of_an_attempt_that_is_over_ends_by_itself(store):
    await store.append_async([piece(0, b"one")])
    assert await follow(store, lambda: False) == [b"one"]


async def test_follow_notices_the_end_even_if_nobody_tells_it_and_says_that_it_is_there(store, monkeypatch):
    monkeypatch.setattr(outputs_module, "RECHECK_SECONDS", 0.01)
    answers = iter([True, True, False])
    batches = store.follow(KEY, lambda: next(answers))
    assert [batch async for batch in batches] == [[], []]


async def test_two_followers(store):
    ended = False
    tasks = [asyncio.ensure_future(follow(store, lambda: not ended)) for _ in range(2)]
    await store.append_async([piece(0, b"one")])
    ended = True
    store.wake_followers(7, 1)
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
    assert [(found.stream, found.is_damaged) for found in pieces_of(store)] == [(1, False), (2, True), (1, False)]
    assert b"damaged on disk" in text(store)
    assert text(store).startswith(b"before")
    assert text(store).endswith(b"after")
    with environment.begin(write=True) as transaction:
        transaction.put(key, b"short")
    assert b"damaged on disk" in text(store)


@pytest.mark.parametrize("damage", ["garbage", "cut"])
def test_a_damaged_day_costs_that_day_only(tmp_path, clock, damage):
    store = OutputStore(tmp_path, clock)
    store.append([piece(0, os.urandom(4000)), piece(0, b"tomorrow", execution=8, at_ms=NOON_MS + DAY_MS)])
    store.close()
    file = tmp_path / "2027-01-15" / "data.mdb"
    if damage == "garbage":
        file.write_bytes(b"not a database" * 1000)
    else:
        os.truncate(file, 8192)
    store = OutputStore(tmp_path, clock)
    assert text(store) == b""
    assert text(store, execution=8, at_ms=NOON_MS + DAY_MS) == b"tomorrow"
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
    assert store.extent(OutputKey(7, 1, NOON_MS)).bytes_kept == len(text(store))
    store.close()


def test_a_folder_that_cannot_be_opened(tmp_path, clock, monkeypatch):
    def refuse(folder: Path) -> None:
        raise lmdb.DiskError("input/output error")

    store = OutputStore(tmp_path, clock)
    monkeypatch.setattr(outputs_module, "_open_environment", refuse)
    with pytest.raises(OutputError):
        store.append([piece(0, b"x")])
    store.close()


def test_a_day_that_cannot_be_opened_now_is_not_taken_for_an_empty_one(tmp_path, clock, monkeypatch):
    def refuse(folder: Path) -> None:
        raise lmdb.Error("too many open files")

    store = OutputStore(tmp_path, clock)
    store.append([piece(0, b"kept")])
    store.close()
    store = OutputStore(tmp_path, clock)
    day = store.days()[0]
    with monkeypatch.context() as patched:
        patched.setattr(outputs_module, "_open_environment", refuse)
        for ask in (lambda: text(store), lambda: store.piece_count(day), lambda: store.reseal(day, frozenset(), None)):
            with pytest.raises(OutputError, match="2027-01-15: output cannot be read now"):
                ask()
        assert store.extent(OutputKey(7, 1, NOON_MS)) == OutputExtent(0, -1)
    assert text(store) == b"kept"
    store.close()


# Encryption


def stored_numbers(store: OutputStore, day: str) -> set[int]:
    environment = store._days[datetime.fromisoformat(day).date()]
    with environment.begin() as transaction:
        return {key_number_of(bytes(value)[5:]) for _, value in transaction.cursor()}


def test_output_is_encrypted_anew_in_pieces(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(outputs_module, "RESEAL_PIECES", 3)
    cipher = Cipher()
    store = OutputStore(tmp_path, clock, cipher=cipher)
    data = [b"piece %d" % number for number in range(20)]
    store.append([piece(sequence, each) for sequence, each in enumerate(data)])
    old = cipher.current
    cipher.renew()
    store.append([piece(20, b"under the new key")])
    [day] = store.days()
    assert store.piece_count(day) == 21
    after, looked = None, 0
    while True:
        after, count = store.reseal(day, frozenset({old}), after)
        looked += count
        assert count <= 3
        assert text(store) == b"".join(data) + b"under the new key"
        if after is None:
            break
    assert looked == 21
    assert stored_numbers(store, "2027-01-15") == {cipher.current}
    store.close()


def test_damaged_output_stays_as_it_is_when_the_rest_is_encrypted_anew(tmp_path, clock):
    cipher = Cipher()
    store = OutputStore(tmp_path, clock, cipher=cipher)
    store.append([piece(0, b"whole"), piece(1, b"damaged"), piece(2, b"whole too")])
    environment = store._days[store.days()[0]]
    with environment.begin(write=True) as transaction:
        key = outputs_module._KEY.pack(7, 1, 1)
        value = bytearray(transaction.get(key))
        value[-1] ^= 1
        transaction.put(key, bytes(value))
    old = cipher.current
    cipher.renew()
    assert store.reseal(store.days()[0], frozenset({old}), None) == (None, 3)
    assert [each.is_damaged for each in pieces_of(store)] == [False, True, False]
    assert stored_numbers(store, "2027-01-15") == {old, cipher.current}
    store.close()


def test_a_piece_in_the_place_of_another_is_damaged(tmp_path, clock):
    store = OutputStore(tmp_path, clock)
    store.append([piece(0, b"first"), piece(1, b"second")])
    with store._days[store.days()[0]].begin(write=True) as transaction:
        transaction.put(outputs_module._KEY.pack(7, 1, 1), transaction.get(outputs_module._KEY.pack(7, 1, 0)))
    assert [each.is_damaged for each in pieces_of(store)] == [False, True]
    store.close()


def test_a_day_that_is_gone_has_nothing_to_encrypt(tmp_path, clock):
    store = OutputStore(tmp_path, clock)
    day = datetime(2020, 1, 1, tzinfo=UTC).date()
    assert (store.days(), store.piece_count(day)) == ([], 0)
    assert store.reseal(day, frozenset({1}), None) == (None, 0)
    store.close()
