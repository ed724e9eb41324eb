"""All pages of the dashboard, the frame around them, and what becomes of errors. Each module of pages has a `router(web)`."""

from __future__ import annotations

from urllib.parse import quote

import grpc
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from horologe.node.http.parts import HttpParts
from horologe.node.http.problems import STATUSES, Problem
from horologe.node.local_calls import LocalCallError
from horologe.node.web import (
    audit,
    cluster,
    cron_playground,
    dead_letters,
    execution_log,
    execution_page,
    executions_list,
    forecast,
    job_actions,
    job_form,
    job_page,
    jobs_list,
    live,
    notifications,
    overview,
    queues,
    reference,
    sign_in,
    workers,
    workflows,
)
from horologe.node.web.view import FormError, View, Web

PAGES = (
    sign_in,
    reference,
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
    queues,
    workers,
    cluster,
    audit,
    forecast,
    cron_playground,
    notifications,
)
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    # Not "no-referrer": browsers would send forms without saying where they come from.
    "Referrer-Policy": "same-origin",
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
    web.compile_templates()

    async def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, LocalCallError)
        view = web.view(request)
        if error.code is grpc.StatusCode.UNAUTHENTICATED:
            return await _signed_out(view)
        return await view.refusal(STATUSES.get(error.code, 500), error.reason, str(error))

    async def unreadable(request: Request, error: Exception) -> Response:
        view = web.view(request)
        if not view.session and not web.parts.insecure:
            return await _signed_out(view)
        return await view.refusal(400, "INVALID_FORM", str(error))

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        problem = _problem_of(request, error)
        if "text/html" in request.headers.get("accept", ""):
            return await web.view(request).refusal(problem.status, problem.reason, problem.detail)
        return problem.response()

    app.add_exception_handler(HTTPException, unknown)
    app.add_exception_handler(LocalCallError, failed)
    app.add_exception_handler(FormError, unreadable)

    app.add_middleware(GZipMiddleware, compresslevel=PACKING_LEVEL)
    app.add_middleware(SecurityHeaders)


def _problem_of(request: Request, error: HTTPException) -> Problem:
    """Of a path that no route takes, or none with this method."""
    path = str(request.scope["path"])
    if error.status_code == 405:
        text = f"{path[:200]} does not take {request.method[:20]}"
        return Problem.of_http("METHOD_NOT_ALLOWED", text, error.headers)
    return Problem.of_http("PATH_NOT_FOUND", f"there is nothing at {path[:200]}")


async def _signed_out(view: View) -> Response:
    """To the sign-in page, and from there back to what was asked for."""
    request = view.request
    sign_in_page = f"/sign-in?next={quote(view.way_back)}"
    if view.wants_part:
        return Response(status_code=401, headers={"HX-Redirect": sign_in_page})
    if request.method != "GET" or "text/event-stream" in request.headers.get("accept", ""):
        text = "your session is over, or there was none; sign in and repeat it"
        return view.page_for_anybody("refusal.html", 401, reason="UNAUTHENTICATED", text=text, back=view.way_back)
    if request.headers.get("sec-fetch-site") == "cross-site":
        # A link on another site: the browser kept the session's cookie back, and sends it when it asks again from here.
        return view.onward(view.way_back)
    return RedirectResponse(sign_in_page, 303)
