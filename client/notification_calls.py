"""The methods of NotificationService, as `calls.py` has those of the other services."""

from __future__ import annotations

from collections.abc import Iterable

from horologe.client import names
from horologe.client.calls import PAGE_SIZE, Call, Method, Pages, request_id_or_new
from horologe.v1 import notification_service_pb2 as notifications
from horologe.v1.notification_pb2 import Delivery, NotificationRule

__all__ = [
    "delete_notification",
    "get_notification",
    "list_deliveries",
    "list_notifications",
    "set_notification",
    "test_notification",
]

_SERVICE = "NotificationService"
SET_NOTIFICATION = Method(
    _SERVICE,
    "SetNotification",
    notifications.SetNotificationRequest,
    notifications.SetNotificationResponse,
    is_write=True,
)
GET_NOTIFICATION = Method(
    _SERVICE, "GetNotification", notifications.GetNotificationRequest, notifications.GetNotificationResponse
)
LIST_NOTIFICATIONS = Method(
    _SERVICE, "ListNotifications", notifications.ListNotificationsRequest, notifications.ListNotificationsResponse
)
DELETE_NOTIFICATION = Method(
    _SERVICE,
    "DeleteNotification",
    notifications.DeleteNotificationRequest,
    notifications.DeleteNotificationResponse,
    is_write=True,
)
LIST_DELIVERIES = Method(
    _SERVICE, "ListDeliveries", notifications.ListDeliveriesRequest, notifications.ListDeliveriesResponse
)
TEST_NOTIFICATION = Method(
    _SERVICE, "TestNotification", notifications.TestNotificationRequest, notifications.TestNotificationResponse
)
CLUSTER = "cluster"


def set_notification(namespace: str, rule: NotificationRule, *, request_id: str = "") -> Call[NotificationRule]:
    """Creates a rule or replaces it, and returns it as stored. With an `etag`, Conflict if it has changed."""
    request = notifications.SetNotificationRequest(rule=rule, request_id=request_id_or_new(request_id))
    request.rule.name = names.notification_name(rule.name, namespace)
    return Call(SET_NOTIFICATION, request, _rule)


def get_notification(namespace: str, name: str) -> Call[NotificationRule]:
    """Reads a rule. NotFound if there is none."""
    request = notifications.GetNotificationRequest(name=names.notification_name(name, namespace))
    return Call(GET_NOTIFICATION, request, _rule)


def list_notifications(namespace: str, *, parent: str = "", page_size: int = PAGE_SIZE) -> Pages[NotificationRule]:
    """Rules by name, page after page. `parent="-"` lists those of all namespaces and of the cluster, `"cluster"` the latter."""
    where = parent if parent == CLUSTER else names.namespace_name(parent or namespace)
    request = notifications.ListNotificationsRequest(parent=where, page_size=page_size)

    def pick(answer: notifications.ListNotificationsResponse) -> Iterable[NotificationRule]:
        return answer.rules

    return Pages(LIST_NOTIFICATIONS, request, pick)


def delete_notification(namespace: str, name: str, *, etag: str = "", request_id: str = "") -> Call[None]:
    """Deletes a rule, with what it had to tell. With `etag`, Conflict if it has changed since."""
    request = notifications.DeleteNotificationRequest(
        name=names.notification_name(name, namespace), etag=etag, request_id=request_id_or_new(request_id)
    )

    def pick(_: notifications.DeleteNotificationResponse) -> None:
        return None

    return Call(DELETE_NOTIFICATION, request, pick)


def list_deliveries(namespace: str, name: str, *, page_size: int = PAGE_SIZE) -> Pages[Delivery]:
    """What a rule has sent, newest first."""
    request = notifications.ListDeliveriesRequest(parent=names.notification_name(name, namespace), page_size=page_size)

    def pick(answer: notifications.ListDeliveriesResponse) -> Iterable[Delivery]:
        return answer.deliveries

    return Pages(LIST_DELIVERIES, request, pick)


def test_notification(namespace: str, name: str) -> Call[notifications.TestNotificationResponse]:
    """Sends a test, once, and says what came of it."""
    request = notifications.TestNotificationRequest(name=names.notification_name(name, namespace))

    def pick(answer: notifications.TestNotificationResponse) -> notifications.TestNotificationResponse:
        return answer

    return Call(TEST_NOTIFICATION, request, pick)


def _rule(
    answer: notifications.SetNotificationResponse | notifications.GetNotificationResponse,
) -> NotificationRule:
    return answer.rule
