"""Notification rules, how they stand, what they have sent lately, and tests of them."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from horologe.node.web.view import Reader, View, Web
from horologe.raft.access import EVERYWHERE, Verb
from horologe.v1 import notification_service_pb2 as api
from horologe.v1 import notification_service_pb2_grpc
from horologe.v1.notification_pb2 import NotificationEvent, NotificationRule

RULES_SHOWN_MAX = 1_000
DELIVERIES_SHOWN = 20


def router(web: Web) -> APIRouter:
    """`/notifications`"""
    routes = APIRouter()

    @routes.get("/notifications")
    async def notifications(request: Request) -> Response:
        view = web.view(request)
        reader, stub = await view.reader(), _stub(view)
        rules: list[NotificationRule] = []
        for parent in _parents(reader):
            order = api.ListNotificationsRequest(parent=parent, page_size=RULES_SHOWN_MAX)
            rules += (await stub.ListNotifications(order)).rules
        selected = request.query_params.get("rule", "")
        deliveries = None
        if selected:
            sent = api.ListDeliveriesRequest(parent=selected, page_size=DELIVERIES_SHOWN)
            deliveries = (await stub.ListDeliveries(sent)).deliveries
        return await view.page(
            "notifications.html",
            rules=[(rule, may_test(reader, rule.name)) for rule in rules[:RULES_SHOWN_MAX]],
            selected=selected,
            deliveries=deliveries,
            words=_words,
            receiver=_receiver,
        )

    @routes.post("/notifications/test")
    async def test(request: Request) -> Response:
        view = web.view(request)
        form = await view.form()
        name = str(form.get("rule", ""))
        await _stub(view).TestNotification(api.TestNotificationRequest(name=name))
        return RedirectResponse(f"/notifications?{urlencode({'rule': name})}#deliveries", 303)

    return routes


def may_test(reader: Reader, name: str) -> bool:
    """Whether to offer a test of a rule."""
    parts = name.split("/")
    return reader.may(Verb.NOTIFICATION_WRITE, parts[1] if parts[0] == "namespaces" else EVERYWHERE)


def _parents(reader: Reader) -> list[str]:
    """Where the reader may list rules."""
    if reader.may(Verb.JOB_READ):
        return ["namespaces/-"]
    return [f"namespaces/{namespace}" for namespace in sorted(reader.rights) if reader.may(Verb.JOB_READ, namespace)]


def _words(rule: NotificationRule) -> str:
    """The events of a rule, for people."""
    names = (NotificationEvent.Name(event) for event in rule.events)
    return ", ".join(name.removeprefix("NOTIFICATION_EVENT_").lower().replace("_", " ") for name in names)


def _receiver(rule: NotificationRule) -> str:
    """Where it goes, in one line. A URL shows its host only: what is behind it may be meant for few."""
    match rule.WhichOneof("channel"):
        case "webhook":
            hook = rule.webhook
            return hook.url.split("/")[2] if hook.url else f"secret {hook.url_secret}"
        case "slack":
            return f"secret {rule.slack.url_secret}"
    return ", ".join(rule.email.to)


def _stub(view: View) -> notification_service_pb2_grpc.NotificationServiceAsyncStub:
    return notification_service_pb2_grpc.NotificationServiceStub(view.channel)
