"""`/metrics` for Prometheus, and the count of what comes over HTTP. What there is to tell is in node/metrics_catalog.py."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

import grpc
from fastapi import APIRouter, Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from horologe.node.http.parts import HttpParts
from horologe.node.local_calls import LocalCallError, Metadata
from horologe.node.metrics import Metrics
from horologe.node.metrics_catalog import OTHER
from horologe.v1 import cluster_service_pb2, cluster_service_pb2_grpc

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def router(parts: HttpParts) -> APIRouter:
    """The page of metrics, for those who may see the cluster, or for all if the node's options say so."""
    routes = APIRouter()

    @routes.get("/metrics")
    async def metrics(request: Request) -> Response:
        if not parts.context.config.metrics_open:
            refusal = await _refusal(parts, request)
            if refusal is not None:
                return refusal
        page, content_type = await asyncio.to_thread(parts.context.metrics.page, request.headers.get("accept", ""))
        return Response(page, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    return routes


async def _refusal(parts: HttpParts, request: Request) -> Response | None:
    """What to answer those who may not see how the cluster stands. Whoever may is found out by asking in their name."""
    given = request.headers.get("authorization")
    metadata: Metadata = () if given is None else (("authorization", given),)
    cluster = cluster_service_pb2_grpc.ClusterServiceStub(parts.channel(request, metadata))
    try:
        await cluster.GetClusterStatus(cluster_service_pb2.GetClusterStatusRequest())
    except LocalCallError as error:
        statuses = {
            grpc.StatusCode.UNAUTHENTICATED: 401,
            grpc.StatusCode.PERMISSION_DENIED: 403,
            grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
        }
        status = statuses.get(error.code, 503)
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        return Response(f"{error.reason}: {error}\n", status, headers, media_type="text/plain")
    return None


class RequestMeter:
    """Counts requests by their route, which the address is a case of. Plain ASGI, so that an open stream costs nothing."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began = perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route, method = route_of(scope), scope["method"] if scope["method"] in METHODS else OTHER
                self._metrics.requests.labels(route, method, str(message["status"])).inc()
                self._metrics.request_duration.labels(route).observe(perf_counter() - began)
            await send(message)

        return await self._app(scope, receive, counted)


def route_of(scope: Scope) -> str:
    """As it is declared, `/jobs/{namespace}/{job}`. Of the API it is `/v1`: its calls are counted by method. What no route
    takes is `other`."""
    route: Any = scope.get("route")
    if route is not None:
        return str(route.path)
    return "/v1" if scope["path"].startswith("/v1/") else OTHER
