"""How far a benchmark is, for a person at a terminal; nothing for anybody else."""

from __future__ import annotations

import asyncio
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

TICK_SECONDS = 0.25


class Steps:
    """One bar per step, on standard error, so that the report stays alone on standard output."""

    def __init__(self, *, enabled: bool | None = None) -> None:
        """Enabled if standard error is a terminal, unless told otherwise."""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=not (sys.stderr.isatty() if enabled is None else enabled),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, description: str, total: float) -> Step:
        """A new bar; the one before stays as it is."""
        return Step(self._progress, description, total)

    async def wait_until(self, description: str, wall_seconds: float) -> None:
        """Waits for an instant of the wall clock, with a bar."""
        begun = time.time()
        step = self.begin(description, max(0.001, wall_seconds - begun))
        while (left := wall_seconds - time.time()) > 0:
            step.reach(time.time() - begun)
            await asyncio.sleep(min(TICK_SECONDS, left))
        step.reach(wall_seconds - begun)


class Step:
    """One bar."""

    def __init__(self, progress: Progress, description: str, total: float) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total)

    def reach(self, done: float) -> None:
        self._progress.update(self._task, completed=done)

    def add(self, count: float) -> None:
        self._progress.advance(self._task, count)
