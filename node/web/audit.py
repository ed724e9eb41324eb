"""The audit log: who asked for what, and who was refused; and how it is proved that nothing of it was changed."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from horologe.node.web.forms import Fields
from horologe.node.web.view import Web
from horologe.v1 import audit_service_pb2 as api
from horologe.v1.audit_service_pb2_grpc import AuditServiceStub

PAGE_SIZE = 100
OUTCOMES = ("allowed", "refused")


def router(web: Web) -> APIRouter:
    """`/audit`"""
    routes = APIRouter()

    @routes.get("/audit")
    async def audit(request: Request) -> Response:
        view = web.view(request)
        fields = Fields.of(request.query_params)
        wanted = api.ListAuditRecordsRequest(
            principal=fields.value("principal"),
            method=fields.value("method"),
            object=fields.value("object"),
            denied_only=fields.value("outcome") == "refused",
            allowed_only=fields.value("outcome") == "allowed",
            page_size=PAGE_SIZE,
            page_token=fields.value("page"),
        )
        for name in ("from", "before"):
            bound = fields.instant(name)
            if bound is not None:
                getattr(wanted, name).CopyFrom(bound)
        stub = AuditServiceStub(view.channel)
        answer = await stub.ListAuditRecords(wanted)
        head = (await stub.GetAuditCheckpoint(api.GetAuditCheckpointRequest())).checkpoint
        return await view.page(
            "audit.html",
            400 if fields.errors else 200,
            fields=fields,
            outcomes=OUTCOMES,
            records=[] if fields.errors else answer.records,
            next_token=answer.next_page_token,
            head=head,
        )

    return routes
