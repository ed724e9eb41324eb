"""Which other node gets the second copy of the output that comes in here.

A choice stays as long as it is well, so that the output of an attempt is not scattered. What is sent, and what happens when there
is nobody to send it to, is in output_copies.py.
"""

from __future__ import annotations

from collections.abc import Callable

from horologe.raft.step import Status

REST_SECONDS = 10.0
"""A node that failed is not tried again for so long: each try holds up the outcomes of attempts that printed something."""


class OutputMates:
    """The choice of one node."""

    def __init__(self, name: str, status: Callable[[], Status], monotonic: Callable[[], float]) -> None:
        """`name` is this node's."""
        self._name = name
        self._status = status
        self._monotonic = monotonic
        self._current = ""
        self._resting: dict[str, float] = {}

    @property
    def is_alone(self) -> bool:
        """Whether the cluster has no other voter, so that nobody can expect a second copy."""
        return not self._status().configuration.voters - {self._name}

    def connected(self) -> list[str]:
        """Nodes that this one is connected to."""
        return sorted(self._status().connected)

    def choose(self) -> str:
        """A voter that is connected and has not failed lately; empty if there is none."""
        status, now = self._status(), self._monotonic()
        self._resting = {node: until for node, until in self._resting.items() if until > now}
        candidates = (status.configuration.voters & status.connected) - {self._name} - set(self._resting)
        if self._current not in candidates:
            # The next one in the ring of names: so each node gets the copies of one other.
            self._current = min(candidates, key=lambda node: (node < self._name, node), default="")
        return self._current

    def failed(self, node: str) -> None:
        """It did not take what it was sent."""
        self._resting[node] = self._monotonic() + REST_SECONDS
