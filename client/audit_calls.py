"""The methods of AuditService, as `calls.py` has those of the other services: the audit chain."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from horologe.client import times
from horologe.client.calls import PAGE_SIZE, Call, Method, Pages, Stream
from horologe.v1 import audit_service_pb2 as audit
from horologe.v1.audit_service_pb2 import AuditCheckpoint, AuditRecord

LIST_AUDIT_RECORDS = Method(
    "AuditService", "ListAuditRecords", audit.ListAuditRecordsRequest, audit.ListAuditRecordsResponse
)
GET_AUDIT_CHECKPOINT = Method(
    "AuditService", "GetAuditCheckpoint", audit.GetAuditCheckpointRequest, audit.GetAuditCheckpointResponse
)
EXPORT_AUDIT_RECORDS = Method(
    "AuditService", "ExportAuditRecords", audit.ExportAuditRecordsRequest, audit.ExportAuditRecordsResponse
)


def list_audit_records(
    namespace: str,
    *,
    principal: str = "",
    method: str = "",
    object_name: str = "",
    denied_only: bool = False,
    time_from: datetime | None = None,
    time_before: datetime | None = None,
    page_size: int = PAGE_SIZE,
) -> Pages[AuditRecord]:
    """Who did what, and who was not allowed to, newest first; all else cuts the list down.

    `method` is as in `JobService.DeleteJob`, `object_name` a full name, as `namespaces/shop/jobs/backup` or `executions/12`.
    """
    del namespace  # There is one chain for all of the cluster.
    request = audit.ListAuditRecordsRequest(
        principal=principal, method=method, object=object_name, denied_only=denied_only, page_size=page_size
    )
    if time_from is not None:
        # `from` is a keyword in Python.
        getattr(request, "from").CopyFrom(times.to_proto(time_from))
    if time_before is not None:
        request.before.CopyFrom(times.to_proto(time_before))

    def pick(answer: audit.ListAuditRecordsResponse) -> Iterable[AuditRecord]:
        return answer.records

    return Pages(LIST_AUDIT_RECORDS, request, pick)


def audit_checkpoint(namespace: str) -> Call[AuditCheckpoint]:
    """Where the audit chain stands on the node that answers, signed by it."""
    del namespace

    def pick(answer: audit.GetAuditCheckpointResponse) -> AuditCheckpoint:
        return answer.checkpoint

    return Call(GET_AUDIT_CHECKPOINT, audit.GetAuditCheckpointRequest(), pick)


def export_audit_records(namespace: str, from_sequence: int = 0) -> Stream[audit.ExportAuditRecordsResponse]:
    """All records from a number on (0: the oldest that is kept), oldest first, and at last a checkpoint.

    The first answer has the hash before the first record. OutOfRange if that record was dropped, because it was too old.
    When the node that is asked goes away, another one is asked for the rest.
    """
    del namespace
    request = audit.ExportAuditRecordsRequest(from_sequence=from_sequence)

    def behind(answer: audit.ExportAuditRecordsResponse) -> audit.ExportAuditRecordsRequest:
        if answer.records:
            request.from_sequence = answer.records[-1].sequence + 1
        return request

    return Stream(EXPORT_AUDIT_RECORDS, request, audit.ExportAuditRecordsResponse, behind)
