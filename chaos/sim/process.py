"""One life of a simulated process: it runs, stands still, or is gone.

What a process is made of (a node, a worker, a client) is decided elsewhere. When it is gone, nothing of it runs any more; its
objects stay until the end of the world, so that no clean-up of theirs can disturb the run.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from horologe.chaos.sim.clocks import SimClock
from horologe.chaos.sim.loop import SimLoop
from horologe.chaos.sim.timeline import Timeline


class Process:
    """A process on a machine of the same name."""

    def __init__(
        self, name: str, timeline: Timeline, clock: SimClock, noticed: Callable[[str, dict[str, Any]], None]
    ) -> None:
        """`noticed` hears of exceptions that nobody in the process caught, with the process's name."""
        self.name = name
        self.clock = clock
        self.is_alive = True
        self.is_paused = False
        self.on_end: list[Callable[[], None]] = []
        """Called when the process is gone: its connections break, its files are closed."""
        self._timeline = timeline
        self._waiting: list[Callable[[], None]] = []
        self.loop = SimLoop(timeline, clock, self._is_running, lambda context: noticed(name, context))

    def _is_running(self) -> bool:
        return self.is_alive and not self.is_paused

    def start(self, main: Coroutine[Any, Any, Any]) -> None:
        """Begins to run a coroutine."""
        self.loop.enter(lambda: self._hold(self.loop.create_task(main)))

    def _hold(self, task: object) -> None:
        self._main = task

    def deliver(self, work: Callable[[], None]) -> None:
        """Something reaches the process from outside; it waits while the process stands still."""
        if not self.is_alive:
            return
        if self.is_paused:
            self._waiting.append(work)
        else:
            self.loop.enter(work)

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Does something later, if the process then still lives."""
        self._timeline.after(seconds, lambda: self.deliver(work))

    def pause(self) -> None:
        """SIGSTOP."""
        self.is_paused = True

    def resume(self) -> None:
        """SIGCONT: what came in meanwhile is seen now."""
        if self.is_alive and self.is_paused:
            self.is_paused = False
            waiting, self._waiting = self._waiting, []
            for work in waiting:
                self.deliver(work)
            self.loop.wake()

    def kill(self) -> None:
        """SIGKILL, or the end of the machine."""
        if self.is_alive:
            self.is_alive = False
            self._waiting.clear()
            for ended in self.on_end:
                ended()
