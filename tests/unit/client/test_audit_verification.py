"""What an export of the audit chain proves: every change to it is found, and named by the first record that is not as it was."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audit_chains import FIRST_HASH, Signer, chain_of, sealed

from horologe.client import audit_chain, audit_file
from horologe.client.audit_chain import Kind
from horologe.client.errors import InvalidFile
from horologe.node import audit_checkpoints
from horologe.raft import audit
from horologe.v1.audit_service_pb2 import AuditCheckpoint, AuditRecord

COUNT = 6
RECORDS = chain_of(COUNT)
SIGNER = Signer()
FIELDS = [field.name for field in AuditRecord.DESCRIPTOR.fields]


def found(lines: Iterable[Any], **options: Any) -> tuple[str, int] | None:
    """The kind of what is wrong with an export, and the record."""
    text = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    finding = audit_file.verify("export", text, **options).finding
    return None if finding is None else (finding.kind, finding.sequence)


def export() -> list[dict]:
    return SIGNER.export(RECORDS)


def changed(value: Any) -> Any:
    """One character, or one step, away from what it was."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return [changed(value[0]), *value[1:]]
    return value[:-1] + ("1" if value[-1] == "0" else "0") if value else "x"


# The rules are those of the cluster

texts = st.text(max_size=5)
records = st.builds(
    AuditRecord,
    sequence=st.integers(0, 2**63 - 1),
    revision=st.integers(0, 2**63 - 1),
    principal=texts,
    method=texts,
    objects=st.lists(texts, max_size=3),
    object_count=st.integers(0, 2**31 - 1),
    allowed=st.booleans(),
    hash=st.binary(max_size=32),
)


@given(records, st.binary(min_size=32, max_size=32))
def test_a_hash_is_what_the_state_machine_makes_of_it(record: AuditRecord, before: bytes) -> None:
    assert audit_chain.hash_of(before, record) == audit.hash_of(before, record)


def test_a_signature_is_over_what_the_node_signs() -> None:
    checkpoint = SIGNER.checkpoint(RECORDS)
    assert audit_chain.signed_bytes(checkpoint) == audit_checkpoints.signed_bytes(checkpoint)


@given(records)
def test_a_record_comes_back_from_its_line_as_it_was(record: AuditRecord) -> None:
    header = audit_file.header_line(audit_file.Header("c1", 1, FIRST_HASH))
    lines = [json.dumps(header), json.dumps(audit_file.record_line(record))]
    assert list(audit_file.parse("export", lines))[1] == record


# What is whole


def test_an_export_that_nobody_touched() -> None:
    report = audit_file.verify(
        "export", map(json.dumps, export()), [SIGNER.checkpoint(RECORDS[:3])], [SIGNER.public_key]
    )
    assert report.finding is None
    assert (report.chain.first, report.chain.last, report.chain.compared) == (1, COUNT, 1)
    assert report.header.cluster_id == "c1" and report.checkpoint == SIGNER.checkpoint(RECORDS)


def test_a_part_of_the_chain_and_checkpoints_of_other_parts() -> None:
    base = RECORDS[2].hash
    lines = SIGNER.export(RECORDS[3:], base)
    kept = [SIGNER.checkpoint(RECORDS[:1]), SIGNER.checkpoint(RECORDS[:3]), SIGNER.checkpoint(RECORDS[:5])]
    report = audit_file.verify("export", map(json.dumps, lines), kept)
    assert report.finding is None
    assert report.chain.compared == 2, "the first is of a record before these"
    assert found(SIGNER.export([])) is None, "a chain in which nothing has happened yet"


# What is not


