"""What shares a log entry: how long work that nobody waits for is collected, and how much goes into one.

An entry costs each node a step, a commit and some messages, however little is in it. So on a busy node more is to share one;
but what is collected starts later. Therefore the pulse is as short as it may be while steps leave half of the time free, and
grows with what they take, so that no more than about half of the time goes to steps as long as that can be had by waiting.

Pure: time is told, and so is how long steps took.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from horologe.log.v1 import log_pb2
from horologe.raft.commands import ASSIGN, COMMAND_BYTES_MAX, DEADLINE, EXECUTION_TIMEOUT, FIRE, RETRY, TIMEOUT

PULSE_SECONDS_MAX = 0.1
"""What is due waits no longer than this to be collected, on average half of it."""
FREE_SHARE = 2.0
"""So many times what a pulse's steps take is the time to the next one."""
SMOOTHING = 0.2
"""The share of the newest pulse in what is thought of the next."""
ENTRY_BYTES_MAX = 40 << 10
"""An entry takes no further command beyond so much: some 20 to 30 ms to apply. While it is applied nobody is heard."""
RECORDS_PER_PIECE = 500
"""Of what may be many in a plan; more goes into further entries."""
_CUT = {
    "timeouts": TIMEOUT.size,
    "execution_timeouts": EXECUTION_TIMEOUT.size,
    "deadlines": DEADLINE.size,
    "assigns": ASSIGN.size,
    "retries": RETRY.size,
    "fires": FIRE.size,
}
"""What may be many, in the order in which the state machine takes it, and how long a record is."""

assert ENTRY_BYTES_MAX <= COMMAND_BYTES_MAX


class Pulse:
    """When one leader appends what nobody waits for."""

    def __init__(self, now: float, seconds: float) -> None:
        """`seconds`: the shortest time from one entry to the next."""
        self._seconds_min = seconds
        self._worked_seconds = 0.0
        self._expected_seconds = 0.0
        self.at = now
        """What nobody waits for is appended at this time, or earlier with something that somebody waits for."""

    def step_took(self, began: float, seconds: float) -> None:
        """A step is over. One that began after the pulse was over does not count: an idle leader steps too, however long."""
        if began <= self.at:
            self._worked_seconds += seconds

    def begin(self, now: float) -> None:
        """Something is appended now, or was to be and found no room."""
        self._expected_seconds += SMOOTHING * (self._worked_seconds - self._expected_seconds)
        self._worked_seconds = 0.0
        wanted_seconds = FREE_SHARE * self._expected_seconds
        self.at = now + max(self._seconds_min, min(PULSE_SECONDS_MAX, wanted_seconds))


def in_entries(
    commands: Iterable[log_pb2.Command], bytes_max: int = ENTRY_BYTES_MAX
) -> Iterator[list[log_pb2.Command]]:
    """Consecutive commands that share an entry; one that is larger than that has an entry of its own."""
    batch: list[log_pb2.Command] = []
    size_bytes = 0
    for command in commands:
        command_bytes = command.ByteSize() + 8
        if batch and size_bytes + command_bytes > bytes_max:
            yield batch
            batch, size_bytes = [], 0
        batch.append(command)
        size_bytes += command_bytes
    if batch:
        yield batch


def in_pieces(plan: log_pb2.Plan) -> Iterator[log_pb2.Plan]:
    """The same plan as several that do the same in the same order, none of which takes long to apply."""
    piece, room = log_pb2.Plan(), RECORDS_PER_PIECE
    piece.CopyFrom(plan)
    for field in _CUT:
        setattr(piece, field, b"")
    # They come after what is cut.
    piece.calls = piece.cancellations = b""
    del piece.operation_steps[:]
    for field, record_bytes in _CUT.items():
        records: bytes = getattr(plan, field)
        while len(records) > room * record_bytes:
            setattr(piece, field, records[: room * record_bytes])
            yield piece
            records = records[room * record_bytes :]
            piece, room = log_pb2.Plan(), RECORDS_PER_PIECE
        setattr(piece, field, records)
        room -= len(records) // record_bytes
    piece.MergeFrom(
        log_pb2.Plan(calls=plan.calls, cancellations=plan.cancellations, operation_steps=plan.operation_steps)
    )
    yield piece
