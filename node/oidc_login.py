"""Signing in at an identity provider with a browser: the authorization code flow of OpenID Connect, with PKCE.

What comes out is an ID token, which counts as any other proof of that provider does (oidc.py): this module only gets it, and
makes sure that it answers the very request that this browser made.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx

from horologe.node.config import NodeConfig, is_trusted_url
from horologe.node.oidc import FETCH_SECONDS, OidcError, fetch_json, unproved_claims

SCOPE = "openid profile email groups"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one browser remembers between leaving for the provider and coming back."""

    state: str
    nonce: str
    verifier: str
    next: str
    """Where the reader wanted to go."""

    @classmethod
    def new(cls, target: str) -> Attempt:
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48), target)

    @classmethod
    def from_cookie(cls, text: str) -> Attempt:
        """Raises OidcError."""
        try:
            return cls(**{name: str(value) for name, value in json.loads(urlsafe_b64decode(text)).items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise OidcError("this browser did not begin to sign in, or took too long") from error

    def cookie(self) -> str:
        return urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode()


class OidcLogin:
    """Of one node, at one provider."""

    def __init__(self, config: NodeConfig) -> None:
        self._issuer = config.oidc_issuer
        self._client = config.oidc_client_id
        self._secret = _secret(config)

    @classmethod
    def of(cls, config: NodeConfig) -> OidcLogin | None:
        """As the node's options say; None if people sign in with tokens only."""
        return cls(config) if config.oidc_client_id and not config.insecure else None

    async def address(self, attempt: Attempt, redirect_uri: str) -> str:
        """Where the browser goes. Raises OidcError."""
        challenge = urlsafe_b64encode(sha256(attempt.verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "response_type": "code",
            "client_id": self._client,
            "redirect_uri": redirect_uri,
            "scope": SCOPE,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = await self._endpoint("authorization_endpoint")
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def token(self, attempt: Attempt, answer: Mapping[str, str], redirect_uri: str) -> str:
        """The ID token that the provider's answer stands for. Whoever uses it still has to verify it. Raises OidcError."""
        if not hmac.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise OidcError("this answer belongs to another attempt to sign in")
        if answer.get("iss", self._issuer) != self._issuer:
            raise OidcError("this answer is from another identity provider")
        if "error" in answer:
            raise OidcError(f"the identity provider refuses: {answer.get('error_description') or answer['error']}")
        form = {
            "grant_type": "authorization_code",
            "code": answer.get("code", ""),
            "redirect_uri": redirect_uri,
            "client_id": self._client,
            "code_verifier": attempt.verifier,
        }
        token = (await self._exchange(await self._endpoint("token_endpoint"), form)).get("id_token")
        if not isinstance(token, str):
            raise OidcError("the identity provider gave no ID token")
        if not hmac.compare_digest(str(unproved_claims(token).get("nonce", "")).encode(), attempt.nonce.encode()):
            raise OidcError("the ID token was made for another attempt to sign in")
        return token

    async def _endpoint(self, name: str) -> str:
        document = await fetch_json(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        url = document.get(name)
        if document.get("issuer") != self._issuer or not isinstance(url, str) or not is_trusted_url(url):
            raise OidcError(f"the identity provider names no {name} that can be trusted")
        return url

    async def _exchange(self, url: str, form: Mapping[str, str]) -> Mapping[str, Any]:
        # As RFC 6749 (2.3.1) has it: both encoded first, so that a colon in them is none.
        known = httpx.BasicAuth(quote_plus(self._client), quote_plus(self._secret))
        login = known if self._secret else httpx.USE_CLIENT_DEFAULT
        try:
            async with asyncio.timeout(FETCH_SECONDS), httpx.AsyncClient(follow_redirects=False) as client:
                answer = await client.post(url, data=form, auth=login)
                document = answer.json()
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            raise OidcError(f"the identity provider does not answer: {error or type(error).__name__}") from error
        if answer.status_code != 200 or not isinstance(document, dict):
            reason = document.get("error", "") if isinstance(document, dict) else ""
            raise OidcError(f"the identity provider does not take its own code back: {answer.status_code} {reason}")
        return document


def _secret(config: NodeConfig) -> str:
    if config.oidc_client_secret_file is not None:
        return config.oidc_client_secret_file.read_text().strip()
    return config.oidc_client_secret.get_secret_value() if config.oidc_client_secret is not None else ""
