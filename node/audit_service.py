"""The API's AuditService: the audit chain read, exported, and vouched for. What is recorded is decided in raft/audit.py."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from horologe.node import errors, paging, views
from horologe.node.audit_checkpoints import Checkpoints
from horologe.node.context import NodeContext
from horologe.node.errors import ApiError
from horologe.node.job_filter import check_text, read_bound
from horologe.node.writes import Context
from horologe.raft.audit import Record, base_of, hash_before, records
from horologe.raft.records import U64
from horologe.raft.tables import Tables
from horologe.v1 import audit_service_pb2, audit_service_pb2_grpc

ROWS_PER_PAGE = 5_000
"""Records that one call looks at; each takes a few microseconds."""
RECORDS_PER_RESPONSE = 200
"""Of an export: some 60 kB, and less than 3 MiB even if all their names are as long as names can be."""
_SEQUENCE_END = 1 << 63


class AuditService(audit_service_pb2_grpc.AuditServiceServicer):
    """See audit_service.proto."""

    def __init__(self, context: NodeContext, checkpoints: Checkpoints) -> None:
        self._node = context
        self._checkpoints = checkpoints

    async def ListAuditRecords(
        self, request: audit_service_pb2.ListAuditRecordsRequest, context: Context
    ) -> audit_service_pb2.ListAuditRecordsResponse:
        del context
        size, start = paging.page_size(request), paging.start_key(request)
        wants, from_ms = _filter(request)
        response = audit_service_pb2.ListAuditRecordsResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            below = start or U64.pack(_SEQUENCE_END)
            for looked_at, (key, raw) in enumerate(tables.audit.scan_down(below)):
                if len(response.records) >= size or looked_at >= ROWS_PER_PAGE:
                    response.next_page_token = paging.next_token(request, below)
                    break
                below = bytes(key)
                record = Record.FromString(bytes(raw))
                if record.time.ToMilliseconds() < from_ms and not record.repeat_count:
                    # What the state has decided is in the order of time. What a node refused by itself, which is counted, has
                    # that node's time, and comes when the node finds a leader again.
                    break
                if wants(record):
                    response.records.append(record)
        return response

    async def GetAuditCheckpoint(
        self, request: audit_service_pb2.GetAuditCheckpointRequest, context: Context
    ) -> audit_service_pb2.GetAuditCheckpointResponse:
        del request, context
        with self._node.store.read() as tables:
            return audit_service_pb2.GetAuditCheckpointResponse(
                checkpoint=self._checkpoints.of(tables), revision=views.revision(tables)
            )

    async def ExportAuditRecords(
        self, request: audit_service_pb2.ExportAuditRecordsRequest, context: Context
    ) -> AsyncIterator[audit_service_pb2.ExportAuditRecordsResponse]:
        """Up to the checkpoint with which it began. Records never change, so each batch may be read by itself: a reader that is
        slow holds no old state."""
        del context
        with self._node.store.read() as tables:
            checkpoint = self._checkpoints.of(tables)
            first = request.from_sequence or base_of(tables).sequence
            base_hash = _base_hash(tables, first, checkpoint.sequence)
        response = audit_service_pb2.ExportAuditRecordsResponse(base_hash=base_hash)
        while first <= checkpoint.sequence:
            end = min(first + RECORDS_PER_RESPONSE, checkpoint.sequence + 1)
            with self._node.store.read() as tables:
                response.records.extend(records(tables, first, end))
            if len(response.records) < end - first:
                raise _gone(first, "while it was read")
            yield response
            first, response = end, audit_service_pb2.ExportAuditRecordsResponse()
            await asyncio.sleep(0)
        response.checkpoint.CopyFrom(checkpoint)
        yield response


def _filter(request: audit_service_pb2.ListAuditRecordsRequest) -> tuple[Callable[[Record], bool], int]:
    """Which records are wanted, and from when on. Raises an ApiError."""
    for field in ("principal", "method", "object"):
        check_text(request, field)
    from_ms, before_ms = read_bound(request, "from", 0), read_bound(request, "before", _SEQUENCE_END)

    def wants(record: Record) -> bool:
        return (
            (not request.principal or record.principal == request.principal)
            and (not request.method or record.method == request.method)
            and (not request.object or request.object in record.objects)
            and not (request.denied_only and record.allowed)
            and not (request.allowed_only and not record.allowed)
            and from_ms <= record.time.ToMilliseconds() < before_ms
        )

    return wants, from_ms


def _base_hash(tables: Tables, first: int, last: int) -> bytes:
    """The hash before the first record of an export. Raises an ApiError."""
    if not 0 < first <= last + 1:
        raise errors.invalid_field(
            "from_sequence", f"{first} is not between 1 and the next record on this node, {last + 1}"
        )
    found = hash_before(tables, first)
    if found is None:
        raise _gone(first, f"the oldest that is kept is {base_of(tables).sequence}")
    return found


def _gone(sequence: int, why: str) -> ApiError:
    return ApiError(
        "AUDIT_RECORDS_GONE",
        f"audit record {sequence} was dropped, it was too old: {why}; begin later, or with 0 at the oldest",
        metadata={"sequence": str(sequence)},
    )
