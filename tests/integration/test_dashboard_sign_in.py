"""Signing in at an identity provider, with a browser that does nothing by itself: each step is looked at."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from support.governed_node import GovernedNode, governed_node
from support.identity_provider import CLIENT, SECRET, IdentityProvider, identity_provider

from horologe.node.config import ConfigError
from horologe.node.config_sources import load_config
from horologe.node.tls_folder import CA_FILE
from horologe.node.web.sign_in import ATTEMPT_COOKIE
from horologe.node.web.view import SECURE_COOKIE
from horologe.v1 import access_pb2, access_service_pb2, access_service_pb2_grpc


class World:
    """A node, a provider, and a browser."""

    def __init__(self, governed: GovernedNode, provider: IdentityProvider, browser: httpx.AsyncClient) -> None:
        self.governed = governed
        self.provider = provider
        self.browser = browser

    async def leave(self, target: str = "/jobs") -> str:
        """To the provider; the address there."""
        answer = await self.browser.get("/sign-in/provider", params={"next": target})
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    async def refused(self, address: str, text: str) -> None:
        """Nobody is signed in by this answer of the provider, and the page says why."""
        answer = await self.browser.get(address)
        assert answer.status_code == 401
        assert text in answer.text
        assert SECURE_COOKIE not in self.browser.cookies


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with identity_provider() as provider:
        (tmp_path / "secret").write_text(f"{SECRET}\n")
        options = {
            "oidc_issuer": provider.issuer,
            "oidc_audience": CLIENT,
            "oidc_client_id": CLIENT,
            "oidc_client_secret_file": tmp_path / "secret",
        }
        async with governed_node(tmp_path, **options) as governed:
            trust = ssl.create_default_context(cafile=str(governed.config.data_dir / "tls" / CA_FILE))
            address = f"https://{governed.config.http_listen}"
            async with httpx.AsyncClient(base_url=address, verify=trust, timeout=60) as browser:
                yield World(governed, provider, browser)


async def test_in_at_the_provider_and_on_to_the_page(world: World) -> None:
    stub = access_service_pb2_grpc.AccessServiceStub(world.governed.channel)
    grant = access_pb2.Grant(subject="group:ops", namespace="*", role=access_pb2.ROLE_VIEWER)
    admin = (("authorization", f"Bearer {world.governed.admin}"),)
    await stub.SetGrant(access_service_pb2.SetGrantRequest(grant=grant), metadata=admin)
    assert 'href="/sign-in/provider?next=%2Fjobs"' in (await world.browser.get("/sign-in?next=/jobs")).text
    address = await world.leave()
    answer = await world.browser.get(world.provider.agree(address))
    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0;url=/jobs">' in answer.text, "a redirect would lose a strict cookie"
    cookie = next(text for text in answer.headers.get_list("set-cookie") if text.startswith(f"{SECURE_COOKIE}="))
    for attribute in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"):
        assert attribute in cookie
    assert ATTEMPT_COOKIE not in world.browser.cookies
    page = await world.browser.get("/")
    assert page.status_code == 200
    assert "oidc:ann" in page.text
    assert "You may not see the cluster" not in page.text, "its group has rights"


async def test_the_token_itself_does_for_who_has_it(world: World) -> None:
    """Typed in, it is kept as it is: no token of ours outlives it."""
    token = world.provider.id_token()
    page = await world.browser.get("/sign-in")
    proof = page.text.partition('name="csrf" value="')[2].partition('"')[0]
    answer = await world.browser.post("/sign-in", data={"csrf": proof, "token": token})
    assert answer.status_code == 303
    assert world.browser.cookies[SECURE_COOKIE] == token


async def test_answers_that_are_none(world: World) -> None:
    await world.refused("/sign-in/callback?code=a&state=b", "did not begin to sign in")
    await world.leave()
    await world.refused("/sign-in/callback?code=a&state=of-somebody-else", "another attempt")
    address = world.provider.agree(await world.leave())
    state = parse_qs(urlsplit(address).query)["state"][0]
    await world.refused(
        f"/sign-in/callback?state={state}&error=access_denied&error_description=<b>no</b>", "&lt;b&gt;no"
    )
    await world.refused(address, "did not begin to sign in")
    state = parse_qs(urlsplit(await world.leave()).query)["state"][0]
    await world.refused(f"/sign-in/callback?state={state}&code=made-up", "invalid_grant")
    state = parse_qs(urlsplit(await world.leave()).query)["state"][0]
    await world.refused(f"/sign-in/callback?state={state}&code=a&iss=https://evil.example", "another identity provider")


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"nonce": "of another attempt"}, "made for another attempt"),
        ({"aud": "somebody else"}, "does not know who calls"),
        ({"exp": 1}, "does not know who calls"),
        ({"iss": "https://evil.example"}, "does not know who calls"),
        ({"padding": "x" * 4_000}, "browsers keep"),
    ],
)
async def test_tokens_that_do_not_count(world: World, claims: dict[str, object], text: str) -> None:
    world.provider.claims = claims
    await world.refused(world.provider.agree(await world.leave()), text)


async def test_a_code_is_taken_by_the_browser_that_asked(world: World) -> None:
    """Somebody who has another's answer has not what that browser remembers."""
    address = world.provider.agree(await world.leave())
    world.browser.cookies.clear()
    await world.leave()
    await world.refused(address, "another attempt")


async def test_nobody_is_led_elsewhere(world: World) -> None:
    answer = await world.browser.get(world.provider.agree(await world.leave("//evil.example/")))
    assert 'content="0;url=/"' in answer.text


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('name = "n1"\noidc_client_id = "a"\n')
    with pytest.raises(ConfigError, match="there is no `oidc_issuer`"):
        load_config(file, {}, environment={})
    file.write_text('name = "n1"\noidc_client_secret_file = "nowhere"\n')
    with pytest.raises(ConfigError, match=r"oidc_client_secret_file: .*/nowhere cannot be read"):
        load_config(file, {}, environment={})
    file.write_text('name = "n1"\noidc_client_secret = "a"\n')
    with pytest.raises(ConfigError, match="HOROLOGE_NODE_OIDC_CLIENT_SECRET, or a `oidc_client_secret_file`"):
        load_config(file, {}, environment={})
