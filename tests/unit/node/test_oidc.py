"""JWTs of an identity provider: which count, which do not, and what happens when it is away or changes its keys."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from secure_harness import Role, SecureNode, bearer
from service_harness import HandClock, refused

from horologe.node.config import NodeConfig
from horologe.node.oidc import DOCUMENT_BYTES_MAX, LEEWAY_SECONDS, REFETCH_SECONDS, OidcError, OidcVerifier, fetch_json
from horologe.v1 import access_service_pb2, job_service_pb2

ISSUER, AUDIENCE = "https://id.example", "horologe"


class Issuer:
    """Its keys, and what it answers."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.private = {"k1": (rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256")}
        self.document = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}
        self.more_keys: list[dict] = []
        self.is_away = False
        self.asked: list[str] = []

    async def fetch(self, url: str) -> dict:
        self.asked.append(url)
        if self.is_away:
            raise OidcError("away")
        if url == f"{ISSUER}/.well-known/openid-configuration":
            return self.document
        assert url == f"{ISSUER}/keys"
        return {"keys": [*map(self._public, self.private), *self.more_keys]}

    def _public(self, id_: str) -> dict:
        key, algorithm = self.private[id_]
        kinds = {"R": jwt.algorithms.RSAAlgorithm, "E": jwt.algorithms.ECAlgorithm}
        kind = jwt.algorithms.OKPAlgorithm if algorithm == "EdDSA" else kinds[algorithm[0]]
        return {**json.loads(kind.to_jwk(key.public_key())), "kid": id_, "alg": algorithm}

    def token(self, id_: str = "k1", *, headers: dict | None = None, **claims: object) -> str:
        key, algorithm = self.private[id_]
        now = self.clock.now_ms // 1000
        content = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": now + 600, "groups": ["ops"], **claims}
        content = {name: value for name, value in content.items() if value is not None}
        return jwt.encode(content, key, algorithm, headers={"kid": id_, **(headers or {})})


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def issuer(clock):
    return Issuer(clock)


@pytest.fixture
def verifier(issuer, clock):
    return OidcVerifier(ISSUER, AUDIENCE, clock, fetch=issuer.fetch)


async def test_a_good_one(issuer, verifier):
    identity = await verifier.verify(issuer.token())
    assert (identity.principal, identity.groups) == ("oidc:ann", ("ops",))
    await verifier.verify(issuer.token(sub="bob"))
    assert len(issuer.asked) == 2, "its keys are fetched once"


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(ec.generate_private_key(ec.SECP256R1()), "ES256"), (ed25519.Ed25519PrivateKey.generate(), "EdDSA")],
)
async def test_other_kinds_of_keys(issuer, verifier, key, algorithm):
    issuer.private["k2"] = (key, algorithm)
    assert (await verifier.verify(issuer.token("k2"))).principal == "oidc:ann"


async def test_claims_that_do_not_count(issuer, verifier, clock):
    now = clock.now_ms // 1000
    for claims in (
        {"iss": "https://other.example"},
        {"aud": "something else"},
        {"aud": None},
        {"exp": None},
        {"exp": now - LEEWAY_SECONDS},
        {"exp": float("inf")},
        {"exp": 1e300},
        {"nbf": now + LEEWAY_SECONDS + 1},
        {"sub": None},
        {"sub": ""},
        {"sub": "a\nb"},
        {"sub": "a" * 201},
        {"sub": "ä" * 101},
        {"sub": "\ud800"},
        {"sub": 7},
        {"groups": "ops"},
        {"groups": [1]},
        {"groups": ["g"] * 101},
    ):
        with pytest.raises(OidcError):
            await verifier.verify(issuer.token(**claims))
    await verifier.verify(issuer.token(exp=now - LEEWAY_SECONDS + 1, nbf=now + LEEWAY_SECONDS))
    assert (await verifier.verify(issuer.token(groups=None))).groups == ()


async def test_signatures_that_do_not_count(issuer, verifier):
    good = issuer.token()
    head, body, signature = good.split(".")
    public = issuer.private["k1"][0].public_key()
    content = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": 1 << 40}
    others = {
        "none": jwt.encode(content, None, "none", headers={"kid": "k1"}),
        "the public key as a secret": jwt.encode(
            content, str(public.public_numbers().n) * 2, "HS256", headers={"kid": "k1"}
        ),
        "another one's": jwt.encode(
            content, rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256", headers={"kid": "k1"}
        ),
        "another kind under its name": jwt.encode(
            content, ec.generate_private_key(ec.SECP256R1()), "ES256", headers={"kid": "k1"}
        ),
        "changed": f"{head}.{body[:-4]}AAAA.{signature}",
        "cut off": f"{head}.{body}.",
        "no JWT": "hello",
        "empty": "..",
    }
    for case, token in others.items():
        with pytest.raises(OidcError):
            await verifier.verify(token)
            raise AssertionError(case)


