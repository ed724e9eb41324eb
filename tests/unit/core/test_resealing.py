"""Encrypting anew in pieces: afterwards nothing lies under the old keys, and everything reads as before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import damage

from horologe.raft import resealing
from horologe.raft.cipher import Cipher, key_number_of
from horologe.raft.records import U64
from horologe.raft.resealing import Resealing, count_of
from horologe.raft.store import LOG, CorruptStateError, Store
from horologe.raft.tables import ENCRYPTED_TABLE_NAMES, SET_TABLE_NAMES, TABLE_NAMES

RECORDS = 40


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    cipher = Cipher()
    made = Store(tmp_path / "state", "n1", bytes_max=1 << 26, open_cipher=lambda: cipher)
    for name in TABLE_NAMES:
        for number in range(RECORDS):
            getattr(made.tables, name).put(U64.pack(number), f"{name} {number}".encode() * (number % 7))
    for name in SET_TABLE_NAMES:
        getattr(made.tables, name).put(b"key", b"value")
    for index in range(1, RECORDS + 1):
        made.log_put(index, 1 + index // 10, b"command %d" % index)
    made.commit()
    yield made
    made.close()


def numbers_in(store: Store) -> set[int]:
    """The data keys that stored values name."""
    found: set[int] = set()
    for name in (*ENCRYPTED_TABLE_NAMES, LOG):
        transaction, database = store.stored(name)
        for _, stored in transaction.cursor(db=database):
            found.add(key_number_of(stored[U64.size :] if name == LOG else stored))
    store.abort()
    return found


def content(store: Store) -> object:
    return damage.everything(store), list(store.log_get_all())


def walk_of(store: Store) -> Resealing:
    old = store.cipher.current
    assert old is not None
    store.cipher.renew()
    return Resealing(frozenset({old}))


def test_a_walk_in_pieces_changes_how_it_lies_and_not_what_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resealing, "RECORDS_PER_STEP", 7)
    before, walk = content(store), walk_of(store)
    assert numbers_in(store) == walk.retiring
    pieces = 0
    while not walk.is_done:
        walk.work(store)
        store.commit()
        pieces += 1
        assert content(store) == before
    total = RECORDS * (len(ENCRYPTED_TABLE_NAMES) + 1)
    assert (walk.looked_count, walk.resealed_count, count_of(store)) == (total, total, total)
    assert pieces >= total // 7
    assert numbers_in(store) == {store.cipher.current}
    store.check()


@pytest.mark.parametrize("limit", ["LOOKS_PER_STEP", "BYTES_PER_STEP"])
def test_a_piece_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(resealing, limit, 10)
    walk = walk_of(store)
    walk.work(store)
    assert 0 < walk.looked_count <= 10
    assert not walk.is_done


def test_what_is_written_meanwhile_needs_no_second_walk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, at and behind the place where the walk is: changed, deleted and new."""
    monkeypatch.setattr(resealing, "RECORDS_PER_STEP", 5)
    walk = walk_of(store)
    turn = 0
    while not walk.is_done:
        walk.work(store)
        for name in ENCRYPTED_TABLE_NAMES:
            table = getattr(store.tables, name)
            table.put(U64.pack(turn % RECORDS), b"changed")
            table.delete(U64.pack((turn + 11) % RECORDS))
            table.put(U64.pack(1_000 - turn), b"new")
        store.log_put(RECORDS + 1 + turn, 9, b"new")
        store.log_delete_to(turn // 10)
        store.commit()
        turn += 1
    assert numbers_in(store) == {store.cipher.current}
    store.check()


def test_only_keys_that_shall_go_are_replaced(store: Store) -> None:
    store.cipher.renew()
    store.tables.job.put(b"second", b"x")
    store.commit()
    second = store.cipher.current
    walk = walk_of(store)
    while not walk.is_done:
        walk.work(store)
        store.commit()
    assert walk.resealed_count == 1
    assert second not in numbers_in(store)
    assert len(numbers_in(store)) == 2


def test_a_record_that_does_not_open_stops_the_walk(store: Store) -> None:
    transaction, database = store.stored("version")
    stored = bytearray(transaction.get(U64.pack(3), db=database))
    stored[-1] ^= 1
    transaction.put(U64.pack(3), bytes(stored), db=database)
    store.commit()
    walk = walk_of(store)
    with pytest.raises(CorruptStateError, match="of table 'version' is damaged"):
        while not walk.is_done:
            walk.work(store)
