"""The cluster: its members and who leads, keys, pauses, limits and namespaces."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from horologe.node.local_calls import LocalCallError
from horologe.node.web.view import Reader, View, Web
from horologe.v1 import cluster_service_pb2, encryption_service_pb2, limit_service_pb2, namespace_service_pb2
from horologe.v1 import pause_service_pb2 as pauses
from horologe.v1.cluster_service_pb2_grpc import ClusterServiceStub
from horologe.v1.encryption_service_pb2_grpc import EncryptionServiceStub
from horologe.v1.limit_service_pb2_grpc import LimitServiceStub
from horologe.v1.namespace_service_pb2_grpc import NamespaceServiceStub
from horologe.v1.pause_service_pb2_grpc import PauseServiceStub

ROWS_MAX = 200
"""Of limits and of namespaces; the command line lists all of them."""


@dataclass(slots=True)
class Standing:
    """What the page shows, as far as the reader may see it."""

    status: cluster_service_pb2.GetClusterStatusResponse | None = None
    members: list[cluster_service_pb2.Member] = field(default_factory=list)
    last_index: int = 0
    """Of the leader's log; 0 if only it knows, and it did not say."""
    encryption: encryption_service_pb2.GetEncryptionResponse | None = None
    pauses: list[pauses.ScopePause] = field(default_factory=list)
    limits: list[limit_service_pb2.Limit] = field(default_factory=list)
    namespaces: list[namespace_service_pb2.Namespace] = field(default_factory=list)

    def lag(self, member: cluster_service_pb2.Member) -> int | None:
        """Entries that a member has yet to get; None if nobody knows."""
        if member.match_index:
            return max(0, self.last_index - member.match_index)
        if member.HasField("condition") and self.last_index:
            return max(0, self.last_index - member.condition.last_index)
        return None


def router(web: Web) -> APIRouter:
    """`/cluster`"""
    routes = APIRouter()

    @routes.get("/cluster")
    async def cluster(request: Request) -> Response:
        view = web.view(request)
        standing = await _standing(view, await view.reader())
        return await view.page("cluster_part.html" if view.wants_part else "cluster.html", cluster=standing)

    @routes.post("/cluster/transfer-leader")
    async def transfer(request: Request) -> Response:
        view = web.view(request)
        form = await view.form()
        await ClusterServiceStub(view.channel).TransferLeader(
            cluster_service_pb2.TransferLeaderRequest(target=str(form.get("target", "")))
        )
        return RedirectResponse("/cluster", 303)

    @routes.post("/cluster/pause")
    async def pause(request: Request) -> Response:
        view = web.view(request)
        form = await view.form()
        await PauseServiceStub(view.channel).Pause(
            pauses.PauseRequest(scope=str(form.get("scope", "")), reason=str(form.get("reason", "")).strip())
        )
        return RedirectResponse("/cluster", 303)

    @routes.post("/cluster/resume")
    async def resume(request: Request) -> Response:
        view = web.view(request)
        form = await view.form()
        await PauseServiceStub(view.channel).Resume(
            pauses.ResumeRequest(scope=str(form.get("scope", "")), catchup=form.get("catchup") == "yes")
        )
        return RedirectResponse("/cluster", 303)

    return routes


async def _standing(view: View, reader: Reader) -> Standing:
    found = Standing()
    if reader.may_somewhere("cluster.read"):
        stub = ClusterServiceStub(view.channel)
        found.status = await stub.GetClusterStatus(cluster_service_pb2.GetClusterStatusRequest())
        answer = await stub.ListMembers(cluster_service_pb2.ListMembersRequest(page_size=1_000, with_condition=True))
        found.members = list(answer.members)
        found.last_index = max(
            (max(member.match_index, member.condition.last_index) for member in found.members), default=0
        )
    if reader.may("cluster.read"):
        found.encryption = await _encryption(view)
    if reader.may_somewhere("job.read"):
        listed = await PauseServiceStub(view.channel).ListPauses(pauses.ListPausesRequest())
        found.pauses = list(listed.pauses)
    if reader.may("job.read"):
        limits = await LimitServiceStub(view.channel).ListLimits(
            limit_service_pb2.ListLimitsRequest(parent="namespaces/-", page_size=ROWS_MAX)
        )
        found.limits = list(limits.limits)
    namespaces = await NamespaceServiceStub(view.channel).ListNamespaces(
        namespace_service_pb2.ListNamespacesRequest(page_size=ROWS_MAX)
    )
    found.namespaces = list(namespaces.namespaces)
    return found


async def _encryption(view: View) -> encryption_service_pb2.GetEncryptionResponse | None:
    """None if there is none on this node."""
    try:
        answer: encryption_service_pb2.GetEncryptionResponse = await EncryptionServiceStub(view.channel).GetEncryption(
            encryption_service_pb2.GetEncryptionRequest()
        )
    except LocalCallError:
        return None
    return answer
