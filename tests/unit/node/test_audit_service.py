"""AuditService: lists that stay as they are while records come in, exports that verify, checkpoints that are signed."""

from __future__ import annotations

import grpc
import pytest
import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from service_harness import START_MS, refused

from horologe.log.v1 import log_pb2
from horologe.node import audit_service
from horologe.node.audit_checkpoints import AuditKeyError, Checkpoints, load_or_make_key, signed_bytes
from horologe.raft.audit import FIRST_HASH, hash_of
from horologe.v1 import audit_service_pb2 as api

JOB = "namespaces/default/jobs/j{}"


def note(node, count=1, principal="ann", method="JobService.DeleteJob", first=0):
    """Refused deletions: the simplest thing that is recorded."""
    for number in range(first, first + count):
        command = log_pb2.Command(delete_job=log_pb2.DeleteJob(name=JOB.format(number)))
        command.actor.principal, command.actor.method = principal, method
        node.apply(command)


def note_denied(node, time_ms, method="JobService.GetJob"):
    record = api.AuditRecord(principal="eve", method=method, reason="PERMISSION_DENIED", repeat_count=1)
    record.time.FromMilliseconds(time_ms)
    node.apply(log_pb2.Command(note_denied=log_pb2.NoteDenied(records=[record])))


async def listed(node, **wanted):
    found, token = [], ""
    while True:
        answer = await node.audit.ListAuditRecords(api.ListAuditRecordsRequest(page_token=token, **wanted))
        found += [record.sequence for record in answer.records]
        token = answer.next_page_token
        if not token:
            return found


async def exported(node, first=0):
    return [
        answer async for answer in node.audit.ExportAuditRecords(api.ExportAuditRecordsRequest(from_sequence=first))
    ]


async def test_records_come_newest_first(node):
    note(node, 5)
    answer = await node.audit.ListAuditRecords(api.ListAuditRecordsRequest(page_size=2))
    assert [record.sequence for record in answer.records] == [5, 4]
    assert answer.records[0].objects == [JOB.format(4)]
    assert answer.revision == 5


async def test_pages_stay_as_they_are_while_records_come_in(node):
    note(node, 5)
    request = api.ListAuditRecordsRequest(page_size=2)
    first = await node.audit.ListAuditRecords(request)
    note(node, 5, first=5)
    request.page_token = first.next_page_token
    second = await node.audit.ListAuditRecords(request)
    assert [record.sequence for record in second.records] == [3, 2]
    request.page_token = second.next_page_token
    third = await node.audit.ListAuditRecords(request)
    assert [record.sequence for record in third.records] == [1]
    assert not third.next_page_token


async def test_a_page_looks_at_a_bounded_number_of_records(node, monkeypatch):
    monkeypatch.setattr(audit_service, "ROWS_PER_PAGE", 3)
    note(node, 1, principal="bob")
    note(node, 7)
    answer = await node.audit.ListAuditRecords(api.ListAuditRecordsRequest(principal="bob"))
    assert not answer.records and answer.next_page_token
    assert await listed(node, principal="bob") == [1]


async def test_filters(node):
    note(node, 2)
    note(node, 1, principal="bob", method="JobService.PauseJob")
    command = log_pb2.Command(set_limit=log_pb2.SetLimit(name="namespaces/default/limits/l", max_running=1))
    command.actor.principal = "bob"
    node.apply(command)
    assert await listed(node, principal="bob") == [4, 3]
    assert await listed(node, method="JobService.PauseJob") == [3]
    assert await listed(node, object=JOB.format(0)) == [3, 1]
    assert await listed(node, denied_only=True) == [3, 2, 1]
    refusal = await refused(node.audit.ListAuditRecords(api.ListAuditRecordsRequest(object="x" * 201)))
    assert "object" in refusal.fields


async def test_times_bound_a_list_although_refusals_of_nodes_come_late(node):
    note(node)
    node.clock.now_ms += 10 * 3_600_000
    note(node)
    note_denied(node, node.clock.now_ms - 600_000)
    note(node)
    request = api.ListAuditRecordsRequest()
    getattr(request, "from").FromMilliseconds(node.clock.now_ms - 700_000)
    assert [record.sequence for record in (await node.audit.ListAuditRecords(request)).records] == [4, 3, 2]
    request.before.FromMilliseconds(node.clock.now_ms)
    assert [record.sequence for record in (await node.audit.ListAuditRecords(request)).records] == [3]
    # A node that was cut off for hours hides nothing with what it tells then.
    note_denied(node, node.clock.now_ms - 9 * 3_600_000)
    request.ClearField("before")
    assert [record.sequence for record in (await node.audit.ListAuditRecords(request)).records] == [4, 3, 2]


