"""NotificationService over gRPC: rules that hold together, lists in pages, tests that are sent and recorded."""

from __future__ import annotations

import json

import grpc
import pytest
from google.protobuf import text_format
from service_harness import FakeNode, refused
from test_notifier import RULE, a_rule, deliveries, set_rule

from horologe.node.notification_rules import ADDRESS_LENGTH_MAX, PATTERNS_MAX, RECEIVERS_MAX, URL_LENGTH_MAX
from horologe.v1 import notification_service_pb2 as api
from horologe.v1 import secret_service_pb2
from horologe.v1.notification_pb2 import Delivery, NotificationRule

CLUSTER_RULE = "notifications/ops"


async def wrong(node: FakeNode, rule: NotificationRule) -> dict[str, str]:
    refusal = await refused(node.notifications.SetNotification(api.SetNotificationRequest(rule=rule)))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    return refusal.fields


async def test_defaults_are_written_out(node):
    made = await set_rule(node, a_rule("LATE", "FAILED", "LATE"))
    assert [int(event) for event in made.events] == [1, 4]
    assert (made.late_after.seconds, made.max_per_hour, made.group_by) == (60, 60, NotificationRule.GROUP_BY_JOB)
    assert made.etag == str(node.index)
    assert made.create_time.ToMilliseconds() == node.clock.now_ms


async def test_an_etag_keeps_others_changes(node):
    first = await set_rule(node, a_rule())
    second = await set_rule(node, a_rule("MISSED"))
    stale = NotificationRule()
    stale.CopyFrom(first)
    refusal = await refused(node.notifications.SetNotification(api.SetNotificationRequest(rule=stale)))
    assert refusal.reason == "ETAG_MISMATCH"
    await node.notifications.DeleteNotification(api.DeleteNotificationRequest(name=RULE, etag=second.etag))
    gone = await refused(node.notifications.GetNotification(api.GetNotificationRequest(name=RULE)))
    assert (gone.code, gone.reason) == (grpc.StatusCode.NOT_FOUND, "NOTIFICATION_NOT_FOUND")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('name: "namespaces/default/rules/x"', "rule.name"),
        ('name: "namespaces/default/notifications/X"', "rule.name"),
        ('name: "notifications/a/b"', "rule.name"),
        ("events: 99", "rule.events"),
        ("events: NOTIFICATION_EVENT_WORKER_LOST", "rule.events"),
        ("events: NOTIFICATION_EVENT_QUORUM_AT_RISK", "rule.events"),
        ('jobs: "nightly?"', "rule.jobs[0]"),
        ("group_by: 9", "rule.group_by"),
        ("max_per_hour: 101", "rule.max_per_hour"),
        ("max_per_hour: -1", "rule.max_per_hour"),
        ("group_window { seconds: 86401 }", "rule.group_window"),
        ("late_after { seconds: -1 }", "rule.late_after"),
        ('webhook { url: "ftp://x.org/" }', "rule.webhook.url"),
        ('webhook { url: "https://ann:hush@x.org/" }', "rule.webhook.url"),
        ('webhook { url: "https://x.org" url_secret: "s" }', "rule.webhook.url"),
        ('webhook { url: "https://x.org" signing_secret: "namespaces/shop/secrets/s" }', "rule.webhook.signing_secret"),
        ("slack { }", "rule.slack.url_secret"),
        ("email { }", "rule.email.to"),
        ('email { to: "ops" }', "rule.email.to[0]"),
        ('email { to: "a@x.org\\nBcc: b@x.org" }', "rule.email.to[0]"),
        ('email { to: "Ann <a@x.org>" }', "rule.email.to[0]"),
    ],
)
async def test_what_is_wrong_is_named(node, text, field):
    rule = a_rule()
    text_format.Merge(text, rule)
    assert field in await wrong(node, rule)


async def test_what_is_missing_is_named(node):
    assert set(await wrong(node, NotificationRule(name=RULE))) == {"rule.events", "rule.channel"}
    rule = a_rule()
    rule.webhook.url = ""
    assert set(await wrong(node, rule)) == {"rule.webhook.url"}


