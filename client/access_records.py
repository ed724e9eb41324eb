"""Tokens, grants, principals and secrets as plain data, as `records.py` has the other messages of the API."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from horologe.client import names, times, words
from horologe.client.records import Record
from horologe.v1.access_pb2 import Grant, Principal, Role, Token
from horologe.v1.access_service_pb2 import WhoAmIResponse
from horologe.v1.secret_service_pb2 import Secret

__all__ = ["grant", "principal", "secret", "token", "who"]


def token(message: Token) -> Record:
    """What may be known of a token."""
    return {
        "name": message.name,
        "id": names.short_name(message.name),
        "prefix": message.prefix,
        "principal": message.principal,
        "description": message.description,
        "namespaces": list(message.namespaces),
        "role": words.render(Role, message.role),
        "verbs": list(message.verbs),
        "create_time": _time(message, "create_time", message.create_time),
        "expire_time": _time(message, "expire_time", message.expire_time),
        "last_use_time": _time(message, "last_use_time", message.last_use_time),
        "revoked": message.revoked,
    }


def grant(message: Grant) -> Record:
    """Who may do what in a namespace; `*` is everywhere."""
    return {
        "subject": message.subject,
        "namespace": message.namespace,
        "role": words.render(Role, message.role),
        "verbs": list(message.verbs),
        "update_time": _time(message, "update_time", message.update_time),
    }


def principal(message: Principal) -> Record:
    """Somebody whom the cluster knows."""
    return {
        "name": message.name,
        "disabled": message.disabled,
        "groups": list(message.groups),
        "job_count": message.job_count,
    }


def who(message: WhoAmIResponse) -> Record:
    """The caller, as the cluster sees it."""
    return {
        "principal": message.principal,
        "method": message.method,
        "groups": list(message.groups),
        "grants": [grant(entry) for entry in message.grants],
        "token": token(message.token) if message.HasField("token") else None,
    }


def secret(message: Secret) -> Record:
    """What may be known of a secret."""
    return {
        "name": names.short_name(message.name),
        "namespace": names.namespace_id(message.name),
        "version": message.version,
        "job_count": message.job_count,
        "create_time": _time(message, "create_time", message.create_time),
        "update_time": _time(message, "update_time", message.update_time),
    }


def _time(message: Token | Grant | Secret, field: str, value: Timestamp) -> str | None:
    return times.render(value) if message.HasField(field) else None  # type: ignore[arg-type]
