"""The node's word for where its audit chain stands: checkpoints, signed with a key that the node has made for itself.

A chain alone does not stop whoever can rewrite all of it. So each node writes its head, signed, to its log every hour and when
it stops: a collector on another machine then has heads that nobody can take back. How a checkpoint is encoded for its signature
is said in docs/audit.md; client/audit_chain.py verifies it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from horologe.node.context import NodeContext
from horologe.node.private_files import is_private, replace_durably
from horologe.raft.audit import head_of
from horologe.raft.machine import cluster_id_of
from horologe.raft.model import Counters
from horologe.raft.store import StoreError
from horologe.raft.tables import Tables
from horologe.v1 import audit_service_pb2

Checkpoint = audit_service_pb2.AuditCheckpoint

KEY_FILE = "audit.key"
SIGNED_PREFIX = b"horologe audit checkpoint 1\n"
"""So that the signature of a checkpoint is never that of anything else."""
LOG_SECONDS = 3_600.0

log = structlog.get_logger(__name__)


class AuditKeyError(StoreError):
    """The node's audit key cannot be used."""


class Checkpoints:
    """Makes this node's checkpoints, and tells them."""

    def __init__(self, context: NodeContext) -> None:
        """Raises AuditKeyError if there is a key that cannot be read, or none can be made."""
        self._node = context
        self._key = load_or_make_key(context.config.data_dir / KEY_FILE)
        self._public_key = self._key.public_key().public_bytes_raw()

    def of(self, tables: Tables) -> Checkpoint:
        """Where the chain stands in these tables."""
        checkpoint = Checkpoint(
            sequence=Counters.load(tables).last_audit,
            hash=head_of(tables),
            node=self._node.config.name,
            cluster_id=cluster_id_of(tables),
            public_key=self._public_key,
        )
        checkpoint.time.FromMilliseconds(self._node.clock.wall_ms())
        checkpoint.signature = self._key.sign(signed_bytes(checkpoint))
        return checkpoint

    async def keep_telling(self) -> None:
        """Now, and every hour."""
        while True:
            self.tell()
            await asyncio.sleep(LOG_SECONDS)

    def tell(self) -> None:
        """To the log, in the words of an export. Nothing, while nothing was ever recorded."""
        with self._node.store.read() as tables:
            checkpoint = self.of(tables)
        if checkpoint.sequence:
            log.info(
                "audit checkpoint",
                sequence=checkpoint.sequence,
                hash=checkpoint.hash.hex(),
                time=checkpoint.time.ToJsonString(),
                node=checkpoint.node,
                cluster_id=checkpoint.cluster_id,
                public_key=checkpoint.public_key.hex(),
                signature=checkpoint.signature.hex(),
            )


def signed_bytes(checkpoint: Checkpoint) -> bytes:
    """What the signature is over."""
    node, cluster_id = checkpoint.node.encode(), checkpoint.cluster_id.encode()
    return b"".join(
        (
            SIGNED_PREFIX,
            checkpoint.sequence.to_bytes(8),
            checkpoint.hash,
            checkpoint.time.ToNanoseconds().to_bytes(8),
            len(node).to_bytes(4),
            node,
            len(cluster_id).to_bytes(4),
            cluster_id,
            checkpoint.public_key,
        )
    )


def load_or_make_key(path: Path) -> Ed25519PrivateKey:
    """The key in the file, which is made if there is none. Raises AuditKeyError."""
    try:
        made = _make(path)
        return made or _load(path)
    except OSError as error:
        raise AuditKeyError(
            f"{path}: the key of the audit checkpoints cannot be used ({error.strerror}); the node must be able to read it, "
            "and to write it at its first start"
        ) from error


def _load(path: Path) -> Ed25519PrivateKey:
    if not is_private(path.stat().st_mode):
        raise AuditKeyError(
            f"{path}: others than its owner may use this key, so that its signatures prove nothing; chmod 600 it, or move it "
            "away: the node then makes a new one"
        )
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise AuditKeyError(
            f"{path}: this is no Ed25519 key in PEM; move it away, and the node makes a new one, of which those who verify "
            "checkpoints must know"
        )
    return key


def _make(path: Path) -> Ed25519PrivateKey | None:
    """None if there is a key already. Under its name there is a whole key, or none."""
    if path.exists():
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    replace_durably(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key
