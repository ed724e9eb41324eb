"""When attempts on a worker of this process are to end: not before what a test needs of them has happened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from horologe.client.attempts import Attempt
from horologe.client.executors.processes import Process
from horologe.client.executors.shell import ShellExecutor
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


def when_awaited(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once a worker of this process has heard that a command was started, and waits for its end.

    What the command prints may come before that; a worker that is told to end it then has nothing yet that it could ask to end.
    """
    awaited = asyncio.Event()
    wait = ShellExecutor._wait

    async def tell_and_wait(executor: ShellExecutor, attempt: Attempt, process: Process) -> int:
        awaited.set()
        return await wait(executor, attempt, process)

    monkeypatch.setattr(ShellExecutor, "_wait", tell_and_wait)
    return awaited
