"""The worker's right to run attempts, measured on its own clock.

A lease knows when it ends; it does not kill anything (that is `runner.py`) and sends nothing (that is `session.py`).
"""

import time
from collections.abc import Callable

Clock = Callable[[], float]

# The cluster gives a session up after a whole term, counted from the last heartbeat that it received. The worker counts
# from the sending of the last heartbeat that was acknowledged, which is earlier, and stops at this share of the term;
# the rest pays for clocks that run at different rates and for the time that killing takes.
SELF_FENCING_SHARE = 0.8

# When this share of the term has passed without an acknowledgement the connection is given up for another node:
# early enough to be welcomed there before the lease ends.
RECONNECT_SHARE = 0.5

NEVER = float("inf")


def boot_time_seconds() -> float:
    """Seconds since the machine started, counting suspend where the system can tell; wall-clock changes do not matter."""
    return time.clock_gettime(_CLOCK)


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Lease:
    """When the worker must stop what it runs.

    `ends_at` is in seconds of `clock`, and `NEVER` while no session has begun or after the lease was given up: then
    nothing runs that would have to be stopped.
    """

    def __init__(self, clock: Clock = boot_time_seconds) -> None:
        self.clock = clock
        self.term_seconds = NEVER
        self.renewed_at = NEVER
        self.ends_at = NEVER
        self.listeners: list[Callable[[float], None]] = []

    def begin(self, term_seconds: float, sent_at: float) -> None:
        """A session was opened by a Hello that left at `sent_at`."""
        self.term_seconds = term_seconds
        self.renewed_at = sent_at
        self._announce()

    def renew(self, sent_at: float) -> None:
        """A heartbeat that left at `sent_at` was acknowledged; acknowledgements may come out of order."""
        if sent_at > self.renewed_at:
            self.renewed_at = sent_at
            self._announce()

    def give_up(self) -> None:
        """The lease ended and its attempts were stopped: nothing is left to fence until the next session."""
        self.renewed_at = NEVER
        self.ends_at = NEVER

    @property
    def reconnect_at(self) -> float:
        """When a connection that renews nothing is given up."""
        return self.renewed_at + self.term_seconds * RECONNECT_SHARE

    def _announce(self) -> None:
        self.ends_at = self.renewed_at + self.term_seconds * SELF_FENCING_SHARE
        for listener in self.listeners:
            listener(self.ends_at)
