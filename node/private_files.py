"""Files that only the node's own user may read: keys, wrapped keys, the first administrator's token."""

from __future__ import annotations

import os
from pathlib import Path


def is_private(mode: int) -> bool:
    """Whether a file of this mode is for its owner alone."""
    return not mode & 0o077


def replace_durably(path: Path, content: bytes) -> None:
    """The whole file or the one before, whatever happens, for nobody else to read. Raises OSError.

    Nothing is written through a link: whatever has the name gives way to a file.
    """
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    # Else the name may be gone after a power cut, and the file with it.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
