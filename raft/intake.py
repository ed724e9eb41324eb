"""How much of what callers ask for a leader takes in one step: due work goes first, and writes may not make it late.

A step does everything in one turn, so whatever it takes delays what falls due meanwhile. How much may be taken is found out, not
set: while steps are short and plans come through the log in time, it grows as far as it is used; when they are slow, whoever is
the cause, it is halved, down to what nobody notices. What does not fit waits in a line, which due work passes, and what would
wait there for too long is refused at once: the caller hears RESOURCE_EXHAUSTED, and when to come again.

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
BYTES_MIN = 32 << 10
"""About a hundred small jobs: a caller who creates one at a time is always served."""
BYTES_FIRST = 256 << 10
"""What a leader begins with, and the least while nothing is due that could be late: a machine that is slow for other reasons gets
no faster by taking less."""
BYTES_MAX = 4 << 20
LOOK_SECONDS = 0.1
"""What was measured is looked at so often."""
DUE_LOOKS = 20
"""For so many looks after a plan, the next one is expected."""
WAIT_SECONDS_MAX = 0.5
"""What would wait longer in the line is refused."""
PULSE_SECONDS = 0.02
"""Steps come no faster than this while something waits."""


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
        self.bytes_per_step = BYTES_FIRST
        self._looked_at = now
        self._step_seconds = self._plan_seconds = 0.0
        """The longest since the last look."""
        self._recent_step_seconds = 0.0
        """The longest before it."""
        self._was_full = False
        self._due_looks = 0

    def step_took(self, seconds: float) -> None:
        """A step is over."""
        self._step_seconds = max(self._step_seconds, seconds)

    def plan_took(self, seconds: float) -> None:
        """A plan was applied so long after it was made; until then nothing else could fall due."""
        self._plan_seconds = max(self._plan_seconds, seconds)
        self._due_looks = DUE_LOOKS

    def share(self, commands: Sequence[log_pb2.Command], now: float) -> Share:
        """Parts the commands, in their order. `now`: monotonic seconds."""
        self._look(now)
        share = Share()
        waiting_bytes_max = self.bytes_per_step * WAIT_SECONDS_MAX / max(PULSE_SECONDS, self._recent_step_seconds)
        taken_bytes = waiting_bytes = 0
        for command in commands:
            if command.WhichOneof("kind") not in ASKED_FOR:
                share.due.append(command)
            elif taken_bytes < self.bytes_per_step:
                # The last one may be larger than what was left: one that is larger than all must pass as well.
                taken_bytes += command.ByteSize()
                share.taken.append(command)
            elif waiting_bytes < waiting_bytes_max:
                waiting_bytes += command.ByteSize()
                share.waiting.append(command)
            else:
                share.refused.append(command)
        self._was_full = self._was_full or bool(share.waiting)
        return share

    def _look(self, now: float) -> None:
        if now - self._looked_at < LOOK_SECONDS:
            return
        if self._step_seconds > STEP_SECONDS_MAX or self._plan_seconds > PLAN_SECONDS_MAX:
            self.bytes_per_step = max(BYTES_MIN if self._due_looks else BYTES_FIRST, self.bytes_per_step // 2)
        elif self._was_full or self.bytes_per_step < BYTES_FIRST:
            self.bytes_per_step = min(BYTES_MAX, self.bytes_per_step * 5 // 4)
        self._due_looks = max(0, self._due_looks - 1)
        self._recent_step_seconds = self._step_seconds
        self._step_seconds = self._plan_seconds = 0.0
        self._was_full = False
        self._looked_at = now
