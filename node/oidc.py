"""Who an identity provider says somebody is: JWTs of OpenID Connect, and the provider's keys.

Only signatures by asymmetric keys count, and only by the kind of signature that the key itself is for. Keys are fetched from
the issuer's discovery document and kept: an unknown key is looked for at most once a minute, and when the issuer is away the
keys that are known still hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import structlog

from horologe.node.clock import Clock
from horologe.node.config import is_trusted_url
from horologe.node.context import NodeContext
from horologe.node.names import PRINCIPAL_BYTES_MAX
from horologe.raft.access import OIDC_PREFIX
from horologe.raft.principals import GROUPS_MAX

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""No HS*: the issuer's public key would be the secret. No none."""
LEEWAY_SECONDS = 30
LATEST_SECONDS = 1 << 40
"""JSON knows numbers beyond all times, and Python's an infinite one."""
REFETCH_SECONDS = 60.0
KEYS_AGE_SECONDS_MAX = 3_600.0
"""So old keys are fetched anew, so that one which the issuer has dropped does not hold for ever."""
FETCH_SECONDS = 5.0
DOCUMENT_BYTES_MAX = 1 << 20

log = structlog.get_logger(__name__)

Fetch = Callable[[str], Awaitable[Mapping[str, Any]]]
"""Gets a JSON object from a URL. Raises OidcError."""


class OidcError(Exception):
    """The token proves nothing. The text is for our log; callers are told only that they are not known."""


@dataclass(frozen=True, slots=True)
class OidcIdentity:
    """What a JWT has proved."""

    principal: str
    groups: tuple[str, ...]
    expire_time_ms: int


class OidcVerifier:
    """Verifies JWTs of one issuer for one audience."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        clock: Clock,
        *,
        principal_claim: str = "sub",
        groups_claim: str = "groups",
        fetch: Fetch | None = None,
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._principal_claim = principal_claim
        self._groups_claim = groups_claim
        self._fetch = fetch or fetch_json
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._fetching = asyncio.Lock()

    @classmethod
    def of(cls, context: NodeContext) -> OidcVerifier | None:
        """As the node's options say; None if they name no identity provider."""
        config = context.config
        if not config.oidc_issuer:
            return None
        return cls(
            config.oidc_issuer,
            config.oidc_audience,
            context.clock,
            principal_claim=config.oidc_principal_claim,
            groups_claim=config.oidc_groups_claim,
        )

    async def verify(self, token: str) -> OidcIdentity:
        """Raises OidcError."""
        try:
            key = await self._key_of(jwt.get_unverified_header(token))
            claims = jwt.decode(
                token,
                key=key,
                algorithms=[key.algorithm_name],
                audience=self._audience,
                issuer=self._issuer,
                # Times are judged by the cluster's clock, below.
                options={
                    "require": ["exp", "iss", "aud"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.PyJWTError as error:
            raise OidcError(str(error)) from error
        return self._identity(claims)

    def _identity(self, claims: Mapping[str, Any]) -> OidcIdentity:
        now = self._clock.wall_ms() / 1000
        expires, begins = claims["exp"], claims.get("nbf", 0)
        if not isinstance(expires, int | float) or not isinstance(begins, int | float):
            raise OidcError("exp and nbf must be numbers")
        if not 0 <= expires <= LATEST_SECONDS:
            raise OidcError("exp is no time")
        if not (begins - LEEWAY_SECONDS <= now < expires + LEEWAY_SECONDS):
            raise OidcError("it is too old, or not yet of use")
        name = claims.get(self._principal_claim)
        if (
            not isinstance(name, str)
            or not 0 < len(name.encode(errors="replace")) <= PRINCIPAL_BYTES_MAX
            or not name.isprintable()
        ):
            raise OidcError(f"the claim {self._principal_claim} is no name")
        groups = claims.get(self._groups_claim, ())
        if not isinstance(groups, list | tuple) or len(groups) > GROUPS_MAX or not all(map(_is_name, groups)):
            raise OidcError(f"the claim {self._groups_claim} is no list of at most {GROUPS_MAX} names")
        return OidcIdentity(OIDC_PREFIX + name, tuple(groups), int((expires + LEEWAY_SECONDS) * 1000))

    async def _key_of(self, header: Mapping[str, Any]) -> jwt.PyJWK:
        id_, algorithm = header.get("kid", ""), header.get("alg")
        if algorithm not in ALGORITHMS or not isinstance(id_, str):
            raise OidcError("it is not signed as an identity provider signs")
        key = self._keys.get(id_)
        if key is None or self._age() > KEYS_AGE_SECONDS_MAX:
            await self._refresh(id_)
            key = self._keys.get(id_)
        if key is None:
            raise OidcError("the issuer has no such key")
        return key

    async def _refresh(self, id_: str) -> None:
        """One fetch at a time, and at most one a minute. Keeps what it has if the issuer does not answer."""
        async with self._fetching:
            age = self._age()
            if age < REFETCH_SECONDS or (id_ in self._keys and age <= KEYS_AGE_SECONDS_MAX):
                return
            self._fetched_at = self._clock.monotonic()
            try:
                self._keys = await self._fetch_keys()
            except OidcError as error:
                log.warning("the identity provider's keys cannot be fetched", issuer=self._issuer, error=str(error))

    async def _fetch_keys(self) -> dict[str, jwt.PyJWK]:
        document = await self._fetch(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        if document.get("issuer") != self._issuer:
            raise OidcError("its discovery document is of another issuer; `oidc_issuer` must be exactly what it says")
        listed = (await self._fetch(str(document.get("jwks_uri", "")))).get("keys")
        keys: dict[str, jwt.PyJWK] = {}
        for entry in listed if isinstance(listed, list) else ():
            # What we cannot use is for somebody else.
            with suppress(jwt.PyJWTError, TypeError, ValueError, AttributeError):
                key = jwt.PyJWK(entry)
                if key.algorithm_name in ALGORITHMS and entry.get("use", "sig") == "sig":
                    keys[str(entry.get("kid", ""))] = key
        if not keys:
            raise OidcError("it has no keys that can be used")
        return keys

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock.monotonic() - self._fetched_at


def unproved_claims(token: str) -> Mapping[str, Any]:
    """What a token says, whoever wrote it; nothing if it says nothing."""
    try:
        return jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return {}


async def fetch_json(url: str) -> Mapping[str, Any]:
    """A JSON object. No redirects: the issuer says where its keys are. Raises OidcError."""
    if not is_trusted_url(url):
        raise OidcError(f"{url[:200]!r} is no https address")
    try:
        async with (
            asyncio.timeout(FETCH_SECONDS),
            httpx.AsyncClient(follow_redirects=False) as client,
            client.stream("GET", url) as response,
        ):
            response.raise_for_status()
            content = b""
            async for part in response.aiter_bytes():
                content += part
                if len(content) > DOCUMENT_BYTES_MAX:
                    raise OidcError(f"{url[:200]} answers more than {DOCUMENT_BYTES_MAX} bytes")
            document = httpx.Response(200, content=content).json()
    except (httpx.HTTPError, TimeoutError, ValueError) as error:
        raise OidcError(f"{url[:200]}: {error or type(error).__name__}") from error
    if not isinstance(document, dict):
        raise OidcError(f"{url[:200]} answers no JSON object")
    return document


def _is_name(value: object) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value.encode(errors="replace")) <= PRINCIPAL_BYTES_MAX
        and value.isprintable()
    )
