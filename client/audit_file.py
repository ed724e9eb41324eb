"""Exports of the audit chain as files of JSON lines: a header, the records, and a checkpoint as the last line.

Hashes, keys and signatures are hexadecimal, times RFC 3339. A line is read strictly: what it does not need to say it must not
say, so that nothing in it escapes the hash. What a chain proves is in audit_chain.py.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from horologe.client.audit_chain import Finding, Kind, Verification
from horologe.client.errors import InvalidFile, Problem
from horologe.v1.audit_service_pb2 import AuditCheckpoint, AuditRecord

__all__ = [
    "FORMAT",
    "Header",
    "Report",
    "checkpoint_line",
    "find_checkpoints",
    "header_line",
    "parse",
    "plain",
    "record_line",
    "verify",
]

Message = TypeVar("Message", AuditRecord, AuditCheckpoint)
FORMAT = 1
_NUMBERS = frozenset({"sequence", "revision", "object_count", "repeat_count"})
_BYTES = frozenset({"hash", "public_key", "signature"})
_INT64_MAX = (1 << 63) - 1
_RECORD_FIELDS = tuple(field.name for field in AuditRecord.DESCRIPTOR.fields)
_CHECKPOINT_FIELDS = tuple(field.name for field in AuditCheckpoint.DESCRIPTOR.fields)


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of an export."""

    cluster_id: str
    first_sequence: int
    base_hash: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """What an export proves."""

    header: Header
    chain: Verification
    checkpoint: AuditCheckpoint | None
    """Its last line."""
    finding: Finding | None
    """What is wrong; None if nothing is."""


def header_line(header: Header) -> dict[str, Any]:
    return {
        "kind": "header",
        "format": FORMAT,
        "cluster_id": header.cluster_id,
        "first_sequence": header.first_sequence,
        "base_hash": header.base_hash.hex(),
    }


def record_line(record: AuditRecord) -> dict[str, Any]:
    return {"kind": "record", **plain(record)}


def checkpoint_line(checkpoint: AuditCheckpoint) -> dict[str, Any]:
    return {"kind": "checkpoint", **plain(checkpoint)}


def plain(message: AuditRecord | AuditCheckpoint) -> dict[str, Any]:
    """A record or a checkpoint as plain data, with all its fields."""
    fields = _RECORD_FIELDS if isinstance(message, AuditRecord) else _CHECKPOINT_FIELDS
    found = {field: _plain(field, getattr(message, field)) for field in fields}
    return found if message.HasField("time") else {**found, "time": None}


def parse(name: str, lines: Iterable[str]) -> Iterator[Header | AuditRecord | AuditCheckpoint]:
    """What an export holds. Raises InvalidFile, with the line."""
    for number, line in enumerate(lines, 1):
        found = _object(line)
        if found is None:
            raise _invalid(name, number, "no JSON object; an export of the audit chain has one on each line")
        kind = found.pop("kind", None)
        if (kind == "header") is not (number == 1):
            raise _invalid(name, number, "an export of the audit chain begins with its header, and has no other")
        try:
            if kind == "header":
                yield _header(found)
            elif kind == "record":
                yield _read(AuditRecord(), found, _RECORD_FIELDS)
            elif kind == "checkpoint":
                yield _read(AuditCheckpoint(), found, _CHECKPOINT_FIELDS)
            else:
                raise ValueError(f"{kind!r} is no kind of line")
        except (ValueError, TypeError) as error:
            raise _invalid(name, number, f"{error}; the line was altered, or a newer program wrote it") from error


