"""Captured output of attempts, outside the replicated state: one LMDB environment per UTC day.

A day's folder is dropped as a whole when it is too old. Pieces are compressed and carry a checksum; one that is damaged is
replaced by a line that says so, and the rest of the output stays readable. Who may read, and which node has the output, is
decided elsewhere.

An attempt's pieces lie in the day of its assignment, or, where the writer could not know that day, in a later one.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple

import lmdb
import structlog

from horologe.node.clock import Clock

DAY_BYTES_MAX = 1 << 38
"""Address space of one day's file, not disk."""
READ_BYTES_PER_BATCH = 1 << 20
RECHECK_SECONDS = 1.0
"""A follower asks this often by itself whether the attempt still runs, in case nobody tells it."""
BYTES_PER_ATTEMPT_MAX = 10 << 20
RETENTION_DAYS = 30
ATTEMPTS_KNOWN_MAX = 20_000
"""Sizes kept in memory; forgotten ones are measured again."""

_KEY = Struct(">QIQ")
_HEAD = Struct(">BII")
"""stream, length of the data, CRC-32 of the compressed data that follows"""
_SEQUENCE_MAX = (1 << 64) - 1
_DAMAGED_SUFFIX = ".damaged"

log = structlog.get_logger(__name__)


class OutputError(Exception):
    """Output could not be written. The text says why; attempts are not affected."""


class Stream(IntEnum):
    """Numbers as in horologe.v1.ReadOutputResponse.Stream; CUT marks the place where output was cut."""

    CUT = 0
    STDOUT = 1
    STDERR = 2


class OutputPiece(NamedTuple):
    """What a worker captured, as it sent it."""

    execution: int
    attempt: int
    sequence: int
    """From 0, per attempt; a piece that comes again is dropped."""
    stream: int
    data: bytes
    assign_ms: int
    """When the attempt was assigned; 0 if that is not known."""


class OutputSize(NamedTuple):
    """How much of an attempt's output is kept."""

    bytes_kept: int
    truncated: bool


class _Found(NamedTuple):
    """A piece as it was read; its place says where to go on."""

    day: date
    sequence: int
    stream: int
    data: bytes


