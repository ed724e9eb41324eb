"""A network for the deterministic world: directed links that delay, hold, repeat and break. Time is handed in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from horologe.peer.v1 import peer_service_pb2

PeerMessage = peer_service_pb2.PeerMessage
Direction = tuple[str, str]


class Network:
    """Connections between members. A connection keeps order; when it breaks, what it carried is gone.

    Attributes:
        delay_seconds: For (sender, receiver, message): how long it travels.
        repeated: For (sender, receiver, message): whether it is delivered twice.
        held: Directions on which nothing moves at the moment; nothing is lost.
    """

    def __init__(self) -> None:
        self.delay_seconds: Callable[[str, str, PeerMessage], float] = lambda sender, receiver, message: 0.005
        self.repeated: Callable[[str, str, PeerMessage], bool] = lambda sender, receiver, message: False
        self.held: set[Direction] = set()
        self._links: set[frozenset[str]] = set()
        self._queues: dict[Direction, deque[tuple[float, bytes]]] = {}

    def is_connected(self, one: str, other: str) -> bool:
        return frozenset((one, other)) in self._links

    def connect(self, one: str, other: str) -> None:
        self._links.add(frozenset((one, other)))
        self._clear(one, other)

    def disconnect(self, one: str, other: str) -> None:
        self._links.discard(frozenset((one, other)))
        self._clear(one, other)

    def send(self, sender: str, receiver: str, message: PeerMessage, now: float) -> None:
        if not self.is_connected(sender, receiver):
            return
        queue = self._queues[sender, receiver]
        arrives_at = now + self.delay_seconds(sender, receiver, message)
        if queue:
            arrives_at = max(arrives_at, queue[-1][0])
        for _ in range(2 if self.repeated(sender, receiver, message) else 1):
            queue.append((arrives_at, message.SerializeToString()))

    def arrived(self, receiver: str, now: float) -> Iterator[tuple[str, PeerMessage]]:
        """Messages that have come in; each is gone once it was yielded."""
        for sender, queue_receiver in sorted(self._queues):
            if queue_receiver != receiver:
                continue
            queue = self._queues[sender, receiver]
            while queue and queue[0][0] <= now and (sender, receiver) not in self.held:
                yield sender, PeerMessage.FromString(queue.popleft()[1])

    def waiting(self, sender: str, receiver: str) -> list[PeerMessage]:
        """What is under way in one direction."""
        return [PeerMessage.FromString(data) for _, data in self._queues.get((sender, receiver), ())]

    def _clear(self, one: str, other: str) -> None:
        for direction in ((one, other), (other, one)):
            self._queues[direction] = deque()
