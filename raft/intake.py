"""How much of what callers ask for a leader takes: due work goes first, and writes may not make it late.

Everything goes through one log in its order, so whatever lies there delays what falls due meanwhile. How much may lie there
before another write is taken is found out, not set, much as TCP finds out how much may be on its way: while plans come through
the log in time it grows, and when they are slow, whoever is the cause, it is halved, down to what nobody notices. What does not
fit waits in a line, which due work passes; when the line is full, what comes is refused at once: the caller hears
RESOURCE_EXHAUSTED, and when to come again.

Pure: time is told, and so is how long things took.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from horologe.log.v1 import log_pb2

ASKED_FOR = frozenset(
    {
        "put_jobs", "run_job", "delete_job", "start_operation", "rerun_execution", "redrive_dead_letter",
        "purge_dead_letter", "set_calendar",
    }
)  # fmt: skip
"""What callers may ask for in masses. Everything else always passes: due work, outcomes, workers and members that come and go,
rights; and what makes less work, such as to pause a queue or to cancel an execution."""
STEP_SECONDS_MAX = 0.1
"""A step that takes longer is too slow: so long due work and heartbeats wait for the next one."""
PLAN_SECONDS_MAX = 0.25
"""The same for a plan on its way through the log; that of a cluster over many miles takes a while without any load."""
BYTES_MIN = 16 << 10
"""The window is never smaller: about sixty small jobs."""
FREE_BYTES = 4 << 10
"""So much is taken between two looks in any case: who creates one job at a time is always served."""
BYTES_MAX = 256 << 10
"""What a leader begins with, and what it goes back to while nothing is due that could be late: a machine that is slow for other
reasons gets no faster by taking less. A node applies so much in some 0.3 s, and no more of it if more lies in the log."""
LOOK_SECONDS = 0.1
"""What was measured is looked at so often."""
DUE_LOOKS = 20
"""For so many looks after a plan, the next one is expected."""
WAITING_SHARE = 5
"""The line may be so many times as long as what is on its way; what comes then is refused."""


@dataclass(slots=True)
class Share:
    """What becomes of the commands that have come in."""

    due: list[log_pb2.Command] = field(default_factory=list)
    """To be taken first, in any case."""
    taken: list[log_pb2.Command] = field(default_factory=list)
    waiting: list[log_pb2.Command] = field(default_factory=list)
    """For the next step, in front of what comes in until then."""
    refused: list[log_pb2.Command] = field(default_factory=list)


class Intake:
    """One leader's view."""

    def __init__(self, now: float) -> None:
        self.window_bytes = BYTES_MAX
        """Nothing is taken while more than this is on its way."""
        self._looked_at = now
        self._step_seconds = self._plan_seconds = 0.0
        """The longest since the last look."""
        self._credit_bytes = FREE_BYTES
        """What is taken in any case; less than nothing after a larger command."""
        self._due_looks = 0

    def step_took(self, seconds: float) -> None:
        """A step is over."""
        self._step_seconds = max(self._step_seconds, seconds)

    def plan_took(self, seconds: float) -> None:
        """A plan was applied so long after it was made; until then nothing else could fall due."""
        self._plan_seconds = max(self._plan_seconds, seconds)
        self._due_looks = DUE_LOOKS

    def share(self, commands: Sequence[log_pb2.Command], backlog_bytes: int, now: float) -> Share:
        """Parts the commands, in their order. `backlog_bytes`: in the log and not applied; `now`: monotonic seconds."""
        self._look(now)
        share = Share()
        waiting_bytes = 0
        for command in commands:
            if command.WhichOneof("kind") not in ASKED_FOR:
                share.due.append(command)
            elif backlog_bytes < self.window_bytes or self._credit_bytes > 0:
                size_bytes = command.ByteSize()
                backlog_bytes += size_bytes
                self._credit_bytes = max(self._credit_bytes - size_bytes, -BYTES_MAX)
                share.taken.append(command)
            elif waiting_bytes < WAITING_SHARE * self.window_bytes:
                waiting_bytes += command.ByteSize()
                share.waiting.append(command)
            else:
                share.refused.append(command)
        return share

    def _look(self, now: float) -> None:
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._due_looks = max(0, self._due_looks - 1)
        if not self._due_looks:
            self.window_bytes = BYTES_MAX
        elif self._step_seconds > STEP_SECONDS_MAX or self._plan_seconds > PLAN_SECONDS_MAX:
            self.window_bytes = max(BYTES_MIN, self.window_bytes // 2)
        else:
            self.window_bytes = min(BYTES_MAX, self.window_bytes * 5 // 4)
        self._step_seconds = self._plan_seconds = 0.0
        self._credit_bytes = min(FREE_BYTES, self._credit_bytes + FREE_BYTES)
        self._looked_at = now
