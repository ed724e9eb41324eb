"""Tokens of pages: whatever a caller sends, it is one that a list answered, or it is refused."""

from __future__ import annotations

import base64
import json

import pytest

from horologe.node.errors import ApiError
from horologe.node.paging import next_token, start_key
from horologe.v1.execution_service_pb2 import ListExecutionsRequest

KEY = b"\0\0\0\0\0\0\0\7"
ASKED = ListExecutionsRequest(parent="namespaces/default/jobs/-", owner="ann")


def with_token(token: str, owner: str = "ann") -> ListExecutionsRequest:
    return ListExecutionsRequest(parent=ASKED.parent, owner=owner, page_token=token, page_size=7)


def encoded(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def test_a_token_leads_on_whatever_the_size_of_the_next_page() -> None:
    assert start_key(with_token(next_token(ASKED, KEY))) == KEY
    assert start_key(ASKED) is None


def test_a_token_of_another_list_is_refused() -> None:
    with pytest.raises(ApiError, match="other fields"):
        start_key(with_token(next_token(ASKED, KEY), owner="bob"))


@pytest.mark.parametrize("key", [b"", b"\0", KEY[1:], KEY + b"\0", b"\xff" * 600])
def test_a_key_that_somebody_made_up_is_refused(key: bytes) -> None:
    """A list may rely on the form of its keys."""
    known = json.loads(base64.urlsafe_b64decode(next_token(ASKED, KEY) + "=="))
    with pytest.raises(ApiError, match="page_token"):
        start_key(with_token(encoded([key.hex(), known[1]])))


@pytest.mark.parametrize(
    "token", ["x", "=", "\0", "€", encoded(7), encoded([]), encoded({}), encoded(["zz", ""]), "W1tb" * 30_000]
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(ApiError, match="page_token"):
        start_key(with_token(token))
