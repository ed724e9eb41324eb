"""Compares the audit chains of the nodes of a live cluster: each is asked for its head, and for the records where heads differ.

All nodes append the same records in the same entries of the log, so one chain must lead to the heads of all. What a chain proves
by itself is in audit_chain.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from horologe.client.audit_chain import Finding, Kind, Verification, signature_fault
from horologe.client.errors import HorologeError
from horologe.v1.audit_service_pb2 import AuditCheckpoint

if TYPE_CHECKING:
    from horologe.client.client import Client

__all__ = ["Comparison", "NodeChain", "compare", "heads"]

UNREACHABLE_SECONDS = 3.0


@dataclass(slots=True)
class NodeChain:
    """What a node says of its chain."""

    name: str
    address: str
    checkpoint: AuditCheckpoint | None = None
    error: str = ""


@dataclass(slots=True)
class Comparison:
    """What was looked at, and what was found."""

    nodes: list[NodeChain]
    findings: list[Finding] = field(default_factory=list)
    first: int = 0
    last: int = 0
    """The records that were read and verified; none if `last` is less than `first`."""
    uncompared: int = 0
    """Kept checkpoints of records that the cluster has dropped."""

    @property
    def is_sound(self) -> bool:
        return not self.findings

    @property
    def is_complete(self) -> bool:
        return all(node.checkpoint is not None for node in self.nodes)


def heads(client: Client) -> list[NodeChain]:
    """All members with their checkpoints, as far as they answer."""
    nodes = [NodeChain(member.name, member.address) for member in client.list_members()]
    for node in nodes:
        if not node.address:
            node.error = "nobody knows its address: it is not connected"
            continue
        try:
            node.checkpoint = _at(client, node).audit_checkpoint()
        except HorologeError as error:
            node.error = str(error).splitlines()[0]
            continue
        if node.checkpoint.node != node.name:
            node.error, node.checkpoint = f"{node.address} is node {node.checkpoint.node}", None
    return nodes


def compare(
    client: Client, kept: Sequence[AuditCheckpoint] = (), keys: Collection[bytes] = (), *, full: bool = False
) -> Comparison:
    """Whether one chain leads to the heads of all nodes, and to the checkpoints that were kept elsewhere.

    The records from the earliest of them on are read from the node that is furthest; with `full`, all records of every node.
    """
    found = Comparison(heads(client))
    answered = [node for node in found.nodes if node.checkpoint is not None]
    if not answered:
        return found
    furthest = max(answered, key=_sequence)
    oldest = _oldest(client, furthest)
    usable = [checkpoint for checkpoint in kept if checkpoint.sequence >= oldest - 1]
    found.uncompared = len(kept) - len(usable)
    for node in answered:
        fault = signature_fault(node.checkpoint, keys) if node.checkpoint is not None else None
        found.findings += [fault] if fault else []
    alike = [node for node in answered if node is furthest or not _fork(client, found, furthest, node, oldest)]
    known = [*usable, *(node.checkpoint for node in alike if node.checkpoint is not None)]
    first = oldest if full else min(max(oldest, checkpoint.sequence + 1) for checkpoint in known)
    for node in answered if full else [furthest]:
        chain = _walk(client, node, first, usable if full else known, keys)
        found.first, found.last = chain.first, max(found.last, chain.last)
        if chain.finding is not None:
            text = f"node {node.name}: {chain.finding.text}"
            found.findings.append(Finding(chain.finding.kind, chain.finding.sequence, text))
    return found


def _at(client: Client, node: NodeChain) -> Client:
    return client.at(node.address, unreachable_seconds=UNREACHABLE_SECONDS)


def _sequence(node: NodeChain) -> int:
    return node.checkpoint.sequence if node.checkpoint is not None else 0


def _oldest(client: Client, node: NodeChain) -> int:
    """The oldest record that the node keeps."""
    for answer in _at(client, node).export_audit_records(0):
        return answer.records[0].sequence if answer.records else answer.checkpoint.sequence + 1
    return 1


def _hash_at(client: Client, node: NodeChain, sequence: int) -> bytes:
    """The hash of a record on a node."""
    for answer in _at(client, node).export_audit_records(sequence + 1):
        return answer.base_hash
    return b""


def _fork(client: Client, found: Comparison, furthest: NodeChain, node: NodeChain, oldest: int) -> bool:
    """Whether a node's head is not on the chain of the one that is furthest; the first record that differs is named."""
    head = node.checkpoint
    if head is None or head.sequence < oldest - 1 or _hash_at(client, furthest, head.sequence) == head.hash:
        return False
    low, high = max(oldest, _oldest(client, node)) - 1, head.sequence
    if low < high and _hash_at(client, furthest, low) == _hash_at(client, node, low):
        while high - low > 1:
            middle = (low + high) // 2
            is_same = _hash_at(client, furthest, middle) == _hash_at(client, node, middle)
            low, high = (middle, high) if is_same else (low, middle)
        text = f"nodes {furthest.name} and {node.name} have different records {high}"
    else:
        high = low + 1
        text = f"nodes {furthest.name} and {node.name} differ already before the oldest record that both keep, {high}"
    found.findings.append(Finding(Kind.REWRITTEN, high, text))
    return True


def _walk(
    client: Client, node: NodeChain, first: int, known: Sequence[AuditCheckpoint], keys: Collection[bytes]
) -> Verification:
    chain: Verification | None = None
    checkpoint: AuditCheckpoint | None = None
    for answer in _at(client, node).export_audit_records(first):
        if chain is None:
            chain = Verification(answer.base_hash, first, known, keys)
        if not all(chain.take(record) for record in answer.records):
            return chain
        if answer.HasField("checkpoint"):
            checkpoint = answer.checkpoint
    chain = chain or Verification(b"", first)
    chain.end(checkpoint)
    return chain
