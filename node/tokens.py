"""Tokens of the API: what they look like, how they are made, and what is kept of them.

A token is `hlg_ID_SECRET`: the beginning is for programs that look for secrets in the wrong places, the id is in lists and
in the audit log, and the secret is shown once. Only its hash is ever stored; 256 random bits need no salt.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import NamedTuple

from horologe.log.v1 import log_pb2

PREFIX = "hlg_"
SECRET_BYTES = 32
ID_DIGITS = 16
_ID = re.compile(r"[0-9a-f]{16}")
_TOKEN = re.compile(r"hlg_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
RESOURCE = "tokens/"


class Presented(NamedTuple):
    """A token as somebody came with it."""

    id: str
    hash: bytes


def make(seed: bytes = b"") -> tuple[str, str]:
    """An id and the whole token. The same seed gives the same id, so that a repeated request finds what the first one made; the
    secret is always a new one."""
    id_ = hashlib.sha256(b"token\0" + (seed or secrets.token_bytes(SECRET_BYTES))).hexdigest()[:ID_DIGITS]
    return id_, f"{PREFIX}{id_}_{secrets.token_urlsafe(SECRET_BYTES)}"


def read(text: str) -> Presented | None:
    """None if it is no token of ours."""
    found = _TOKEN.fullmatch(text)
    return None if found is None else Presented(found[1], hash_of(text))


def hash_of(token: str) -> bytes:
    """What the state keeps: SHA-256 over the id and the secret."""
    _, id_, secret = token.split("_", 2)
    return hashlib.sha256((id_ + secret).encode()).digest()


def is_id(text: str) -> bool:
    """Whether a token can have this id."""
    return _ID.fullmatch(text) is not None


def command(id_: str, token: str, principal: str, expire_time_ms: int, description: str = "") -> log_pb2.PutToken:
    """What makes the token known to the cluster."""
    return log_pb2.PutToken(
        id=id_, hash=hash_of(token), principal=principal, description=description, expire_time_ms=expire_time_ms
    )
