"""What a core knows about one peer: the life of the connection, what is in flight to it, what it was offered.

Plain book-keeping without decisions about the log; those are in core.py.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Any, NamedTuple


class Arrival(enum.Enum):
    """How a message fits into its connection."""

    NEXT = enum.auto()
    REPEATED = enum.auto()
    AFTER_GAP = enum.auto()


class InFlight(NamedTuple):
    """An AppendEntries message that was not answered yet."""

    round_number: int
    sent_at_seconds: float
    entry_bytes: int
    previous_index: int


class Peer:
    """One other member, as seen from here.

    Attributes:
        name: The member's name.
        node: The engine's object for it.
        connected: Whether a connection is up (an epoch has begun).
        is_member: Whether the configuration in force names it. Others are heard too: a leader that we do not know yet, or a
            candidate of a configuration that we have not got.
        is_voter: Whether it votes.
        in_flight_bytes: Entries sent in this epoch and not answered.
        reset_floor: Resets that answer rounds below this one are out of date.
        probe_round: The first round that asked whether the peer has our first entry; None while it can be served from the log.
        offered_at_seconds: When it was last offered a snapshot.
        told_commit_index: The newest commit index that was sent to it.
    """

    def __init__(self, name: str, node: Any) -> None:
        self.name = name
        self.node = node
        self.connected = False
        self.is_member = False
        self.is_voter = False
        self.in_flight_bytes = 0
        self.reset_floor = 0
        self.probe_round: int | None = None
        self.offered_at_seconds = float("-inf")
        self.told_commit_index = 0
        self._in_flight: deque[InFlight] = deque()
        self._sent_sequence = 0
        self._received_sequence: int | None = 0

    def begin_epoch(self) -> None:
        """A connection came up: numbering starts again, and nothing of the old one is in flight any more."""
        self.connected = True
        self.told_commit_index = 0
        self._sent_sequence = 0
        self._received_sequence = 0
        self._clear_in_flight()

    def end_epoch(self) -> None:
        """The connection is gone, and what was in flight with it."""
        self.connected = False
        self._clear_in_flight()

    def begin_leading(self, next_round: int) -> None:
        """We became leader: what was sent in an earlier term does not count."""
        self._clear_in_flight()
        self.reset_floor = next_round
        self.probe_round = None
        self.offered_at_seconds = float("-inf")
        self.told_commit_index = 0

    def next_sequence(self) -> int:
        """The number of the next message to this peer in this epoch."""
        self._sent_sequence += 1
        return self._sent_sequence

    def abandon_epoch(self) -> None:
        """Take no further message of this epoch: one makes no sense, so the others cannot be trusted."""
        self._received_sequence = None

    def arrived(self, sequence: int) -> Arrival:
        """Place a message in its epoch, and count it if it is the next one."""
        if not self.connected or self._received_sequence is None:
            return Arrival.AFTER_GAP
        # A sender that numbers from 1 again has begun an epoch that we know nothing of.
        begun_again = sequence == 1 < self._received_sequence
        if sequence <= self._received_sequence and not begun_again:
            return Arrival.REPEATED
        if sequence > self._received_sequence + 1 or begun_again:
            self.abandon_epoch()
            return Arrival.AFTER_GAP
        self._received_sequence = sequence
        return Arrival.NEXT

    def sent(self, entry: InFlight) -> None:
        """An AppendEntries message leaves."""
        self._in_flight.append(entry)
        self.in_flight_bytes += entry.entry_bytes

    def answered(self, round_number: int) -> InFlight | None:
        """A reply came: it and everything before it is no longer in flight. None if the round was not in flight."""
        found = None
        while self._in_flight and self._in_flight[0].round_number <= round_number:
            oldest = self._in_flight.popleft()
            self.in_flight_bytes -= oldest.entry_bytes
            if oldest.round_number == round_number:
                found = oldest
        return found

    def _clear_in_flight(self) -> None:
        self._in_flight.clear()
        self.in_flight_bytes = 0
