"""Tokens, grants and principals as the API shows them. A token's hash is nowhere in it."""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.node import tokens
from horologe.node.views import timestamp
from horologe.v1 import access_pb2


def token_view(record: log_pb2.TokenRecord) -> access_pb2.Token:
    """One token, without its secret."""
    made = record.token
    view = access_pb2.Token(
        name=tokens.RESOURCE + made.id,
        prefix=tokens.PREFIX + made.id,
        principal=made.principal,
        description=made.description,
        namespaces=made.namespaces,
        role=made.role,
        verbs=made.verbs,
        create_time=timestamp(record.create_time_ms),
        revoked=record.revoked,
    )
    if made.expire_time_ms:
        view.expire_time.CopyFrom(timestamp(made.expire_time_ms))
    if record.last_use_time_ms:
        view.last_use_time.CopyFrom(timestamp(record.last_use_time_ms))
    return view


def grant_view(record: log_pb2.GrantRecord) -> access_pb2.Grant:
    """One grant."""
    view = access_pb2.Grant()
    view.CopyFrom(record.grant)
    view.update_time.CopyFrom(timestamp(record.update_time_ms))
    return view


def principal_view(name: str, record: log_pb2.PrincipalRecord) -> access_pb2.Principal:
    """One principal."""
    return access_pb2.Principal(name=name, disabled=record.disabled, groups=record.groups, job_count=record.job_count)
