"""What the parts of the HTTP server share: the node as they see it, and the caller of a request. Made by node.py."""

from __future__ import annotations

from dataclasses import dataclass

import grpc.aio
from fastapi import Request

from horologe.node.context import NodeContext
from horologe.node.local_calls import LocalCalls, Metadata


@dataclass(frozen=True, slots=True)
class HttpParts:
    """One node, as the HTTP server sees it."""

    context: NodeContext
    calls: LocalCalls
    """Its services. Everything that people see or do goes through them."""

    @property
    def insecure(self) -> bool:
        """Whether nobody is asked who they are."""
        return self.context.config.insecure

    def channel(self, request: Request, metadata: Metadata) -> grpc.aio.Channel:
        """For calls in the name of whoever sent this request; `metadata` says who that is."""
        client = request.client
        return self.calls.channel((client.host, client.port) if client is not None else ("", 0), metadata)
