"""What an attempt printed, as lines for people: pieces of bytes in, lines out, and the place from which to go on elsewhere.

Pure. Pieces have numbers that are the same on every node, and the same pieces make the same lines. So a place is a position
between pieces at which no line was half read, and how many lines after it are known already: whoever comes back with it gets
what comes next, nothing twice and nothing left out.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Self

LINE_BYTES_MAX = 8 << 10
"""A longer line is cut into several."""

_LINE_END = re.compile(rb"\r\n|\n|\r(?=[\s\S])")
"""A return alone ends a line too, so that what draws over itself can be read. At the end of a piece it may be half of an end."""
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, movements
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # titles, links
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?"  # strings for the terminal
    r"|\x1b[ -/]*[0-~]"
)


class Line(NamedTuple):
    """One line that was printed."""

    is_error: bool
    """It came from standard error."""
    text: str
    """Without what only a terminal understands. It is hostile: whoever shows it escapes it."""


class Place(NamedTuple):
    """From where to go on reading."""

    attempt: int
    position: int = 0
    """As in ReadOutputRequest.after_position; no line is half read there."""
    line_count: int = 0
    """Lines after it that are known already."""

    def __str__(self) -> str:
        return f"{self.attempt}-{self.position}-{self.line_count}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None if it is no place."""
        found = re.fullmatch(r"([1-9]\d{0,8})-(\d{1,15})-(\d{1,15})", text, re.ASCII)
        return None if found is None else cls(*map(int, found.groups()))


class LineReader:
    """Reads one attempt, from a place on."""

    def __init__(self, start: Place) -> None:
        self.place = start._replace(line_count=0)
        """From where to go on after all lines that were given out."""
        self.position = start.position
        """Of the last piece that was taken."""
        self._skip_count = start.line_count
        self._half = {False: b"", True: b""}
        """By stream, what was printed of a line whose end has not come yet."""

    def take(self, data: bytes, position: int, *, is_error: bool) -> list[Line]:
        """The lines that this piece ends."""
        *ended, half = _LINE_END.split(self._half[is_error] + data)
        while len(half) > LINE_BYTES_MAX:
            ended.append(half[:LINE_BYTES_MAX])
            half = half[LINE_BYTES_MAX:]
        self._half[is_error] = half
        self.position = position
        lines = self._count([Line(is_error, readable(raw)) for raw in ended])
        if not any(self._half.values()):
            # What was to be skipped lies before a place at which everything was read.
            self.place = Place(self.place.attempt, position)
            self._skip_count = 0
        return lines

    def finish(self) -> list[Line]:
        """The attempt is over: what has no end is a line as well. From now on the place is before the next attempt."""
        lines = self._count([Line(stream, readable(half)) for stream, half in self._half.items() if half])
        self._half = {False: b"", True: b""}
        self.place = Place(self.place.attempt + 1)
        return lines

    def _count(self, lines: list[Line]) -> list[Line]:
        self.place = self.place._replace(line_count=self.place.line_count + len(lines))
        skipped = min(self._skip_count, len(lines))
        self._skip_count -= skipped
        return lines[skipped:]


def readable(raw: bytes) -> str:
    """Text of any bytes, without colours and the like."""
    return _ESCAPES.sub("", raw.decode("utf-8", "replace").rstrip("\r"))
