"""Signing in, and out again: with a token, or at an identity provider.

The browser never keeps a token that was typed in: it gets one of its own, shorter-lived, for the same principal and with the same
scope, which is revoked at sign-out, and is in the list of tokens and the audit log like any other. What an identity provider
issues is kept as it is, for as long as it is good; nobody but the provider could revoke it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from horologe.node.local_calls import LocalCallError
from horologe.node.oidc import OidcError, unproved_claims
from horologe.node.oidc_login import Attempt, OidcLogin
from horologe.node.web.view import View, Web, inside
from horologe.v1 import access_service_pb2, access_service_pb2_grpc

SESSION_SECONDS = 12 * 3_600
"""A day's work. Whoever stays longer signs in again."""
ATTEMPT_SECONDS = 600
"""For passwords and second factors at the provider."""
ATTEMPT_COOKIE = "__Host-horologe-attempt"
COOKIE_BYTES_MAX = 3_800
"""Browsers take cookies of 4,096 bytes, name and all."""
DESCRIPTION = "dashboard"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """What the browser keeps, and for how long."""

    token: str
    seconds: int


def router(web: Web) -> APIRouter:
    """`/sign-in`, `/sign-in/provider`, `/sign-in/callback`, `/sign-out`"""
    routes = APIRouter()
    login = OidcLogin.of(web.parts.context.config)

    def form(view: View, target: str, status: int = 200, error: str = "") -> Response:
        return view.page_for_anybody("sign_in.html", status, next=target, error=error, has_provider=login is not None)

    @routes.get("/sign-in")
    async def ask(request: Request) -> Response:
        target = inside(request.query_params.get("next", "/"))
        if web.parts.insecure:
            return RedirectResponse(target, 303)
        return form(web.view(request), target)

    @routes.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        view = web.view(request)
        fields = await view.form()
        target = inside(str(fields.get("next", "/")))
        if web.parts.insecure:
            return RedirectResponse(target, 303)
        try:
            session = await _session(web, request, str(fields.get("token", "")).strip())
        except (LocalCallError, OidcError) as error:
            return form(view, target, 401, str(error))
        response = RedirectResponse(target, 303)
        view.remember(response, session.token, session.seconds)
        return response

    @routes.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        view = web.view(request)
        await view.form()
        if not web.parts.insecure:
            await _revoke(view)
        response = RedirectResponse("/sign-in", 303)
        view.forget(response)
        return response

    if login is not None:
        _add_provider(routes, web, login, form)
    return routes


def _add_provider(routes: APIRouter, web: Web, login: OidcLogin, form: Callable[..., Response]) -> None:
    @routes.get("/sign-in/provider")
    async def leave(request: Request) -> Response:
        attempt = Attempt.new(inside(request.query_params.get("next", "/")))
        try:
            response = RedirectResponse(await login.address(attempt, _callback(request)), 303)
        except OidcError as error:
            log.warning("nobody can sign in at the identity provider", error=str(error))
            return form(web.view(request), attempt.next, 502, str(error))
        # Lax, because the reader comes back from another site.
        response.set_cookie(
            ATTEMPT_COOKIE,
            attempt.cookie(),
            max_age=ATTEMPT_SECONDS,
            path="/",
            secure=True,
            httponly=True,
            samesite="lax",
        )
        return response

    @routes.get("/sign-in/callback")
    async def come_back(request: Request) -> Response:
        view, target = web.view(request), "/"
        try:
            attempt = Attempt.from_cookie(request.cookies.get(ATTEMPT_COOKIE, ""))
            target = inside(attempt.next)
            token = await login.token(attempt, request.query_params, _callback(request))
            session = await _session(web, request, token)
        except (OidcError, LocalCallError) as error:
            log.info("sign-in refused", error=str(error))
            response = form(view, target, 401, str(error))
        else:
            # A page, and no redirect: that would still come from the provider's site, and without the session's cookie.
            response = view.onward(target)
            view.remember(response, session.token, session.seconds)
        response.delete_cookie(ATTEMPT_COOKIE, path="/", secure=True, httponly=True, samesite="lax")
        return response


async def _session(web: Web, request: Request, proof: str) -> Session:
    """For whoever a token, or what an identity provider says, speaks for. Raises LocalCallError."""
    access = access_service_pb2_grpc.AccessServiceStub(
        web.parts.channel(request, (("authorization", f"Bearer {proof}"),))
    )
    who = await access.WhoAmI(access_service_pb2.WhoAmIRequest())
    if who.method == "oidc":
        return _of_provider(web, proof)
    order = access_service_pb2.CreateTokenRequest(
        description=DESCRIPTION, namespaces=who.token.namespaces, role=who.token.role, verbs=who.token.verbs
    )
    now_ms = web.parts.context.clock.wall_ms()
    if (
        not who.token.HasField("expire_time")
        or who.token.expire_time.ToMilliseconds() - now_ms > SESSION_SECONDS * 1_000
    ):
        order.time_to_live.FromSeconds(SESSION_SECONDS)
    made = await access.CreateToken(order)
    return Session(made.secret, max(1, (made.token.expire_time.ToMilliseconds() - now_ms) // 1_000))


def _of_provider(web: Web, token: str) -> Session:
    if len(token) > COOKIE_BYTES_MAX:
        raise OidcError(
            f"the provider's token has {len(token)} bytes, and browsers keep {COOKIE_BYTES_MAX}; have it name fewer groups"
        )
    # The cluster has verified this very token a moment ago.
    seconds = int(unproved_claims(token)["exp"]) - web.parts.context.clock.wall_ms() // 1_000
    return Session(token, max(1, min(SESSION_SECONDS, seconds)))


async def _revoke(view: View) -> None:
    """The session's token. One that is over already needs no end."""
    access = access_service_pb2_grpc.AccessServiceStub(view.channel)
    try:
        who = await access.WhoAmI(access_service_pb2.WhoAmIRequest())
        if who.token.description == DESCRIPTION:
            await access.RevokeToken(access_service_pb2.RevokeTokenRequest(name=who.token.name))
    except LocalCallError as error:
        if error.reason != "UNAUTHENTICATED":
            raise


def _callback(request: Request) -> str:
    """As the provider knows it: of the address that the reader uses."""
    return f"{request.url.scheme}://{request.url.netloc}/sign-in/callback"
