"""Notification rules: who is told of what. Set, deleted, found; what they tell, and what has come of it, is in notices.py.

A rule belongs to a namespace, or to the cluster: then it hears of all namespaces, of workers and of the quorum. It names the
secrets that it needs; a secret stays as long as a rule names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from horologe.log.v1 import log_pb2
from horologe.raft.access import EVERYWHERE
from horologe.raft.limits import namespace_of
from horologe.raft.model import Code, Result
from horologe.raft.notices import begin_anew, forget_rule
from horologe.raft.records import U64
from horologe.raft.state import State
from horologe.raft.tables import Tables
from horologe.v1 import notification_pb2

CLUSTER_PREFIX = "notifications/"
"""Of the names of the cluster's own rules."""
RULES_MAX = 100
"""Of a namespace, and of the cluster."""
CHANGED_KEY = b"notification_changed"
"""In the meta table: the entry that changed a rule last. Who has read the rules since need not read them again."""
_LAST_KEY = b"last_notification"


def set_notification(state: State, command: log_pb2.SetNotification) -> Result:
    """Creates or replaces it. Answers (rule,)."""
    name = command.rule.name
    record = find_rule(state.tables, name)
    if command.expected_revision and (record is None or record.revision != command.expected_revision):
        return Result(Code.ETAG_MISMATCH, text=name)
    for secret in secret_names(command.rule):
        if state.tables.secret.get(secret.encode()) is None:
            return Result(Code.SECRET_NOT_FOUND, text=secret)
    if record is None:
        if _is_full(state.tables, name):
            return Result(
                Code.QUOTA_EXCEEDED, text=f"a namespace, and the cluster, have at most {RULES_MAX} notification rules"
            )
        record = log_pb2.NotificationRecord(id=_next_id(state), create_time_ms=state.now_ms)
    elif record.rule == command.rule:
        return Result(Code.OK, (record.id,))
    if not command.rule.disabled and (not record.revision or record.rule.disabled):
        # What happened before is none of its business.
        record.begin_revision = state.index
        if not any(not other.rule.disabled for other in rules(state.tables)):
            begin_anew(state)
    record.rule.CopyFrom(command.rule)
    record.revision = state.index
    record.update_time_ms = state.now_ms
    state.tables.notification.put(name.encode(), record.SerializeToString(deterministic=True))
    state.tables.meta.put(CHANGED_KEY, U64.pack(state.index))
    return Result(Code.OK, (record.id,))


def delete_notification(state: State, command: log_pb2.DeleteNotification) -> Result:
    """Deletes it, with all that it had to tell and has told."""
    record = find_rule(state.tables, command.name)
    if record is None:
        return Result(Code.NOTIFICATION_NOT_FOUND, text=command.name)
    if command.expected_revision and record.revision != command.expected_revision:
        return Result(Code.ETAG_MISMATCH, text=command.name)
    state.tables.notification.delete(command.name.encode())
    forget_rule(state, record.id)
    state.tables.meta.put(CHANGED_KEY, U64.pack(state.index))
    return Result(Code.OK)


def find_rule(tables: Tables, name: str) -> log_pb2.NotificationRecord | None:
    raw = tables.notification.get(name.encode())
    return None if raw is None else log_pb2.NotificationRecord.FromString(bytes(raw))


def rules(tables: Tables, prefix: str = "") -> Iterator[log_pb2.NotificationRecord]:
    """All rules whose names begin so, by name."""
    for key, raw in tables.notification.scan(prefix.encode()):
        if not bytes(key).startswith(prefix.encode()):
            return
        yield log_pb2.NotificationRecord.FromString(bytes(raw))


def changed_at(tables: Tables) -> int:
    """The entry that changed a rule last; 0: there never was one."""
    raw = tables.meta.get(CHANGED_KEY)
    return 0 if raw is None else int(U64.unpack(raw)[0])


def scope_of(name: str) -> str:
    """The namespace in a rule's name, or EVERYWHERE."""
    return EVERYWHERE if name.startswith(CLUSTER_PREFIX) else namespace_of(name)


def is_rule_name(name: str) -> bool:
    """Whether the name says where the rule belongs."""
    parts = name.split("/")
    return parts[:-1] == ["notifications"] or (
        len(parts) == 4 and (parts[0], parts[2]) == ("namespaces", "notifications")
    )


def prefix_of(scope: str) -> str:
    """How the names of all rules of a namespace begin, or those of the cluster's own."""
    return CLUSTER_PREFIX if scope == EVERYWHERE else f"namespaces/{scope}/notifications/"


def secret_names(rule: notification_pb2.NotificationRule) -> Iterator[str]:
    """The full names of all secrets that a rule needs."""
    kind = rule.WhichOneof("channel")
    named = (rule.slack.url_secret,) if kind == "slack" else (rule.webhook.url_secret, rule.webhook.signing_secret)
    yield from (full_secret_name(rule.name, text) for text in named if text)


def full_secret_name(rule_name: str, text: str) -> str:
    """Of a secret as a rule names it: by its id in the rule's own namespace; rules of the cluster name it in full."""
    return text if scope_of(rule_name) == EVERYWHERE else f"namespaces/{scope_of(rule_name)}/secrets/{text}"


def names_secret(tables: Tables, secret: str) -> bool:
    """Whether a rule needs the secret: one of its namespace, or one of the cluster."""
    prefixes = (prefix_of(namespace_of(secret)), CLUSTER_PREFIX)
    return any(secret in secret_names(record.rule) for prefix in prefixes for record in rules(tables, prefix))


def _is_full(tables: Tables, name: str) -> bool:
    prefix = prefix_of(scope_of(name))
    return next(islice(rules(tables, prefix), RULES_MAX - 1, None), None) is not None


def _next_id(state: State) -> int:
    raw = state.tables.meta.get(_LAST_KEY)
    number = 1 + (0 if raw is None else int(U64.unpack(raw)[0]))
    state.tables.meta.put(_LAST_KEY, U64.pack(number))
    return number
