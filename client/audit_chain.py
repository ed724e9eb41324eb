"""Verifies an audit chain by itself: the hashes, the numbers, the signatures, and checkpoints that somebody kept.

Pure: no I/O, and nothing of the cluster's own code. The rules stand here a second time, so that whoever doubts the cluster need
not ask it: they are those of docs/audit.md. The file format of an export is in audit_file.py.

A chain that was rewritten from some record on, and signed anew, is whole in itself. It is found by what was kept elsewhere: older
checkpoints, and the keys of the nodes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from horologe.v1.audit_service_pb2 import AuditCheckpoint, AuditRecord

__all__ = ["HASH_BYTES", "Finding", "Kind", "Verification", "hash_of", "signature_fault", "signed_bytes"]

HASH_BYTES = 32
_SIGNED_PREFIX = b"horologe audit checkpoint 1\n"


class Kind(StrEnum):
    """What is wrong."""

    ALTERED = "altered"
    """A record does not fit its hash, or the record before it."""
    MISSING = "missing"
    """A number is left out, or records are out of order."""
    TRUNCATED = "truncated"
    """The chain ends before a record that a checkpoint knows."""
    REWRITTEN = "rewritten"
    """A checkpoint knows another record under this number."""
    UNSIGNED = "unsigned"
    """A checkpoint's signature does not hold, or its key is not one of those that are known."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a chain, and at which record first."""

    kind: Kind
    sequence: int
    text: str


def hash_of(before: bytes, record: AuditRecord) -> bytes:
    """SHA-256 over the hash of the record before, and the record without its own hash, in protobuf's wire format."""
    bare = AuditRecord()
    bare.CopyFrom(record)
    bare.ClearField("hash")
    return hashlib.sha256(before + bare.SerializeToString(deterministic=True)).digest()


def signed_bytes(checkpoint: AuditCheckpoint) -> bytes:
    """What a node signs."""
    node, cluster_id = checkpoint.node.encode(), checkpoint.cluster_id.encode()
    parts = (
        _SIGNED_PREFIX,
        checkpoint.sequence.to_bytes(8),
        checkpoint.hash,
        checkpoint.time.ToNanoseconds().to_bytes(8),
        len(node).to_bytes(4) + node,
        len(cluster_id).to_bytes(4) + cluster_id,
        checkpoint.public_key,
    )
    return b"".join(parts)


def signature_fault(checkpoint: AuditCheckpoint, keys: Collection[bytes] = ()) -> Finding | None:
    """What is wrong with a checkpoint by itself. `keys`: the public keys that are trusted; empty: any."""
    whose = f"the checkpoint of node {checkpoint.node or '?'} at record {checkpoint.sequence}"
    try:
        key = Ed25519PublicKey.from_public_bytes(checkpoint.public_key)
        key.verify(checkpoint.signature, signed_bytes(checkpoint))
    except (InvalidSignature, ValueError, OverflowError):
        return Finding(Kind.UNSIGNED, checkpoint.sequence, f"{whose}: its signature does not hold")
    if keys and checkpoint.public_key not in keys:
        known = f"{whose} is signed with a key that is not one of those given: {checkpoint.public_key.hex()}"
        return Finding(Kind.UNSIGNED, checkpoint.sequence, known)
    return None


class Verification:
    """One walk over a chain, oldest record first. Ends with the first finding."""

    def __init__(
        self,
        base_hash: bytes,
        first: int,
        checkpoints: Iterable[AuditCheckpoint] = (),
        keys: Collection[bytes] = (),
    ) -> None:
        """The chain is to begin with record `first`, behind `base_hash`. `checkpoints` were kept elsewhere; `keys` are trusted:
        with none of them, any key is.
        """
        self.first = first
        self.last = first - 1
        """The last record that is proved to be in its place."""
        self.head = base_hash
        self.finding: Finding | None = None
        self.compared = 0
        """Of the checkpoints that were kept elsewhere, so many are of records in this part of the chain."""
        self._keys = keys
        self._kept: dict[int, list[AuditCheckpoint]] = {}
        for checkpoint in checkpoints:
            self.finding = self.finding or signature_fault(checkpoint, keys)
            self._kept.setdefault(checkpoint.sequence, []).append(checkpoint)
        if self.finding is None:
            self._compare()

    @property
    def is_sound(self) -> bool:
        """So far."""
        return self.finding is None

    def take(self, record: AuditRecord) -> bool:
        """The next record. Answers whether all is well so far."""
        if self.finding is not None:
            return False
        expected = self.last + 1
        if record.sequence != expected:
            text = f"record {record.sequence} stands in the place of record {expected}: records are missing, or out of order"
            self.finding = Finding(Kind.MISSING, expected, text)
        elif len(record.hash) != HASH_BYTES or record.hash != hash_of(self.head, record):
            text = f"record {expected} was altered, or it does not follow the record before it: its hash does not fit"
            self.finding = Finding(Kind.ALTERED, expected, text)
        else:
            self.last, self.head = expected, record.hash
            self._compare()
        return self.finding is None

    def end(self, checkpoint: AuditCheckpoint | None) -> Finding | None:
        """The chain ends here, with a checkpoint if it is whole. Answers the first finding of all."""
        if self.finding is not None:
            return self.finding
        if checkpoint is None:
            text = f"it ends after record {self.last} without a checkpoint: the rest was cut off"
            self.finding = Finding(Kind.TRUNCATED, self.last + 1, text)
            return self.finding
        self.finding = signature_fault(checkpoint, self._keys)
        if self.finding is None and checkpoint.sequence < self.last:
            text = f"it goes on to record {self.last} behind its checkpoint, which is of record {checkpoint.sequence}"
            self.finding = Finding(Kind.REWRITTEN, checkpoint.sequence + 1, text)
        latest = max(checkpoint.sequence, *self._kept, 0)
        if self.finding is None and latest > self.last:
            text = f"it ends with record {self.last}, and a checkpoint knows record {latest}: the rest was cut off"
            self.finding = Finding(Kind.TRUNCATED, self.last + 1, text)
        if self.finding is None:
            self._judge(checkpoint)
        return self.finding

    def _compare(self) -> None:
        for checkpoint in self._kept.get(self.last, ()):
            self.compared += 1
            self._judge(checkpoint)

    def _judge(self, checkpoint: AuditCheckpoint) -> None:
        if checkpoint.hash != self.head and self.finding is None:
            whose = f"node {checkpoint.node} of cluster {checkpoint.cluster_id} at {checkpoint.time.ToJsonString()}"
            text = f"record {self.last} is not the one that {whose} signed: the chain was rewritten at it, or before"
            self.finding = Finding(Kind.REWRITTEN, self.last, text)
