"""Checksums on records: what the disk has changed is noticed, wherever it was changed, and never read as something else."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import damage

from horologe.raft import snapshot
from horologe.raft.cipher import in_memory, pack_keys
from horologe.raft.records import U64
from horologe.raft.sealed import seal, unseal
from horologe.raft.store import CorruptStateError, Store, StoreError
from horologe.raft.tables import SET_TABLE_NAMES, TABLE_NAMES

KEY, VALUE = b"a key that is found", b"a value that is found"
RECORDS = 60
BITS_MAX = 255
keys = st.binary(min_size=1, max_size=40)
values = st.binary(max_size=200)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "state", "n1", bytes_max=1 << 26)
    yield made
    made.close()


def _fill(store: Store) -> None:
    """In several commits, so that the file also holds old copies of its pages, as that of a node does."""
    for turn in range(3):
        for name in TABLE_NAMES:
            table = getattr(store.tables, name)
            table.put(KEY + name.encode(), VALUE + name.encode())
            for number in range(RECORDS):
                table.put(U64.pack(number), f"{name} {number} in turn {turn}".encode() if number % 3 else b"")
        for name in SET_TABLE_NAMES:
            for number in range(RECORDS):
                getattr(store.tables, name).put(KEY + name.encode(), VALUE + U64.pack(number))
                getattr(store.tables, name).put(U64.pack(number // 20), VALUE + U64.pack(number))
        store.commit()


def _outcomes(folder: Path, flips: list[tuple[int, int]]) -> list[str]:
    answer = subprocess.run(
        [sys.executable, damage.__file__, str(folder)],
        input=f"{pack_keys(in_memory().keys).hex()}\n" + "".join(f"{position} {bits}\n" for position, bits in flips),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return answer.stdout.split()


def _positions(content: bytes, text: bytes) -> list[int]:
    found, position = [], content.find(text)
    while position >= 0:
        found.append(position)
        position = content.find(text, position + 1)
    return found


@given(table=st.sampled_from(TABLE_NAMES), key=keys, value=values, data=st.data())
def test_any_flipped_bits_are_noticed(table: str, key: bytes, value: bytes, data: st.DataObject) -> None:
    stored = seal(table, key, value)
    assert unseal(table, key, stored) == value
    position = data.draw(st.integers(0, len(stored) - 1))
    damaged = bytearray(stored)
    damaged[position] ^= data.draw(st.integers(1, BITS_MAX))
    with pytest.raises(CorruptStateError, match=f"table '{table}'"):
        unseal(table, key, bytes(damaged))


@given(key=keys, value=values, other_key=keys)
def test_a_record_in_another_place_is_noticed(key: bytes, value: bytes, other_key: bytes) -> None:
    stored = seal("job", key, value)
    with pytest.raises(CorruptStateError):
        unseal("job_name", key, stored)
    if other_key != key:
        with pytest.raises(CorruptStateError):
            unseal("job", other_key, stored)


@given(first=st.binary(min_size=9, max_size=9), second=st.binary(min_size=9, max_size=9))
def test_set_values_keep_their_order(first: bytes, second: bytes) -> None:
    if first != second:
        assert (seal("timer", KEY, first) < seal("timer", KEY, second)) == (first < second)


@pytest.mark.parametrize("name", [*TABLE_NAMES, *SET_TABLE_NAMES])
def test_flipped_bytes_in_every_table_are_found_when_a_node_starts(tmp_path: Path, name: str) -> None:
    """In the key, in the value, and anywhere in the pages that hold them; nothing wrong is ever read."""
    folder = tmp_path / "state"
    store = Store(folder, "n1", bytes_max=1 << 26)
    _fill(store)
    store.close()
    content = (folder / "data.mdb").read_bytes()
    chance = random.Random(name)
    records = _positions(content, KEY + name.encode())
    assert records
    record_bytes = len(KEY + VALUE)
    flips = [(position + chance.randrange(record_bytes), 1 << chance.randrange(8)) for position in records]
    flips += [
        (position // 4096 * 4096 + chance.randrange(4096), chance.randint(1, BITS_MAX))
        for position in records
        for _ in range(4)
    ]
    outcomes = _outcomes(folder, flips)
    assert len(outcomes) == len(flips)
    assert "wrong" not in outcomes
    # The newest copy of the record is in use; older ones lie in pages that nobody reads.
    assert "refused" in outcomes[: len(records)]
    assert Counter(outcomes)["died"] <= len(flips) // 10


def test_flipped_bytes_anywhere_in_the_file(tmp_path: Path) -> None:
    """The pages that begin the file are LMDB's own and have no checksum; it keeps two of them, and uses the newer."""
    folder = tmp_path / "state"
    store = Store(folder, "n1", bytes_max=1 << 26)
    _fill(store)
    store.close()
    size = (folder / "data.mdb").stat().st_size
    chance = random.Random(1)
    flips = [(chance.randrange(2 * 4096, size), chance.randint(1, BITS_MAX)) for _ in range(150)]
    outcomes = Counter(_outcomes(folder, flips))
    assert outcomes["wrong"] == 0
    assert outcomes["refused"] > 15