class OutputStore:
    """One node's captured output. Its methods may be called on any thread; the async ones use a thread of their own."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        *,
        bytes_per_attempt_max: int = BYTES_PER_ATTEMPT_MAX,
        retention_days: int = RETENTION_DAYS,
    ) -> None:
        """Makes the folder. Raises OSError if it cannot."""
        self._folder = folder
        self._clock = clock
        self._bytes_per_attempt_max = bytes_per_attempt_max
        self._retention_days = retention_days
        self._lock = threading.Lock()
        self._days: dict[date, Any] = {}
        self._kept: dict[tuple[int, int], OutputSize] = {}
        self._followers: dict[tuple[int, int], list[asyncio.Event]] = defaultdict(list)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="output")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    # Writing

    def append(self, pieces: Sequence[OutputPiece]) -> None:
        """Keeps the pieces: durable when it returns, one commit per day that they belong to.

        Beyond the cap of an attempt, output is dropped and marked as cut. Raises OutputError if the disk does not take it.
        """
        by_day: dict[date, list[OutputPiece]] = defaultdict(list)
        now_ms = self._clock.wall_ms()
        for piece in pieces:
            by_day[_day_of(piece.assign_ms or now_ms)].append(piece)
        with self._lock:
            if len(self._kept) > ATTEMPTS_KNOWN_MAX:
                self._kept.clear()
            for day, batch in by_day.items():
                try:
                    self._append_to_day(day, batch)
                except (lmdb.Error, OSError) as error:
                    for piece in batch:
                        self._kept.pop((piece.execution, piece.attempt), None)
                    raise OutputError(f"{self._folder}/{day}: output cannot be written ({error})") from error

    async def append_async(self, pieces: Sequence[OutputPiece]) -> None:
        """As `append`, without holding up the event loop; wakes those who follow."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self.append, pieces)
        for attempt in {(piece.execution, piece.attempt) for piece in pieces}:
            self._wake(attempt)

    def finished(self, execution: int, attempt: int) -> None:
        """The attempt is over: nothing more will be appended. For the event loop."""
        # Without the lock, which a commit may hold: the loop never waits for the disk. One `pop` is atomic.
        self._kept.pop((execution, attempt), None)
        self._wake((execution, attempt))

    # Reading

    def read(self, execution: int, attempt: int, day_hint_ms: int) -> Iterator[tuple[int, bytes]]:
        """What is kept of an attempt, as (stream, data). `day_hint_ms`: when it was assigned."""
        after: _Found | None = None
        while batch := self._read_batch(execution, attempt, day_hint_ms, after):
            yield from ((found.stream, found.data) for found in batch if found.stream != Stream.CUT)
            after = batch[-1]

    async def follow(
        self, execution: int, attempt: int, day_hint_ms: int, still_running: Callable[[], bool]
    ) -> AsyncIterator[tuple[int, bytes]]:
        """As `read`, and goes on as long as `still_running()` says so, which is called on the event loop."""
        wake = asyncio.Event()
        followers = self._followers[(execution, attempt)]
        followers.append(wake)
        after: _Found | None = None
        try:
            while True:
                wake.clear()
                # Asked before reading: what was appended before the end is then seen for certain.
                running = still_running()
                batch = await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._read_batch, execution, attempt, day_hint_ms, after
                )
                for found in batch:
                    if found.stream != Stream.CUT:
                        yield found.stream, found.data
                    after = found
                if batch:
                    continue
                if not running:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(RECHECK_SECONDS):
                        await wake.wait()
        finally:
            followers.remove(wake)
            if not followers:
                self._followers.pop((execution, attempt), None)

    def size(self, execution: int, attempt: int, day_hint_ms: int = 0) -> OutputSize:
        """How much of an attempt's output is kept here."""
        with self._lock:
            known = self._kept.get((execution, attempt))
            return known if known is not None else self._measure(execution, attempt, day_hint_ms)

    # Retention

    def drop_before(self, day: date) -> int:
        """Drops all days before `day`; answers how many. Done by itself whenever a new day begins."""
        with self._lock:
            return self._drop_before(day)

    def close(self) -> None:
        """Ends the thread and closes the files. Nothing may be called afterwards."""
        self._thread.shutdown(wait=True)
        with self._lock:
            for environment in self._days.values():
                environment.close()
            self._days.clear()

    # Inside; the lock is held

    def _append_to_day(self, day: date, pieces: Sequence[OutputPiece]) -> None:
        environment = self._open(day, create=True)
        with environment.begin(write=True) as transaction:
            for piece in pieces:
                attempt = (piece.execution, piece.attempt)
                kept = self._kept.get(attempt) or self._measure(*attempt, piece.assign_ms)
                room = self._bytes_per_attempt_max - kept.bytes_kept
                data = piece.data[: max(0, room)] if not kept.truncated else b""
                key = _KEY.pack(piece.execution, piece.attempt, piece.sequence)
                if data and not transaction.put(key, _encode(piece.stream, data), overwrite=False):
                    self._kept[attempt] = kept  # it came again
                    continue
                truncated = kept.truncated or len(data) < len(piece.data)
                if truncated and not kept.truncated:
                    mark = _KEY.pack(piece.execution, piece.attempt, _SEQUENCE_MAX)
                    transaction.put(mark, _encode(Stream.CUT, b""))
                self._kept[attempt] = OutputSize(kept.bytes_kept + len(data), truncated)

    def _measure(self, execution: int, attempt: int, day_hint_ms: int) -> OutputSize:
        """From the heads of what is on disk, for an attempt that this process knows nothing of."""
        bytes_kept, truncated = 0, False
        for _, _, value in self._values(execution, attempt, day_hint_ms, None):
            if len(value) >= _HEAD.size:
                stream, length, _ = _HEAD.unpack_from(value)
                bytes_kept += length
                truncated |= stream == Stream.CUT
        return OutputSize(bytes_kept, truncated)

    def _read_batch(self, execution: int, attempt: int, day_hint_ms: int, after: _Found | None) -> list[_Found]:
        batch: list[_Found] = []
        size = 0
        with self._lock:
            for day, sequence, value in self._values(execution, attempt, day_hint_ms, after):
                stream, data = _decode(value, f"execution {execution}, attempt {attempt}, piece {sequence}")
                batch.append(_Found(day, sequence, stream, data))
                size += len(data)
                if size >= READ_BYTES_PER_BATCH:
                    break
        return batch

    def _values(
        self, execution: int, attempt: int, day_hint_ms: int, after: _Found | None
    ) -> Iterator[tuple[date, int, bytes]]:
        # Clocks of nodes differ a little, so the day before may be the right one.
        first = _day_of(day_hint_ms) - timedelta(days=1) if day_hint_ms else date.min
        for day in self._days_on_disk():
            if day < first or (after is not None and day < after.day):
                continue
            try:
                environment = self._open(day, create=False)
            except (lmdb.Error, OSError) as error:
                log.exception("output of a day cannot be read", day=str(day), error=str(error))
                continue
            start = after.sequence + 1 if after is not None and day == after.day else 0
            if start > _SEQUENCE_MAX:
                continue
            with environment.begin() as transaction, transaction.cursor() as cursor:
                found = cursor.set_range(_KEY.pack(execution, attempt, start))
                while found:
                    owner, number, sequence = _KEY.unpack(cursor.key())
                    if (owner, number) != (execution, attempt):
                        break
                    yield day, sequence, bytes(cursor.value())
                    found = cursor.next()

    def _days_on_disk(self) -> list[date]:
        days: list[date] = []
        for entry in self._folder.iterdir():
            with suppress(ValueError):
                days.append(date.fromisoformat(entry.name))
        return sorted(days)

    def _open(self, day: date, *, create: bool) -> Any:
        environment = self._days.get(day)
        if environment is None:
            folder = self._folder / day.isoformat()
            is_new = not folder.exists()
            if create and is_new:
                self._drop_before(_day_of(self._clock.wall_ms()) - timedelta(days=self._retention_days))
            try:
                environment = _open_environment(folder)
            except lmdb.Error as error:
                if not create or not isinstance(error, lmdb.InvalidError | lmdb.CorruptedError):
                    raise
                aside = folder.with_name(f"{day}.{self._clock.wall_ms()}{_DAMAGED_SUFFIX}")
                folder.rename(aside)
                log.error("output of a day is damaged and was set aside", folder=str(aside), error=str(error))
                environment = _open_environment(folder)
            self._days[day] = environment
        return environment

    def _drop_before(self, day: date) -> int:
        old = [found for found in self._days_on_disk() if found < day]
        for found in old:
            environment = self._days.pop(found, None)
            if environment is not None:
                environment.close()
            shutil.rmtree(self._folder / found.isoformat())
            log.info("output of a day dropped", day=str(found))
        return len(old)

    def _wake(self, attempt: tuple[int, int]) -> None:
        for follower in self._followers.get(attempt, ()):
            follower.set()


