"""The audit chain: who asked for what, each record bound to the one before it.

The hash of a record is SHA-256 over the hash of the record before it and over the record itself, serialized without its hash.
All nodes append the same records in the same entries, so their chains are the same. Before the first record the hash is 32
zero bytes. What a command is about is said in audit_subjects.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from horologe.log.v1 import log_pb2
from horologe.raft.audit_subjects import objects_of, state_of
from horologe.raft.model import Code, Result
from horologe.raft.records import U64
from horologe.raft.state import State
from horologe.raft.tables import Tables
from horologe.v1 import audit_service_pb2

Record = audit_service_pb2.AuditRecord

FIRST_HASH = bytes(32)
HEAD_KEY = b"audit_head"
"""In the meta table: the hash of the newest record."""
BASE_KEY = b"audit_base"
"""In the meta table, once records were dropped: the number of the oldest that is kept, and the hash of the one before it."""
OBJECTS_MAX = 20
"""So many objects of a command are named: a batch has up to 1,000, and its record is to stay small."""
REASONS: Mapping[Code, str] = {
    Code.QUEUE_FULL: "OVERLAP",
    Code.MOVED_ON: "ETAG_MISMATCH",
    Code.TOO_MANY_PAUSES: "LIMIT_EXCEEDED",
    Code.QUOTA_EXCEEDED: "LIMIT_EXCEEDED",
    Code.SESSION_NOT_FOUND: "LEASE_LOST",
    Code.WRONG_CLUSTER: "INTERNAL",
    Code.MALFORMED: "INTERNAL",
}
"""Where the error that a caller gets (node/errors.py) has another name than the code."""


@dataclass(frozen=True, slots=True)
class Base:
    """Where the part of the chain begins that is kept."""

    sequence: int
    """Of the oldest record that is kept, or of the next one if there is none."""
    hash: bytes
    """The hash before it."""


def head_of(tables: Tables) -> bytes:
    """The hash of the newest record."""
    raw = tables.meta.get(HEAD_KEY)
    return FIRST_HASH if raw is None else bytes(raw)


def base_of(tables: Tables) -> Base:
    """Where the kept part begins."""
    raw = tables.meta.get(BASE_KEY)
    return Base(1, FIRST_HASH) if raw is None else Base(U64.unpack(raw[: U64.size])[0], bytes(raw[U64.size :]))


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
    record.hash = b""
    bare = record.SerializeToString(deterministic=True)
    record.hash = hashlib.sha256(head_of(state.tables) + bare).digest()
    state.tables.audit.put(U64.pack(record.sequence), record.SerializeToString(deterministic=True))
    state.tables.meta.put(HEAD_KEY, record.hash)


def stand_before(state: State, command: log_pb2.Command) -> str:
    """What `note` is to be told as `before`: to be asked before the command is done. Costs nothing if nobody will ask."""
    return state_of(state.tables, command) if command.actor.principal else ""


def note(state: State, command: log_pb2.Command, result: Result, before: str = "") -> Result:
    """Records a caller's command, done or refused, and the beginning of security. Answers the result.

    The cluster's own commands are not recorded, nor those of a cluster without security: nobody proved who sent them.
    """
    if command.HasField("begin_security"):
        if result.code is Code.OK or command.actor.principal:
            append(state, _record(state, command, result, before))
    elif command.actor.principal or result.code is Code.PERMISSION_DENIED:
        append(state, _record(state, command, result, before))
    return result


def note_denied(state: State, command: log_pb2.NoteDenied) -> Result:
    """What nodes refused, or did, by themselves, with the time at which they did."""
    for record in command.records:
        append(state, record)
    return Result(Code.OK)


def drop(state: State, before: int, count_max: int) -> int:
    """Drops records before a number, oldest first, at most so many; answers how many. What is left still verifies."""
    base = base_of(state.tables)
    dropped = [
        record for _, record in zip(range(count_max), records(state.tables, base.sequence, before), strict=False)
    ]
    for record in dropped:
        state.tables.audit.delete(U64.pack(record.sequence))
    if dropped:
        newest = dropped[-1]
        state.tables.meta.put(BASE_KEY, U64.pack(newest.sequence + 1) + newest.hash)
    return len(dropped)


def records(tables: Tables, first: int, end: int) -> Iterator[Record]:
    """Records from a number on, before another one, as far as they are kept."""
    for key, raw in tables.audit.scan(U64.pack(first)):
        if U64.unpack(key)[0] >= end:
            return
        yield Record.FromString(bytes(raw))


def hash_before(tables: Tables, sequence: int) -> bytes | None:
    """The hash before a record that is kept, or before the next one; None if it is not known here."""
    base = base_of(tables)
    if sequence == base.sequence:
        return base.hash
    raw = tables.audit.get(U64.pack(sequence - 1)) if sequence > base.sequence else None
    return None if raw is None else Record.FromString(bytes(raw)).hash


def _record(state: State, command: log_pb2.Command, result: Result, before: str) -> Record:
    actor, is_done = command.actor, result.code is Code.OK
    kind = command.WhichOneof("kind") or ""
    # Names in a command whose form is broken may be of any size.
    objects, count = (
        ([], 0) if result.code is Code.MALFORMED else objects_of(state.tables, command, result, OBJECTS_MAX)
    )
    record = Record(
        principal=actor.principal,
        token=actor.token,
        certificate=actor.certificate,
        source=actor.source,
        method=actor.method or kind,
        objects=objects,
        object_count=count,
        allowed=is_done,
        reason="" if is_done else REASONS.get(result.code, result.code.name),
        before=before if is_done else "",
        after=state_of(state.tables, command) if is_done else "",
    )
    if kind == "begin_security" and not actor.principal:
        # Nobody could prove anything before: it is the first administrator's own doing.
        record.principal, record.token = command.begin_security.admin.principal, command.begin_security.admin.id
    record.time.FromMilliseconds(state.now_ms)
    return record
