"""Names under which a node without security answers.

A browser believes that a name of somebody else's belongs to this machine, when its owner says so (DNS rebinding): then pages of
that site read and do here whatever they like, because nobody is asked who they are. So such a node, where only this machine
can reach it, answers only to this machine's own names. With security the session's cookie goes to no other name.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from horologe.node.config import Address, NodeConfig, is_loopback

MISDIRECTED = 421
TEXT = "this node runs without security, and answers only to the name of its own machine: use 127.0.0.1 or localhost\n"


class OwnName:
    """Around the whole application."""

    def __init__(self, app: ASGIApp, config: NodeConfig) -> None:
        self._app = app
        self._is_local_only = config.insecure and is_loopback(Address.parse(config.http_listen).host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._is_local_only and scope["type"] == "http" and not _is_local(Headers(scope=scope).get("host", "")):
            await PlainTextResponse(TEXT, MISDIRECTED)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _is_local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
