"""Faults of clocks: a node's wall clock jumps and comes back, or cannot make up its mind.

Clocks for durations never jump, but they need not agree either: in a run with these faults every node has its own, ahead of
the others' by days (`Setting.clock_offset_seconds`), from its start to its end.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from horologe.chaos.cluster import ChaosCluster
from horologe.chaos.history import Skew
from horologe.chaos.nemesis import Fault
from horologe.node.config import NodeConfig

STROBE_MS = 200
STROBE_SECONDS = 0.1
ALLOWED_SKEW_MS: int = NodeConfig.model_fields["clock_skew_ms_max"].default
JUMPS_MS = (100, 500, 2_000, 3_600_000)


class _WrongClock(Fault):
    """Some node's wall clock is not that of the others."""

    family = "clock"
    seconds = (2.0, 8.0)
    skew_ms = 0

    @classmethod
    def obstacle(cls, cluster: ChaosCluster) -> str:
        return "" if cluster.setting.clock_files else "the nodes were started without files to set their clocks by"

    async def choose(self) -> str:
        """The leader, as often as anybody else."""
        leader = await self.leader()
        self._victim = self.chance.choice([leader, self.chance.choice(self.cluster.names)])
        self._since_ns = time.monotonic_ns()
        return self._victim

    def set_clock(self, offset_ms: int) -> None:
        """How wrong it is from now on. The file is replaced as a whole, so that nobody reads half a number."""
        file = self.cluster.clock_file(self._victim)
        part = file.with_suffix(".part")
        part.write_text(str(offset_ms))
        part.replace(file)
        self.skew_ms = max(self.skew_ms, abs(offset_ms))

    async def end(self) -> None:
        self.set_clock(0)
        # Beyond the allowed skew a node goes by the clocks of the others: nothing may come earlier than that.
        self.scene.skews.append(Skew(self._since_ns, time.monotonic_ns(), min(self.skew_ms, ALLOWED_SKEW_MS)))


class ClockJump(_WrongClock):
    """A wall clock jumps forward or back, and later to where it was."""

    name = "clock-jump"

    async def begin(self) -> str:
        victim = await self.choose()
        offset_ms = self.chance.choice(JUMPS_MS) * self.chance.choice([-1, 1])
        self.set_clock(offset_ms)
        return f"wall clock of {victim} {offset_ms:+d} ms"


class ClockStrobe(_WrongClock):
    """A wall clock jumps to and fro."""

    name = "clock-strobe"

    async def begin(self) -> str:
        victim = await self.choose()
        self._strobing = asyncio.create_task(self._strobe())
        return f"wall clock of {victim} +-{STROBE_MS} ms"

    async def _strobe(self) -> None:
        while True:
            self.set_clock(self.chance.choice([-1, 0, 1]) * STROBE_MS)
            await asyncio.sleep(STROBE_SECONDS)

    async def end(self) -> None:
        self._strobing.cancel()
        with suppress(asyncio.CancelledError):
            await self._strobing
        await super().end()


CLOCK_FAULTS: tuple[type[Fault], ...] = (ClockJump, ClockStrobe)
