"""The disk of one simulated node: the real store over LMDB, with commits that take time, fail, or are cut short.

LMDB makes a commit durable as a whole or not at all, so a power cut has two places where it matters: just before a commit, and
after it, before anything that rests on it has left. Bytes that change while nobody looks are done to the file itself.
"""

from __future__ import annotations

import enum
import itertools
import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from horologe.raft.records import U64
from horologe.raft.store import Store, StoreError

Log = dict[int, tuple[int, int]]
"""index: (term, checksum of the command)"""


LAST_COMMANDS = 20
"""So many entries may be chosen to be damaged."""


class PowerCut(BaseException):
    """The machine went dark in the middle of a step."""


class DiskFault(enum.Enum):
    """What can happen to the next commit."""

    CUT_BEFORE = "power cut before a commit"
    CUT_AFTER = "power cut after a commit, before its release"
    WRITE_FAILS = "commit failed (EIO)"
    FULL = "disk full"


class SimDisk:
    """How a node's disk behaves at the moment. Lives as long as the folder."""

    def __init__(self, randomness: random.Random) -> None:
        self._random = randomness
        self.commit_seconds = (0.0005, 0.003)
        self.next_fault: DiskFault | None = None
        self.happened: Callable[[DiskFault], None] = lambda fault: None

    def latency(self) -> float:
        """How long the next commit takes."""
        shortest, longest = self.commit_seconds
        return shortest + (longest - shortest) * self._random.random()

    def take_fault(self) -> DiskFault | None:
        fault, self.next_fault = self.next_fault, None
        if fault is not None:
            self.happened(fault)
        return fault


class SimStore(Store):
    """The node's store; remembers what of the log is durable, for those who check (observer.py)."""

    def __init__(
        self, folder: Path, node: str, disk: SimDisk, logged: Callable[[int, int, int], None], **options: Any
    ) -> None:
        """`logged` hears of every entry (index, term, checksum) that has become durable: what was written by a step whose
        commit failed has never been, and the next life may well write another entry there."""
        self._disk = disk
        self._logged = logged
        self.durable_log: Log = {}
        self._changed: list[Callable[[Log], None]] = []
        self._written: list[tuple[int, int, int]] = []
        self.settled: Callable[[bool], None] = lambda durable: None
        """Hears of every transaction whether it has become durable."""
        self._last_commands: list[bytes] = []
        self._is_up = False
        super().__init__(folder, node, **options)
        try:
            self._read_log()
        except StoreError:
            # A process that met damage would end here, and let go of the folder.
            self.close()
            raise
        self._is_up = True

    def _read_log(self) -> None:
        self._changed.clear()
        self._written.clear()
        self.durable_log = {index: (term, zlib.crc32(command)) for index, term, command in self.log_get_all()}

    def commit(self) -> None:
        if not self.dirty or not self._is_up:
            super().commit()
            return
        fault = self._disk.take_fault()
        if fault is DiskFault.CUT_BEFORE:
            raise PowerCut
        if fault in (DiskFault.WRITE_FAILS, DiskFault.FULL):
            self.abort()
            raise StoreError(f"{self.folder}: the disk did not take a commit ({fault.value}); this node stops")
        super().commit()
        self._make_durable()
        if fault is DiskFault.CUT_AFTER:
            raise PowerCut

    def abort(self) -> None:
        self._changed.clear()
        self._written.clear()
        self.settled(False)
        super().abort()

    def _make_durable(self) -> None:
        for change in self._changed:
            change(self.durable_log)
        self._changed.clear()
        written, self._written = self._written, []
        for index, term, checksum in written:
            self._logged(index, term, checksum)
        self.settled(True)

    def log_put(self, index: int, term: int, command: bytes) -> None:
        super().log_put(index, term, command)
        entry = (term, zlib.crc32(command))
        self._written.append((index, *entry))
        self._changed.append(lambda log: log.__setitem__(index, entry))

    def log_delete_from(self, index: int) -> None:
        super().log_delete_from(index)
        self._changed.append(lambda log: _delete(log, [one for one in log if one >= index]))

    def log_delete_to(self, index: int) -> None:
        super().log_delete_to(index)
        self._changed.append(lambda log: _delete(log, _from_the_start(log, index)))

    def replace_with(self, folder: Path) -> None:
        super().replace_with(folder)
        self._read_log()

    def durable_commands(self) -> list[bytes]:
        """Some of the last entries of the log as they lie in the file, after a crash."""
        return self._last_commands

    def _stored_commands(self) -> list[bytes]:
        with self._environment.begin() as transaction:
            return [bytes(value[U64.size :]) for _, value in transaction.cursor(db=self._databases["log"])]

    def close(self) -> None:
        super().close()
        self._owner_file = -1

    def crash(self) -> None:
        """The process is gone: nothing that was not committed remains, and the file is free for the next life."""
        self._reader_count = 0
        if not self._closed:
            self.abort()
            self._last_commands = self._stored_commands()[-LAST_COMMANDS:]
            self.close()
        elif self._owner_file >= 0:
            # It died while its files were being replaced.
            self._environment.close()
            os.close(self._owner_file)
            self._owner_file = -1


def _delete(log: Log, indexes: list[int]) -> None:
    for index in indexes:
        del log[index]


def _from_the_start(log: Log, end: int) -> list[int]:
    return list(itertools.takewhile(lambda index: index < end, log))


def flip_log_entry(path: Path, store: SimStore, randomness: random.Random) -> bool:
    """Flips a bit in a log entry as it lies in the file of a closed store; whether there was one."""
    data = bytearray(path.read_bytes())
    commands = [command for command in store.durable_commands() if len(command) > 16]
    if not commands:
        return False
    command = randomness.choice(commands)
    position = data.find(command)
    if position < 0:
        return False
    while position >= 0:
        # Older pages may hold the same entry: whichever is in use is then damaged too.
        data[position + len(command) // 2] ^= 1 << randomness.randrange(8)
        position = data.find(command)
    path.write_bytes(data)
    return True


def tear(path: Path, randomness: random.Random) -> bool:
    """Cuts a file off somewhere."""
    data = path.read_bytes()
    path.write_bytes(data[: randomness.randrange(len(data) // 4, len(data) // 2)])
    return True
