"""An asyncio event loop in simulated time: no selector, no threads, no waiting.

Each simulated process has its own; what is due is decided by the world's timeline. Callbacks take no time; what takes time on
a real machine (disk, network, computing) is an event of the timeline.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from functools import partial
from typing import Any

from horologe.chaos.sim.clocks import SimClock
from horologe.chaos.sim.timeline import Timeline

LATE_SECONDS = 1e-6
"""A timer never fires early, however floating point rounds."""
CALLBACKS_PER_TURN_MAX = 200_000
"""More at one instant is a process that spins: in real life it would burn a core."""
TASKS_PRUNED = 256


class BusyLoopError(AssertionError):
    """A process does something for ever without waiting."""


class SimLoop(asyncio.BaseEventLoop):
    """The loop of one process."""

    def __init__(
        self,
        timeline: Timeline,
        clock: SimClock,
        is_running: Callable[[], bool],
        noticed: Callable[[dict[str, Any]], None],
    ) -> None:
        """`is_running`: whether the process lives and is not stopped; `noticed` hears of exceptions that nobody caught."""
        super().__init__()
        self._timeline = timeline
        self._clock = clock
        self._is_running = is_running
        self._noticed = noticed
        self._turn_is_due = False
        self._drained = False
        self._handles: deque[asyncio.Handle] = deque()
        # Strong references: a task that nobody refers to would be collected at an unpredictable moment.
        self._tasks: list[asyncio.Task[Any]] = []

    # What asyncio asks of a loop

    def time(self) -> float:
        return self._clock.monotonic()

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._handles.append(handle)
        self.wake()
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if self._drained:
            self._handles.append(handle)
        else:
            self._timeline.at(self._clock.true_time_of(when) + LATE_SECONDS, partial(self._timer_is_due, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the timeline and does nothing there."""

    def create_task(self, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        task = asyncio.Task(coro, loop=self, **kwargs)
        self._tasks.append(task)
        if len(self._tasks) % TASKS_PRUNED == 0:
            self._tasks = [one for one in self._tasks if not one.done()]
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """There is one thread: what others do in threads is done at once."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits the result
            future.set_exception(error)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._noticed(context)

    def get_debug(self) -> bool:
        return False

    # What the world does with it

    def wake(self) -> None:
        """There is something to do at this instant."""
        if not self._turn_is_due and not self._drained:
            self._turn_is_due = True
            self._timeline.at(self._timeline.now, self._turn)

    def enter(self, work: Callable[[], None]) -> None:
        """Does something inside this loop, and what follows from it."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            work()
            self._run_handles()
        finally:
            events._set_running_loop(before)

    def drain(self) -> None:
        """The end of the world: cancels what is left and lets it clean up, without anybody seeing it."""
        self._drained = True
        self._noticed = lambda context: None
        for _ in range(20):
            left = [task for task in self._tasks if not task.done()]
            for task in left:
                task.cancel()
            self.enter(lambda: None)
            if not left:
                break
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if task.done() and not task.cancelled():
                task.exception()
        self._tasks.clear()
        self._handles.clear()
        self.close()

    def _timer_is_due(self, handle: asyncio.TimerHandle) -> None:
        if not handle.cancelled():
            self._handles.append(handle)
            self._turn()

    def _turn(self) -> None:
        self._turn_is_due = False
        if self._handles and self._is_running():
            self.enter(lambda: None)

    def _run_handles(self) -> None:
        handles = self._handles
        count = 0
        while handles:
            handle = handles.popleft()
            if not handle.cancelled():
                handle._run()
            count += 1
            if count > CALLBACKS_PER_TURN_MAX:
                raise BusyLoopError(f"{count} callbacks at one instant, the last one is {handle}")
            if not self._drained and not self._is_running():
                return