@pytest.mark.parametrize("name", [*TABLE_NAMES, *SET_TABLE_NAMES])
def test_a_reader_tells_the_owner(store: Store, name: str) -> None:
    """A call that meets damage cannot end the node by itself; the owner of the store hears of it."""
    told: list[StoreError] = []
    store.report = told.append
    getattr(store.tables, name).put(KEY, VALUE)
    store._write().put(KEY + b"2", VALUE, db=store._databases[name])
    store.commit()
    with pytest.raises(CorruptStateError, match="restore the folder"), store.read() as tables:
        list(getattr(tables, name).scan())
    if name in TABLE_NAMES:
        with pytest.raises(CorruptStateError), store.read() as tables:
            getattr(tables, name).get(KEY + b"2")
        with pytest.raises(CorruptStateError), store.read() as tables:
            list(getattr(tables, name).scan_down(b"b"))
    assert len(told) == (3 if name in TABLE_NAMES else 1)
    with pytest.raises(CorruptStateError):
        store.check()


def test_a_snapshot_of_a_damaged_state_is_refused(store: Store, tmp_path: Path) -> None:
    """What arrives as it was sent may have been damaged before."""
    _fill(store)
    store.copy_to(tmp_path / "whole")
    snapshot.check(tmp_path / "whole", store.cipher)
    store._write().put(KEY, VALUE, db=store._databases["ledger"])
    store.commit()
    store.copy_to(tmp_path / "damaged")
    with pytest.raises(CorruptStateError, match="table 'ledger'"):
        snapshot.check(tmp_path / "damaged", store.cipher)


def test_a_state_with_thousands_of_timers_at_one_time_can_be_copied(store: Store, tmp_path: Path) -> None:
    """LMDB's compacting copy ends the process on a set that has outgrown a page."""
    for number in range(5_000):
        store.tables.timer.put(b"a bucket", U64.pack(number) * 2)
    store.commit()
    store.copy_to(tmp_path / "copy")
    copied = Store(tmp_path / "copy", "n1", bytes_max=1 << 26)
    copied.check()
    assert damage.everything(copied) == damage.everything(store)
    copied.close()


def test_an_older_format_is_refused_and_a_damaged_identity_too(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    Store(folder, "n1").close()

    def rewrite(identity: bytes) -> None:
        environment = lmdb.open(str(folder), max_dbs=32)
        with environment.begin(write=True) as transaction:
            transaction.put(b"identity", identity, db=environment.open_db(b"local", transaction))
        environment.close()

    rewrite(json.dumps({"format": 2, "node": "n1", "id": "x"}).encode())
    with pytest.raises(StoreError, match="format 2, but this program reads 6; use the program that wrote it"):
        Store(folder, "n1")
    rewrite(seal("local", b"identity", json.dumps({"format": 3, "node": "n1", "id": "x"}).encode())[:-1] + b"?")
    with pytest.raises(CorruptStateError, match="table 'local'"):
        Store(folder, "n1")
