"""A machine for examinations, whose clock, disk, limits and memory are what a test says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from horologe.client.machine import ClockState, FileLimit, Space

GIB = 1 << 30


@dataclass(slots=True)
class FakeMachine:
    """All is well on it, until a test says otherwise."""

    clock_state: ClockState = field(default_factory=lambda: ClockState(True, 5.0))
    disk: Space = field(default_factory=lambda: Space(80 * GIB, 100 * GIB))
    kind: str = "ext4"
    syncs: list[float] = field(default_factory=lambda: [0.001] * 100)
    error: OSError | None = None
    """Of whoever writes to the disk."""
    limit: FileLimit = field(default_factory=lambda: FileLimit(65_536, 65_536, "this shell"))
    ram: Space = field(default_factory=lambda: Space(8 * GIB, 16 * GIB))
    random: bool = True
    libraries: dict[str, str] = field(default_factory=lambda: {"python": "3.12.1", "pysyncobj": "0.3.17"})

    def clock(self) -> ClockState:
        return self.clock_state

    def space(self, folder: Path) -> Space:
        del folder
        return self.disk

    def file_system(self, folder: Path) -> str:
        del folder
        return self.kind

    def sync_seconds(self, folder: Path, count: int, seconds_max: float) -> list[float]:
        del folder, count, seconds_max
        if self.error is not None:
            raise self.error
        return self.syncs

    def file_limit(self, process: int | None) -> FileLimit:
        return self.limit if process is None else self.limit._replace(whose=f"process {process}")

    def memory(self) -> Space:
        return self.ram

    def has_randomness(self) -> bool:
        return self.random

    def versions(self) -> Mapping[str, str]:
        return self.libraries
