"""All that stands between a caller and a service of a secure node, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc.aio

from horologe.node.authentication import AuthenticationInterceptor, Authenticator, IdentityOf
from horologe.node.authorization import LOCAL_ACTIONS, DeniedError, check
from horologe.node.callers import CALLER, Caller, current_caller
from horologe.node.context import NodeContext
from horologe.node.denials import Denials
from horologe.node.errors import ApiError
from horologe.node.first_administrator import FirstAdministrator
from horologe.node.interceptors import Context, Guard
from horologe.node.oidc import OidcVerifier
from horologe.node.open_streams import OpenStreams
from horologe.node.standing import rights_now
from horologe.node.token_uses import TokenUses

STOP_SECONDS = 1.0


class AuthorizationInterceptor(Guard):
    """Lets a call through if its caller may make it. Goes innermost: after the waits for a newer state, so that what it looks
    at is what the service will see."""

    def __init__(self, context: NodeContext, denials: Denials, streams: OpenStreams) -> None:
        self._node = context
        self._denials = denials
        self._streams = streams

    @asynccontextmanager
    async def _around(self, method: str, request: Any, context: Context) -> AsyncIterator[None]:
        caller = self._admit(request)
        try:
            yield
        except ApiError as error:
            if error.reason == "RATE_LIMITED" or caller.method in LOCAL_ACTIONS:
                # The state never hears of it, so that the audit log would not.
                self._denials.note(caller, error.reason)
            raise
        if caller.method in LOCAL_ACTIONS:
            self._denials.note_done(caller, [f"members/{self._node.config.name}"])

    @asynccontextmanager
    async def _around_stream(self, method: str, request: Any, context: Context) -> AsyncIterator[None]:
        caller = self._admit(request)
        if caller.method in LOCAL_ACTIONS:
            # At the beginning: what the caller has had of it counts, whether it comes to the end or not.
            self._denials.note_done(caller, [f"members/{self._node.config.name}"])
        with self._streams.entered(caller, request):
            yield

    def _admit(self, request: Any) -> Caller:
        caller = current_caller()
        try:
            with self._node.store.read() as tables:
                if caller.principal and self._node.status().revision != caller.revision:
                    # The call has waited for a newer state, and its rights may be others there.
                    caller = replace(caller, rights=rights_now(tables, caller, self._node.clock.wall_ms()))
                check(tables, caller, request)
        except DeniedError as error:
            self._denials.note(caller, error.reason, error.objects)
            raise
        CALLER.set(caller)
        return caller


class AccessControl:
    """Of one secure node."""

    def __init__(
        self,
        context: NodeContext,
        identity_of: IdentityOf,
        oidc: OidcVerifier | None = None,
    ) -> None:
        self.denials = denials = Denials(context)
        self.uses = TokenUses(context)
        self.streams = OpenStreams(context, denials)
        self._administrator = FirstAdministrator(context)
        authenticator = Authenticator(context, denials, self.uses, identity_of, oidc)
        self.outer: list[grpc.aio.ServerInterceptor] = [AuthenticationInterceptor(authenticator)]
        """Before anything else is done for a call."""
        self.inner: list[grpc.aio.ServerInterceptor] = [AuthorizationInterceptor(context, denials, self.streams)]
        """Right before the service."""

    @classmethod
    def of(cls, context: NodeContext, identity_of: IdentityOf) -> AccessControl | None:
        """As the node's options say; None for a node without security."""
        return None if context.config.insecure else cls(context, identity_of, OidcVerifier.of(context))

    def background(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """What runs beside the calls, most of it as long as the node."""
        return [
            self._administrator.appoint,
            self.denials.keep_flushing,
            self.uses.keep_noting,
            self.streams.keep_watch,
        ]

    async def stop(self) -> None:
        """When no call comes any more, and the cluster can still be reached: writes down what is not written yet."""
        await self.denials.flush_all(STOP_SECONDS)
