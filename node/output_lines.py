"""Lines in the output of one attempt, and those of them that contain a text."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator

from horologe.node.outputs import OutputKey, OutputPiece, OutputStore
from horologe.peer.v1 import peer_service_pb2

LINES_PER_ATTEMPT_MAX = 50
LINE_CHARACTERS_MAX = 500
"""With the attempts of a page (output_service.py) an answer stays below 10 MiB."""
LINE_BYTES_MAX = 64 << 10
"""What has no line end for so long is taken as a line."""

Found = peer_service_pb2.FoundInOutput


class Lines:
    """The lines of one attempt, put together from pieces; each stream has its own."""

    def __init__(self) -> None:
        self._unfinished: dict[int, bytes] = defaultdict(bytes)

    def add(self, pieces: Iterable[OutputPiece]) -> Iterator[tuple[int, bytes]]:
        """The lines that end in these pieces, as (stream, line without its end)."""
        for piece in pieces:
            *lines, rest = (self._unfinished[piece.stream] + piece.data).split(b"\n")
            if len(rest) > LINE_BYTES_MAX:
                lines.append(rest)
                rest = b""
            self._unfinished[piece.stream] = rest
            yield from ((piece.stream, line) for line in lines)

    def rest(self) -> Iterator[tuple[int, bytes]]:
        """What has no line end."""
        yield from ((stream, line) for stream, line in self._unfinished.items() if line)


def find_lines(outputs: OutputStore, key: OutputKey, text: str, *, ignore_case: bool) -> Found:
    """The last lines of an attempt that contain the text. Takes a while: not for the event loop."""
    wanted = text.casefold() if ignore_case else text
    last: deque[tuple[int, str]] = deque(maxlen=LINES_PER_ATTEMPT_MAX)
    found = Found()
    count = 0
    for stream, line in _lines_of(outputs, key, found):
        said = line.decode("utf-8", "replace").removesuffix("\r")
        if wanted in (said.casefold() if ignore_case else said):
            last.append((stream, said[:LINE_CHARACTERS_MAX]))
            count += 1
    for stream, said in last:
        found.lines.add(stream=stream, text=said)
    found.omitted_line_count = count - len(last)
    return found


def _lines_of(outputs: OutputStore, key: OutputKey, found: Found) -> Iterator[tuple[int, bytes]]:
    lines = Lines()
    first_sequence = 0
    while batch := outputs.read_batch(key, first_sequence):
        found.is_here = True
        yield from lines.add(batch)
        first_sequence = batch[-1].sequence + 1
    yield from lines.rest()
