"""Work in the background goes on, whatever happens to it."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from horologe.node import background


async def test_what_fails_begins_again_and_says_so(monkeypatch):
    monkeypatch.setattr(background, "AGAIN_SECONDS", 0.0)
    lives: list[int] = []

    async def work() -> None:
        lives.append(len(lives))
        if len(lives) < 3:
            raise ZeroDivisionError

    with capture_logs() as lines:
        async with asyncio.timeout(60):
            await background.persistent(work)
    assert lives == [0, 1, 2]
    assert [line["log_level"] for line in lines] == ["error", "error"]
