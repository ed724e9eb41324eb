"""Changes that are made to a cluster under load, one after the other, and how late work started meanwhile.

What is changed is for the caller: members.py lets members come and go, upgrade.py replaces their programs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from horologe.chaos.cluster import ChaosCluster
from horologe.chaos.delays import first_starts
from horologe.chaos.evidence import Mark
from horologe.chaos.under_load import Say, wait_steady

QUIET_SECONDS = 3.0
"""After each change: what is due in this time still counts to it."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change, and when it was: wall clock, in milliseconds, from its begin to the begin of the next."""

    name: str
    from_ms: int
    done_ms: int
    until_ms: int


async def make_change(
    cluster: ChaosCluster,
    name: str,
    step: Callable[[], Awaitable[object]],
    say: Say,
    quiet_seconds: float = QUIET_SECONDS,
) -> Change:
    """Waits until work is on time, makes the change, and lets the quiet time after it pass."""
    await wait_steady(cluster)
    from_ms = _now_ms()
    await step()
    done_ms = _now_ms()
    say(f"{name}: {(done_ms - from_ms) / 1000:.2f} s")
    await asyncio.sleep(quiet_seconds)
    return Change(name, from_ms, done_ms, _now_ms())


def latest_starts_ms(marks: Iterable[Mark], changes: Iterable[Change]) -> dict[str, float]:
    """By change: of what was due meanwhile, how late the latest start was."""
    starts = [mark for mark in first_starts(marks) if mark.due_ms]
    return {
        change.name: max(
            (mark.delay_ms for mark in starts if change.from_ms <= mark.due_ms < change.until_ms), default=0.0
        )
        for change in changes
    }


def lines_of(changes: Sequence[Change], latest_ms: dict[str, float]) -> list[str]:
    """For people: each change, how long it took, and the latest start."""
    width = max(len(change.name) for change in changes)
    return [
        "change, how long it took, and the latest start of what was due meanwhile:",
        *(
            f"  {change.name:<{width}} {(change.done_ms - change.from_ms) / 1000:7.2f} s  {latest_ms[change.name]:8.1f} ms"
            for change in changes
        ),
    ]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
