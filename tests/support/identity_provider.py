"""An identity provider on this machine, with everything that the authorization code flow needs, and what may go wrong in it."""

from __future__ import annotations

import json
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from horologe.node.http.server import HttpServer
from horologe.node.local_cluster import free_port

CLIENT, SECRET = "horologe", "a secret: of the client"


class IdentityProvider:
    """Knows one person, `ann`, who is in the group `ops`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.claims: dict[str, Any] = {}
        """What the next ID token says otherwise."""
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._asked: dict[str, dict[str, str]] = {}
        """By code: what the browser came with."""
        self.app = FastAPI(openapi_url=None)
        self.app.get("/.well-known/openid-configuration")(self._document)
        self.app.get("/keys")(self._keys)
        self.app.post("/token")(self._token)

    async def _document(self) -> dict[str, str]:
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/keys",
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
        }

    async def _keys(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [{**public, "kid": "k1", "alg": "RS256", "use": "sig"}]}

    def agree(self, address: str) -> str:
        """The person signs in at the address that the browser was sent to; the address that it is sent back to."""
        parts = urlsplit(address)
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.issuer}/authorize"
        asked = {name: values[0] for name, values in parse_qs(parts.query, strict_parsing=True).items()}
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = f"code-{len(self._asked)}"
        self._asked[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    async def _token(self, request: Request) -> JSONResponse:
        form = await request.form()
        asked = self._asked.pop(str(form["code"]), None)
        challenge = urlsafe_b64encode(sha256(str(form["code_verifier"]).encode()).digest()).decode().rstrip("=")
        login = request.headers.get("authorization", "")
        if asked is None or challenge != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        if b64decode(login.removeprefix("Basic ")).decode() != f"{CLIENT}:{quote_plus(SECRET)}":
            return JSONResponse({"error": "invalid_client"}, 401)
        return JSONResponse({"id_token": self.id_token(nonce=asked["nonce"]), "token_type": "Bearer"})

    def id_token(self, **claims: Any) -> str:
        """Signed with the provider's key."""
        content = {"iss": self.issuer, "aud": CLIENT, "sub": "ann", "groups": ["ops"], "exp": int(time.time()) + 600}
        return jwt.encode({**content, **claims, **self.claims}, self._key, "RS256", headers={"kid": "k1"})


@asynccontextmanager
async def identity_provider() -> AsyncIterator[IdentityProvider]:
    """Answers until the end."""
    provider = IdentityProvider()
    server = HttpServer(provider.app, f"127.0.0.1:{provider.port}", None)
    await server.start()
    try:
        yield provider
    finally:
        await server.stop()
