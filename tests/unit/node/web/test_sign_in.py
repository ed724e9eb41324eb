"""Signing in with a token, and out again; what the browser keeps, and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest
from secure_harness import Role, SecureNode, bearer
from service_harness import FakeNode
from web_harness import Browser, browser

from horologe.log.v1 import log_pb2
from horologe.node.web.sign_in import SESSION_SECONDS
from horologe.node.web.view import SECURE_COOKIE, inside
from horologe.v1 import access_service_pb2


@pytest.fixture
async def node(tmp_path: Path):
    async with SecureNode(tmp_path, insecure=False).serve() as served:
        yield served


async def _sign_in(reader: Browser, token: str, target: str = "/"):
    await reader.get("/sign-in", params={"next": target})
    return await reader.post("/sign-in", {"token": token, "next": target})


async def _tokens(node: SecureNode, principal: str = "admin"):
    request = access_service_pb2.ListTokensRequest(principal=principal)
    answer = await node.access.ListTokens(request, metadata=bearer(node.admin))
    return [token for token in answer.tokens if token.description == "dashboard"]


async def test_in_and_out(node: SecureNode) -> None:
    async with browser(node) as reader:
        answer = await _sign_in(reader, f" {node.admin}\n", "/jobs?state=paused")
        assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?state=paused")
        cookie = answer.headers["set-cookie"]
        for attribute in ("HttpOnly", "Secure", "SameSite=strict", "Path=/", f"Max-Age={SESSION_SECONDS}"):
            assert attribute in cookie
        session = reader.http.cookies[SECURE_COOKIE]
        assert session != node.admin
        (token,) = await _tokens(node)
        assert token.expire_time.ToMilliseconds() == node.clock.now_ms + SESSION_SECONDS * 1_000
        page = await reader.get("/")
        assert page.status_code == 200
        assert '<span class="principal" title="admin">' in page.text
        assert session not in page.text
        assert (await reader.post("/sign-out")).headers["location"] == "/sign-in"
        assert SECURE_COOKIE not in reader.http.cookies
        (token,) = await _tokens(node)
        assert token.revoked
        reader.http.cookies.set(SECURE_COOKIE, session)
        assert (await reader.get("/")).status_code == 303


async def test_a_session_ends_with_the_token_it_came_from(node: SecureNode) -> None:
    token = node.token("admin", life_ms=90_500)
    async with browser(node) as reader:
        answer = await _sign_in(reader, token)
        assert "Max-Age=90;" in answer.headers["set-cookie"]
        (made,) = await _tokens(node)
        assert made.expire_time.ToMilliseconds() == node.clock.now_ms + 90_500
        node.clock.now_ms += 91_000
        assert (await reader.get("/")).status_code == 303


async def test_a_session_has_the_scope_of_its_token(node: SecureNode) -> None:
    node.grant("ann", "*", Role.ROLE_ADMIN)
    token = node.token("ann", role=Role.ROLE_VIEWER, namespaces=("shop",))
    async with browser(node) as reader:
        assert (await _sign_in(reader, token)).status_code == 303
    (made,) = await _tokens(node, "ann")
    assert (made.role, [*made.namespaces]) == (Role.ROLE_VIEWER, ["shop"])


async def test_a_token_that_is_none(node: SecureNode) -> None:
    async with browser(node) as reader:
        for wrong in ("hlg_aaaaaaaaaaaa_" + "b" * 43, "nonsense", "", "\x00", "x" * 20_000):
            answer = await _sign_in(reader, wrong, "/jobs")
            assert answer.status_code == 401
            assert 'role="alert"' in answer.text
            assert 'name="next" value="/jobs"' in answer.text
            assert SECURE_COOKIE not in reader.http.cookies
        records = await node.denied()
        assert sum(record.repeat_count for record in records) == 5
        assert {(record.method, record.reason) for record in records} == {("AccessService.WhoAmI", "UNAUTHENTICATED")}
        assert {record.source for record in records} == {"127.0.0.1"}


async def test_who_tries_often_is_slowed_down_and_the_right_one_still_gets_in(node: SecureNode) -> None:
    async with browser(node) as reader:
        answers = [await _sign_in(reader, f"hlg_aaaaaaaaaaaa_{number:043}") for number in range(30)]
        assert "too many calls from there" in answers[-1].text
        assert (await _sign_in(reader, node.admin)).status_code == 303


async def test_nobody_is_signed_in_by_somebody_else(node: SecureNode) -> None:
    """The form counts only in the browser that it was made for."""
    async with browser(node) as attacker, browser(node) as victim:
        await attacker.get("/sign-in")
        await victim.get("/sign-in")
        victim.proof = attacker.proof
        answer = await victim.post("/sign-in", {"token": node.admin})
        assert answer.status_code == 401
        assert SECURE_COOKIE not in victim.http.cookies
    assert await _tokens(node) == []


async def test_a_session_that_is_over_leads_to_the_sign_in_page_and_back(node: SecureNode) -> None:
    token = node.token("admin", life_ms=1_000)
    async with browser(node, token) as reader:
        await reader.get("/")
        node.clock.now_ms += 2_000
        answer = await reader.get("/jobs/a/b", params={"at": "1 2"})
        assert answer.headers["location"] == "/sign-in?next=/jobs/a/b%3Fat%3D1%2B2"
        part = await reader.http.get(
            "/", headers={"hx-request": "true", "hx-current-url": "https://127.0.0.1:7700/?a=b", "accept": "*/*"}
        )
        assert part.headers["hx-redirect"] == "/sign-in?next=/%3Fa%3Db"
        assert (await reader.post("/sign-out")).headers["location"] == "/sign-in", "who is out already gets out"


async def test_a_link_on_another_site_leads_to_the_page(node: SecureNode) -> None:
    """The browser keeps the cookie back the first time, and is told to ask again."""
    async with browser(node) as reader:
        answer = await reader.get("/?a=b", headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 200
        assert '<meta http-equiv="refresh" content="0;url=/?a=b">' in answer.text
        assert (await reader.get("/?a=b", headers={"sec-fetch-site": "same-origin"})).status_code == 303


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/jobs?a=b", "/jobs?a=b"), ("//evil.example", "/"), ("https://evil.example/", "/"), ("/\\evil.example", "/"),
        ("jobs", "/"), ("//[", "/"), ("http://[a", "/"),
        ("///evil.example", "/"), ("/\t/evil.example", "/"), ("javascript:alert(1)", "/"), ("", "/"), ("/a\r\nb", "/"),
    ],
)  # fmt: skip
def test_nobody_is_led_elsewhere(target: str, path: str) -> None:
    assert inside(target) == path


async def test_a_node_without_security_asks_nobody(tmp_path: Path) -> None:
    async with FakeNode(tmp_path).serve() as node, browser(node) as reader:
        assert (await reader.get("/sign-in?next=/jobs")).headers["location"] == "/jobs"
        await reader.get("/")
        assert (await reader.post("/sign-in", {"token": "x"})).headers["location"] == "/"
        assert not any(
            isinstance(command, log_pb2.Command) and command.HasField("put_token") for command in node.commands
        )


async def test_a_revoked_session_reads_nothing_more(node: SecureNode) -> None:
    async with browser(node) as reader:
        await _sign_in(reader, node.admin)
        assert (await reader.get("/")).status_code == 200
        node.revoke(reader.http.cookies[SECURE_COOKIE])
        assert (await reader.get("/")).status_code == 303
