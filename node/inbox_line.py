"""What has come in for the next step, in order, with what belongs to an ended connection taken out.

Plain data: whoever steps (stepper.py, or a simulator) decides when, and guards it against other threads.
"""

from __future__ import annotations

from horologe.raft.step import Inbox

MESSAGES_PER_STEP = 200
"""A follower that catches up must not be busy for longer than its heartbeats may wait."""


class InboxLine:
    """The line in front of a replica."""

    def __init__(self) -> None:
        self._inbox = Inbox()

    @property
    def is_empty(self) -> bool:
        """Whether no peer message waits that did not fit into the step before."""
        return not self._inbox.messages

    def add(self, inbox: Inbox) -> None:
        """Adds to what the next step takes."""
        mine = self._inbox
        if inbox.disconnected:
            # What an epoch brought must not be seen after its end.
            ended = set(inbox.disconnected)
            mine.connected = [pair for pair in mine.connected if pair[0] not in ended]
            mine.messages = [pair for pair in mine.messages if pair[0] not in ended]
            mine.disconnected += inbox.disconnected
        mine.connected += inbox.connected
        mine.messages += inbox.messages
        mine.commands += inbox.commands
        mine.heartbeats += inbox.heartbeats
        mine.introductions += inbox.introductions
        if inbox.transfer_to is not None:
            mine.transfer_to = inbox.transfer_to
        if inbox.resealing is not None:
            mine.resealing = inbox.resealing

    def take(self) -> Inbox:
        """What the step that begins now shall take."""
        inbox, self._inbox = self._inbox, Inbox()
        self._inbox.messages = inbox.messages[MESSAGES_PER_STEP:]
        del inbox.messages[MESSAGES_PER_STEP:]
        return inbox
