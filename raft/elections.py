"""Who may disturb a working leader: pre-vote, stickiness, and counting each vote once.

Plain book-keeping and comparisons over times that are handed in; core.py sends the messages and starts the engine's elections.
"""

from __future__ import annotations

from typing import NamedTuple


class LogEnd(NamedTuple):
    """The last entry of a log. Raft calls the greater one more up to date; the order of the fields is the comparison."""

    term: int
    index: int


class Elections:
    """What one member remembers between elections.

    `sticky_seconds` is how long a member that heard the leader refuses to help anybody else: the shortest election timeout,
    so that a majority that hears its leader can never be talked out of it.
    """

    def __init__(self, name: str, majority: int, sticky_seconds: float) -> None:
        self._name = name
        self._majority = majority
        self._sticky_seconds = sticky_seconds
        self._leader_heard_at_seconds = float("-inf")
        self._asked_term: int | None = None
        self._pre_votes: set[str] = set()
        self._votes: set[tuple[str, int]] = set()

    def leader_heard(self, now: float) -> None:
        """A message of the leader of our term, or of a newer one, came in: an election of our own is off."""
        self._leader_heard_at_seconds = now
        self._asked_term = None

    def leader_lost(self) -> None:
        """A newer term began; its leader, if any, is yet to be heard."""
        self._leader_heard_at_seconds = float("-inf")
        self._asked_term = None

    def hears_leader(self, now: float) -> bool:
        """Whether a leader spoke to us within the shortest election timeout."""
        return now - self._leader_heard_at_seconds < self._sticky_seconds

    def leader_silent_seconds(self, now: float) -> float:
        """For how long the leader has not spoken to us."""
        return now - self._leader_heard_at_seconds

    def ask(self, term: int) -> bool:
        """Begin to ask whether we could win `term`. True if our own voice is enough."""
        self._asked_term = term
        self._pre_votes = {self._name}
        return self._is_won()

    def pre_vote_received(self, peer: str, term: int) -> bool:
        """Count a yes. True when this one completes the majority for the term that we ask for now."""
        if term != self._asked_term:
            return False
        self._pre_votes.add(peer)
        if not self._is_won():
            return False
        self._asked_term = None
        return True

    def is_first_vote(self, peer: str, term: int) -> bool:
        """Whether this member's vote for this term is new; remembers it."""
        if (peer, term) in self._votes:
            return False
        # Votes of older terms can no longer count.
        self._votes = {vote for vote in self._votes if vote[1] >= term}
        self._votes.add((peer, term))
        return True

    def _is_won(self) -> bool:
        return len(self._pre_votes) >= self._majority
