"""A simulated caller: the real SDK over a simulated network, with every operation on record.

An operation whose outcome the SDK does not know is noted as unknown, never as failed.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpc.aio

from horologe.chaos.sim.clocks import SimClock
from horologe.chaos.sim.process import Process
from horologe.chaos.sim.rpc import SimChannel
from horologe.client.client import AsyncClient
from horologe.client.errors import DeadlineExceeded, HorologeError, OutcomeUnknown, Unavailable
from horologe.node.ids import new_uuid

if TYPE_CHECKING:
    from horologe.chaos.sim.world import World

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Operation:
    """What a caller asked for, and what it was told.

    Attributes:
        kind: create, update, pause, resume, delete, run, cancel, read...
        subject: The job's id, or the execution's number as text.
        outcome: ok, failed, unknown; empty while it is under way.
        begun, ended: True time in seconds.
        answer: What an acknowledged operation returned.
        error: Why it failed.
    """

    client: str
    kind: str
    subject: str
    begun: float
    ended: float = float("inf")
    outcome: str = ""
    answer: Any = None
    error: str = ""


class SimSdk(AsyncClient):
    """The SDK of one process."""

    def __init__(self, world: World, process: Process, addresses: Sequence[str], randomness: random.Random) -> None:
        super().__init__(list(addresses), timeout_seconds=15.0)
        self._world = world
        self._process = process
        self._jitter = randomness

    def _connect(self, address: str) -> grpc.aio.Channel:
        return cast("grpc.aio.Channel", SimChannel(self._world.rpc, self._process, address))


class SimClient:
    """One machine with one caller on it."""

    def __init__(
        self, world: World, name: str, addresses: Sequence[str], clock: SimClock, randomness: random.Random
    ) -> None:
        self.name = name
        self.random = randomness
        self.process = world.new_process(name, clock)
        self.sdk = SimSdk(world, self.process, addresses, random.Random(randomness.getrandbits(64)))
        self._world = world

    def run(self, work: Callable[[SimClient], Coroutine[Any, Any, None]]) -> None:
        """Begins to call the cluster as `work` says, beside what it does already."""
        self.process.start(work(self))

    def new_request_id(self) -> str:
        return str(new_uuid(self.random))

    async def ask(self, kind: str, subject: str, call: Awaitable[Answer]) -> Operation:
        """Awaits one operation and keeps it on record, whatever comes of it."""
        operation = Operation(self.name, kind, subject, self._world.timeline.now)
        self._world.operations.append(operation)
        try:
            operation.answer = await call
            operation.outcome = "ok"
        except (OutcomeUnknown, DeadlineExceeded, Unavailable) as error:
            operation.outcome, operation.error = "unknown", f"{type(error).__name__}: {error}"
        except HorologeError as error:
            operation.outcome, operation.error = "failed", f"{type(error).__name__}: {error}"
        operation.ended = self._world.timeline.now
        return operation
