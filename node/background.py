"""What runs beside everything else, for as long as the node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

AGAIN_SECONDS = 1.0

log = structlog.get_logger(__name__)


async def persistent(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Work in the background. What goes wrong with it is a defect: it is logged, and the work begins again, because a node
    without it would look healthy and, say, never drop what is old."""
    while True:
        try:
            return await work()
        except Exception:
            log.exception("work in the background failed and begins again", work=work.__qualname__)
            await asyncio.sleep(AGAIN_SECONDS)
