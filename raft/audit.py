"""The audit chain: who asked for what, each record bound to the one before it.

The hash of a record is SHA-256 over the hash of the record before it and over the record itself, serialized without its hash.
All nodes append the same records in the same entries, so their chains are the same. Before the first record the hash is 32
zero bytes.
"""

from __future__ import annotations

import hashlib

from horologe.log.v1 import log_pb2
from horologe.raft.model import Code, Result
from horologe.raft.records import U64
from horologe.raft.state import State
from horologe.raft.tables import Tables
from horologe.v1 import audit_service_pb2

Record = audit_service_pb2.AuditRecord

FIRST_HASH = bytes(32)
HEAD_KEY = b"audit_head"
"""In the meta table: the hash of the newest record."""


def head_of(tables: Tables) -> bytes:
    """The hash of the newest record."""
    raw = tables.meta.get(HEAD_KEY)
    return FIRST_HASH if raw is None else raw


def hash_of(before: bytes, record: Record) -> bytes:
    """The hash that the record must have behind one with the hash `before`."""
    bare = Record()
    bare.CopyFrom(record)
    bare.hash = b""
    return hashlib.sha256(before + bare.SerializeToString(deterministic=True)).digest()


def append(state: State, record: Record) -> None:
    """The next record of the chain; its number, revision and hash are filled in."""
    state.counters.last_audit += 1
    record.sequence = state.counters.last_audit
    record.revision = state.index
    record.hash = hash_of(head_of(state.tables), record)
    state.tables.audit.put(U64.pack(record.sequence), record.SerializeToString(deterministic=True))
    state.tables.meta.put(HEAD_KEY, record.hash)


def note_denied(state: State, command: log_pb2.NoteDenied) -> Result:
    """What nodes refused by themselves, with the time at which they did."""
    for record in command.records:
        append(state, record)
    return Result(Code.OK)
