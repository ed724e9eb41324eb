"""An administrator of a simulated cluster: changes what jobs share, pauses queues and the namespace, runs jobs for the past, and
drives dead letters again.

Nobody else does any of this, so each thing is asked for until the answer is known.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from horologe.chaos.sim.clocks import START_MS
from horologe.chaos.sim.definitions import SHARED_LIMIT, SHARED_MAX
from horologe.chaos.sim.workers import SLOW_QUEUE
from horologe.client.errors import DeadlineExceeded, OutcomeUnknown, Unavailable

if TYPE_CHECKING:
    from horologe.chaos.sim.clients import SimClient

RETRY_SECONDS = 0.5
PAUSE_SECONDS_MAX = 3.0
NAMESPACE = "default"
Found = TypeVar("Found")


async def insist(client: SimClient, call: Callable[[str], Awaitable[Found]]) -> Found:
    """The answer to an operation, asked for under one request id until it is known."""
    request_id = client.new_request_id()
    while True:
        try:
            return await call(request_id)
        except (OutcomeUnknown, DeadlineExceeded, Unavailable):
            await asyncio.sleep(RETRY_SECONDS)


class Administrator:
    """One of them."""

    def __init__(self, client: SimClient, jobs: Callable[[], Sequence[str]]) -> None:
        """`jobs`: the ids of recurring jobs that are there by now."""
        self._client = client
        self._jobs = jobs
        self._dice: random.Random = client.random
        self._duties = (
            self._set_limit,
            self._set_rate,
            self._pause_queue,
            self._pause_namespace,
            self._backfill,
            self._redrive,
            self._purge,
        )

    async def work(self, is_over: Callable[[], bool]) -> None:
        """One thing after the other, until it is over; leaves nothing paused."""
        while not is_over():
            await asyncio.sleep(self._dice.uniform(0.5, 5.0))
            await self._dice.choice(self._duties)()

    async def _set_limit(self) -> None:
        most = self._dice.randint(1, SHARED_MAX)
        await self._insist(lambda one: self._client.sdk.set_limit(SHARED_LIMIT, most, request_id=one))

    async def _set_rate(self) -> None:
        rate = self._dice.choice(["none", "2/s", "20/s"])
        await self._insist(lambda one: self._client.sdk.update_queue(SLOW_QUEUE, start_rate=rate, request_id=one))

    async def _pause_queue(self) -> None:
        await self._insist(lambda one: self._client.sdk.pause_queue(SLOW_QUEUE, request_id=one))
        await asyncio.sleep(self._dice.uniform(0.1, PAUSE_SECONDS_MAX))
        await self._insist(lambda one: self._client.sdk.resume_queue(SLOW_QUEUE, request_id=one))

    async def _pause_namespace(self) -> None:
        catchup = self._dice.random() < 0.5
        await self._insist(lambda one: self._client.sdk.pause_scope(NAMESPACE, request_id=one))
        await asyncio.sleep(self._dice.uniform(0.1, PAUSE_SECONDS_MAX))
        await self._insist(lambda one: self._client.sdk.resume_scope(NAMESPACE, catchup=catchup, request_id=one))

    async def _backfill(self) -> None:
        jobs = self._jobs()
        if not jobs:
            return
        job, most = self._dice.choice(jobs), self._dice.randint(1, 2)
        order = self._dice.choice(["forwards", "backwards"])
        now_seconds = START_MS / 1000 + self._client.now_seconds
        # A second ago, since nodes' clocks may be behind.
        end = datetime.fromtimestamp(int(now_seconds) - 1, UTC)
        start = end - timedelta(seconds=self._dice.choice([5, 15]))
        await self._insist(
            lambda one: self._client.sdk.backfill_job(
                job, start, end, order=order, only="missing", max_running=most, request_id=one
            )
        )

    async def _redrive(self) -> None:
        rate = self._dice.choice([0.0, 2.0])
        await self._insist(lambda one: self._client.sdk.redrive_dead_letters(rate=rate, request_id=one))

    async def _purge(self) -> None:
        jobs = self._jobs()
        if jobs:
            job = self._dice.choice(jobs)
            await self._insist(lambda one: self._client.sdk.purge_dead_letters(job=job, request_id=one))

    async def _insist(self, call: Callable[[str], Awaitable[Found]]) -> Found:
        return await insist(self._client, call)