async def test_an_export_verifies_and_ends_with_a_checkpoint(node, monkeypatch):
    monkeypatch.setattr(audit_service, "RECORDS_PER_RESPONSE", 2)
    note(node, 5)
    answers = await exported(node)
    assert [len(answer.records) for answer in answers] == [2, 2, 1, 0]
    before, sequence = answers[0].base_hash, 0
    assert before == FIRST_HASH
    for answer in answers:
        for record in answer.records:
            sequence += 1
            assert record.sequence == sequence and record.hash == hash_of(before, record)
            before = record.hash
    checkpoint = answers[-1].checkpoint
    assert (checkpoint.sequence, checkpoint.hash, checkpoint.node) == (5, before, "n1")
    assert checkpoint.time.ToMilliseconds() == START_MS
    assert all(not answer.HasField("checkpoint") for answer in answers[:-1])


async def test_an_export_from_the_middle_and_from_the_end(node):
    note(node, 3)
    everything = await exported(node)
    second, third = everything[0].records[1:]
    answers = await exported(node, 3)
    assert answers[0].base_hash == second.hash and list(answers[0].records) == [third]
    answers = await exported(node, 4)
    assert len(answers) == 1
    assert answers[0].base_hash == answers[0].checkpoint.hash == third.hash
    for wrong in (5, -1):
        stream = node.audit.ExportAuditRecords(api.ExportAuditRecordsRequest(from_sequence=wrong))
        assert "from_sequence" in (await refused(stream.read())).fields


async def test_an_export_takes_no_record_that_comes_while_it_is_read(node, monkeypatch):
    monkeypatch.setattr(audit_service, "RECORDS_PER_RESPONSE", 1)
    note(node, 3)
    stream = aiter(node.audit.ExportAuditRecords(api.ExportAuditRecordsRequest()))
    answers = [await anext(stream)]
    note(node, 3)
    answers += [answer async for answer in stream]
    assert sum(len(answer.records) for answer in answers) == answers[-1].checkpoint.sequence == 3


async def test_what_was_dropped_is_said_to_be_gone(node):
    note(node, 5)
    node.apply(log_pb2.Command(prune=log_pb2.Prune(audit_before=3)))
    answers = await exported(node)
    assert [record.sequence for record in answers[0].records] == [3, 4, 5]
    assert answers[0].records[0].hash == hash_of(answers[0].base_hash, answers[0].records[0])
    refusal = await refused(node.audit.ExportAuditRecords(api.ExportAuditRecordsRequest(from_sequence=2)).read())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "AUDIT_RECORDS_GONE")


async def test_a_checkpoint_is_signed_over_all_that_it_says(node):
    note(node)
    checkpoint = (await node.audit.GetAuditCheckpoint(api.GetAuditCheckpointRequest())).checkpoint
    key = Ed25519PublicKey.from_public_bytes(checkpoint.public_key)
    key.verify(checkpoint.signature, signed_bytes(checkpoint))
    for field, value in (
        ("sequence", 2),
        ("hash", b"h" * 32),
        ("node", "n2"),
        ("cluster_id", "c"),
        ("public_key", b"k" * 32),
    ):
        other = api.AuditCheckpoint()
        other.CopyFrom(checkpoint)
        setattr(other, field, value)
        with pytest.raises(InvalidSignature):
            key.verify(checkpoint.signature, signed_bytes(other))
    checkpoint.time.nanos += 1
    with pytest.raises(InvalidSignature):
        key.verify(checkpoint.signature, signed_bytes(checkpoint))


async def test_the_log_gets_the_head(node):
    checkpoints = Checkpoints(node.context)
    with structlog.testing.capture_logs() as lines:
        checkpoints.tell()
        assert not lines, "nothing was recorded"
        note(node, 2)
        checkpoints.tell()
    (line,) = lines
    assert (line["event"], line["log_level"], line["sequence"], line["node"]) == ("audit checkpoint", "info", 2, "n1")
    signed = (await node.audit.GetAuditCheckpoint(api.GetAuditCheckpointRequest())).checkpoint
    assert line["hash"] == signed.hash.hex() and line["public_key"] == signed.public_key.hex()
    assert line["signature"] == signed.signature.hex(), "the same instant of a clock that stands still"


def test_the_key_is_made_once_and_is_nobody_elses(tmp_path):
    path = tmp_path / "data" / "audit.key"
    made = load_or_make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_make_key(path).private_bytes_raw() == made.private_bytes_raw()
    assert [each.name for each in path.parent.iterdir()] == ["audit.key"]
    path.chmod(0o640)
    with pytest.raises(AuditKeyError, match="chmod 600"):
        load_or_make_key(path)
    path.chmod(0o600)
    path.write_bytes(b"no key")
    with pytest.raises(AuditKeyError, match="no Ed25519 key"):
        load_or_make_key(path)


def test_a_folder_that_takes_no_key_is_named(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(AuditKeyError, match="cannot be used"):
        load_or_make_key(file / "audit.key")
    (tmp_path / "audit.key.new").write_bytes(b"a start that was cut short")
    load_or_make_key(tmp_path / "audit.key")
    assert not (tmp_path / "audit.key.new").exists()
