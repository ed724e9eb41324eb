"""The digest of the replicated state: two nodes whose digests agree at one revision hold the same bytes.

Pure, as what it reads: the tables in their order, and what is in them in key order. Where the state lies, with what
checksums, and what a node keeps for itself make no difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

from horologe.raft.tables import SET_TABLE_NAMES, TABLE_NAMES, Tables

RECORDS_PER_TURN = 1_000
"""About a millisecond of work: what another thread may have to wait for."""
_LENGTHS = Struct(">II")


@dataclass(frozen=True, slots=True)
class StateDigest:
    """SHA-256 over all replicated tables, and of how many records."""

    digest: bytes
    record_count: int


def digest_of(tables: Tables, between_turns: Callable[[], None] = lambda: None) -> StateDigest:
    """Reads everything. `between_turns` is called every thousand records: it may wait, and end this by an exception."""
    digest = hashlib.sha256()
    record_count = 0
    for name in (*TABLE_NAMES, *SET_TABLE_NAMES):
        pieces = [_LENGTHS.pack(len(name), 0), name.encode()]
        for key, value in getattr(tables, name).scan():
            pieces += (_LENGTHS.pack(len(key), len(value)), key, value)
            record_count += 1
            if record_count % RECORDS_PER_TURN == 0:
                digest.update(b"".join(pieces))
                pieces.clear()
                between_turns()
        digest.update(b"".join(pieces))
    return StateDigest(digest.digest(), record_count)
