"""When the time of an attempt is over on a worker of this process: not before what a test needs of it has happened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from horologe.client.attempts import Attempt
from horologe.client.runner import Runner


def hold_timeouts(monkeypatch: pytest.MonkeyPatch, begun: Callable[[], Awaitable[object]]) -> None:
    """Attempts that run too long hear of it once `begun` has come: how long a start takes is the machine's affair."""
    time_out = Runner._time_out
    held: set[asyncio.Task[None]] = set()

    async def once_begun(runner: Runner, attempt: Attempt) -> None:
        await begun()
        time_out(runner, attempt)

    def hold(runner: Runner, attempt: Attempt) -> None:
        task = asyncio.ensure_future(once_begun(runner, attempt))
        held.add(task)
        task.add_done_callback(held.discard)

    monkeypatch.setattr(Runner, "_time_out", hold)
