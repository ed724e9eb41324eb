"""systemd's unit files: sections, settings with the line they stand in, and the words of a command line.

Read as systemd reads them: a backslash at the end of a line goes on, an empty assignment forgets what was said before.
Spans of time, which have units of their own, are here too.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

from horologe.client.imports import Importer

__all__ = ["Setting", "Unit", "read_span", "read_unit", "split_words"]

SETTINGS_MAX = 10_000
_MICROSECONDS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
    # As systemd counts them.
    "month": 2_629_800_000_000,
    "y": 31_557_600_000_000,
}
_UNITS = {
    **dict.fromkeys(("us", "usec", "µs", "μs"), "us"),
    **dict.fromkeys(("ms", "msec"), "ms"),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hr", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "week", "weeks"), "w"),
    **dict.fromkeys(("M", "month", "months"), "month"),
    **dict.fromkeys(("y", "year", "years"), "y"),
}
_PART = re.compile(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-zµμ]*)\s*", re.ASCII)
_SECTION = re.compile(r"\[([^\[\]]+)\]")


@dataclass(frozen=True, slots=True)
class Setting:
    """One assignment."""

    line: int
    value: str


@dataclass(slots=True)
class Unit:
    """One file."""

    sections: dict[str, dict[str, list[Setting]]] = field(default_factory=dict)

    def all(self, section: str, key: str) -> list[Setting]:
        """Every assignment that counts."""
        return self.sections.get(section, {}).get(key, [])

    def last(self, section: str, key: str) -> Setting | None:
        """The assignment that counts where only one does."""
        found = self.all(section, key)
        return found[-1] if found else None


def read_unit(importer: Importer, text: str) -> Unit:
    """The settings of a file; lines that are none are problems."""
    unit = Unit()
    section = ""
    count = 0
    for number, line in _logical_lines(text):
        match = _SECTION.fullmatch(line)
        name, separator, value = line.partition("=")
        if match is not None:
            section = match[1]
        elif not separator or not name.strip():
            importer.problem(number, f"{line[:60]!r} is neither a [Section] nor Name=value")
        elif not section:
            importer.problem(number, f"{name.strip()!r} stands before the first section")
        else:
            count += 1
            settings = unit.sections.setdefault(section, {}).setdefault(name.strip(), [])
            if not value.strip():
                settings.clear()
            elif count <= SETTINGS_MAX:
                settings.append(Setting(number, value.strip()))
    if count > SETTINGS_MAX:
        importer.problem(1, f"has more than {SETTINGS_MAX:,} settings")
    return unit


def _logical_lines(text: str) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    parts: list[str] = []
    begin = 0
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if line.startswith(("#", ";")) or (not line and not parts):
            continue
        begin = begin or number
        parts.append(line.removesuffix("\\").rstrip())
        if not line.endswith("\\"):
            found.append((begin, " ".join(parts).strip()))
            parts, begin = [], 0
    if parts:
        found.append((begin, " ".join(parts).strip()))
    return found


def read_span(text: str) -> timedelta:
    """A span of time such as `1h 30min`; a bare number is seconds. ValueError when it is none."""
    position = 0
    microseconds = Decimal(0)
    while position < len(text):
        match = _PART.match(text, position)
        if match is None or match[2] not in _UNITS:
            raise ValueError(f"{text[:60]!r} is not a span of time such as `1h 30min`")
        microseconds += Decimal(match[1]) * _MICROSECONDS[_UNITS[match[2]]]
        position = match.end()
    if not text.strip():
        raise ValueError("is empty; a span of time is needed")
    if microseconds > _MICROSECONDS["y"] * 1000:
        raise ValueError(f"{text[:60]!r} is longer than a thousand years")
    return timedelta(microseconds=int(microseconds))


def split_words(text: str) -> list[str]:
    """The words of a command line, quotes removed. ValueError for escapes whose meaning is systemd's own."""
    if re.search(r"\\[^\"'\\ $]", text):
        raise ValueError("has a backslash escape; write the character itself, in quotes if need be")
    return shlex.split(text)
