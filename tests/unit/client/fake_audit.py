"""What a fake node answers about its audit chain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from support.audit_chains import FIRST_HASH, Signer

from horologe.v1 import audit_service_pb2 as audit


class FakeAudit:
    """Part of FakeCluster."""

    def __init__(self) -> None:
        super().__init__()
        self.signer = Signer()
        self.audit: list[audit.AuditRecord] = []
        self.audit_base = FIRST_HASH
        """The hash before the oldest record that is kept."""

    def _ListAuditRecords(self, request: Any, context: Any) -> audit.ListAuditRecordsResponse:
        return audit.ListAuditRecordsResponse(records=reversed(self.audit))

    def _GetAuditCheckpoint(self, request: Any, context: Any) -> audit.GetAuditCheckpointResponse:
        return audit.GetAuditCheckpointResponse(checkpoint=self.signer.checkpoint(self.audit, self.audit_base))

    def _ExportAuditRecords(self, request: Any, context: Any) -> Iterator[audit.ExportAuditRecordsResponse]:
        before, first = self.audit_base, request.from_sequence
        for record in self.audit:
            if record.sequence == first - 1:
                before = record.hash
        wanted = [record for record in self.audit if record.sequence >= first]
        yield audit.ExportAuditRecordsResponse(base_hash=before, records=wanted[:2])
        for start in range(2, len(wanted), 2):
            yield audit.ExportAuditRecordsResponse(records=wanted[start : start + 2])
        yield audit.ExportAuditRecordsResponse(checkpoint=self.signer.checkpoint(self.audit, self.audit_base))
