"""The world outside the cluster, as notifications see it: receivers that take them, or do not, and remember what they got."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from horologe.node.channels import SendError


@dataclass(frozen=True, slots=True)
class Received:
    """A message that has come to its receiver."""

    node: str
    """Who sent it."""
    url: str
    body: dict[str, Any]
    headers: dict[str, str]


@dataclass(slots=True)
class Outside:
    """All receivers. What they got is theirs, whatever becomes of the node that sent it."""

    received: list[Received] = field(default_factory=list)
    refuses: Callable[[], bool] = lambda: False
    """Asked for each message before it arrives: whether it gets lost."""
    seen: Callable[[Received], None] = lambda received: None
    """Told of each message when it has arrived, before its sender hears of it."""


class SimSender:
    """See node.channels.Sender."""

    def __init__(self, outside: Outside, node: str) -> None:
        self._outside = outside
        self._node = node

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        if self._outside.refuses():
            raise SendError("the receiver does not answer")
        received = Received(self._node, url, json.loads(body), dict(headers))
        self._outside.received.append(received)
        self._outside.seen(received)

    async def mail(self, message: EmailMessage) -> None:
        raise SendError("nobody delivers mails here")

    async def close(self) -> None:
        """Nothing is open."""
