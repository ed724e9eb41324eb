"""People with the dashboard open while a benchmark runs: each follows changes, and looks at another page every second."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

PATHS = ("/", "/jobs", "/executions", "/executions?state=running", "/queues", "/workers", "/cluster", "/dead-letters")
SECONDS_BETWEEN = 1.0
CALL_SECONDS = 10.0
SILENCE_SECONDS = 120.0
"""A stream on which nothing happens says so long before."""


@dataclass(slots=True)
class Visits:
    """What they saw of it."""

    taken_ms: list[float] = field(default_factory=list)
    failed: int = 0


@asynccontextmanager
async def readers(addresses: Sequence[str], count: int) -> AsyncIterator[Visits]:
    """So many of them while the block runs, spread over the nodes, whose pages are open to anybody."""
    visits = Visits()
    # One for all: each would read the certificates of this system, which takes a while, at the moment that is measured.
    async with httpx.AsyncClient(timeout=SILENCE_SECONDS, limits=httpx.Limits(max_connections=None)) as browser:
        tasks: list[asyncio.Task[None]] = []
        try:
            for number in range(count):
                address = addresses[number % len(addresses)]
                tasks.append(asyncio.create_task(_look(browser, address, number, visits)))
                tasks.append(asyncio.create_task(_follow(browser, address)))
            yield visits
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _look(browser: httpx.AsyncClient, address: str, number: int, visits: Visits) -> None:
    # Not all of them at the same page at the same moment.
    paths = itertools.islice(itertools.cycle(PATHS), number % len(PATHS), None)
    await asyncio.sleep(number * SECONDS_BETWEEN / 10 % SECONDS_BETWEEN)
    for path in paths:
        begun = time.perf_counter()
        try:
            answer = await browser.get(address + path, timeout=CALL_SECONDS)
            is_good = answer.status_code == httpx.codes.OK
        except httpx.TransportError:
            is_good = False
        visits.failed += not is_good
        visits.taken_ms.append((time.perf_counter() - begun) * 1e3)
        await asyncio.sleep(SECONDS_BETWEEN)


async def _follow(browser: httpx.AsyncClient, address: str) -> None:
    async with browser.stream("GET", f"{address}/live") as answer:
        async for _ in answer.aiter_raw():
            pass
