"""What handlers saw, in a file that survives their process: one record per start and per end of an attempt.

Each worker process appends to a file of its own, one small write per record, so a SIGKILL loses nothing that was begun. Where
a start must be proven beyond that, it makes a file that only one start can make, and makes it durable, before user code.
The checker believes these files and nobody's word. How they are judged is in checker.py.
"""

from __future__ import annotations

import enum
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

_RECORD = struct.Struct("<8q")


class Kind(enum.IntEnum):
    """What happened to an attempt."""

    STARTED = 1
    ENDED = 2
    """The handler came to its end by itself."""
    STOPPED = 3
    """The handler was told to stop, and did."""
    RAISED = 4
    """The handler failed, as it was meant to."""
    DOUBLE = 5
    """The handler found the proof of its own start made already."""


class Mark(NamedTuple):
    """One event of an attempt. All processes of one machine share both clocks."""

    kind: int
    execution: int
    attempt: int
    token: int
    job: int
    """The number at the end of the job's id; 0 if it has none."""
    due_ms: int
    wall_us: int
    """Microseconds since the epoch."""
    monotonic_ns: int

    @property
    def delay_ms(self) -> float:
        """From the due time to this event."""
        return self.wall_us / 1000 - self.due_ms


class EvidenceFile:
    """The open file of one worker process, made new: two processes never share one."""

    def __init__(self, path: Path) -> None:
        """Raises FileExistsError if the file is there already."""
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)

    def add(self, kind: Kind, execution: int, attempt: int, token: int, job: int, due_ms: int) -> None:
        """Appends one record; it is with the kernel when this returns."""
        wall_us, monotonic_ns = time.time_ns() // 1000, time.monotonic_ns()
        os.write(self._handle, _RECORD.pack(kind, execution, attempt, token, job, due_ms, wall_us, monotonic_ns))

    def sync(self) -> None:
        """Makes durable what was added."""
        os.fdatasync(self._handle)

    def close(self) -> None:
        """Makes everything durable and closes the file."""
        os.fsync(self._handle)
        os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_marks(path: Path) -> Iterator[Mark]:
    """All whole records of a file; one that its process did not finish writing is left out."""
    data = path.read_bytes()
    for position in range(0, len(data) - _RECORD.size + 1, _RECORD.size):
        yield Mark(*_RECORD.unpack_from(data, position))


def prove(folder: Path, job: int, due_ms: int, attempt: int, token: int) -> bool:
    """Makes a file that only one start can make, durable in its folder when this returns. False if it was there already."""
    try:
        handle = os.open(
            folder / f"{job}.{due_ms}.{attempt}.{token}.proof", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644
        )
    except FileExistsError:
        return False
    try:
        os.write(handle, str(time.monotonic_ns()).encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    entries = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(entries)
    finally:
        os.close(entries)
    return True


def read_proofs(folder: Path) -> frozenset[tuple[int, int, int, int]]:
    """(job, due_ms, attempt, token) of all proofs in a folder."""
    found = set()
    for path in folder.glob("*.proof"):
        job, due_ms, attempt, token = (int(part) for part in path.stem.split("."))
        found.add((job, due_ms, attempt, token))
    return frozenset(found)


def read_latest(folder: Path, count: int) -> list[Mark]:
    """The last `count` marks of every evidence file, in the order in which they happened; cheap however long the run is."""
    marks: list[Mark] = []
    for path in folder.rglob("*.evidence"):
        whole = path.stat().st_size // _RECORD.size
        with path.open("rb") as file:
            file.seek(max(0, whole - count) * _RECORD.size)
            data = file.read(min(whole, count) * _RECORD.size)
        marks += [Mark(*_RECORD.unpack_from(data, position)) for position in range(0, len(data), _RECORD.size)]
    marks.sort(key=lambda mark: mark.monotonic_ns)
    return marks


def read_folder(folder: Path) -> list[Mark]:
    """The marks of all evidence files (`*.evidence`) below a folder, in the order in which they happened."""
    marks = [mark for path in folder.rglob("*.evidence") for mark in read_marks(path)]
    marks.sort(key=lambda mark: mark.monotonic_ns)
    return marks
