"""A simulated caller: the real SDK over a simulated network, with every operation on record.

An operation whose outcome the SDK does not know is noted as unknown, never as failed.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpc.aio

from horologe.chaos.history import Answer as Told
from horologe.chaos.history import Operation
from horologe.chaos.sim.clocks import START_MS, SimClock
from horologe.chaos.sim.process import Process
from horologe.chaos.sim.rpc_client import SimChannel
from horologe.client.async_client import AsyncClient
from horologe.client.errors import DeadlineExceeded, HorologeError, OutcomeUnknown, Unavailable
from horologe.node.ids import new_uuid

if TYPE_CHECKING:
    from horologe.chaos.sim.world import World

Answer = TypeVar("Answer")
TIMEOUT_SECONDS = 6.0
"""Short, so that callers often do not learn what became of a call, and ask again."""


class SimSdk(AsyncClient):
    """The SDK of one process."""

    def __init__(self, world: World, process: Process, addresses: Sequence[str], randomness: random.Random) -> None:
        super().__init__(list(addresses), timeout_seconds=TIMEOUT_SECONDS, insecure=True)
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

    @property
    def now_seconds(self) -> float:
        """Simulated time since the beginning."""
        return self._world.timeline.now

    def new_request_id(self) -> str:
        return str(new_uuid(self.random))

    async def ask(
        self,
        kind: str,
        job: str,
        call: Awaitable[Answer],
        *,
        request_id: str = "",
        argument: str = "",
        detail: Callable[[Answer], str] = lambda answer: "",
    ) -> Answer | None:
        """Awaits one operation and keeps it on record, whatever comes of it; None unless it was acknowledged.

        `detail` says what the answer names; see history.Operation.
        """
        sent = self._world.timeline.now
        answer: Answer | None = None
        words = ""
        try:
            answer = await call
            told = Told.OK
            words = detail(answer)
        except (OutcomeUnknown, DeadlineExceeded, Unavailable) as error:
            told, words = Told.UNKNOWN, f"{type(error).__name__}: {error}"
        except HorologeError as error:
            told, words = Told.FAILED, f"{type(error).__name__}: {error}"
        operation = Operation(
            kind=kind,
            job=job,
            request_id=request_id,
            node="",
            sent_ns=int(sent * 1e9),
            answered_ns=int(self._world.timeline.now * 1e9),
            sent_ms=START_MS + int(sent * 1000),
            answered_ms=START_MS + int(self._world.timeline.now * 1000),
            answer=told,
            detail=words,
            argument=argument,
        )
        self._world.asked(operation)
        return answer
