"""All pages of the dashboard, the frame around them, and what becomes of errors. Each module of pages has a `router(web)`."""

from __future__ import annotations

import grpc
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from horologe.node.http.parts import HttpParts
from horologe.node.http.problems import STATUSES
from horologe.node.local_calls import LocalCallError
from horologe.node.web import (
    dead_letters,
    execution_log,
    execution_page,
    executions_list,
    job_actions,
    job_form,
    job_page,
    jobs_list,
    live,
    overview,
    sign_in,
    workflows,
)
from horologe.node.web.view import FormError, Web

PAGES = (
    sign_in,
    live,
    overview,
    jobs_list,
    job_form,
    job_actions,
    job_page,
    executions_list,
    execution_page,
    execution_log,
    dead_letters,
    workflows,
)
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PACKING_LEVEL = 4
"""Of gzip: a page is packed in the node's event loop, and more effort saves little."""


class SecurityHeaders:
    """Every answer carries them. Plain ASGI, so that an open stream costs nothing for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def add_to(app: FastAPI, parts: HttpParts) -> None:
    """Adds the pages, what they are made of, and their security."""
    web = Web(parts)

    @app.get("/static/{path:path}", include_in_schema=False)
    async def static(path: str, request: Request) -> Response:
        return web.assets.answer(path, request)

    for module in PAGES:
        app.include_router(module.router(web), include_in_schema=False)

    async def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, LocalCallError)
        if error.code is grpc.StatusCode.UNAUTHENTICATED and request.method == "GET":
            return RedirectResponse(f"/sign-in?next={request.url.path}", 303)
        return await web.view(request).refusal(STATUSES.get(error.code, 500), error.reason, str(error))

    async def unreadable(request: Request, error: Exception) -> Response:
        return await web.view(request).refusal(400, "INVALID_FORM", str(error))

    app.add_exception_handler(LocalCallError, failed)
    app.add_exception_handler(FormError, unreadable)

    app.add_middleware(GZipMiddleware, compresslevel=PACKING_LEVEL)
    app.add_middleware(SecurityHeaders)
