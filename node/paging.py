"""Pages of lists: their sizes, and the tokens that lead from one to the next.

A token holds the key where the next page begins, and a hash of it and of the request's other fields. It is not secret and not
signed: who computes one reads nothing that a list would not show; who makes one up, or changes one, is told so.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json

from google.protobuf.message import Message

from horologe.node import errors

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000
SCAN_ROWS_MAX = 5_000
"""Rows that one call looks at; with a filter that finds little, a page may be short or empty and still have a next one."""


def page_size(request: Message, default: int = PAGE_SIZE_DEFAULT) -> int:
    """The `page_size` of a list request: 0 is the default, too many are cut. Raises an ApiError if it is negative."""
    return clamp_count(getattr(request, "page_size"), "page_size", default)  # noqa: B009 - not on Message


def clamp_count(value: int, field: str, default: int) -> int:
    """A count from a request: 0 is the default, too many are cut to 1,000."""
    if value < 0:
        raise errors.invalid_field(field, f"{value} is negative; use 0 for the default, or up to {PAGE_SIZE_MAX}")
    return min(value, PAGE_SIZE_MAX) or default


def next_token(request: Message, key: bytes) -> str:
    """The token of the page after the one that ended at `key`."""
    content = json.dumps([key.hex(), _hash(request, key)], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def start_key(request: Message, length: int | None = None) -> bytes | None:
    """Where the page that the request asks for begins; None for the first page.

    Raises an ApiError if the token is not ours, or belongs to a request with other fields. `length`: that of all keys of the
    list, for those who take them apart: who makes up a token can make up a key.
    """
    token: str = getattr(request, "page_token")  # noqa: B009 - not on Message
    if not token:
        return None
    try:
        content = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        key, known_hash = bytes.fromhex(content[0]), content[1]
    except (binascii.Error, ValueError, TypeError, LookupError, RecursionError):
        raise errors.invalid_field("page_token", "it is not a token that a list answered; begin without one") from None
    if known_hash != _hash(request, key) or length not in (None, len(key)):
        raise errors.invalid_field(
            "page_token", "it belongs to a list with other fields; send the same fields, or begin without a token"
        )
    return key


def _hash(request: Message, key: bytes) -> str:
    bare = type(request)()
    bare.CopyFrom(request)
    for field in ("page_token", "page_size"):
        bare.ClearField(field)
    content = key + bare.DESCRIPTOR.full_name.encode() + bare.SerializeToString(deterministic=True)
    return hashlib.sha256(content).hexdigest()[:16]
