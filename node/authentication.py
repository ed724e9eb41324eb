"""Who calls: tokens, certificates and what identity providers say, turned into a Caller before anything else is done.

A proof is checked against this node's own state, so a token that is revoked is of no use as soon as this node has applied the
revocation. Whoever fails is told that it failed, never at what. A right proof always passes, however many wrong ones came before
it: 256 random bits are not guessed, and a limit that locks people out would be a weapon against them. What is limited is how
many failures are answered and written down.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import structlog

from horologe.log.v1 import log_pb2
from horologe.node import errors, tokens
from horologe.node.authorization import is_open
from horologe.node.callers import CALLER, Caller, CallerKind
from horologe.node.certificates import Identity
from horologe.node.context import NodeContext
from horologe.node.denials import Denials
from horologe.node.errors import ApiError
from horologe.node.interceptors import Context, Gate
from horologe.node.oidc import OidcError, OidcVerifier
from horologe.node.rate_limits import TokenBuckets
from horologe.node.standing import rights_now, unauthenticated
from horologe.node.token_uses import TokenUses
from horologe.raft.access import NOTHING
from horologe.raft.tables import Tables

AUTHORIZATION_KEY = "authorization"
_BEARER = "bearer "
PROOF_LENGTH_MAX = 16 << 10
FAILURES_PER_SECOND, FAILURES_BURST = 1.0, 20.0
"""By address and by token: enough for a deployment that comes back with an old token, little for somebody who tries."""
BURST_SECONDS = 2.0
"""A principal may call as often at once as it may in so many seconds."""

log = structlog.get_logger(__name__)


IdentityOf = Callable[[Context], Identity | None]
"""Reads the certificate at the other end of a call; None if there is none."""


def short_name(method: str) -> str:
    """`JobService.DeleteJob` for `/horologe.v1.JobService/DeleteJob`."""
    service, _, name = method.rpartition("/")
    return f"{service.rpartition('.')[2]}.{name}"


def source_of(context: Context) -> str:
    """The address that a call came from, without its port."""
    kind, _, rest = (context.peer() or "").partition(":")
    if kind not in ("ipv4", "ipv6"):
        return kind
    return unquote(rest).rpartition(":")[0].strip("[]")


class Authenticator:
    """Finds out who is at the other end of calls."""

    def __init__(
        self,
        context: NodeContext,
        denials: Denials,
        uses: TokenUses,
        identity_of: IdentityOf,
        oidc: OidcVerifier | None = None,
    ) -> None:
        self._node = context
        self._denials = denials
        self._uses = uses
        self._identity_of = identity_of
        self._oidc = oidc
        self._failures = TokenBuckets(FAILURES_PER_SECOND, FAILURES_BURST)
        per_second = context.config.calls_per_second_max
        self._calls = TokenBuckets(per_second, max(1.0, per_second * BURST_SECONDS))

    async def caller_of(self, method: str, context: Context) -> Caller:
        """Who calls, with its rights. Raises an ApiError if nobody can tell, or if it calls too often."""
        nobody = Caller(CallerKind.CLIENT, source=source_of(context), rights=NOTHING, method=short_name(method))
        if is_open(nobody.method):
            return nobody
        proof = _proof_of(context)
        presented = tokens.read(proof) if proof else None
        identity = self._identity_of(context)
        claimed = replace(
            nobody,
            token=presented.id if presented is not None else "",
            certificate=identity.fingerprint if identity is not None else "",
        )
        try:
            known = await self._by_oidc(claimed, proof) if proof and presented is None else None
            revision = self._node.status().revision
            with self._node.store.read() as tables:
                caller = known or _prove(tables, claimed, presented, identity)
                rights = rights_now(tables, caller, self._node.clock.wall_ms())
            caller = replace(caller, rights=rights, revision=revision)
        except ApiError as error:
            raise self._failed(claimed, error) from None
        self._uses.note(caller.token)
        wait_seconds = self._calls.take(caller.principal, self._node.clock.monotonic())
        if wait_seconds and caller.kind is CallerKind.CLIENT:
            self._denials.note(caller, "RATE_LIMITED")
            raise errors.rate_limited(f"{caller.principal} calls this node too often; call less often", wait_seconds)
        return caller

    async def _by_oidc(self, claimed: Caller, proof: str) -> Caller:
        if self._oidc is None:
            raise unauthenticated()
        try:
            identity = await self._oidc.verify(proof)
        except OidcError as error:
            log.debug("identity refused", source=claimed.source, reason=str(error))
            raise unauthenticated() from error
        return replace(
            claimed,
            principal=identity.principal,
            proof="oidc",
            groups=identity.groups,
            expire_time_ms=identity.expire_time_ms,
        )

    def _failed(self, claimed: Caller, error: ApiError) -> ApiError:
        now = self._node.clock.monotonic()
        keys = [f"source {claimed.source}", *([f"token {claimed.token}"] if claimed.token else [])]
        wait_seconds = max(self._failures.take(key, now) for key in keys)
        if not wait_seconds:
            self._denials.note(claimed, error.reason)
            return error
        # Without what it claims, which it may make up anew each time.
        self._denials.note(replace(claimed, token="", certificate="", method=""), "RATE_LIMITED")
        return errors.rate_limited("too many calls from there could not prove who they are", wait_seconds)


class AuthenticationInterceptor(Gate):
    """Sets CALLER for the time of a call. Goes outermost, but for the one that turns errors into statuses."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def _before(self, method: str, request: Any, context: Context) -> None:
        del request
        # Each call is a task of its own, with variables of its own: what is set here ends with the call.
        CALLER.set(await self._authenticator.caller_of(method, context))


def _prove(tables: Tables, claimed: Caller, presented: tokens.Presented | None, identity: Identity | None) -> Caller:
    """A token counts before a certificate: who sends one wants to be what it says. Raises an ApiError."""
    if presented is not None:
        raw = tables.token.get(presented.id.encode())
        record = log_pb2.TokenRecord.FromString(bytes(raw or b""))
        # An unknown id takes as long as a wrong secret.
        if not hmac.compare_digest(record.token.hash or bytes(32), presented.hash) or raw is None:
            raise unauthenticated()
        return replace(claimed, principal=record.token.principal, proof="token")
    if identity is None:
        raise unauthenticated()
    kind = CallerKind(identity.role)
    principal = identity.name if kind is CallerKind.CLIENT else f"{kind.value}:{identity.name}"
    return replace(claimed, kind=kind, principal=principal, proof="certificate", queues=identity.queues)


def _proof_of(context: Context) -> str:
    """What came as `authorization: Bearer ...`; empty if nothing did."""
    found = [value for key, value in context.invocation_metadata() or () if key == AUTHORIZATION_KEY]
    if not found:
        return ""
    text = found[0].decode(errors="replace") if isinstance(found[0], bytes) else found[0]
    if len(found) > 1 or len(text) > PROOF_LENGTH_MAX or not text.lower().startswith(_BEARER):
        # Something that proves nothing, rather than nothing: a certificate must not stand in for it.
        return "?"
    return text[len(_BEARER) :].strip() or "?"