async def test_rules_of_the_cluster_name_secrets_in_full(node):
    rule = a_rule("WORKER_LOST", name=CLUSTER_RULE)
    rule.webhook.signing_secret = "s"
    assert "rule.webhook.signing_secret" in await wrong(node, rule)
    rule.webhook.signing_secret = "namespaces/default/secrets/s"
    refusal = await refused(node.notifications.SetNotification(api.SetNotificationRequest(rule=rule)))
    assert refusal.reason == "SECRET_NOT_FOUND"
    await node.secrets.SetSecret(secret_service_pb2.SetSecretRequest(name="namespaces/default/secrets/s", value=b"x"))
    await set_rule(node, rule)


@pytest.mark.parametrize(
    ("change", "most"),
    [
        (lambda rule, size: rule.jobs.extend(["a"] * size), PATTERNS_MAX),
        (lambda rule, size: rule.email.to.extend(["a@x.org"] * size), RECEIVERS_MAX),
        (lambda rule, size: rule.email.to.append("a" * (size - 6) + "@x.org"), ADDRESS_LENGTH_MAX),
        (lambda rule, size: setattr(rule.webhook, "url", "https://x.org/" + "a" * (size - 14)), URL_LENGTH_MAX),
        (lambda rule, size: setattr(rule, "max_per_hour", size), 100),
        (lambda rule, size: setattr(rule, "description", "x" * size), 4_096),
    ],
    ids=["patterns", "receivers", "address", "url", "per hour", "description"],
)
async def test_limits(node, change, most):
    good, bad = a_rule(), a_rule()
    change(good, most)
    await set_rule(node, good)
    change(bad, most + 1)
    assert await wrong(node, bad)


async def test_lists_are_by_namespace_in_pages_and_of_the_cluster(node):
    names = [
        "namespaces/default/notifications/a",
        "namespaces/default/notifications/b",
        "namespaces/shop/notifications/a",
    ]
    for name in (*names, CLUSTER_RULE):
        await set_rule(node, a_rule(name=name))

    async def listed(parent: str, **fields: object) -> api.ListNotificationsResponse:
        return await node.notifications.ListNotifications(api.ListNotificationsRequest(parent=parent, **fields))

    def all_names(answer: api.ListNotificationsResponse) -> list[str]:
        return [rule.name for rule in answer.rules]

    assert all_names(await listed("")) == names[:2]
    assert all_names(await listed("cluster")) == [CLUSTER_RULE]
    assert all_names(await listed("namespaces/-")) == [*names, CLUSTER_RULE]
    first = await listed("namespaces/default", page_size=1)
    second = await listed("namespaces/default", page_size=1, page_token=first.next_page_token)
    assert (all_names(first), all_names(second), second.next_page_token) == (names[:1], names[1:2], "")


async def test_a_test_is_sent_once_and_recorded(node):
    await set_rule(node, a_rule())
    answer = await node.notifications.TestNotification(api.TestNotificationRequest(name=RULE))
    assert answer.delivered
    ((url, body, headers),) = node.sender.posts
    assert (url, json.loads(body)["test"]) == ("https://hooks.example/1", True)
    assert "Horologe-Notification-Id" not in headers
    node.sender.errors = ["the receiver answered with status 500"]
    answer = await node.notifications.TestNotification(api.TestNotificationRequest(name=RULE))
    assert (answer.delivered, answer.error) == (False, "the receiver answered with status 500")
    newest, oldest = await deliveries(node)
    assert (newest.test, newest.outcome, newest.error) == (True, Delivery.OUTCOME_FAILED, answer.error)
    assert (oldest.test, oldest.outcome, oldest.name) == (True, Delivery.OUTCOME_DELIVERED, f"{RULE}/deliveries/1")


async def test_deliveries_come_newest_first_in_pages(node):
    await set_rule(node, a_rule())
    await set_rule(node, a_rule(name="namespaces/default/notifications/other"))
    for name in (RULE, RULE, "namespaces/default/notifications/other", RULE):
        await node.notifications.TestNotification(api.TestNotificationRequest(name=name))
    token, numbers = "", []
    while True:
        request = api.ListDeliveriesRequest(parent=RULE, page_size=2, page_token=token)
        answer = await node.notifications.ListDeliveries(request)
        numbers += [int(each.name.rpartition("/")[2]) for each in answer.deliveries]
        token = answer.next_page_token
        if not token:
            break
    assert numbers == [3, 2, 1]
