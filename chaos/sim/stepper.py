"""What the step thread is on a real machine (node/stepper.py): the same line in front of the same replica, in simulated time.

A node steps only when something came in or its next deadline is due, so quiet seconds cost little. A step computes at one
instant; what it released leaves when its commit is over. Meanwhile the next step waits, as it would behind an fsync.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from horologe.chaos.sim.disk import PowerCut, SimDisk, SimStore
from horologe.chaos.sim.process import Process
from horologe.chaos.sim.timeline import Timeline
from horologe.node.inbox_line import InboxLine
from horologe.raft.replica import Replica
from horologe.raft.step import Inbox, Outbox

WAKE_SECONDS = 0.00005
"""From the event loop's call to the step thread."""
COMPUTE_SECONDS = 0.0002
"""A step that commits nothing."""
LATE_SECONDS = 0.0005
"""Deadlines are looked at a little after they have passed: the engine compares with `>`."""


class SimStepper:
    """See stepper.Stepper."""

    def __init__(
        self,
        process: Process,
        timeline: Timeline,
        disk: SimDisk,
        replica: Replica,
        deliver: Callable[[Outbox], None],
        failed: Callable[[BaseException], None],
        stepped: Callable[[Replica], None],
        installed: Callable[[], None],
        power_lost: Callable[[], None],
    ) -> None:
        """`stepped` looks at the replica after each step, before anything is released; `installed` counts snapshots; `power_lost`
        ends the machine."""
        self._process = process
        self._timeline = timeline
        self._disk = disk
        self._replica = replica
        self._deliver = deliver
        self._failed = failed
        self._stepped = stepped
        self._installed = installed
        self._power_lost = power_lost
        self._line = InboxLine()
        self._snapshot: Path | None = None
        self._has_work = False
        self._is_busy = False
        self._is_stopped = False
        self._due_at = float("inf")

    def start(self) -> None:
        self._wake_at(self._timeline.now)

    def submit(self, inbox: Inbox) -> None:
        self._line.add(inbox)
        self._wake()

    def install(self, folder: Path) -> None:
        self._snapshot = folder
        self._wake()

    def stop(self) -> None:
        self._is_stopped = True

    def _wake(self) -> None:
        if not self._has_work:
            self._has_work = True
            if not self._is_busy:
                self._wake_at(self._timeline.now + WAKE_SECONDS)

    def _wake_at(self, when: float) -> None:
        """Makes sure that it is looked at by then; an earlier appointment will do."""
        if when < self._due_at:
            self._due_at = when
            self._timeline.at(when, partial(self._process.deliver, partial(self._is_due, when)))

    def _is_due(self, when: float) -> None:
        if when != self._due_at:
            return
        self._due_at = float("inf")
        if self._is_busy or self._is_stopped:
            return
        if self._has_work or self._process.clock.monotonic() >= self._next_deadline():
            self._step()
        else:
            self._wake_for(self._next_deadline())

    def _next_deadline(self) -> float:
        """When there is something to do although nothing comes in, on the machine's monotonic clock."""
        clock = self._process.clock
        now = clock.monotonic()
        wait_seconds = self._replica.wait_seconds(now, clock.wall_ms())
        tick_at = self._replica.tick_at(now)
        return tick_at if wait_seconds is None else min(tick_at, now + wait_seconds)

    def _wake_for(self, deadline: float) -> None:
        self._wake_at(self._process.clock.true_time_of(deadline) + LATE_SECONDS)

    def _step(self) -> None:
        self._has_work = False
        inbox = self._line.take()
        folder, self._snapshot = self._snapshot, None
        clock, replica = self._process.clock, self._replica
        store = replica.store
        assert isinstance(store, SimStore)
        commits = store.commits
        outboxes: list[Outbox] = []
        try:
            if folder is not None:
                connected = sorted(replica.status.connected)
                if replica.install(folder, clock.monotonic()):
                    self._installed()
                    outboxes.append(Outbox(state_replaced=True, dropped=connected))
            outboxes.append(replica.step(inbox, clock.monotonic(), clock.wall_ms()))
        except PowerCut:
            self._power_lost()
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the node stops
            self._is_stopped = True
            self._failed(error)
            return
        self._stepped(replica)
        self._has_work |= not self._line.is_empty
        self._is_busy = True
        seconds = self._disk.latency() if store.commits > commits else COMPUTE_SECONDS
        self._process.after(seconds, partial(self._release, outboxes))

    def _release(self, outboxes: list[Outbox]) -> None:
        self._is_busy = False
        if self._is_stopped:
            return
        for outbox in outboxes:
            if not outbox.is_empty():
                try:
                    self._deliver(outbox)
                except Exception as error:  # noqa: BLE001 - whatever it is, the node stops
                    self._is_stopped = True
                    self._failed(error)
                    return
        if self._has_work:
            self._wake_at(self._timeline.now)
        else:
            self._wake_for(self._next_deadline())
