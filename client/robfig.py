"""Expressions of Go's `robfig/cron` with seconds, which Dkron reads, in the dialect `unix-seconds-first`, meaning the same.

They differ in three things: `?` is `*`, `5/15` goes on to the field's end, and `*/2` in a day field counts as restricted, so that
it must not begin with a star here. Whether an expression is a good one, the cluster says.
"""

from __future__ import annotations

__all__ = ["to_seconds_first"]

_ENDS = (59, 59, 23, 31, 12, 6)
_FIRSTS = (0, 0, 0, 1, 1, 0)
_DAYS = (3, 5)


def to_seconds_first(text: str) -> str:
    """The same six fields, as Horologe reads them. ValueError when they are not six."""
    fields = text.split()
    if len(fields) != 6:
        raise ValueError(f"{text!r} has {len(fields)} fields; six are needed, seconds first")
    return " ".join(_field(position, field) for position, field in enumerate(fields))


def _field(position: int, text: str) -> str:
    return ",".join(_item(position, item) for item in text.split(","))


def _item(position: int, item: str) -> str:
    if item == "?":
        return "*"
    span, slash, step = item.partition("/")
    if not slash or (step == "1" and span in ("*", "?")):
        return "*" if slash else item
    if span in ("*", "?"):
        return f"{_FIRSTS[position]}-{_ENDS[position]}/{step}" if position in _DAYS else f"*/{step}"
    return item if "-" in span else f"{span}-{_ENDS[position]}/{step}"
