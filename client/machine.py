"""This machine, as an examination looks at it: its clock, its disks, its limits, its memory, its libraries.

Only measures and reads; what is good and what is not is in `machine_checks.py`. Tests put another machine in its place.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import resource
import shutil
import ssl
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import psutil

__all__ = ["ClockState", "FileLimit", "Machine", "Space", "ThisMachine", "nearest_folder"]

LIBRARIES = ("horologe", "pysyncobj", "lmdb", "grpcio", "protobuf", "cryptography", "uvloop", "tzdata")
SYNC_BYTES = 4096
SYNCS_MIN = 10
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")


class ClockState(NamedTuple):
    """What the kernel says of the wall clock."""

    synchronised: bool | None
    """None: it may not be asked here."""
    error_ms: float
    """How far from the right time it may be at most."""


class FileLimit(NamedTuple):
    """How many files a process may have open."""

    soft: int
    hard: int
    whose: str
    """`this shell`, or `process 4711`."""


class Space(NamedTuple):
    """Bytes of a disk, or of memory."""

    free: int
    total: int


class Machine(Protocol):
    """Whatever is examined. Methods raise OSError where the machine refuses."""

    def clock(self) -> ClockState: ...
    def space(self, folder: Path) -> Space: ...
    def file_system(self, folder: Path) -> str: ...
    def sync_seconds(self, folder: Path, count: int, seconds_max: float) -> list[float]: ...
    def file_limit(self, process: int | None) -> FileLimit: ...
    def memory(self) -> Space: ...
    def has_randomness(self) -> bool: ...
    def versions(self) -> Mapping[str, str]: ...


class ThisMachine:
    """The one that this process runs on."""

    def clock(self) -> ClockState:
        return _kernel_clock()

    def space(self, folder: Path) -> Space:
        found = shutil.disk_usage(nearest_folder(folder))
        return Space(found.free, found.total)

    def file_system(self, folder: Path) -> str:
        """Its kind, as `ext4`; empty if nobody knows."""
        place = nearest_folder(folder).resolve()
        mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
        return next((mounts[parent] for parent in (place, *place.parents) if parent in mounts), "")

    def sync_seconds(self, folder: Path, count: int, seconds_max: float) -> list[float]:
        """How long it takes to write a page to a file there and have it on the disk, again and again."""
        found: list[float] = []
        with tempfile.TemporaryFile(dir=nearest_folder(folder), prefix=".doctor-") as file:
            ends_at = time.perf_counter() + seconds_max
            while len(found) < count and (len(found) < SYNCS_MIN or time.perf_counter() < ends_at):
                began = time.perf_counter()
                os.pwrite(file.fileno(), os.urandom(SYNC_BYTES), len(found) * SYNC_BYTES)
                os.fdatasync(file.fileno())
                found.append(time.perf_counter() - began)
        return found

    def file_limit(self, process: int | None) -> FileLimit:
        """Of a running process; else of this one, and what is started from it."""
        if process is not None:
            return FileLimit(*resource.prlimit(process, resource.RLIMIT_NOFILE), f"process {process}")
        return FileLimit(*resource.getrlimit(resource.RLIMIT_NOFILE), "this shell")

    def memory(self) -> Space:
        """What may still be used, within the limit of the container if there is one."""
        found = psutil.virtual_memory()
        total, free = found.total, found.available
        try:
            limit = int(_MEMORY_LIMIT.read_text())
        except (OSError, ValueError):
            return Space(free, total)
        return Space(min(free, limit), min(total, limit))

    def has_randomness(self) -> bool:
        """Whether random bytes come at once."""
        try:
            return len(os.getrandom(32, os.GRND_NONBLOCK)) == 32
        except BlockingIOError:
            return False

    def versions(self) -> Mapping[str, str]:
        """Of the program, and what it stands on; `missing` for what is not installed."""
        found = {"python": platform.python_version(), "openssl": ssl.OPENSSL_VERSION, "kernel": platform.release()}
        for name in LIBRARIES:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = "missing"
        return found


def nearest_folder(folder: Path) -> Path:
    """The folder, or the one that it will be made in."""
    return next((place for place in (folder, *folder.absolute().parents) if place.is_dir()), Path("/"))


# What adjtimex(2) says. Reading needs no rights, but containers may refuse it.
_TIME_ERROR, _STA_UNSYNC = 5, 0x0040


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def _kernel_clock() -> ClockState:
    state = _Timex()
    try:
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state))
    except (OSError, AttributeError):
        answer = -1
    if answer < 0:
        return ClockState(None, 0.0)
    return ClockState(answer != _TIME_ERROR and not state.status & _STA_UNSYNC, state.maxerror / 1000)