@pytest.mark.parametrize("position", [1, COUNT // 2, COUNT])
@pytest.mark.parametrize("field", FIELDS)
def test_a_change_of_any_field_of_a_record(field: str, position: int) -> None:
    lines = export()
    lines[position][field] = changed(lines[position][field])
    kind, sequence = found(lines)
    assert sequence == position
    assert kind == (Kind.MISSING if field == "sequence" else Kind.ALTERED)


def flipped(line: str) -> Iterator[str]:
    """The line with one bit of one byte changed, for each byte."""
    raw = line.encode()
    for place in range(len(raw)):
        yield (raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]).decode(errors="replace")


@pytest.mark.parametrize("position", [1, 2, COUNT])
def test_a_flipped_bit_of_any_byte_of_a_record(position: int) -> None:
    lines = [json.dumps(line) for line in export()]
    for line in flipped(lines[position]):
        report = audit_file.verify("export", [*lines[:position], line, *lines[position + 1 :]])
        assert report.finding is not None and report.finding.sequence == position, line
        assert report.chain.last == position - 1, "nothing behind it counts as proved"


def test_a_flipped_bit_of_any_byte_of_the_header_and_of_the_checkpoint() -> None:
    header, *between, last = [json.dumps(line) for line in export()]
    for line in flipped(last):
        assert found([header, *between, line]) is not None, line
    for line in flipped(header):
        try:
            assert found([line, *between, last]) is not None, line
        except InvalidFile:
            continue  # It is no header any more.


@pytest.mark.parametrize("position", range(1, COUNT))
def test_a_record_that_is_dropped(position: int) -> None:
    lines = export()
    del lines[position]
    assert found(lines) == (Kind.MISSING, position)


def test_a_record_that_is_dropped_and_the_rest_numbered_anew() -> None:
    lines = export()
    del lines[3]
    for line in lines[3:-1]:
        line["sequence"] -= 1
    assert found(lines) == (Kind.ALTERED, 3)


def test_two_records_that_change_places() -> None:
    lines = export()
    lines[2], lines[3] = lines[3], lines[2]
    assert found(lines) == (Kind.MISSING, 2)


def test_a_record_that_comes_twice() -> None:
    lines = export()
    lines.insert(3, lines[2])
    assert found(lines) == (Kind.MISSING, 3)


def test_a_tail_that_is_cut_off() -> None:
    lines = export()
    assert found(lines[:-1]) == (Kind.TRUNCATED, COUNT + 1)
    assert found([*lines[:-3], lines[-1]]) == (Kind.TRUNCATED, COUNT - 1)


def test_a_tail_that_is_cut_off_under_a_checkpoint_of_its_own() -> None:
    """Signed with the key of a node: only a checkpoint that was kept elsewhere knows of more."""
    lines = SIGNER.export(RECORDS[:4])
    assert found(lines) is None
    assert found(lines, checkpoints=[SIGNER.checkpoint(RECORDS)]) == (Kind.TRUNCATED, 5)


def test_a_chain_that_is_rewritten_from_a_record_on() -> None:
    """Whole in itself, and signed with the key of a node: only a checkpoint that was kept elsewhere differs."""
    other = deepcopy(RECORDS)
    other[2].principal = "bob"
    lines = SIGNER.export(sealed(other))
    assert found(lines) is None
    for count in (3, 4, COUNT):
        assert found(lines, checkpoints=[SIGNER.checkpoint(RECORDS[:count])]) == (Kind.REWRITTEN, count)
    assert found(lines, checkpoints=[SIGNER.checkpoint(RECORDS[:2])]) is None, "of before the change"


def test_a_chain_that_is_rewritten_and_signed_by_somebody_else() -> None:
    other = Signer()
    lines = other.export(RECORDS)
    assert found(lines) is None
    assert found(lines, keys=[SIGNER.public_key]) == (Kind.UNSIGNED, COUNT)
    assert found(lines, keys=[SIGNER.public_key, other.public_key]) is None


def test_a_base_that_another_chain_has() -> None:
    lines = export()
    lines[0]["base_hash"] = "11" * 32
    assert found(lines) == (Kind.ALTERED, 1)


@pytest.mark.parametrize("field", [field.name for field in AuditCheckpoint.DESCRIPTOR.fields])
def test_a_change_of_any_field_of_the_checkpoint(field: str) -> None:
    lines = export()
    lines[-1][field] = changed(lines[-1][field])
    kind, _ = found(lines)
    assert kind == (Kind.ALTERED if field == "time" else Kind.UNSIGNED), "that time is none"


def test_a_kept_checkpoint_that_nobody_signed() -> None:
    forged = SIGNER.checkpoint(RECORDS[:2])
    forged.hash = b"h" * 32
    assert found(export(), checkpoints=[forged]) == (Kind.UNSIGNED, 2)


def test_lines_that_an_export_does_not_have() -> None:
    lines = export()
    assert found([*lines, lines[1]]) == (Kind.ALTERED, COUNT + 1)
    assert found([*lines[:2], {"kind": "note"}, *lines[2:]]) == (Kind.ALTERED, 2)
    assert found([*lines[:2], lines[0], *lines[2:]]) == (Kind.ALTERED, 2)
    assert found([lines[0], lines[1] | {"comment": "x"}, *lines[2:]]) == (Kind.ALTERED, 1)
    twice = json.dumps(lines[1]).replace('"principal"', '"principal": "eve", "principal"')
    assert found([lines[0], twice, *lines[2:]]) == (Kind.ALTERED, 1)
    lines[0]["cluster_id"] = "c2"
    assert found(lines) == (Kind.ALTERED, COUNT + 1)


@pytest.mark.parametrize(
    "lines", [[], ["{}"], ["no JSON"], [json.dumps(export()[1])], ['{"kind": "header", "format": 2}']]
)
def test_what_is_no_export(lines: list[str]) -> None:
    with pytest.raises(InvalidFile, match=r"export:1: "):
        audit_file.verify("export", lines)


# Checkpoints that were kept


def test_checkpoints_are_found_in_exports_logs_and_answers() -> None:
    one, two = SIGNER.checkpoint(RECORDS), SIGNER.checkpoint(RECORDS[:2])
    exported = "\n".join(map(json.dumps, export()))
    assert audit_file.find_checkpoints("f", exported) == [one]
    plain = [audit_file.plain(one), audit_file.plain(two)]
    assert audit_file.find_checkpoints("f", json.dumps([each | {"error": ""} for each in plain], indent=2)) == [
        one,
        two,
    ]
    assert audit_file.find_checkpoints("f", json.dumps(plain[1])) == [two]
    log = [
        {"event": "node started", "node": "n1"},
        *(
            {**each, "event": "audit checkpoint", "level": "info", "timestamp": "2027-01-01T00:00:00Z"}
            for each in plain
        ),
    ]
    assert audit_file.find_checkpoints("f", "\n".join(["no JSON", *map(json.dumps, log)])) == [one, two]


def test_a_file_without_checkpoints() -> None:
    with pytest.raises(InvalidFile, match="no checkpoint"):
        audit_file.find_checkpoints("f", "nothing\n")
    broken = audit_file.plain(SIGNER.checkpoint(RECORDS)) | {"hash": "no hash"}
    with pytest.raises(InvalidFile, match="f:1: this checkpoint cannot be read"):
        audit_file.find_checkpoints("f", json.dumps(broken))
