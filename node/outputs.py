"""Captured output of attempts, outside the replicated state: one LMDB environment per UTC day.

A day's folder is dropped as a whole when it is too old. Pieces are compressed and encrypted, each bound to its place; one that
is damaged is replaced by a line that says so, and the rest of the output stays readable. How much of an attempt is kept, on which
nodes, and who reads it from where, is decided elsewhere.

All pieces of an attempt lie in the day of its assignment, on every node that has them.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
import zlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple, TypeVar

import lmdb
import structlog

from horologe.node.clock import Clock
from horologe.raft.cipher import Cipher, UnsealError, in_memory, key_number_of
from horologe.raft.sealed import context_of

DAY_BYTES_MAX = 1 << 38
"""Address space of one day's file, not disk."""
READ_BYTES_PER_BATCH = 1 << 20
RECHECK_SECONDS = 1.0
"""A follower asks this often by itself whether the attempt still runs, in case nobody tells it."""
RETENTION_DAYS = 30
RETENTION_CHECK_SECONDS = 3600.0
RESEAL_PIECES = 500
RESEAL_BYTES = 1 << 20
"""So much is encrypted anew at a time: others wait for the disk meanwhile."""

_KEY = Struct(">QIQ")
_HEAD = Struct(">BI")
"""stream, length of the data; the compressed data follows, encrypted. So how much there is can be told without opening it."""
_CONTEXT = context_of("output")
_DAMAGED_SUFFIX = ".damaged"
_DAMAGE = (lmdb.InvalidError, lmdb.CorruptedError)
"""What LMDB says of a file that will never be readable again. Anything else may pass: too few file handles, a disk that hangs."""

log = structlog.get_logger(__name__)
Work = TypeVar("Work")


class OutputError(Exception):
    """Output could not be written, or is there and cannot be read now. The text says why; attempts are not affected."""


class Stream(IntEnum):
    """Numbers as in horologe.v1.OutputStream."""

    STDOUT = 1
    STDERR = 2


class OutputKey(NamedTuple):
    """Whose output."""

    execution: int
    attempt: int
    assign_ms: int
    """When the attempt was assigned, in the words of the replicated state: tells the day."""


class OutputPiece(NamedTuple):
    """What a worker captured, as it sent it."""

    sequence: int
    """From 0, per attempt; a piece that comes again is dropped."""
    stream: int
    data: bytes
    is_damaged: bool = False
    """When read: the bytes are lost, and `data` says so."""


class OutputExtent(NamedTuple):
    """How much of an attempt's output is kept."""

    bytes_kept: int
    last_sequence: int
    """-1 if there is nothing."""


