"""All pages of the dashboard, the frame around them, and what becomes of errors. Each module of pages has a `router(web)`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles

from horologe.node.http.parts import HttpParts
from horologe.node.local_calls import LocalCallError
from horologe.node.web import overview, sign_in
from horologe.node.web.view import FormError, Web

STATIC_FOLDER = Path(__file__).parent / "static"
STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""What the codes of the API are as HTTP statuses; anything else is 500."""
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def add_to(app: FastAPI, parts: HttpParts) -> None:
    """Adds the pages, what they are made of, and their security."""
    web = Web(parts)
    app.mount("/static", StaticFiles(directory=STATIC_FOLDER), name="static")
    for module in (sign_in, overview):
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

    @app.middleware("http")
    async def secure(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response
