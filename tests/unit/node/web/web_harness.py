"""The pages of a node without Raft, asked for by a browser that knows nothing of it but their addresses."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc.aio
import httpx
from service_harness import FakeNode

from horologe.node.http.app import make_app
from horologe.node.http.parts import HttpParts
from horologe.node.local_calls import LocalCalls
from horologe.node.web.view import INSECURE_COOKIE, SECURE_COOKIE, Web


class Browser:
    """One reader. It keeps cookies, and takes the proof for its forms from the page that it saw last."""

    def __init__(self, node: FakeNode, token: str = "") -> None:
        calls = LocalCalls(node.interceptors())
        node.add_all_services(cast(grpc.aio.Server, calls))
        parts = HttpParts(node.context, calls)
        self.web = Web(parts)
        scheme = "http" if node.config.insecure else "https"
        self.origin = f"{scheme}://127.0.0.1:7700"
        self.cookie = INSECURE_COOKIE if node.config.insecure else SECURE_COOKIE
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(make_app(parts)), base_url=self.origin)
        if token:
            self.http.cookies.set(self.cookie, token)
        self.proof = ""

    async def get(self, address: str, **options: Any) -> httpx.Response:
        """A page."""
        answer = await self.http.get(address, **options)
        found = re.search(r'x-csrf-token": "(\w*)"', answer.text)
        self.proof = found[1] if found else self.proof
        return answer

    async def part(self, address: str) -> httpx.Response:
        """As htmx asks."""
        return await self.http.get(address, headers={"hx-request": "true"})

    async def post(self, address: str, fields: dict[str, Any] | None = None, **options: Any) -> httpx.Response:
        """A form."""
        return await self.http.post(address, data={"csrf": self.proof, **(fields or {})}, **options)


@asynccontextmanager
async def browser(node: FakeNode, token: str = "") -> AsyncIterator[Browser]:
    """`node` must be served."""
    made = Browser(node, token)
    async with made.http:
        yield made
