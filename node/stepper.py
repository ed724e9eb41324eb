"""The thread that steps: it owns the replica, and nothing else may touch it.

The event loop hands over what came in and goes on; after each step's commit, what may leave comes back to the loop in one
call. Neither side ever waits for the other.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from horologe.node.clock import Clock
from horologe.node.inbox_line import InboxLine
from horologe.raft.replica import Replica
from horologe.raft.step import Inbox, Outbox

LOOK_SECONDS = 0.02
"""What came in and can wait is taken up after so long."""
WAIT_SECONDS_MAX = 0.2
"""A step is made at least this often, whether or not it has anything to do."""
LATE_SECONDS = 0.1
"""When nothing steps for so long, heartbeats and due work are late, and the log says so."""
REPORT_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Stepped(Protocol):
    """Hears when each step began and ended, in monotonic seconds, and whether it wrote anything."""

    def __call__(self, began: float, ended: float, *, wrote: bool) -> None: ...


class Punctuality:
    """The longest time between two steps that was not rest, in each second: in the log as a warning if that is too long."""

    def __init__(self, now: float) -> None:
        self._stepped_at = self._reported_at = now
        self._longest_seconds = 0.0

    def note(self, now: float, rested_seconds: float) -> None:
        """A step begins, after so much time for which there was nothing to do."""
        self._longest_seconds = max(self._longest_seconds, now - self._stepped_at - rested_seconds)
        self._stepped_at = now
        if now - self._reported_at >= REPORT_SECONDS:
            say = log.warning if self._longest_seconds >= LATE_SECONDS else log.debug
            say("longest time between two steps", milliseconds=round(self._longest_seconds * 1000, 1))
            self._reported_at, self._longest_seconds = now, 0.0


class Stepper:
    """Runs `Replica.step` whenever there is something to do."""

    def __init__(
        self,
        replica: Replica,
        clock: Clock,
        deliver: Callable[[Outbox], None],
        failed: Callable[[BaseException], None],
        stepped: Stepped,
    ) -> None:
        """`deliver` and `failed` are called on the event loop that calls `start`, `stepped` on the thread after each step."""
        self._replica = replica
        self._clock = clock
        self._deliver = deliver
        self._failed = failed
        self._stepped = stepped
        self._line = InboxLine()
        self._snapshot: Path | None = None
        self._wake = threading.Condition()
        self._has_work = False
        self._look_at: float | None = None
        """When what came in and can wait is taken up; None if there is nothing."""
        self._woken_at = self._rested_seconds = 0.0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="step", daemon=True)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def submit(self, inbox: Inbox) -> None:
        """Adds to what the next step takes. For the event loop."""
        with self._wake:
            self._line.add(inbox)
            if self._has_work:
                return
            now = self._clock.monotonic()
            if not self._replica.can_wait(inbox, now):
                self._has_work, self._woken_at = True, now
            elif self._look_at is None:
                self._look_at = now + LOOK_SECONDS
            else:
                return
            self._wake.notify()

    def install(self, folder: Path) -> None:
        """A snapshot was fetched into `folder`."""
        with self._wake:
            self._snapshot = folder
            self._has_work, self._woken_at = True, self._clock.monotonic()
            self._wake.notify()

    def stop(self) -> None:
        """Ends the thread after the step it is in. For another thread than the event loop's."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        punctuality = Punctuality(self._clock.monotonic())
        try:
            while (taken := self._wait()) is not None:
                punctuality.note(self._clock.monotonic(), self._rested_seconds)
                inbox, folder = taken
                if folder is not None:
                    connected = sorted(self._replica.status.connected)
                    if self._replica.install(folder, self._clock.monotonic()):
                        log.info("snapshot installed", revision=self._replica.status.revision)
                        self._hand_over(Outbox(state_replaced=True, dropped=connected))
                began, commits = self._clock.monotonic(), self._replica.store.commits
                outbox = self._replica.step(inbox, began, self._clock.wall_ms())
                self._stepped(began, self._clock.monotonic(), wrote=self._replica.store.commits > commits)
                self._hand_over(outbox)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the node must stop
            # Nothing of this step has left the process. It must not go on: see replica.py.
            self._loop.call_soon_threadsafe(self._failed, error)

    def _wait(self) -> tuple[Inbox, Path | None] | None:
        began = now = self._clock.monotonic()
        until = min(now + WAIT_SECONDS_MAX, self._replica.tick_at(now))
        wait_seconds = self._replica.wait_seconds(now, self._clock.wall_ms())
        if wait_seconds is not None:
            until = min(until, now + wait_seconds)
        with self._wake:
            while not self._has_work and not self._stopping:
                if self._look_at is not None:
                    until = min(until, self._look_at)
                if now >= until:
                    break
                self._wake.wait(until - now)
                now = self._clock.monotonic()
            if self._stopping:
                return None
            rested_until = min(now, until, self._woken_at if self._has_work else now)
            self._rested_seconds = max(0.0, rested_until - began)
            self._look_at = None
            inbox = self._line.take()
            folder, self._snapshot = self._snapshot, None
            self._has_work = not self._line.is_empty
            return inbox, folder

    def _hand_over(self, outbox: Outbox) -> None:
        if not outbox.is_empty():
            self._loop.call_soon_threadsafe(self._deliver_or_fail, outbox)

    def _deliver_or_fail(self, outbox: Outbox) -> None:
        try:
            self._deliver(outbox)
        except Exception as error:  # noqa: BLE001 - whatever it is, the node must stop
            # What a step released is said only once; an assignment that got lost would stay with nobody. A restart says it again.
            self._failed(error)
