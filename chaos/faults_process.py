"""Faults of processes: killed, stopped, restarted; nodes and workers."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from typing import ClassVar

from horologe.chaos.cluster import NotInTimeError
from horologe.chaos.nemesis import Fault, Freeze, revive


class _NodesDown(Fault):
    """Some nodes are killed at once, and start again at the end."""

    family = "process"
    seconds = (1.0, 5.0)

    async def victims(self) -> list[str]:
        """Who is struck."""
        raise NotImplementedError

    async def begin(self) -> str:
        self._victims = await self.victims()
        for name in self._victims:
            self.cluster.node(name).signal(signal.SIGKILL)
        for name in self._victims:
            await asyncio.to_thread(self.cluster.node(name).kill)
        return f"SIGKILL {', '.join(self._victims)}"

    async def end(self) -> None:
        await revive(self.scene, self._victims)


class KillLeader(_NodesDown):
    """The leader dies."""

    name = "kill-leader"

    async def victims(self) -> list[str]:
        return [await self.leader()]


class KillFollower(_NodesDown):
    """A follower dies."""

    name = "kill-follower"

    async def victims(self) -> list[str]:
        leader = await self.leader()
        return [self.chance.choice([name for name in self.cluster.names if name != leader])]


class KillMinority(_NodesDown):
    """As many nodes die as may, the leader among them."""

    name = "kill-minority"

    async def victims(self) -> list[str]:
        leader = await self.leader()
        others = [name for name in self.cluster.names if name != leader]
        return [leader, *self.chance.sample(others, (len(self.cluster.names) - 1) // 2 - 1)]


class KillMajority(_NodesDown):
    """More nodes die than may: nothing is decided until they are back."""

    name = "kill-majority"

    async def victims(self) -> list[str]:
        return self.chance.sample(self.cluster.names, len(self.cluster.names) // 2 + 1)


class KillAll(_NodesDown):
    """All nodes die at the same moment."""

    name = "kill-all"
    seconds = (0.0, 1.0)

    async def victims(self) -> list[str]:
        return list(self.cluster.names)


class _NodeStopped(Fault):
    """A node stands still, and then goes on as if nothing had been."""

    family = "process"
    seconds = (1.0, 8.0)
    target: ClassVar[str]

    async def begin(self) -> str:
        leader = await self.leader()
        followers = [name for name in self.cluster.names if name != leader]
        self._victim = leader if self.target == "leader" else self.chance.choice(followers)
        self.cluster.node(self._victim).signal(signal.SIGSTOP)
        return f"SIGSTOP {self._victim}"

    async def end(self) -> None:
        self.cluster.node(self._victim).signal(signal.SIGCONT)


class StopLeader(_NodeStopped):
    """The leader stands still."""

    name = "stop-leader"
    target = "leader"


class StopFollower(_NodeStopped):
    """A follower stands still."""

    name = "stop-follower"
    target = "follower"


class RollingRestart(Fault):
    """Each node is told to end, and starts again when it has; the next one when it has caught up."""

    name = "rolling-restart"
    family = "process"
    seconds = (0.0, 0.0)

    async def begin(self) -> str:
        codes: list[int] = []
        # Beside another fault a node may not catch up; whether all do in the end is judged after the strike.
        with suppress(NotInTimeError):
            for name in self.cluster.names:
                node = self.cluster.node(name)
                codes.append(await asyncio.to_thread(node.stop))
                await revive(self.scene, [name])
                await self.cluster.wait_caught_up(name)
        return f"SIGTERM and start, one after the other; exit codes {codes}"

    async def end(self) -> None:
        return


class KillWorker(Fault):
    """A worker process dies with what it runs, and comes back under its name."""

    name = "kill-worker"
    family = "worker"
    seconds = (0.5, 5.0)

    async def begin(self) -> str:
        self._victim = self.chance.choice(self.scene.workers)
        await asyncio.to_thread(self.cluster.workers[self._victim].kill)
        return f"SIGKILL {self._victim}"

    async def end(self) -> None:
        self.cluster.workers[self._victim].start()


class RestartWorker(Fault):
    """A worker process is told to end, drains, and comes back under its name."""

    name = "restart-worker"
    family = "worker"
    seconds = (0.0, 2.0)

    async def begin(self) -> str:
        self._victim = self.chance.choice(self.scene.workers)
        code = await self.cluster.workers[self._victim].stop()
        return f"SIGTERM {self._victim}, exit code {code}"

    async def end(self) -> None:
        self.cluster.workers[self._victim].start()


class StopWorker(Fault):
    """A worker process stands still, for less than its lease or for more."""

    name = "stop-worker"
    family = "worker"
    seconds = (1.0, 8.0)

    async def begin(self) -> str:
        self._victim = self.chance.choice(self.scene.workers)
        self._since_ns = time.monotonic_ns()
        self.cluster.workers[self._victim].signal(signal.SIGSTOP)
        return f"SIGSTOP {self._victim}"

    async def end(self) -> None:
        self.cluster.workers[self._victim].signal(signal.SIGCONT)
        self.scene.freezes.append(Freeze(self._victim, self._since_ns, time.monotonic_ns()))


PROCESS_FAULTS: tuple[type[Fault], ...] = (
    KillLeader, KillFollower, KillMinority, KillMajority, KillAll, StopLeader, StopFollower, RollingRestart,
    KillWorker, RestartWorker, StopWorker,
)  # fmt: skip
