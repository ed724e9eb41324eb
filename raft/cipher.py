"""What lies on the disk is encrypted here: AES-256-GCM under numbered data keys, for any bytes in any place.

Here belongs how bytes are sealed and opened again, and nothing about files: where data keys are kept is in node/keyring.py,
which records are encrypted in tables.py. A sealed record is

    number of the data key (4 bytes) + nonce (12) + ciphertext + tag (16)

and its context (the table and the record's key, say) is authenticated with it: a record that lies in another place does not open.

A nonce is 4 random bytes and a counter of 8. A process begins with a data key of its own, made when the first record is sealed,
so no counter ever comes twice under a key, whatever becomes of the process and of copies of its disk. A key is given up long
before AES-GCM has anything to say against its age.

Any thread may seal and open.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from struct import Struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

RECORDS_PER_KEY_MAX = 1 << 31
"""Half of what NIST SP 800-38D (8.3) allows with random nonces; counters would allow more."""
BYTES_PER_KEY_MAX = 1 << 40
"""2^36 blocks: what two of them could say about each other is far below anything that could be seen."""
SECRET_BYTES = 32
OVERHEAD_BYTES = 32
"""So much longer is a sealed record than what is in it."""
_NUMBER = Struct(">I")
_COUNTER = Struct(">Q")
_KEY = Struct(f">Iq{SECRET_BYTES}s")
_HEAD_BYTES, _NONCE_BYTES = 4, 12
_BODY = _HEAD_BYTES + _NONCE_BYTES


class UnsealError(Exception):
    """The bytes are not what was sealed, or not in this place, or the data key is not here. The text says which."""


class DataKey(NamedTuple):
    """A key that encrypts records."""

    number: int
    """Chosen at random, so that the keys of two nodes can lie beside each other; in each record."""
    create_time_ms: int
    secret: bytes

    def __repr__(self) -> str:
        return f"DataKey({self.number})"


def new_data_key(
    taken: Iterable[int] = (), now_ms: int = 0, random_bytes: Callable[[int], bytes] = os.urandom
) -> DataKey:
    """A fresh one, with a number that is not taken. Only a simulated machine has other `random_bytes`."""
    others = set(taken)
    while (number := _NUMBER.unpack(random_bytes(_NUMBER.size))[0]) in others:
        pass
    return DataKey(number, now_ms, random_bytes(SECRET_BYTES))


def pack_keys(keys: Iterable[DataKey]) -> bytes:
    """For another process that is trusted with them."""
    return b"".join(_KEY.pack(*key) for key in keys)


def unpack_keys(packed: bytes) -> list[DataKey]:
    """Raises ValueError if these are no keys."""
    if len(packed) % _KEY.size:
        raise ValueError(f"{len(packed)} bytes are no whole number of data keys")
    return [DataKey(*fields) for fields in _KEY.iter_unpack(packed)]


class _Sealer:
    """The key that records are sealed with now, and how much it has done."""

    def __init__(self, key: DataKey, prefix: bytes) -> None:
        self.number = key.number
        self.head = _NUMBER.pack(key.number)
        self.prefix = prefix
        # One call that no other thread can come between: no two records get the same counter.
        self.next = count().__next__
        self.encrypt = AESGCM(key.secret).encrypt
        self.bytes = 0
        """About: two threads that add at the same time may lose a record's length."""


class Cipher:
    """Seals under the newest key, opens under all that it knows."""

    def __init__(
        self,
        keys: Sequence[DataKey] = (),
        make: Callable[[], DataKey] = new_data_key,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`make` answers a new data key that is durable wherever it has to be, before anything is sealed with it."""
        self._random_bytes = random_bytes
        self._make = make
        self._lock = threading.RLock()
        self._keys = {key.number: key for key in keys}
        self._decrypts = {_NUMBER.pack(key.number): AESGCM(key.secret).decrypt for key in keys}
        self._sealer: _Sealer | None = None

    @property
    def current(self) -> int | None:
        """Number of the key that seals now; None as long as nothing was sealed."""
        return None if self._sealer is None else self._sealer.number

    @property
    def keys(self) -> list[DataKey]:
        """All that it opens with."""
        return list(self._keys.values())

    def add(self, keys: Iterable[DataKey]) -> None:
        """Opens with these too."""
        with self._lock:
            for key in keys:
                self._keys[key.number] = key
                self._decrypts[_NUMBER.pack(key.number)] = AESGCM(key.secret).decrypt

    def renew(self) -> int:
        """Seals with a new key from now on; answers its number. Raises what `make` raises, and then nothing has changed."""
        with self._lock:
            key = self._make()
            self.add([key])
            self._sealer = _Sealer(key, self._random_bytes(_NONCE_BYTES - _COUNTER.size))
            return key.number

    def seal(self, context: bytes, value: bytes) -> bytes:
        """The value as it is stored."""
        sealer = self._sealer or self._instead_of(None)
        number = sealer.next()
        sealer.bytes += len(value)
        while number >= RECORDS_PER_KEY_MAX or sealer.bytes > BYTES_PER_KEY_MAX:
            sealer = self._instead_of(sealer)
            number = sealer.next()
        nonce = sealer.prefix + _COUNTER.pack(number)
        return sealer.head + nonce + sealer.encrypt(nonce, value, context)

    def unseal(self, context: bytes, stored: bytes) -> bytes:
        """The value as it was. Raises UnsealError."""
        decrypt = self._decrypts.get(stored[:_HEAD_BYTES])
        if decrypt is None:
            raise UnsealError(f"no data key here has the number {stored[:_HEAD_BYTES].hex()} that it names")
        try:
            return decrypt(stored[_HEAD_BYTES:_BODY], stored[_BODY:], context)
        except (InvalidTag, ValueError):
            raise UnsealError("its seal does not match") from None

    def _instead_of(self, sealer: _Sealer | None) -> _Sealer:
        """The one that came after it; whoever of several threads is first makes it."""
        with self._lock:
            if self._sealer is sealer:
                self.renew()
            assert self._sealer is not None
            return self._sealer


def key_number_of(stored: bytes) -> int:
    """Which data key a sealed record names; whether it is one at all only `unseal` knows."""
    return int.from_bytes(stored[:_HEAD_BYTES], "big")


_IN_MEMORY = Cipher()


def in_memory() -> Cipher:
    """One whose key is never written anywhere and ends with the process: for tests and measurements."""
    return _IN_MEMORY
