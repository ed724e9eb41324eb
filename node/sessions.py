"""One worker's session on this gateway: what was sent to it, what it still owes, and the line of messages to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from horologe.node.callers import Caller
from horologe.node.outputs import OutputKey
from horologe.v1 import worker_pb2, worker_service_pb2


@dataclass(slots=True, eq=False)
class HeldOutput:
    """What an attempt has printed so far, as far as it came through this gateway."""

    key: OutputKey
    bytes_taken: int = 0
    last_sequence: int = -1
    is_truncated: bool = False
    nodes: tuple[str, ...] = ()
    """Nodes that have all of it on their disks, this one first; empty before anything is on any."""


@dataclass(slots=True)
class HeldAttempt:
    """An attempt that this session has."""

    token: int
    attempt: int
    job: int
    output: HeldOutput | None = None
    """None while it has printed nothing, which is the rule."""


def nobody_writes() -> None:
    """Before the worker is welcome, and after its stream has ended."""


@dataclass(slots=True)
class WorkerSession:
    """A session whose stream ends at this node."""

    number: int
    worker: str
    caller: Caller = field(default_factory=Caller)
    """What its certificate says of it."""
    attempts: dict[int, HeldAttempt] = field(default_factory=dict)
    """By execution."""
    sent_revisions: dict[int, int] = field(default_factory=dict)
    """By job: the revision of the definition that the worker has."""
    renewed_ms: int = 0
    """When its lease was renewed last, by the wall clock; for people."""
    draining: bool = False
    ended: bool = False
    acks: worker_pb2.ResultAcks | None = None
    """Of outcomes that were settled; they leave together."""
    outgoing: list[worker_service_pb2.ConnectResponse] = field(default_factory=list)
    has_outgoing: Callable[[], None] = nobody_writes
    """Called when there is something in the line."""

    def send(self, message: worker_service_pb2.ConnectResponse) -> None:
        """Puts a message into the line; the stream takes it from there."""
        self.outgoing.append(message)
        self.has_outgoing()

    def acknowledge(self) -> None:
        """Puts what was settled into the line."""
        if self.acks is not None:
            acks, self.acks = self.acks, None
            self.send(worker_service_pb2.ConnectResponse(result_acks=acks))

    def go_away(self, reason: str, *, drained: bool = False) -> None:
        """Ends the stream after what is already in the line."""
        if not self.ended:
            self.acknowledge()
            self.ended = True
            self.send(worker_service_pb2.ConnectResponse(go_away=worker_pb2.GoAway(reason=reason, drained=drained)))
