"""Files that only their owner may read: how they are made, and how it is seen that others could."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from horologe.client.errors import InvalidArgument, InvalidContext

__all__ = ["check_private", "create_private"]

PRIVATE_MODE = 0o600


@contextmanager
def create_private(path: Path) -> Iterator[TextIO]:
    """A new file for its owner only, gone again if the block fails. InvalidArgument if there is one already.

    Whoever has an old one open would read on.
    """
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be made: {error.strerror or error}") from error
    try:
        with os.fdopen(number, "w", encoding="utf-8") as stream:
            yield stream
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def check_private(file: Path, place: str) -> None:
    """InvalidContext if a file with a token can be read by others than its owner."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError as error:
        raise InvalidContext(f"{place} cannot be read: {error.strerror or error}") from error
    if mode & 0o077:
        raise InvalidContext(
            f"{place} holds a token and has the mode {mode:04o}: others can read or change it; "
            f"make it yours alone with `chmod 600 {file}`, and revoke the token if others use this machine"
        )
