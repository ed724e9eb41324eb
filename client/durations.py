"""Spans of time as people write them: `5s`, `1h30m`, `PT5M`, `every 5 minutes`; both ways.

Instants are in `times.py`. Everything is exact: no floating point between the text and the microsecond.
"""

from __future__ import annotations

import itertools
import re
from datetime import timedelta
from decimal import Decimal

from google.protobuf import duration_pb2

__all__ = ["FORMS", "from_proto", "parse", "render", "to_proto"]

FORMS = "write it like 5s, 1h30m, PT5M or 5 minutes"

# What a google.protobuf.Duration may hold.
_SECONDS_MAX = 315_576_000_000
_DIGITS_MAX = 32

_MICROSECONDS = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_MICROSECONDS["w"] = 7 * _MICROSECONDS["d"]

_WORDS = {
    **dict.fromkeys(("us", "µs", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "week", "weeks"), "w"),
}
_ORDER = ["w", "d", "h", "m", "s", "ms", "us"]

_NUMBER = r"(\d+(?:\.\d+)?)"
_PART = re.compile(rf"{_NUMBER}\s*([a-zµ]+)", re.ASCII)
_ISO = re.compile(
    rf"P(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?", re.ASCII | re.IGNORECASE
)


def parse(text: str) -> timedelta:
    """Reads a span of time. ValueError says what is wrong and what is allowed."""
    bare = text.strip()
    if len(bare) > 200:
        raise ValueError(f"is too long for a duration; {FORMS}")
    if bare[:1] in ("P", "p"):
        return _parse_iso(text, bare)
    lowered = bare.lower()
    if re.fullmatch(r"\d+(\.\d+)?", lowered, re.ASCII):
        raise ValueError(f"{text!r} has no unit; write for example {bare}s or {bare}m")
    if lowered[:1] in ("-", "+"):
        raise ValueError(f"{text!r} has a sign; a duration has none")
    every = re.match(r"every\s+", lowered)
    if every:
        lowered = lowered[every.end() :]
        if lowered in _WORDS:
            lowered = f"1 {lowered}"
    return _from_parts(text, _split(text, lowered))


def _split(text: str, lowered: str) -> list[tuple[str, str]]:
    parts: list[tuple[str, str]] = []
    position = 0
    while position < len(lowered):
        match = _PART.match(lowered, position)
        if match is None:
            raise ValueError(f"{text!r} is not a duration; {FORMS}")
        unit = _WORDS.get(match[2])
        if unit is None:
            raise ValueError(f"{text!r} is not a duration: the units are us, ms, s, m, h, d and w, not {match[2]!r}")
        parts.append((match[1], unit))
        position = match.end()
        gap = re.compile(r"\s*,?\s*(?:and\s+)?").match(lowered, position)
        if gap is not None and gap.end() < len(lowered):
            position = gap.end()
    if not parts:
        raise ValueError(f"is empty; {FORMS}")
    return parts


def _parse_iso(text: str, bare: str) -> timedelta:
    match = _ISO.fullmatch(bare)
    if match is None or not any(match.groups()):
        extra = ""
        if re.search(r"\d+Y|^P[^T]*\d+M", bare, re.IGNORECASE):
            extra = ": years and months have no fixed length"
        raise ValueError(f"{text!r} is not an ISO 8601 duration such as PT5M or P1DT12H{extra}")
    if bare.upper().endswith("T"):
        raise ValueError(f"{text!r} is not an ISO 8601 duration: nothing follows the T")
    units = ("w", "d", "h", "m", "s")
    return _from_parts(
        text, [(number, unit) for number, unit in zip(match.groups(), units, strict=True) if number is not None]
    )


def _from_parts(text: str, parts: list[tuple[str, str]]) -> timedelta:
    places = [_ORDER.index(unit) for _, unit in parts]
    if any(later <= earlier for earlier, later in itertools.pairwise(places)):
        raise ValueError(f"{text!r} is not a duration: larger units go first, and each only once")
    if any(len(number) > _DIGITS_MAX for number, _ in parts):
        raise ValueError(f"{text!r} has too many digits")
    microseconds = sum((Decimal(number) * _MICROSECONDS[unit] for number, unit in parts), Decimal(0))
    if microseconds != int(microseconds):
        raise ValueError(f"{text!r} is finer than a microsecond")
    if microseconds > _SECONDS_MAX * 1_000_000:
        raise ValueError(f"{text!r} is longer than 10,000 years")
    return timedelta(microseconds=int(microseconds))


def render(value: timedelta) -> str:
    """The shortest form that `parse` reads back exactly: `5s`, `1h30m`, `250ms`, `2d`."""
    microseconds = value // timedelta(microseconds=1)
    if microseconds < 0:
        return "-" + render(-value)
    if microseconds == 0:
        return "0s"
    parts = []
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, microseconds = divmod(microseconds, _MICROSECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def to_proto(value: timedelta) -> duration_pb2.Duration:
    """As it travels."""
    message = duration_pb2.Duration()
    message.FromTimedelta(value)
    return message


def from_proto(message: duration_pb2.Duration) -> timedelta:
    """As it came; nanoseconds are cut."""
    return timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
