"""Sealed records: what was sealed opens in its place and nowhere else, and no nonce comes twice under a key."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horologe.raft import cipher as cipher_module
from horologe.raft.cipher import (
    OVERHEAD_BYTES,
    Cipher,
    DataKey,
    UnsealError,
    key_number_of,
    new_data_key,
    pack_keys,
    unpack_keys,
)

CONTEXT = b"job\0\1"


@given(value=st.binary(max_size=300), context=st.binary(max_size=40), data=st.data())
def test_what_was_sealed_opens_and_nothing_else_does(value: bytes, context: bytes, data: st.DataObject) -> None:
    cipher = Cipher()
    stored = cipher.seal(context, value)
    assert len(stored) == len(value) + OVERHEAD_BYTES
    assert cipher.unseal(context, stored) == value
    with pytest.raises(UnsealError):
        cipher.unseal(context + b"x", stored)
    damaged = bytearray(stored)
    damaged[data.draw(st.integers(0, len(stored) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(UnsealError):
        cipher.unseal(context, bytes(damaged))
    with pytest.raises(UnsealError):
        cipher.unseal(context, stored[: data.draw(st.integers(0, len(stored) - 1))])


def test_the_value_is_not_in_what_is_stored() -> None:
    assert b"a secret text" not in Cipher().seal(CONTEXT, b"a secret text")


def test_no_nonce_comes_twice_whoever_seals() -> None:
    cipher = Cipher()
    stored: list[list[bytes]] = [[] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda mine=mine: mine.extend(cipher.seal(CONTEXT, b"") for _ in range(5_000)))
        for mine in stored
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heads = {one[:16] for mine in stored for one in mine}
    assert len(heads) == 20_000
    assert {key_number_of(head) for head in heads} == {cipher.current}


def test_nothing_is_made_before_something_is_sealed() -> None:
    made: list[DataKey] = []

    def make() -> DataKey:
        made.append(new_data_key())
        return made[-1]

    old = new_data_key()
    cipher = Cipher([old], make)
    assert cipher.current is None
    cipher.seal(CONTEXT, b"")
    assert cipher.current == made[0].number
    assert cipher.keys == [old, made[0]]


@pytest.mark.parametrize("limit", ["RECORDS_PER_KEY_MAX", "BYTES_PER_KEY_MAX"])
def test_a_worn_key_is_given_up_and_still_opens(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cipher_module, limit, 10)
    cipher = Cipher()
    stored = [cipher.seal(CONTEXT, b"x") for _ in range(25)]
    assert len({key_number_of(one) for one in stored}) == 3
    assert len({one[:16] for one in stored}) == 25
    assert all(cipher.unseal(CONTEXT, one) == b"x" for one in stored)


def test_a_key_that_cannot_be_made_changes_nothing() -> None:
    def fails() -> DataKey:
        raise OSError("disk full")

    cipher = Cipher([], fails)
    with pytest.raises(OSError, match="disk full"):
        cipher.seal(CONTEXT, b"x")
    assert cipher.current is None
    assert cipher.keys == []


def test_keys_travel_and_open_elsewhere() -> None:
    here, there = Cipher(), Cipher()
    stored = here.seal(CONTEXT, b"x")
    with pytest.raises(UnsealError, match="no data key here has the number"):
        there.unseal(CONTEXT, stored)
    there.seal(CONTEXT, b"")
    own = there.current
    there.add(unpack_keys(pack_keys(here.keys)))
    assert there.unseal(CONTEXT, stored) == b"x"
    assert there.current == own
    with pytest.raises(ValueError, match="no whole number of data keys"):
        unpack_keys(pack_keys(here.keys)[:-1])


def test_a_key_shows_nothing_of_itself() -> None:
    key = new_data_key()
    assert repr(key) == f"DataKey({key.number})"
    assert key.secret.hex() not in f"{key} {[key]!r}"


def test_a_number_that_is_taken_is_not_given_again() -> None:
    numbers = iter([b"\0\0\0\1", b"\0\0\0\1", b"\0\0\0\2"])
    key = new_data_key([1], random_bytes=lambda size: next(numbers) if size == 4 else bytes(size))
    assert key.number == 2
