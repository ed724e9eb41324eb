"""The body of an answer, taken apart piece by piece: what is compressed is never larger in memory than one piece.

A few kilobytes can be compressed gigabytes. The reader stops as soon as it has enough, and only then is more decompressed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

PIECE_BYTES_MAX = 64 * 1024

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class BodyError(Exception):
    """The body is not what its Content-Encoding says."""


class BodyDecoder:
    """Undoes a Content-Encoding. One that it does not know, or several of them, stay as they are."""

    def __init__(self, content_encoding: str) -> None:
        self._encoding = content_encoding.strip().lower()
        bits = _WINDOW_BITS.get(self._encoding)
        self._decompressor = zlib.decompressobj(bits) if bits is not None else None
        self._begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes from the network say, in pieces of limited size, each made when it is asked for."""
        if self._decompressor is None:
            yield data
            return
        piece = b""
        while (data or len(piece) == PIECE_BYTES_MAX) and not self._decompressor.eof:
            try:
                piece = self._decompressor.decompress(data, PIECE_BYTES_MAX)
            except zlib.error as error:
                if self._encoding != "deflate" or self._begun:
                    raise BodyError(
                        f"the body is not {self._encoding}, as its Content-Encoding says: {error}"
                    ) from error
                # What many servers mean by it: without the header of zlib.
                self._decompressor, self._begun = zlib.decompressobj(-15), True
                continue
            self._begun = True
            data = self._decompressor.unconsumed_tail
            if piece:
                yield piece
