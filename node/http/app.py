"""The HTTP application of a node: its parts, put together. See parts.py for what they share."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Response

from horologe.node.http import health, metrics, openapi
from horologe.node.http.api import Api
from horologe.node.http.head import HeadAsGet
from horologe.node.http.own_name import OwnName
from horologe.node.http.parts import HttpParts
from horologe.node.web import pages


def make_app(parts: HttpParts) -> FastAPI:
    """Everything that the node answers over HTTP."""
    # The descriptions of the API are its own business; those of FastAPI know nothing of the proto.
    # And a path that is nearly right is no path: the way to the right one would be told by the Host header, whatever that is.
    app = FastAPI(title="Horologe", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.mount("/v1", Api(parts))
    app.include_router(metrics.router(parts))
    app.include_router(health.router(parts))

    @app.get("/openapi.json")
    async def description() -> Response:
        """What the API is, for programs; no secret."""
        return Response(await asyncio.to_thread(openapi.text), media_type=openapi.JSON)

    pages.add_to(app, parts)
    app.add_middleware(HeadAsGet)
    app.add_middleware(metrics.RequestMeter, metrics=parts.context.metrics)
    app.add_middleware(OwnName, config=parts.context.config)
    return app
