"""A simulated worker: the real `Worker` over a simulated network, with a handler that writes evidence.

The payload of an action says what the handler does (`payload`). It is a list, because a map would travel in no certain order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import grpc.aio

from horologe.chaos.evidence import Kind, Mark
from horologe.chaos.recording_worker import job_number
from horologe.chaos.sim.clocks import START_MS, SimClock
from horologe.chaos.sim.process import Process
from horologe.chaos.sim.rpc_client import SimChannel
from horologe.client.worker import Context, PermanentError, Worker

if TYPE_CHECKING:
    from horologe.chaos.sim.world import World

HANDLER = "work"
SLOW_QUEUE = "slow"
"""A queue whose rate of starts and whose pauses callers decide about."""
ZONE = "zone"
"""A label: the first worker is in `a`, the others are in `b`."""
Payload = list[float]


def payload(seconds: float = 0.0, fail: float = 0.0, permanent: float = 0.0, deaf_seconds: float = 0.0) -> Payload:
    """What an attempt does: how long it lasts, the share of attempts that fail, the share of failures that no further attempt
    would mend, and how long it goes on when it is told to stop."""
    return [seconds, fail, permanent, deaf_seconds]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class SimWorker:
    """One machine with one worker on it."""

    def __init__(
        self,
        world: World,
        name: str,
        addresses: Sequence[str],
        clock: SimClock,
        randomness: random.Random,
        *,
        slot_count: int = 10,
        queues: Sequence[str] = ("default", SLOW_QUEUE),
        labels: Mapping[str, str] | None = None,
        alias: str = "",
    ) -> None:
        """`name` is the machine's; `alias`: the name that the worker gives itself, if that is another one."""
        self.name = name
        self.alias = alias or name
        self.clock = clock
        self.process: Process | None = None
        self.worker: Worker | None = None
        self._world = world
        self._addresses = list(addresses)
        self._random = randomness
        self._slot_count = slot_count
        self._queues = queues
        self._labels = labels or {}

    @property
    def is_up(self) -> bool:
        """Whether a process runs (it may stand still)."""
        return self.process is not None and self.process.is_alive

    def start(self) -> None:
        """Begins a life, which for the cluster is a new incarnation."""
        assert not self.is_up, f"{self.name} runs already"
        process = self.process = self._world.new_process(self.name, self.clock)
        process.start(self._live(process))

    def kill(self, *, silently: bool = False) -> None:
        """SIGKILL; `silently`: the whole machine goes dark."""
        process = self.process
        if process is not None and process.is_alive:
            process.kill()
            self._world.network.process_ended(process, silently=silently)

    def drain(self) -> None:
        """SIGTERM: takes nothing new and leaves when everything has ended."""
        if self.process is not None and self.worker is not None:
            self.process.deliver(self.worker.drain)

    async def _live(self, process: Process) -> None:
        randomness = random.Random(self._random.getrandbits(64))
        worker = self.worker = Worker(
            self._addresses,
            name=self.alias,
            queues=self._queues,
            labels=self._labels,
            slot_count=self._slot_count,
            drain_seconds=5.0,
            insecure=True,
            clock=self.clock.monotonic,
            randomness=randomness,
            connect=lambda address: cast("grpc.aio.Channel", SimChannel(self._world.rpc, process, address)),
        )

        @worker.handler(HANDLER)
        async def work(context: Context) -> None:
            await self._work(process, context, randomness)

        await worker.serve()
        process.kill()
        self._world.network.process_ended(process, silently=False)

    async def _work(self, process: Process, context: Context, randomness: random.Random) -> None:
        seconds, fail, permanent, deaf_seconds = context.payload or payload()
        self._mark(process, Kind.STARTED, context)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            if deaf_seconds:
                await asyncio.sleep(deaf_seconds)
            self._mark(process, Kind.STOPPED, context)
            raise
        self._mark(process, Kind.ENDED, context)
        if randomness.random() < fail:
            if randomness.random() < permanent:
                raise PermanentError("as the payload says, for good")
            raise RuntimeError("as the payload says")

    def _mark(self, process: Process, kind: Kind, context: Context) -> None:
        true_now = self._world.timeline.now
        due_ms = (context.due_time - _EPOCH) // _MILLISECOND
        self._world.marked(
            process,
            Mark(
                kind,
                context.execution,
                context.attempt,
                context.fencing_token,
                job_number(context.job),
                due_ms,
                START_MS * 1000 + int(true_now * 1e6),
                int(true_now * 1e9),
            ),
        )
