"""Notification rules and deliveries as plain data, as `records.py` has the other messages of the API."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from horologe.client import durations, names, times, words
from horologe.client.records import Record
from horologe.v1.execution_pb2 import Execution
from horologe.v1.notification_pb2 import Delivery, Notice, NotificationEvent, NotificationRule

__all__ = ["delivery", "notice", "rule"]


def rule(message: NotificationRule) -> Record:
    """A rule, and how it stands."""
    return {
        "name": message.name,
        "id": names.short_name(message.name),
        "etag": message.etag,
        "description": message.description,
        "events": [words.render(NotificationEvent, event) for event in message.events],
        "jobs": list(message.jobs),
        "labels": dict(message.labels),
        "late_after": durations.render(durations.from_proto(message.late_after))
        if message.HasField("late_after")
        else None,
        "channel": message.WhichOneof("channel") or "",
        "receiver": receiver(message),
        "group_by": words.render(NotificationRule.GroupBy, message.group_by),
        "group_window": durations.render(durations.from_proto(message.group_window)),
        "max_per_hour": message.max_per_hour,
        "disabled": message.disabled,
        "pending_count": message.pending_count,
        "held_back_count": message.held_back_count,
        "last_error": message.last_error,
        "create_time": _time(message.create_time),
        "update_time": _time(message.update_time),
    }


def receiver(message: NotificationRule) -> str:
    """Where it goes, in one line."""
    match message.WhichOneof("channel"):
        case "webhook":
            return message.webhook.url or f"secret {message.webhook.url_secret}"
        case "slack":
            return f"secret {message.slack.url_secret}"
    return ", ".join(message.email.to)


def delivery(message: Delivery) -> Record:
    """What was sent, or could not be."""
    return {
        "name": message.name,
        "id": message.id,
        "outcome": words.render(Delivery.Outcome, message.outcome),
        "time": _time(message.time),
        "notice_count": message.notice_count,
        "notices": [notice(each) for each in message.notices],
        "attempt_count": message.attempt_count,
        "error": message.error,
        "held_back": message.held_back,
        "test": message.test,
    }


def notice(message: Notice) -> Record:
    """One thing that happened."""
    return {
        "event": words.render(NotificationEvent, message.event),
        "time": _time(message.time),
        "job": message.job,
        "execution": message.execution,
        "due_time": _time(message.due_time) if message.HasField("due_time") else None,
        "state": words.render(Execution.State, message.state),
        "fingerprint": message.fingerprint,
        "missed_count": message.missed_count,
        "worker": message.worker,
        "members": list(message.members),
    }


def _time(moment: Timestamp) -> str:
    return times.render(moment)
