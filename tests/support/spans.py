"""Times and spans in scenario files: `90s`, `1m`, and instants counted from the start of a story."""

from __future__ import annotations

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def ms_of(text: str) -> int:
    number = text.rstrip("msdh")
    return int(number) * _UNITS[text[len(number) :]]


def time_of(milliseconds: int) -> str:
    """As hours, minutes and seconds from the start."""
    seconds, rest = divmod(milliseconds, 1000)
    text = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{rest:03}" if rest else text
