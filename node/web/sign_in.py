"""Signing in with a token, and out again.

The browser never keeps the token that was typed in: it gets one of its own, shorter-lived, for the same principal and with the
same scope, which is revoked at sign-out, and is in the list of tokens and the audit log like any other.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from horologe.node.local_calls import LocalCallError
from horologe.node.web.view import Web
from horologe.v1 import access_service_pb2, access_service_pb2_grpc

SESSION_SECONDS = 12 * 3_600


def router(web: Web) -> APIRouter:
    """`/sign-in`, `/sign-out`"""
    routes = APIRouter()

    @routes.get("/sign-in")
    async def form(request: Request) -> Response:
        if web.parts.insecure:
            return RedirectResponse("/", 303)
        return web.view(request).page_for_anybody(
            "sign_in.html", next=_inside(request.query_params.get("next", "/")), error=""
        )

    @routes.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        view = web.view(request)
        fields = await request.form()
        where = _inside(str(fields.get("next", "/")))
        channel = web.parts.channel(request, (("authorization", f"Bearer {str(fields.get('token', '')).strip()}"),))
        access = access_service_pb2_grpc.AccessServiceStub(channel)
        try:
            order = access_service_pb2.CreateTokenRequest(description="dashboard")
            order.time_to_live.FromSeconds(SESSION_SECONDS)
            made = await access.CreateToken(order)
        except LocalCallError as error:
            return view.page_for_anybody("sign_in.html", 401, next=where, error=str(error))
        response = RedirectResponse(where, 303)
        view.remember(response, made.secret, SESSION_SECONDS)
        return response

    @routes.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        view = web.view(request)
        await view.form()
        access = access_service_pb2_grpc.AccessServiceStub(view.channel)
        answer = await access.WhoAmI(access_service_pb2.WhoAmIRequest())
        await access.RevokeToken(access_service_pb2.RevokeTokenRequest(name=answer.token.name))
        response = RedirectResponse("/sign-in", 303)
        response.delete_cookie(web.cookie, path="/", secure=True, httponly=True, samesite="strict")
        return response

    return routes


def _inside(target: str) -> str:
    """A path of ours; anything that leads elsewhere becomes the first page."""
    parts = urlsplit(target)
    return target if not parts.scheme and not parts.netloc and target.startswith("/") and "\\" not in target else "/"
