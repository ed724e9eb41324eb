"""Instants as people write them (RFC 3339) and as they are shown (UTC, milliseconds).

Spans of time are in `durations.py`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from google.protobuf import timestamp_pb2

from horologe.client import durations

__all__ = ["moment", "parse", "render", "to_proto", "zone"]

_RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?\s*([Zz]|[+-]\d\d:\d\d)?", re.ASCII
)


def zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name. ValueError when there is none of that name."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is not a time zone; use an IANA name such as Europe/Berlin or UTC") from error


def parse(text: str, time_zone: str = "") -> datetime:
    """Reads an instant; a local time needs `time_zone`. ValueError says what is wrong.

    A local time that daylight saving repeats is the first of the two; one that it leaves out is refused.
    """
    match = _RFC_3339.fullmatch(text.strip())
    if match is None or match[4] is None:
        raise ValueError(f"{text!r} is not an instant; write it like 2027-01-01T00:00:00Z")
    offset = match[8]
    iso = f"{match[1]}-{match[2]}-{match[3]}T{match[4]}:{match[5]}:{match[6] or '00'}"
    microseconds = int((match[7] or "0").ljust(6, "0")[:6])
    try:
        naive = datetime.fromisoformat(iso).replace(microsecond=microseconds)
        if offset is not None:
            suffix = "+00:00" if offset in "Zz" else offset
            return datetime.fromisoformat(iso + suffix).replace(microsecond=microseconds).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not an instant: {error}") from error
    if not time_zone:
        raise ValueError(f"{text!r} is a local time: add Z or an offset such as +01:00, or give a time zone")
    instant = naive.replace(tzinfo=zone(time_zone)).astimezone(UTC)
    if instant.astimezone(zone(time_zone)).replace(tzinfo=None) != naive:
        raise ValueError(f"{text!r} does not exist in {time_zone}: the clocks are put forward over it")
    return instant


def moment(text: str, time_zone: str = "", now: datetime | None = None) -> datetime:
    """An instant as people at a terminal name it: `now`, `-1h` (an hour ago), `+1h`, or as `parse` reads it."""
    bare = text.strip()
    now = now or datetime.now(UTC)
    if bare == "now":
        return now
    if bare[:1] in ("-", "+"):
        span = durations.parse(bare[1:])
        try:
            return now + (span if bare[0] == "+" else -span)
        except OverflowError as error:
            raise ValueError(f"{text!r} is not an instant: no calendar goes so far") from error
    try:
        return parse(text, time_zone)
    except ValueError as error:
        raise ValueError(f"{error}; or -1h for an hour ago") from error


def to_proto(value: datetime) -> timestamp_pb2.Timestamp:
    """As it travels. A datetime without a zone is refused: it names no instant."""
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone; add one, for example datetime.now(UTC)")
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(value.astimezone(UTC))
    return message


def render(message: timestamp_pb2.Timestamp) -> str:
    """RFC 3339, UTC, with milliseconds: `2027-01-01T00:00:00.000Z`."""
    moment = message.ToDatetime()
    return f"{moment.isoformat(timespec='milliseconds')}Z"
