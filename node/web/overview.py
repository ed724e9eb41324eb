"""The first page: how the cluster stands."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from horologe.node.web.view import Web
from horologe.v1 import cluster_service_pb2, cluster_service_pb2_grpc


def router(web: Web) -> APIRouter:
    """`/`"""
    routes = APIRouter()

    @routes.get("/")
    async def overview(request: Request) -> Response:
        view = web.view(request)
        cluster = cluster_service_pb2_grpc.ClusterServiceStub(view.channel)
        status = await cluster.GetClusterStatus(cluster_service_pb2.GetClusterStatusRequest())
        return await view.page("overview.html", cluster=status)

    return routes
