"""Audit chains made by hand, and nodes that sign them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from horologe.client import audit_file
from horologe.client.audit_chain import hash_of, signed_bytes
from horologe.v1.audit_service_pb2 import AuditCheckpoint, AuditRecord

FIRST_HASH = bytes(32)
START_MS = 1_800_000_000_000


def chain_of(count: int, *, first: int = 1, base: bytes = FIRST_HASH, principal: str = "ann") -> list[AuditRecord]:
    """Records in which every field has a value, from `first` on."""
    records = []
    for sequence in range(first, first + count):
        record = AuditRecord(
            sequence=sequence,
            revision=10 * sequence,
            principal=principal,
            token="0123456789abcdef",
            certificate="ab" * 32,
            source="10.0.0.1:50000",
            method="JobService.PauseJob",
            objects=[f"namespaces/default/jobs/j{sequence}"],
            object_count=1,
            allowed=bool(sequence % 2),
            reason="" if sequence % 2 else "JOB_PAUSED",
            before=f"{sequence}",
            after=f"{sequence + 1}",
            repeat_count=sequence,
        )
        record.time.FromMilliseconds(START_MS + 1_000 * sequence)
        records.append(record)
    return sealed(records, base)


def sealed(records: Sequence[AuditRecord], base: bytes = FIRST_HASH) -> list[AuditRecord]:
    """The same with hashes that fit: what somebody makes of a chain who can rewrite all of it."""
    made, before = [], base
    for record in deepcopy(list(records)):
        record.hash = before = hash_of(before, record)
        made.append(record)
    return made


class Signer:
    """A node's word."""

    def __init__(self, node: str = "n1", cluster_id: str = "c1") -> None:
        self.node, self.cluster_id = node, cluster_id
        self._key = Ed25519PrivateKey.generate()
        self.public_key = self._key.public_key().public_bytes_raw()

    def checkpoint(self, records: Sequence[AuditRecord], base: bytes = FIRST_HASH) -> AuditCheckpoint:
        made = AuditCheckpoint(
            sequence=records[-1].sequence if records else 0,
            hash=records[-1].hash if records else base,
            node=self.node,
            cluster_id=self.cluster_id,
            public_key=self.public_key,
        )
        made.time.FromMilliseconds(START_MS)
        return self.signed(made)

    def signed(self, checkpoint: AuditCheckpoint) -> AuditCheckpoint:
        checkpoint.signature = self._key.sign(signed_bytes(checkpoint))
        return checkpoint

    def export(self, records: Sequence[AuditRecord], base: bytes = FIRST_HASH) -> list[dict]:
        """The lines of an export."""
        first = records[0].sequence if records else 1
        return [
            audit_file.header_line(audit_file.Header(self.cluster_id, first, base)),
            *(audit_file.record_line(record) for record in records),
            audit_file.checkpoint_line(self.checkpoint(records, base)),
        ]