async def test_keys_that_are_secrets_are_never_used(issuer, verifier):
    secret = "c2VjcmV0" * 8
    issuer.more_keys = [{"kty": "oct", "k": secret, "kid": "k2", "alg": "HS256"}, {"kty": "?"}, "nonsense"]
    await verifier.verify(issuer.token())
    content = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": 1 << 40}
    with pytest.raises(OidcError):
        await verifier.verify(jwt.encode(content, secret, "HS256", headers={"kid": "k2"}))


async def test_unknown_keys_are_looked_for_once_a_minute(issuer, verifier, clock):
    await verifier.verify(issuer.token())
    issuer.private["k2"] = (ec.generate_private_key(ec.SECP256R1()), "ES256")
    for _ in range(3):
        with pytest.raises(OidcError):
            await verifier.verify(issuer.token("k2"))
    assert len(issuer.asked) == 2
    clock.now_ms += int(REFETCH_SECONDS * 1000)
    assert await verifier.verify(issuer.token("k2"))
    assert len(issuer.asked) == 4


async def test_known_keys_hold_while_the_issuer_is_away(issuer, verifier, clock):
    await verifier.verify(issuer.token())
    issuer.is_away = True
    clock.now_ms += 7_200_000
    assert await verifier.verify(issuer.token())
    issuer.is_away = False
    del issuer.private["k1"]
    issuer.private["k2"] = (ec.generate_private_key(ec.SECP256R1()), "ES256")
    clock.now_ms += 60_000
    assert await verifier.verify(issuer.token("k2"))


async def test_a_document_of_another_issuer_is_not_believed(issuer, verifier):
    issuer.document["issuer"] = "https://other.example"
    with pytest.raises(OidcError):
        await verifier.verify(issuer.token())


async def test_keys_come_over_tls_or_from_this_machine():
    for url in ("http://id.example/keys", "ftp://id.example", "", "file:///etc/passwd"):
        with pytest.raises(OidcError):
            await fetch_json(url)


async def test_what_an_issuer_may_answer():
    """A JSON object of a bounded size, from where it was asked for."""
    answers = {
        "/good": (200, b'{"a": 1}', ""),
        "/list": (200, b"[1]", ""),
        "/broken": (200, b"{", ""),
        "/away": (503, b"{}", ""),
        "/elsewhere": (302, b"", "/good"),
        "/large": (200, b'{"a": "' + b"x" * DOCUMENT_BYTES_MAX + b'"}', ""),
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        status, body, location = answers[path]
        head = f"HTTP/1.1 {status} OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
        head += f"location: {location}\r\n" if location else ""
        with suppress(ConnectionError):
            writer.write(head.encode() + b"\r\n" + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        here = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert await fetch_json(f"{here}/good") == {"a": 1}
        for path in answers.keys() - {"/good"}:
            with pytest.raises(OidcError):
                await fetch_json(here + path)


def test_options_that_make_no_sense(tmp_path):
    for options in ({"oidc_issuer": ISSUER}, {"oidc_issuer": "http://id.example", "oidc_audience": "a"}):
        with pytest.raises(ValueError, match="oidc_"):
            NodeConfig(name="n1", insecure=True, data_dir=tmp_path, **options)


async def test_groups_give_rights(tmp_path):
    clock = HandClock()
    issuer = Issuer(clock)
    node = SecureNode(tmp_path, OidcVerifier(ISSUER, AUDIENCE, clock, fetch=issuer.fetch))
    issuer.clock = node.clock
    async with node.serve():
        node.grant("group:ops", "default", Role.ROLE_VIEWER)
        lists = job_service_pb2.ListJobsRequest(parent="namespaces/default")
        await node.jobs.ListJobs(lists, metadata=bearer(issuer.token()))
        other = bearer(issuer.token(groups=["dev"]))
        assert (await refused(node.jobs.ListJobs(lists, metadata=other))).reason == "PERMISSION_DENIED"
        who = await node.access.WhoAmI(access_service_pb2.WhoAmIRequest(), metadata=bearer(issuer.token()))
        assert (who.principal, who.method, list(who.groups)) == ("oidc:ann", "oidc", ["ops"])
        bad = bearer(issuer.token(aud="other"))
        assert (await refused(node.jobs.ListJobs(lists, metadata=bad))).reason == "UNAUTHENTICATED"
