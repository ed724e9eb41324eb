"""Who may call the peer service: other nodes, by their certificates, and most methods only as long as they are members."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog

from horologe.node.certificates import Identity, Role
from horologe.node.clock import Clock
from horologe.node.interceptors import Context, Guard
from horologe.node.rate_limits import TokenBuckets
from horologe.node.tls import identity_of

MEMBERS_ONLY: Mapping[str, bool] = {
    # Who was removed, or is not added yet, is told so on the stream: see admission.py.
    "Exchange": False,
    "FetchSnapshot": True,
    "FetchOutput": True,
    "StoreOutput": True,
    "FindInOutput": True,
    "GetCondition": True,
    "HandOver": True,
}
"""Every method of the service. What is not listed is refused."""
TOLD_PER_SECOND, TOLD_BURST = 1.0, 20.0
"""Refusals of one kind that the log tells of."""
_SERVICE = "/horologe.peer.v1.PeerService/"

log = structlog.get_logger(__name__)


class PeerAccessInterceptor(Guard):
    """Lets only nodes pass. Goes outermost."""

    def __init__(self, members: Callable[[], Collection[str]], clock: Clock) -> None:
        """`members`: the names of the other members, as of now."""
        self._members = members
        self._clock = clock
        self._told = TokenBuckets(TOLD_PER_SECOND, TOLD_BURST)

    @asynccontextmanager
    async def _around(self, method: str, request: Any, context: Context) -> AsyncIterator[None]:
        del request
        complaint = self._complaint(method, identity_of(context))
        if complaint:
            # Whoever has some certificate of the cluster can call as often as it likes.
            if not self._told.take(complaint, self._clock.monotonic()):
                log.warning("peer refused", method=method, error=complaint, source=context.peer())
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, complaint)
        yield

    def _complaint(self, method: str, caller: Identity | None) -> str:
        if caller is None:
            return "the certificate does not say whose it is; nodes have one of `horologe tls issue node NAME`"
        if caller.role is not Role.NODE:
            return f"{caller.role} {caller.name!r} is no node, and this port is for nodes only"
        members_only = MEMBERS_ONLY.get(method.removeprefix(_SERVICE))
        if members_only is None:
            return f"{method} is for nobody"
        if members_only and caller.name not in self._members():
            return f"node {caller.name!r} is not a member"
        return ""


def hello_complaint(context: Context, claimed: str) -> str:
    """Why a node is not the one that it says it is, behind the interceptor."""
    caller = identity_of(context)
    if caller is not None and caller.name == claimed:
        return ""
    return f"the certificate is of node {caller.name if caller else ''!r}, the hello of {claimed[:80]!r}"
