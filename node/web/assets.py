"""The files that pages are made of: read once, served from memory, packed, and by addresses that change with what is in them."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request, Response

STATIC_FOLDER = Path(__file__).parent / "static"
FOR_EVER = "public, max-age=31536000, immutable"
PACKED_BYTES_MIN = 500
"""Smaller files are not worth it."""
_HASH_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    content: bytes
    packed: bytes | None
    media_type: str
    hash: str


class Assets:
    """All files of the folder, by their path in it."""

    def __init__(self, folder: Path = STATIC_FOLDER) -> None:
        self._assets = {
            file.relative_to(folder).as_posix(): _read(file) for file in sorted(folder.rglob("*")) if file.is_file()
        }

    def url(self, path: str) -> str:
        """Where browsers find it; they may keep it for ever. Raises KeyError if there is no such file."""
        return f"/static/{path}?v={self._assets[path].hash}"

    def answer(self, path: str, request: Request) -> Response:
        """What a request for it is answered with."""
        asset = self._assets.get(path)
        if asset is None:
            return Response(f"there is no {path}", 404, media_type="text/plain", headers={"Cache-Control": "no-store"})
        is_this_version = request.query_params.get("v") == asset.hash
        headers = {
            "ETag": f'"{asset.hash}"',
            "Cache-Control": FOR_EVER if is_this_version else "no-cache",
            "Vary": "Accept-Encoding",
        }
        if asset.hash in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if asset.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(asset.packed, media_type=asset.media_type, headers=headers)
        return Response(asset.content, media_type=asset.media_type, headers=headers)


def _read(file: Path) -> Asset:
    content = file.read_bytes()
    packed = gzip.compress(content, 9, mtime=0) if len(content) >= PACKED_BYTES_MIN else None
    media_type = mimetypes.guess_type(file.name)[0] or "text/plain"
    return Asset(content, packed, media_type, hashlib.sha256(content).hexdigest()[:_HASH_CHARACTERS])
