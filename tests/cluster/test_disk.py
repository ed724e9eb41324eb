"""Small disks: what was synced survives a power cut, and what was not is lost."""

from __future__ import annotations

import os
from pathlib import Path

from horologe.chaos.disk import cut_power, fill, small_disk


def _synced(path: Path, content: bytes) -> None:
    """Writes a file and its name through to the disk."""
    for target, flags in ((path, os.O_CREAT | os.O_WRONLY), (path.parent, os.O_RDONLY | os.O_DIRECTORY)):
        handle = os.open(target, flags, 0o600)
        try:
            if target == path:
                os.write(handle, content)
            os.fsync(handle)
        finally:
            os.close(handle)


def test_what_was_not_synced_is_lost_with_the_power(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with small_disk(folder, 64 << 20):
        _synced(folder / "kept", b"kept")
        with (folder / "kept").open("ab") as file:
            file.write(b" and more")
        (folder / "lost").write_bytes(b"lost")
        cut_power(folder)
        assert (folder / "kept").read_bytes() == b"kept"
        assert not (folder / "lost").exists()
        _synced(folder / "again", b"it works again")
    assert not (folder / "kept").exists(), "it is unmounted"


def test_a_full_disk_takes_no_byte_more_until_there_is_room(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with small_disk(folder, 64 << 20):
        ballast = fill(folder)
        try:
            _synced(folder / "more", b"x" * 4096)
            took = True
        except OSError:
            took = False
        assert not took
        ballast.unlink()
        _synced(folder / "more", b"x" * 4096)
