"""What must hold of the audit chain: numbers without gaps, each hash over the one before it, and the head at its end."""

from __future__ import annotations

import hashlib

from horologe.raft.audit import OBJECTS_MAX, Record, base_of, head_of
from horologe.raft.model import Counters
from horologe.raft.records import U64
from horologe.raft.tables import Tables


def check_chain(tables: Tables) -> None:
    """Raises AssertionError. The rule of the hash stands here once more, so that it cannot change unnoticed."""
    base = base_of(tables)
    sequence, before = base.sequence, base.hash
    for key, raw in tables.audit.scan():
        record = Record.FromString(raw)
        assert U64.unpack(key)[0] == record.sequence == sequence
        found, record.hash = record.hash, b""
        assert found == hashlib.sha256(before + record.SerializeToString(deterministic=True)).digest()
        assert record.allowed is not bool(record.reason), record
        assert len(record.objects) == min(record.object_count, OBJECTS_MAX), record
        sequence, before = sequence + 1, found
    assert Counters.load(tables).last_audit == sequence - 1
    assert head_of(tables) == before
