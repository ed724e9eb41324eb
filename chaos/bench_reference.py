"""The reference loop: fixed work of this machine's processor and disk, measured before and after a profile.

Machines differ, and a virtual one differs from itself an hour ago. What a figure is worth is therefore told beside it: how many
rounds of the same small work the machine did just then, and how long its disk took for one fsync. Two runs are compared by ratios
to these (bench_compare.py).
"""

from __future__ import annotations

import hashlib
import os
import statistics
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CPU_SLICES = 8
SLICE_SECONDS = 0.05
SYNCS = 40
SYNC_SECONDS_MAX = 0.5
SYNC_BYTES = 4_096
_RECORD = struct.Struct(">QQIHB")
_RECORDS = 300


@dataclass(frozen=True, slots=True)
class Reference:
    """What the machine did at one time. Each is a median of several tries."""

    rounds_per_cpu_second: float
    """Rounds of the loop in a second of the processor's time: how fast a core is, whoever else wants it."""
    rounds_per_second: float
    """Rounds in a second of the clock on the wall: how much of a core there is."""
    fsync_ms: float

    @classmethod
    def mean(cls, one: Reference, other: Reference) -> Reference:
        """Between the one before and the one after."""
        return cls(
            round((one.rounds_per_cpu_second + other.rounds_per_cpu_second) / 2, 1),
            round((one.rounds_per_second + other.rounds_per_second) / 2, 1),
            round((one.fsync_ms + other.fsync_ms) / 2, 3),
        )


def measure(folder: Path) -> Reference:
    """Half a second of processor work, and 40 fsyncs in this folder, where a file is made and removed."""
    by_cpu, by_wall = [], []
    cipher = AESGCM(bytes(32))
    for _ in range(CPU_SLICES):
        rounds, wall, cpu = 0, time.perf_counter(), time.thread_time()
        while time.perf_counter() - wall < SLICE_SECONDS:
            one_round(cipher)
            rounds += 1
        by_wall.append(rounds / (time.perf_counter() - wall))
        by_cpu.append(rounds / max(1e-9, time.thread_time() - cpu))
    return Reference(
        round(statistics.median(by_cpu), 1), round(statistics.median(by_wall), 1), round(_fsync_ms(folder), 3)
    )


def one_round(cipher: AESGCM) -> int:
    """What an apply consists of: records packed and unpacked, a table of them, hashes, and authenticated encryption."""
    table: dict[int, bytes] = {}
    for number in range(_RECORDS):
        table[number * 7 % _RECORDS] = _RECORD.pack(number, number << 20, number, number & 0xFFFF, 1)
    found = 0
    for value in table.values():
        found += _RECORD.unpack(value)[2]
    content = b"".join(table.values())
    for _ in range(20):
        found += hashlib.sha256(content).digest()[0]
        found += len(cipher.encrypt(bytes(12), content[:512], None))
    return found


def _fsync_ms(folder: Path) -> float:
    path = folder / "reference.fsync"
    taken_ms: list[float] = []
    begun = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        while len(taken_ms) < SYNCS and time.perf_counter() - begun < SYNC_SECONDS_MAX:
            file.write(bytes(SYNC_BYTES))
            began = time.perf_counter()
            os.fsync(file.fileno())
            taken_ms.append((time.perf_counter() - began) * 1000)
    path.unlink()
    return statistics.median(taken_ms)