def verify(
    name: str, lines: Iterable[str], checkpoints: Iterable[AuditCheckpoint] = (), keys: Collection[bytes] = ()
) -> Report:
    """Verifies an export by itself, and against checkpoints and public keys that were kept elsewhere.

    Raises InvalidFile if it does not begin as an export does; whatever is wrong behind that is a finding.
    """
    items = parse(name, lines)
    header = next(items, None)
    if not isinstance(header, Header):
        raise _invalid(name, 1, "the file is empty")
    chain = Verification(header.base_hash, header.first_sequence, checkpoints, keys)
    checkpoint: AuditCheckpoint | None = None
    try:
        for item in items:
            if checkpoint is not None:
                return Report(header, chain, checkpoint, _altered(chain, "something follows behind the checkpoint"))
            if isinstance(item, AuditCheckpoint):
                checkpoint = item
            elif isinstance(item, AuditRecord) and not chain.take(item):
                break
    except InvalidFile as error:
        return Report(header, chain, checkpoint, chain.finding or _altered(chain, str(error)))
    finding = chain.end(checkpoint)
    if finding is None and checkpoint is not None and checkpoint.cluster_id != header.cluster_id:
        finding = _altered(
            chain, f"its header says cluster {header.cluster_id}, its checkpoint {checkpoint.cluster_id}"
        )
    return Report(header, chain, checkpoint, finding)


def find_checkpoints(name: str, text: str) -> list[AuditCheckpoint]:
    """All checkpoints in an export, in the log of a node, or in what `horologe audit checkpoint -o json` printed.

    Raises InvalidFile if there is none, or one that cannot be read.
    """
    found: list[AuditCheckpoint] = []
    for number, content in _objects(text):
        if "public_key" in content and "signature" in content:
            fields = {field: content[field] for field in _CHECKPOINT_FIELDS if field in content}
            try:
                found.append(_read(AuditCheckpoint(), fields, _CHECKPOINT_FIELDS))
            except (ValueError, TypeError) as error:
                raise _invalid(name, number, f"this checkpoint cannot be read: {error}") from error
    if not found:
        advice = "give an export, the log of a node in JSON, or what `horologe audit checkpoint -o json` printed"
        raise _invalid(name, 1, f"there is no checkpoint in this file; {advice}")
    return found


def _objects(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """JSON objects and the line of each: one to a line, or the whole file as one of them, or a list."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict | list):
        yield from ((1, each) for each in (whole if isinstance(whole, list) else [whole]) if isinstance(each, dict))
        return
    for number, line in enumerate(text.splitlines(), 1):
        found = _object(line)
        if found is not None:
            yield number, found


def _altered(chain: Verification, text: str) -> Finding:
    return Finding(Kind.ALTERED, chain.last + 1, text)


def _invalid(name: str, line: int, text: str) -> InvalidFile:
    return InvalidFile([Problem(name, line, 0, text)])


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A name that is there twice would be read in two ways."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _header(found: dict[str, Any]) -> Header:
    if found.get("format") != FORMAT:
        raise ValueError(f"format {found.get('format')!r} is not {FORMAT}")
    if set(found) != {"format", "cluster_id", "first_sequence", "base_hash"}:
        raise ValueError(f"its fields are {', '.join(found)}")
    base_hash = bytes.fromhex(_text(found["base_hash"]))
    return Header(_text(found["cluster_id"]), _number(found["first_sequence"]), base_hash)


def _read(message: Message, found: dict[str, Any], fields: Sequence[str]) -> Message:
    if set(found) != set(fields):
        different = sorted(set(found) ^ set(fields))
        raise ValueError(f"it lacks fields, or has others: {', '.join(different)}")
    for field in fields:
        value = found[field]
        if field == "time":
            if value is not None:
                message.time.FromJsonString(_text(value))
        elif field == "objects":
            getattr(message, field).extend(_list(value))
        elif field in _NUMBERS:
            setattr(message, field, _number(value))
        else:
            setattr(message, field, bytes.fromhex(_text(value)) if field in _BYTES else value)
    return message


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _INT64_MAX:
        raise ValueError(f"{value!r} is not a number that it can have")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def _plain(field: str, value: Any) -> Any:
    if field == "time":
        return value.ToJsonString()
    if field == "objects":
        return list(value)
    return value.hex() if field in _BYTES else value
