"""The page of notification rules: what it shows to whom, and the test button."""

from __future__ import annotations

from pathlib import Path

from secure_harness import Role, SecureNode
from service_harness import FakeNode
from test_notifier import RULE, a_rule, set_rule
from web_harness import browser

from horologe.log.v1 import log_pb2

HOSTILE = "<img src=x onerror=alert(1)>\u202e"


async def test_without_rules_it_says_how_to_make_one(node: FakeNode) -> None:
    async with browser(node) as reader:
        answer = await reader.get("/notifications")
        assert answer.status_code == 200, answer.text
        assert "No notification rules" in answer.text


async def test_rules_and_a_test_of_one(node: FakeNode) -> None:
    await set_rule(node, a_rule("FAILED", "DEAD_LETTER", description=HOSTILE))
    await set_rule(node, a_rule("WORKER_LOST", name="notifications/cluster"))
    async with browser(node) as reader:
        page = (await reader.get("/notifications")).text
        assert "failed, dead letter" in page
        assert "of the cluster" in page
        assert "hooks.example" in page
        assert "hooks.example/1" not in page, "what is behind the host may be a secret"
        assert HOSTILE not in page
        node.sender.errors = [HOSTILE]
        answer = await reader.post("/notifications/test", {"rule": RULE}, follow_redirects=True)
        assert answer.status_code == 200, answer.text
        assert len(node.sender.posts) == 1
        assert "Deliveries of ops" in answer.text
        assert '<span class="badge failed">' in answer.text
        assert "<img" not in answer.text


async def test_a_form_of_another_site_sends_nothing(node: FakeNode) -> None:
    await set_rule(node, a_rule())
    async with browser(node) as reader:
        assert (await reader.post("/notifications/test", {"rule": RULE})).status_code == 400
    assert not node.sender.posts


async def test_everybody_sees_and_tests_what_they_may(tmp_path: Path) -> None:
    async with SecureNode(tmp_path, insecure=False).serve() as node:
        for name in (RULE, "namespaces/shop/notifications/shops", "notifications/cluster"):
            command = log_pb2.SetNotification(rule=a_rule(name=name))
            node.by_admin(log_pb2.Command(set_notification=command))
        node.grant("ann", "default", Role.ROLE_VIEWER)
        node.grant("bob", "shop", Role.ROLE_OPERATOR)
        async with browser(node, node.token("ann")) as ann:
            page = (await ann.get("/notifications")).text
            assert "ops" in page
            assert "shops" not in page
            assert "Send a test" not in page
            assert (await ann.post("/notifications/test", {"rule": RULE})).status_code == 403
        async with browser(node, node.token("bob")) as bob:
            page = (await bob.get("/notifications")).text
            assert page.count("Send a test of") == 1
            assert (await bob.get("/notifications?rule=notifications/cluster")).status_code == 403
    assert not node.sender.posts
