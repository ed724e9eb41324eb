"""Disks that misbehave: small file systems of their own, and system calls that fail or dawdle.

A small disk is an ext4 file system in a file (so that fsync is real), mounted for as long as the block lasts. Failing calls
are strace's: it attaches to a running process and detaches without a trace. Both need root.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

ATTACH_SECONDS = 10.0
_EXT4_IOC_SHUTDOWN = 0x8004587D
_GOING_DOWN_WITHOUT_FLUSHING_THE_LOG = 2


def can_mount() -> bool:
    """Whether this process may mount file systems in files."""
    return os.geteuid() == 0 and Path("/dev/loop-control").exists() and shutil.which("mkfs.ext4") is not None


def can_inject() -> bool:
    """Whether strace is there, and may look at other processes of ours."""
    return shutil.which("strace") is not None


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[None]:
    """A file system of that size in the place of a folder. Unmounted at the end; what it held stays in the file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    image = _image(folder)
    with image.open("wb") as file:
        file.truncate(size_bytes)
    _run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
    _run("mount", "-o", "loop", str(image), str(folder))
    try:
        yield
    finally:
        # A process that was killed a moment ago may still be on its way out: detached at once, freed when the last is gone.
        _run("umount", "--lazy", str(folder))


def discard(folder: Path) -> None:
    """Removes the file behind a small disk that is not mounted any more."""
    _image(folder).unlink()


def cut_power(folder: Path) -> None:
    """What was not synced is lost, as when the machine loses power; nobody may use the small disk any more.

    The file system is shut down on the spot: from one moment on nothing reaches its disk, not even its own journal. A copy of
    the disk is mounted in its place, and recovers as after any crash: other mount namespaces may hold the old one for a while.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(handle, _EXT4_IOC_SHUTDOWN, struct.pack("I", _GOING_DOWN_WITHOUT_FLUSHING_THE_LOG))
    finally:
        os.close(handle)
    image = _image(folder)
    copy = image.with_suffix(".copy")
    _run("cp", "--sparse=always", str(image), str(copy))
    _run("umount", str(folder))
    copy.replace(image)
    _run("mount", "-o", "loop", str(image), str(folder))


def _image(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.disk")


def fill(folder: Path) -> Path:
    """Fills the file system to its last byte with a file; answers the file, to be removed."""
    ballast = folder / "ballast"
    free = shutil.disk_usage(folder).free
    with ballast.open("wb") as file:
        while free > 0:
            try:
                os.posix_fallocate(file.fileno(), file.tell(), free)
                break
            except OSError:
                free //= 2
    return ballast


class FailingCalls:
    """System calls of a process that fail or take long, until `end`."""

    def __init__(self, pid: int, calls: str, how: str, *, only: Path | None = None) -> None:
        """`calls` and `how` as strace names them: `fsync,fdatasync` and `error=EIO` or `delay_enter=200000`."""
        path = ["-P", str(only)] if only is not None else []
        self._command = [
            "strace", "-f", "-q", "-q", "-p", str(pid), "-o", "/dev/null", *path,
            "-e", f"trace={calls}", "-e", f"inject={calls}:{how}",
        ]  # fmt: skip
        self._pid = pid
        self._process: subprocess.Popen[bytes] | None = None

    async def begin(self) -> Self:
        """Attached when this returns, or the process is gone."""
        self._process = self._start()
        async with asyncio.timeout(ATTACH_SECONDS):
            while True:
                if self._process.poll() is not None or self._is_traced():
                    return self
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        """Detached when this returns."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(self._process.wait)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _is_traced(self) -> bool:
        try:
            tasks = [path / "status" for path in Path(f"/proc/{self._pid}/task").iterdir()]
            return all("TracerPid:\t0\n" not in task.read_text() for task in tasks)
        except OSError:
            return False


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")
