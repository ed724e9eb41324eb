"""Encrypting anew what lies under data keys that shall go, a piece per step, in the same transaction as the step's own work.

A value is written back as it was, under the key that seals now: the replicated state does not change, and nobody else has to
know. What is written meanwhile is under that key anyway, so one walk in the order of the keys finds everything. Captured output
is walked in node/outputs.py; when a data key may go, is decided in node/encryption.py.
"""

from __future__ import annotations

from horologe.raft.cipher import UnsealError, key_number_of
from horologe.raft.records import U64
from horologe.raft.sealed import CorruptStateError, context_of
from horologe.raft.store import LOG, Store
from horologe.raft.tables import ENCRYPTED_TABLE_NAMES

LOOKS_PER_STEP = 1_000
"""About 3 ms, if nothing has to be done."""
RECORDS_PER_STEP = 300
BYTES_PER_STEP = 256 << 10
"""About 5 ms of a step, and a few hundred pages in its commit."""
_PLACES = (*sorted(ENCRYPTED_TABLE_NAMES), LOG)


class Resealing:
    """One walk through the state and the log of a store. Only the thread that steps may call `work`; any may look."""

    def __init__(self, retiring: frozenset[int]) -> None:
        """`retiring`: numbers of the data keys that shall go."""
        self.retiring = retiring
        self.looked_count = 0
        self.resealed_count = 0
        self.is_done = False
        self._place = 0
        self._after: bytes | None = None
        """The last key that was looked at in this place."""

    def work(self, store: Store) -> None:
        """A piece. Raises CorruptStateError if a record does not open."""
        looks = records = size = 0
        while looks < LOOKS_PER_STEP and records < RECORDS_PER_STEP and size < BYTES_PER_STEP:
            record = self._next(store)
            if record is None:
                self._place, self._after = self._place + 1, None
                if self._place == len(_PLACES):
                    self.is_done = True
                    break
                continue
            looks += 1
            key, stored = record
            if self._reseal(store, key, stored):
                records += 1
                size += len(stored)
            self._after = key
        self.looked_count += looks
        self.resealed_count += records

    def _next(self, store: Store) -> tuple[bytes, bytes] | None:
        transaction, database = store.stored(_PLACES[self._place])
        with transaction.cursor(db=database) as cursor:
            found = cursor.first() if self._after is None else cursor.set_range(self._after + b"\0")
            return (bytes(cursor.key()), bytes(cursor.value())) if found else None

    def _reseal(self, store: Store, key: bytes, stored: bytes) -> bool:
        place = _PLACES[self._place]
        # In front of a command stands the term of its entry.
        head, sealed = (stored[: U64.size], stored[U64.size :]) if place == LOG else (b"", stored)
        if key_number_of(sealed) not in self.retiring:
            return False
        context = context_of(place) + key + head
        try:
            value = store.cipher.unseal(context, sealed)
        except UnsealError as error:
            raise CorruptStateError.of(place, key, str(error)) from error
        transaction, database = store.stored(place)
        transaction.put(key, head + store.cipher.seal(context, value), db=database)
        return True


def count_of(store: Store) -> int:
    """How many records a walk looks at. For any thread."""
    return sum(store.counts(_PLACES).values())