def _open_environment(folder: Path) -> Any:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Durability is LMDB's default and stays so: a commit returns after its fsync.
    environment = lmdb.open(str(folder), map_size=DAY_BYTES_MAX, max_readers=64, mode=0o600)
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if (folder / "data.mdb").stat().st_size < needed:
        # A file that was cut would end the process with a signal at the first touch of a missing page.
        environment.close()
        raise lmdb.CorruptedError(f"{folder}/data.mdb was cut")
    return environment


def _encode(stream: int, data: bytes) -> bytes:
    compressed = zlib.compress(data, 1)
    return _HEAD.pack(stream, len(data), zlib.crc32(compressed)) + compressed


def _decode(value: bytes, what: str) -> tuple[int, bytes]:
    """The stream and the data of a piece; a damaged one is answered as a line on stderr."""
    if len(value) >= _HEAD.size:
        stream, length, checksum = _HEAD.unpack_from(value)
        compressed = value[_HEAD.size :]
        if zlib.crc32(compressed) == checksum:
            with suppress(zlib.error):
                return stream, zlib.decompress(compressed, bufsize=length or 1)
    log.error("a piece of output is damaged", piece=what)
    return Stream.STDERR, b"[horologe: a piece of this output is damaged on disk]\n"


def _day_of(time_ms: int) -> date:
    return datetime.fromtimestamp(time_ms / 1000, UTC).date()
