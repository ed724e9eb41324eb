"""Secrets are taken out of what a worker reports, in every form and wherever a piece ends."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horologe.client.redaction import Redactor

VALUE = 's3cr&t/ "ünder" k?y+'
MARK = "[secret db-password]"


def redactor(**secrets: str) -> Redactor:
    return Redactor({name.replace("_", "-"): value for name, value in secrets.items()})


ONE = redactor(db_password=VALUE)


@pytest.mark.parametrize(
    "form",
    [
        VALUE,
        urllib.parse.quote(VALUE),
        urllib.parse.quote(VALUE, safe=""),
        urllib.parse.quote_plus(VALUE),
        re.sub("%..", lambda found: found[0].lower(), urllib.parse.quote(VALUE, safe="")),
        json.dumps(VALUE)[1:-1],
        json.dumps(VALUE, ensure_ascii=False)[1:-1],
        base64.b64encode(VALUE.encode()).decode(),
        base64.urlsafe_b64encode(VALUE.encode()).decode(),
    ],
)
def test_a_value_is_found_in_every_form(form: str) -> None:
    found = ONE.text(f"before {form} after")
    assert found.startswith("before [secret db-password]") and found.endswith(" after")
    assert len(found) <= len(f"before {MARK} after"), found


@given(before=st.binary(max_size=9), after=st.binary(max_size=9), url=st.booleans())
def test_base64_is_found_wherever_the_value_begins_in_it(before: bytes, after: bytes, url: bool) -> None:
    encode = base64.urlsafe_b64encode if url else base64.b64encode
    found = ONE.data(encode(before + VALUE.encode() + after))
    assert MARK.encode() in found
    left = found.replace(MARK.encode(), b"")
    # What is left are the neighbours, and at most a character at each side that the value shares with them.
    assert len(left) <= len(encode(before)) + len(encode(after)) + 2


@given(st.data())
def test_a_value_is_found_wherever_the_pieces_are_cut(data: st.DataObject) -> None:
    secrets = data.draw(st.dictionaries(st.sampled_from("abc"), st.text("xyz", min_size=4, max_size=8), min_size=1))
    parts = data.draw(st.lists(st.one_of(st.sampled_from(sorted(secrets.values())), st.text("xyz-", max_size=5))))
    text = "".join(parts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    one = Redactor(secrets)
    stream = one.stream()
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    found = b"".join(stream.feed(piece) for piece in pieces) + stream.end()
    assert found == one.data(text)
    # Nothing of a value is left: each byte of the text is either outside of all values, or was replaced.
    covered = [False] * len(text)
    for value in secrets.values():
        start = -1
        while (start := text.find(value.encode(), start + 1)) >= 0:
            covered[start : start + len(value)] = [True] * len(value)
    kept = bytes(byte for byte, inside in zip(text, covered, strict=True) if not inside)
    marked = found
    for name in secrets:
        marked = marked.replace(f"[secret {name}]".encode(), b"")
    assert marked == kept


def test_only_what_may_be_the_beginning_of_a_value_waits() -> None:
    stream = redactor(token="abcdefgh").stream()
    assert stream.feed(b"nothing ab") == b"nothing "
    assert stream.feed(b"c") == b""
    assert stream.feed(b"ddd\n") == b"abcddd\n"
    assert stream.feed(b"abcdefgh") == b"[secret token]"
    assert stream.feed(b"abc") == b""
    assert stream.end() == b"abc"


def test_what_waits_stays_small_whatever_is_printed() -> None:
    stream = redactor(token="aaaa").stream()
    found = b"".join(stream.feed(b"a" * 1000) for _ in range(100)) + stream.end()
    assert found == b"[secret token]"
    assert len(stream._held) == 0


def test_short_values_are_left_alone() -> None:
    assert redactor(pin="123").text("123 and more") == "123 and more"
    assert redactor(pin="1234").text("1234 and more") == "[secret pin] and more"


def test_each_line_of_a_value_and_the_value_without_its_line_end() -> None:
    key = "-----BEGIN KEY-----\nMIIBVAIBADANBg\n}\n-----END KEY-----\n"
    one = redactor(key=key)
    assert one.text("log: MIIBVAIBADANBg is {}") == "log: [secret key] is {}"
    assert one.text(f"<{key.strip()}>") == "<[secret key]>"


def test_base64_in_lines() -> None:
    value = "0123456789" * 20
    found = redactor(long=value).data(base64.encodebytes(value.encode()))
    assert found.replace(b"[secret long]", b"").strip() == b""


def test_json_values_with_their_keys_and_numbers() -> None:
    one = redactor(word="hunter2", pin="12345")
    value = {"hunter2": ["a hunter2", 12345, 1.5, True, None], "plain": {"x": "y"}}
    assert one.json_value(value) == {
        "[secret word]": ["a [secret word]", "[secret pin]", 1.5, True, None],
        "plain": {"x": "y"},
    }


def test_without_secrets_everything_stays() -> None:
    assert Redactor({}).text("\ud800 text") == "\ud800 text"
    assert redactor(a="odd").forms == []
