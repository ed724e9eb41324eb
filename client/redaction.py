"""Secrets taken out of what a worker reports: each place where a value stands becomes `[secret NAME]`.

A value is found as it is, as each of its lines, in base64 wherever it begins in what was encoded, quoted for a URL, and escaped
for JSON. Values of fewer than four characters are left alone: they stand in everything. What a job does to a value beyond that
(reverses it, compresses it, prints it letter by letter) is not found: this is for accidents, not against thieves.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

VALUE_LENGTH_MIN = 4
LINE_LENGTH_MIN = 8
"""Shorter lines of a value with several, such as a brace, stand in much that is no secret."""
BASE64_WIDTHS = (64, 76)
"""Where openssl and base64 end their lines."""
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
URL_KEEPS = (
    *("", "/", "/:@!$&'()*+,;=", "/:@!$&'()*+,;=?", "!'()*"),
    *("".join(sorted(set(_PRINTABLE) - set(quoted))) for quoted in ('"#<>?`{}', '"#<>?^`{}', '"#<>', "\"#<>'")),
)
"""What is left unquoted in a URL: by Python, by RFC 3986 in paths and queries, by JavaScript, and by browsers and httpx."""
_PERCENT = re.compile("%[0-9A-F]{2}")


class Redactor:
    """The secrets of one attempt, by their names."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        # The longest first: where two begin at one place the larger one names it.
        forms = {form: name for name, value in sorted(secrets.items()) for form in _forms(value)}
        self.forms = [(form, f"[secret {forms[form]}]".encode()) for form in sorted(forms, key=len, reverse=True)]

    def text(self, text: str) -> str:
        """The text without the secrets."""
        if not self.forms:
            return text
        # What is no text cannot come from a secret, and is kept as it is.
        encoded = text.encode("utf-8", "surrogatepass")
        return self.data(encoded).decode("utf-8", "surrogatepass")

    def data(self, data: bytes) -> bytes:
        """The bytes without the secrets."""
        stream = self.stream()
        return stream.feed(data) + stream.end()

    def json_value(self, value: Any) -> Any:
        """A JSON value without the secrets; a number that shows one becomes a text."""
        if isinstance(value, Mapping):
            return {self.text(name): self.json_value(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.json_value(item) for item in value]
        if isinstance(value, str):
            return self.text(value)
        shown = json.dumps(value)
        redacted = self.text(shown)
        return value if redacted == shown else redacted

    def stream(self) -> RedactedStream:
        """For output that comes in pieces."""
        return RedactedStream(self)


class RedactedStream:
    """One stream of output, whose pieces may cut a value anywhere."""

    def __init__(self, redactor: Redactor) -> None:
        self._forms = redactor.forms
        self._held = b""
        """What may be the beginning of a value: less than the longest form."""
        self._told = 0
        """So many of the first bytes held belong to a value that was replaced already."""

    def feed(self, data: bytes) -> bytes:
        """The next piece; what may be the beginning of a value is held back until more comes."""
        return self._release(self._held + data, whole=False)

    def end(self) -> bytes:
        """What was held back."""
        return self._release(self._held, whole=True)

    def _release(self, data: bytes, *, whole: bool) -> bytes:
        end = len(data) if whole else self._first_beginning(data)
        pieces = []
        position = 0
        for start, stop, mark in self._places(data):
            if start >= end:
                break
            pieces.append(data[position:start])
            if start or not self._told:
                pieces.append(mark)
            position = stop
        pieces.append(data[position:end])
        self._held, self._told = data[end:], max(max(position, self._told) - end, 0)
        return b"".join(pieces)

    def _first_beginning(self, data: bytes) -> int:
        """Where the first form begins of which only a part is there; the length if none does."""
        first = len(data)
        for form, _ in self._forms:
            start = max(len(data) - len(form) + 1, 0)
            while (start := data.find(form[:VALUE_LENGTH_MIN], start)) >= 0 and start < first:
                if form.startswith(data[start:]):
                    first = start
                    break
                start += 1
            # And what is shorter than that.
            for start in range(max(len(data) - VALUE_LENGTH_MIN + 1, 0), first):
                if form.startswith(data[start:]):
                    first = start
                    break
        return first

    def _places(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Where values stand, from left to right; those that overlap are one."""
        found = [(0, self._told, b"")] if self._told else []
        for form, mark in self._forms:
            start = -1
            while (start := data.find(form, start + 1)) >= 0:
                found.append((start, start + len(form), mark))
        # Sorting is stable, so that the longest of those that begin together stays the first.
        found.sort(key=lambda place: place[0])
        merged: list[tuple[int, int, bytes]] = []
        for start, stop, mark in found:
            if merged and start < merged[-1][1]:
                first, last, name = merged[-1]
                merged[-1] = (first, max(last, stop), name)
            else:
                merged.append((start, stop, mark))
        return iter(merged)


def _forms(value: str) -> set[bytes]:
    """How a value may look in what a job prints."""
    # Secrets that come from files often end with a line end, which is not printed with them.
    texts = {text for text in (value, value.strip()) if len(text) >= VALUE_LENGTH_MIN}
    if not texts:
        return set()
    forms = {line for line in value.splitlines() if len(line) >= LINE_LENGTH_MIN}
    for text in texts:
        forms |= _escaped(text)
    return {form.encode("utf-8", "surrogatepass") for form in forms} | {
        form for text in texts for form in _base64(text)
    }


def _escaped(text: str) -> set[str]:
    urls = {quote(text, safe=kept, errors="replace") for kept in URL_KEEPS} | {quote_plus(text, errors="replace")}
    urls |= {_PERCENT.sub(lambda found: found[0].lower(), url) for url in urls}
    return {text, *urls, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}


def _base64(text: str) -> Iterator[bytes]:
    """The value alone, also in lines, and what is the same of it whatever stands before and after it, at each of three places."""
    value = text.encode("utf-8", "surrogatepass")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(value)
        for offset in range(3):
            first, last = (0, 2, 3)[offset], (len(value) + offset) * 8 // 6
            if last - first >= VALUE_LENGTH_MIN:
                yield encode(b"\0" * offset + value)[first:last]
    encoded = base64.b64encode(value)
    for width in BASE64_WIDTHS:
        if len(encoded) > width:
            lines = (encoded[start : start + width] for start in range(0, len(encoded), width))
            yield from (line for line in lines if len(line) >= LINE_LENGTH_MIN)
