"""What a notification rule may say: its defaults are written out, and everything that is wrong with it is named.

Whether the secrets that it names exist, the state knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from horologe.node.errors import ApiError
from horologe.node.names import is_id, read_secret_name, shorten
from horologe.node.notice_finder import LATE, LATE_AFTER_MS, OF_CLUSTER
from horologe.node.schedule import Violation
from horologe.raft.access import EVERYWHERE
from horologe.raft.notices import PER_HOUR_DEFAULT, SENT_MAX
from horologe.raft.notifications import scope_of
from horologe.v1 import notification_pb2
from horologe.v1.notification_pb2 import NotificationRule

DESCRIPTION_BYTES_MAX = 4_096
PATTERNS_MAX = 50
PATTERN_LENGTH_MAX = 100
LABELS_MAX = 64
LABEL_LENGTH_MAX = 256
URL_LENGTH_MAX = 2_048
RECEIVERS_MAX = 20
ADDRESS_LENGTH_MAX = 254
GROUP_WINDOW_MS_MAX = 86_400_000
LATE_MS_MAX = 366 * 86_400_000
_PATTERN = re.compile(r"[a-z0-9*-]+")
_ADDRESS = re.compile(r"[^\s@<>,;:\"()\[\]\\\x00-\x1f\x7f]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


def complete_rule(rule: NotificationRule, path: str) -> tuple[NotificationRule, list[Violation]]:
    """The rule as it is stored, with its defaults, and all that is wrong with it; its name is a checked one."""
    complete = NotificationRule()
    complete.CopyFrom(rule)
    for field in ("etag", "create_time", "update_time", "pending_count", "held_back_count", "last_error"):
        complete.ClearField(field)
    complete.events[:] = sorted(set(rule.events))
    complete.group_by = rule.group_by or NotificationRule.GROUP_BY_JOB
    complete.max_per_hour = rule.max_per_hour or PER_HOUR_DEFAULT
    if LATE in rule.events and not rule.HasField("late_after"):
        complete.late_after.FromMilliseconds(LATE_AFTER_MS)
    return complete, [*_violations(complete, path), *_channel_violations(complete, path)]


def _violations(rule: NotificationRule, path: str) -> Iterator[Violation]:
    size = len(rule.description.encode())
    if size > DESCRIPTION_BYTES_MAX:
        yield Violation(f"{path}.description", f"{size} bytes are too many; at most {DESCRIPTION_BYTES_MAX} are kept")
    yield from _event_violations(rule, path)
    if len(rule.jobs) > PATTERNS_MAX:
        yield Violation(f"{path}.jobs", f"{len(rule.jobs)} are too many; at most {PATTERNS_MAX}")
    for position, text in enumerate(rule.jobs):
        if not _PATTERN.fullmatch(text) or len(text) > PATTERN_LENGTH_MAX:
            yield Violation(
                f"{path}.jobs[{position}]", f"{shorten(text)} fits no job's id; write an id, with * for any characters"
            )
    if len(rule.labels) > LABELS_MAX:
        yield Violation(f"{path}.labels", f"{len(rule.labels)} are too many; a job has at most {LABELS_MAX}")
    for key, value in rule.labels.items():
        if not key or max(len(key), len(value)) > LABEL_LENGTH_MAX:
            yield Violation(f"{path}.labels", f"{shorten(key)} is no label of a job")
    if rule.group_by not in NotificationRule.GroupBy.values():
        yield Violation(f"{path}.group_by", f"{rule.group_by} is not known")
    if not 0 <= rule.max_per_hour <= SENT_MAX:
        yield Violation(f"{path}.max_per_hour", f"{rule.max_per_hour} is not from 1 to {SENT_MAX}")
    for field, most in (("group_window", GROUP_WINDOW_MS_MAX), ("late_after", LATE_MS_MAX)):
        yield from _span_violations(rule, field, most, path)


def _event_violations(rule: NotificationRule, path: str) -> Iterator[Violation]:
    if not rule.events:
        yield Violation(f"{path}.events", "it is empty; say of what the rule tells")
    known = notification_pb2.NotificationEvent.values()
    for event in rule.events:
        if not event or event not in known:
            yield Violation(f"{path}.events", f"{event} is not known")
        elif event in OF_CLUSTER and scope_of(rule.name) != EVERYWHERE:
            word = notification_pb2.NotificationEvent.Name(event)
            yield Violation(f"{path}.events", f"{word} is for rules of the cluster: notifications/RULE")


def _span_violations(rule: NotificationRule, field: str, most_ms: int, path: str) -> Iterator[Violation]:
    try:
        span_ms = getattr(rule, field).ToMilliseconds()
    except ValueError as error:
        yield Violation(f"{path}.{field}", str(error))
        return
    if not 0 <= span_ms <= most_ms or getattr(rule, field).nanos < 0:
        yield Violation(f"{path}.{field}", f"{span_ms / 1000:g} s is not from 0 to {most_ms // 1000} s")


def _channel_violations(rule: NotificationRule, path: str) -> Iterator[Violation]:
    match rule.WhichOneof("channel"):
        case "webhook":
            hook = rule.webhook
            if bool(hook.url) == bool(hook.url_secret):
                yield Violation(f"{path}.webhook.url", "say where it goes: either by url or by url_secret")
            if hook.url and (not _is_url(hook.url) or len(hook.url) > URL_LENGTH_MAX):
                yield Violation(
                    f"{path}.webhook.url", "it is not one of https or http with a host, without a user and a password"
                )
            for field in ("url_secret", "signing_secret"):
                yield from _secret_violations(rule, getattr(hook, field), f"{path}.webhook.{field}")
        case "slack":
            if not rule.slack.url_secret:
                yield Violation(f"{path}.slack.url_secret", "it is empty; the URL of a Slack webhook is a secret")
            yield from _secret_violations(rule, rule.slack.url_secret, f"{path}.slack.url_secret")
        case "email":
            yield from _mail_violations(rule, path)
        case _:
            yield Violation(f"{path}.channel", "say where it goes: webhook, slack or email")


def _mail_violations(rule: NotificationRule, path: str) -> Iterator[Violation]:
    if not 1 <= len(rule.email.to) <= RECEIVERS_MAX:
        yield Violation(f"{path}.email.to", f"{len(rule.email.to)} addresses; it has 1 to {RECEIVERS_MAX}")
    for position, text in enumerate(rule.email.to):
        if not _ADDRESS.fullmatch(text) or len(text) > ADDRESS_LENGTH_MAX:
            yield Violation(f"{path}.email.to[{position}]", f"{shorten(text)} is no mail address, like ops@example.com")


def _secret_violations(rule: NotificationRule, text: str, path: str) -> Iterator[Violation]:
    if not text:
        return
    if scope_of(rule.name) != EVERYWHERE:
        if not is_id(text):
            yield Violation(path, f"{shorten(text)} is no id of a secret of the rule's namespace")
        return
    try:
        read_secret_name(text, path)
    except ApiError as error:
        yield Violation(path, f"a rule of the cluster names a secret in full: {error}")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("https", "http") and bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        return False
