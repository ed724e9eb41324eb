"""One request for a page: who asks, the API's services in their name, their rights, and the page that comes of it.

Pages read and write nothing but through `View.channel`, so that they can do exactly what their reader may do, and nothing else
decides that. A page that changes something takes a form, and a form counts only with the token that this node put into it.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc.aio
from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from google.protobuf.timestamp_pb2 import Timestamp
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import FormData

from horologe.node.http.parts import HttpParts
from horologe.node.local_calls import LocalCallError
from horologe.node.ticks import Mark
from horologe.node.web import words
from horologe.node.web.assets import Assets
from horologe.raft.access import EVERYWHERE
from horologe.v1 import access_service_pb2, access_service_pb2_grpc

TEMPLATE_FOLDER = Path(__file__).parent / "templates"
VISIT_COOKIE = "__Host-horologe-visit"
"""A number that only this browser knows, for forms of readers who are not signed in: nobody signs them in as somebody else."""
VISIT_SECONDS = 24 * 3_600
OWN_SITES = frozenset({"same-origin", "none"})
"""What browsers say (`Sec-Fetch-Site`) of a request from a page of this origin, and of one that the person typed."""
FORM_BYTES_MAX = 4 << 20
"""As much as a call of the API."""
STRANGERS_FORM_BYTES_MAX = 64 << 10
"""Forms take time to read. Whoever sends a larger one is asked first who he is."""
FORM_SECONDS_MAX = 30.0
CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"
CSRF_SALT_CHARACTERS = 16
SECURE_COOKIE, INSECURE_COOKIE = "__Host-horologe", "horologe"
"""The first one is taken by browsers over TLS only, and for one host and all of its paths."""


def is_csrf(session: str, given: str) -> bool:
    """Whether a page of ours has made this proof, in this session."""
    salt, proof = given[:CSRF_SALT_CHARACTERS], given[CSRF_SALT_CHARACTERS:]
    return bool(session) and hmac.compare_digest(proof.encode(), _csrf_proof(session, salt).encode())


def is_origin(origin: str, host: str) -> bool:
    """Whether `Origin` names the host that a request is for; `null`, and what cannot be read, do not."""
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def _csrf_proof(session: str, salt: str) -> str:
    return hmac.digest(session.encode(), f"horologe form {salt}".encode(), "sha256").hex()


class FormError(Exception):
    """A form that does not count. The text says why."""


@dataclass(slots=True)
class Reader:
    """Who looks at a page."""

    principal: str = ""
    """Empty: nobody is asked, or nobody is signed in."""
    rights: dict[str, frozenset[str]] = field(default_factory=dict)

    def may(self, verb: str, namespace: str = EVERYWHERE) -> bool:
        """Whether to offer something: the API decides by itself once more."""
        return verb in self.rights.get(EVERYWHERE, ()) or verb in self.rights.get(namespace, ())

    def may_somewhere(self, verb: str) -> bool:
        return any(verb in verbs for verbs in self.rights.values())


class Web:
    """What all pages of a node share."""

    def __init__(self, parts: HttpParts) -> None:
        self.parts = parts
        self.templates = Environment(
            loader=FileSystemLoader(TEMPLATE_FOLDER),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self.assets = Assets()
        self.templates.filters.update(words.FILTERS)
        self.templates.globals.update(words.FUNCTIONS, static=self.assets.url)

    def compile_templates(self) -> None:
        """All of them, beside the node's loop: half a second of work there would delay starts when the first readers come.

        When all pages have added what their templates need.
        """
        threading.Thread(target=self._compile, name="templates", daemon=True).start()

    def _compile(self) -> None:
        for name in self.templates.list_templates():
            self.templates.get_template(name)

    @property
    def cookie(self) -> str:
        return INSECURE_COOKIE if self.parts.insecure else SECURE_COOKIE

    def view(self, request: Request) -> View:
        return View(self, request)


class View:
    """One request."""

    def __init__(self, web: Web, request: Request) -> None:
        self.web = web
        self.request = request
        self.session = request.cookies.get(web.cookie, "")
        """The token that the reader's browser keeps; empty if nobody is signed in. Without security it is a number."""
        self._reader: Reader | None = None
        self._new_cookie = ""
        self._secret = self.session or request.cookies.get(self._visit_cookie, "")
        """What the proofs in forms are made of."""
        if not self._secret:
            self._secret, self._new_cookie = secrets.token_urlsafe(), self._visit_cookie

    @property
    def _visit_cookie(self) -> str:
        return INSECURE_COOKIE if self.web.parts.insecure else VISIT_COOKIE

    @cached_property
    def channel(self) -> grpc.aio.Channel:
        """What stubs of the API take: `JobServiceStub(view.channel)`."""
        metadata = () if self.web.parts.insecure or not self.session else (("authorization", f"Bearer {self.session}"),)
        return self.web.parts.channel(self.request, metadata)

    async def reader(self) -> Reader:
        """Who looks, read once. Raises LocalCallError if nobody is signed in, and somebody must be."""
        if self._reader is None:
            stub = access_service_pb2_grpc.AccessServiceStub(self.channel)
            answer = await stub.WhoAmI(access_service_pb2.WhoAmIRequest())
            rights = {each.namespace: frozenset(each.verbs) for each in answer.rights}
            self._reader = Reader(answer.principal, rights)
        return self._reader

    @property
    def wants_part(self) -> bool:
        """Whether htmx asks, for a piece of the page that the browser has."""
        return self.request.headers.get("hx-request") == "true"

    @property
    def _path(self) -> str:
        # Not of request.url, which takes the Host header in, whatever that is.
        return str(self.request.scope["path"])

    @property
    def way_back(self) -> str:
        """The page that the reader was at, to come back to after signing in: what is asked for, or the page that asks."""
        if self.request.method == "GET" and not self.wants_part:
            query = self.request.scope["query_string"].decode("ascii", "replace")
            return inside(self._path + (f"?{query}" if query else ""))
        try:
            page = urlsplit(self.request.headers.get("hx-current-url") or self.request.headers.get("referer", ""))
        except ValueError:
            return "/"
        return inside(page.path + (f"?{page.query}" if page.query else "")) if page.path else "/"

    @property
    def csrf(self) -> str:
        """Goes into every form; nobody can make it who has not the session."""
        # Another one each time: what is the same in every page can be guessed from the length of packed pages.
        salt = secrets.token_hex(CSRF_SALT_CHARACTERS // 2)
        return f"{salt}{_csrf_proof(self._secret, salt)}"

    async def form(self) -> FormData:
        """What was filled in. Raises FormError unless the form came from a page of ours, in this session; LocalCallError if
        it is large, and nobody is signed in."""
        self._check_source()
        if int(self.request.headers.get("content-length", "0")) > STRANGERS_FORM_BYTES_MAX:
            await self.reader()
        try:
            async with asyncio.timeout(FORM_SECONDS_MAX):
                form = await self.request.form()
        except TimeoutError:
            raise FormError(f"this form did not come within {FORM_SECONDS_MAX:g} s") from None
        given = self.request.headers.get(CSRF_HEADER) or form.get(CSRF_FIELD) or ""
        if self._new_cookie or not is_csrf(self._secret, str(given)):
            raise FormError(
                "this form is from another session, or from another site; load the page again and repeat it"
            )
        return form

    def _check_source(self) -> None:
        """Before anything is read. What a browser says of where a form comes from; other programs say nothing of the kind."""
        headers = self.request.headers
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > FORM_BYTES_MAX or "transfer-encoding" in headers:
            raise FormError(f"this form is larger than {FORM_BYTES_MAX >> 20} MiB, or does not say how large it is")
        origin = headers.get("origin")
        is_own = origin is None or is_origin(origin, headers.get("host", ""))
        if not is_own or headers.get("sec-fetch-site", "none") not in OWN_SITES:
            raise FormError("this form is from another site, which may not send it")

    async def page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """The page, with what every page has."""
        return self._answer(template, status, {"reader": await self.reader(), "is_live": True, **values})

    async def refusal(self, status: int, reason: str, text: str) -> HTMLResponse:
        """The page that says why something is not there, or was not done; a line if htmx asks."""
        is_live = True
        try:
            reader = await self.reader()
        except LocalCallError:
            reader, is_live = Reader(), False
        values = {
            "reader": reader,
            "is_live": is_live,
            "status": status,
            "reason": reason,
            "text": text,
            "back": self.way_back,
        }
        return self._answer("refusal_part.html" if self.wants_part else "refusal.html", status, values)

    def page_for_anybody(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page for people who are not signed in."""
        return self._answer(template, status, {"reader": Reader(), "is_live": False, **values})

    def onward(self, target: str) -> HTMLResponse:
        """A page that leads to another one of ours at once, as if the reader had clicked there."""
        return self.page_for_anybody("onward.html", target=target)

    def _answer(self, template: str, status: int, values: dict[str, Any]) -> HTMLResponse:
        context = self.web.parts.context
        now = Timestamp()
        now.FromMilliseconds(context.clock.wall_ms())
        text = self.web.templates.get_template(template).render(
            view=self,
            path=self._path,
            query=self.request.query_params,
            node=context.config.name,
            now=words.rfc3339(now),
            mark=Mark.of(context.status()).text,
            **values,
        )
        response = HTMLResponse(text, status)
        response.headers["Cache-Control"] = "no-store"
        if self._new_cookie:
            self._set_cookie(response, self._new_cookie, self._secret, VISIT_SECONDS)
        return response

    def remember(self, response: Response, session: str, seconds: int) -> None:
        """Gives the session to the browser; no script can read it, and no other site can use it."""
        self._set_cookie(response, self.web.cookie, session, seconds)

    def forget(self, response: Response) -> None:
        """Takes the session away from the browser."""
        self._set_cookie(response, self.web.cookie, "", 0)

    def _set_cookie(self, response: Response, name: str, value: str, seconds: int) -> None:
        secure = not self.web.parts.insecure
        response.set_cookie(name, value, max_age=seconds, path="/", secure=secure, httponly=True, samesite="strict")


def inside(target: str) -> str:
    """A path of ours; anything that leads elsewhere becomes the first page."""
    try:
        parts = urlsplit(target)
    except ValueError:
        return "/"
    is_path = target.startswith("/") and not target.startswith("//") and target.isprintable() and "\\" not in target
    return target if is_path and not parts.scheme and not parts.netloc else "/"
