"""Who asks over HTTP: a token or JWT in `Authorization`, or the session of the dashboard."""

from __future__ import annotations

from fastapi import Request

from horologe.node.http.endpoints import Endpoint
from horologe.node.http.parts import HttpParts
from horologe.node.http.problems import Problem
from horologe.node.local_calls import Metadata
from horologe.node.web.view import CSRF_HEADER, SECURE_COOKIE, is_csrf, is_origin

AUTHORIZATION = "authorization"


def of_request(parts: HttpParts, request: Request, endpoint: Endpoint) -> Metadata:
    """What the node is told of the caller. Nothing, if it proves nothing."""
    if parts.insecure:
        return ()
    given = request.headers.get(AUTHORIZATION)
    if given is not None:
        return ((AUTHORIZATION, given),)
    session = request.cookies.get(SECURE_COOKIE, "")
    # A browser sends its cookies with whatever any page makes it send; only a page of ours knows the header.
    if session and (endpoint.is_read or is_csrf(session, request.headers.get(CSRF_HEADER, ""))):
        return ((AUTHORIZATION, f"Bearer {session}"),)
    return ()


def check_origin(request: Request) -> None:
    """Raises Problem for what a page of another site has its reader's browser send: where nobody is asked who he is, that
    would be as good as the reader's own word."""
    origin = request.headers.get("origin")
    if origin is not None and not is_origin(origin, request.headers.get("host", "")):
        raise Problem.of_http("CROSS_ORIGIN", "requests from pages of other sites are refused; call from a program")
