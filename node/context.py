"""What the services of a node share. Made by node.py; nobody else knows all of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from horologe.node.clock import Clock
from horologe.node.config import NodeConfig
from horologe.node.digests import StateDigests
from horologe.node.metrics import Metrics
from horologe.node.observations import Observations
from horologe.node.proposals import Proposals
from horologe.raft.step import Inbox, Status
from horologe.raft.store import Store

if TYPE_CHECKING:
    from horologe.node.tracing import Tracing


@dataclass(slots=True)
class NodeContext:
    """One node, as its services see it."""

    config: NodeConfig
    clock: Clock
    store: Store
    proposals: Proposals
    digests: StateDigests
    status: Callable[[], Status]
    """How the replica stood after the last step."""
    submit: Callable[[Inbox], None]
    """Hands something to the step thread."""
    randomness: random.Random = field(default_factory=random.Random)
    """For ids, and for delays that shall differ between nodes."""
    observations: Observations = field(default_factory=Observations)
    """What this node has seen happen."""
    metrics: Metrics = field(default_factory=Metrics)
    """What it measures meanwhile."""
    tracing: Tracing | None = None
    """Sends traces, where the node's options say so."""
    client_addresses: dict[str, str] = field(default_factory=dict)
    """Client addresses of the members, as far as they have said hello."""
    worker_addresses: dict[str, str] = field(default_factory=dict)
    """Where workers find the members, in the same way."""
    applied_waiters: list[asyncio.Future[None]] = field(default_factory=list)
    """Resolved, and forgotten, after the next step that applied something."""
    changes: list[asyncio.Queue[list[int]]] = field(default_factory=list)
    """One queue per watcher: numbers of executions that changed."""

    certificate_expires_ms: Callable[[], int] = lambda: 0
    """When the certificate in use ends; 0 without security."""
    started_ms: int = 0
    """When the process started, by its wall clock."""
    removed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when this node was told that it is no member any more."""
    is_draining: bool = False
    """The node is about to stop, and answers what still comes."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the node begins to stop: answers that have no end by themselves end."""

    def wake_readers(self) -> None:
        """Something was applied."""
        if self.applied_waiters:
            waiters, self.applied_waiters = self.applied_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def wait_revision(self, revision: int, timeout_seconds: float) -> bool:
        """Whether this node has applied `revision`, waiting for it up to a timeout."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while self.status().revision < revision:
                    await self.wait_applied()
        except TimeoutError:
            return False
        return True

    async def wait_applied(self) -> None:
        """Until something is applied. Whoever stops waiting leaves nothing behind."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.applied_waiters.append(waiter)
        try:
            await waiter
        finally:
            with suppress(ValueError):
                self.applied_waiters.remove(waiter)