class OutputStore:
    """One node's captured output. Its methods may be called on any thread; the async ones use a thread of their own."""

    def __init__(
        self, folder: Path, clock: Clock, *, retention_days: int = RETENTION_DAYS, cipher: Cipher | None = None
    ) -> None:
        """Makes the folder. Raises OSError if it cannot. Without a `cipher` nobody can read it after this process."""
        self._folder = folder
        self._clock = clock
        self._retention_days = retention_days
        self._cipher = cipher or in_memory()
        self._lock = threading.Lock()
        self._days: dict[date, Any] = {}
        self._followers: dict[tuple[int, int], list[asyncio.Event]] = defaultdict(list)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="output")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    # Writing

    def append(self, pieces: Sequence[tuple[OutputKey, OutputPiece]]) -> None:
        """Keeps the pieces: durable when it returns, one commit per day that they belong to.

        Raises OutputError if the disk does not take them.
        """
        by_day: dict[date, list[tuple[bytes, bytes]]] = defaultdict(list)
        for key, piece in pieces:
            place = _KEY.pack(key.execution, key.attempt, piece.sequence)
            by_day[_day_of(key.assign_ms)].append((place, self._encode(place, piece)))
        with self._lock:
            for day, batch in by_day.items():
                try:
                    with self._open(day, create=True).begin(write=True) as transaction:
                        for place, value in batch:
                            transaction.put(place, value, overwrite=False)
                except (lmdb.Error, OSError) as error:
                    raise OutputError(f"{self._folder}/{day}: output cannot be written ({error})") from error

    async def append_async(self, pieces: Sequence[tuple[OutputKey, OutputPiece]]) -> None:
        """As `append`, without holding up the event loop; wakes those who follow."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self.append, pieces)
        for execution, attempt, _ in {key for key, _ in pieces}:
            self.wake_followers(execution, attempt)

    def wake_followers(self, execution: int, attempt: int) -> None:
        """There is something new of the attempt, or it is over. For the event loop."""
        for follower in self._followers.get((execution, attempt), ()):
            follower.set()

    # Reading

    def read_batch(self, key: OutputKey, first_sequence: int = 0) -> list[OutputPiece]:
        """The next pieces from `first_sequence` on, about a MiB of them; empty at the end. Raises OutputError."""
        batch: list[OutputPiece] = []
        size = 0
        with self._lock:
            for sequence, value in self._values(key, first_sequence):
                batch.append(self._decode(sequence, value, key))
                size += len(batch[-1].data)
                if size >= READ_BYTES_PER_BATCH:
                    break
        return batch

    async def read(self, key: OutputKey, first_sequence: int = 0) -> AsyncGenerator[list[OutputPiece], None]:
        """What is kept of an attempt, in batches, without holding up the event loop. Raises OutputError."""
        loop = asyncio.get_running_loop()
        while batch := await loop.run_in_executor(self._thread, self.read_batch, key, first_sequence):
            yield batch
            first_sequence = batch[-1].sequence + 1

    async def follow(
        self, key: OutputKey, still_running: Callable[[], bool], first_sequence: int = 0
    ) -> AsyncGenerator[list[OutputPiece], None]:
        """As `read`, and goes on as long as `still_running()` says so, which is called on the event loop.

        An empty batch says that there was nothing new for a while.
        """
        wake = asyncio.Event()
        followers = self._followers[key[:2]]
        followers.append(wake)
        try:
            while True:
                wake.clear()
                # Asked before reading: what was appended before the end is then seen for certain.
                running = still_running()
                async for batch in self.read(key, first_sequence):
                    yield batch
                    first_sequence = batch[-1].sequence + 1
                if not running:
                    return
                try:
                    async with asyncio.timeout(RECHECK_SECONDS):
                        await wake.wait()
                except TimeoutError:
                    yield []
        finally:
            followers.remove(wake)
            if not followers:
                self._followers.pop(key[:2], None)

    def extent(self, key: OutputKey) -> OutputExtent:
        """How much of an attempt's output can be read here, from the heads of what is on the disk."""
        bytes_kept, last_sequence = 0, -1
        with self._lock, suppress(OutputError):
            for sequence, value in self._values(key, 0):
                last_sequence = sequence
                if len(value) >= _HEAD.size:
                    bytes_kept += _HEAD.unpack_from(value)[1]
        return OutputExtent(bytes_kept, last_sequence)

    # Encrypting anew

    def days(self) -> list[date]:
        """The days that are kept, oldest first."""
        with self._lock:
            return sorted(_days_in(self._folder))

    def piece_count(self, day: date) -> int:
        """Pieces of a day; 0 if it is gone or damaged. Raises OutputError."""
        with self._lock:
            environment = self._readable(day)
            return 0 if environment is None else int(environment.stat()["entries"])

    def reseal(self, day: date, retiring: frozenset[int], after: bytes | None) -> tuple[bytes | None, int]:
        """Encrypts a few pieces of a day anew that lie under data keys which shall go, from behind a place on.

        Answers the last place that was looked at, None at the end of the day, and how many pieces were looked at. What is
        damaged stays as it is. Raises OutputError if the disk does not give or take it.
        """
        with self._lock:
            environment = self._readable(day)
            if environment is None:
                return None, 0
            try:
                with environment.begin(write=True) as transaction:
                    return self._reseal(transaction, retiring, after)
            except (lmdb.Error, OSError) as error:
                raise OutputError(f"{self._folder}/{day}: output cannot be encrypted anew ({error})") from error

    async def on_thread(self, work: Callable[..., Work], *arguments: Any) -> Work:
        """Calls `work` where everything that may block is done."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _reseal(self, transaction: Any, retiring: frozenset[int], after: bytes | None) -> tuple[bytes | None, int]:
        count = size = 0
        place = after
        with transaction.cursor() as cursor:
            found = cursor.first() if after is None else cursor.set_range(after + b"\0")
            while found and count < RESEAL_PIECES and size < RESEAL_BYTES:
                place, value = bytes(cursor.key()), bytes(cursor.value())
                head, sealed = value[: _HEAD.size], value[_HEAD.size :]
                if key_number_of(sealed) in retiring:
                    with suppress(UnsealError):
                        context = _CONTEXT + place + head
                        cursor.put(place, head + self._cipher.seal(context, self._cipher.unseal(context, sealed)))
                        size += len(value)
                count += 1
                found = cursor.next()
        return place if found else None, count

    # Retention

    def drop_old_days(self) -> int:
        """Drops the days that are older than the retention; answers how many."""
        with self._lock:
            return self._drop_old_days()

    async def keep_retention(self) -> None:
        """Drops old days for ever, also on a node that gets no new output."""
        while True:
            try:
                await asyncio.get_running_loop().run_in_executor(self._thread, self.drop_old_days)
            except OSError as error:
                log.warning("old output cannot be dropped", error=str(error))
            await asyncio.sleep(RETENTION_CHECK_SECONDS)

    def close(self) -> None:
        """Ends the thread and closes the files. Nothing may be called afterwards."""
        self._thread.shutdown(wait=True)
        with self._lock:
            for environment in self._days.values():
                environment.close()
            self._days.clear()

    # Inside; the lock is held

    def _readable(self, day: date) -> Any:
        """The day's environment; None if it is gone, or damaged for good. Raises OutputError."""
        if not (self._folder / day.isoformat()).exists():
            return None
        try:
            return self._open(day, create=False)
        except _DAMAGE as error:
            log.error("output of a day is damaged", day=str(day), error=str(error))
            return None
        except (lmdb.Error, OSError) as error:
            log.error("output of a day cannot be read now", day=str(day), error=str(error))
            raise OutputError(f"{self._folder}/{day}: output cannot be read now ({error})") from error

    def _values(self, key: OutputKey, first_sequence: int) -> Iterator[tuple[int, bytes]]:
        environment = self._readable(_day_of(key.assign_ms))
        if environment is None:
            return
        with environment.begin() as transaction, transaction.cursor() as cursor:
            found = cursor.set_range(_KEY.pack(key.execution, key.attempt, first_sequence))
            while found:
                execution, attempt, sequence = _KEY.unpack(cursor.key())
                if (execution, attempt) != key[:2]:
                    break
                yield sequence, bytes(cursor.value())
                found = cursor.next()

    def _encode(self, place: bytes, piece: OutputPiece) -> bytes:
        head = _HEAD.pack(piece.stream, len(piece.data))
        return head + self._cipher.seal(_CONTEXT + place + head, zlib.compress(piece.data, 1))

    def _decode(self, sequence: int, value: bytes, key: OutputKey) -> OutputPiece:
        place, head = _KEY.pack(key.execution, key.attempt, sequence), value[: _HEAD.size]
        with suppress(UnsealError, zlib.error):
            compressed = self._cipher.unseal(_CONTEXT + place + head, value[_HEAD.size :])
            stream, length = _HEAD.unpack(head)
            return OutputPiece(sequence, stream, zlib.decompress(compressed, bufsize=length or 1))
        log.error("a piece of output is damaged", execution=key.execution, attempt=key.attempt, sequence=sequence)
        said = b"[horologe: a piece of this output is damaged on disk]\n"
        return OutputPiece(sequence, Stream.STDERR, said, is_damaged=True)

    def _open(self, day: date, *, create: bool) -> Any:
        environment = self._days.get(day)
        if environment is None:
            folder = self._folder / day.isoformat()
            is_new = not folder.exists()
            if create and is_new:
                self._drop_old_days()
            try:
                environment = _open_environment(folder)
            except lmdb.Error as error:
                if not create or not isinstance(error, _DAMAGE):
                    raise
                aside = folder.with_name(f"{day}.{self._clock.wall_ms()}{_DAMAGED_SUFFIX}")
                folder.rename(aside)
                log.error("output of a day is damaged and was set aside", folder=str(aside), error=str(error))
                environment = _open_environment(folder)
            self._days[day] = environment
        return environment

    def _drop_old_days(self) -> int:
        first = _day_of(self._clock.wall_ms()) - timedelta(days=self._retention_days)
        count = 0
        for folder in sorted(self._folder.iterdir()):
            with suppress(ValueError):
                # Days that were damaged and set aside have names that begin like the others.
                day = date.fromisoformat(folder.name[:10])
                if day < first:
                    environment = self._days.pop(day, None)
                    if environment is not None:
                        environment.close()
                    shutil.rmtree(folder)
                    log.info("output of a day dropped", day=str(day))
                    count += 1
        return count


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


def _days_in(folder: Path) -> Iterator[date]:
    """Days that were damaged and set aside have names that are none."""
    for path in folder.iterdir():
        with suppress(ValueError):
            yield date.fromisoformat(path.name)


def _day_of(time_ms: int) -> date:
    return datetime.fromtimestamp(time_ms / 1000, UTC).date()
