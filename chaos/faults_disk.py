"""Faults of disks: calls that fail or take long, and file systems without room."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from horologe.chaos.cluster import ChaosCluster
from horologe.chaos.disk import FailingCalls, can_inject, cut_power, fill
from horologe.chaos.nemesis import Fault, revive

SYNC_CALLS = "fsync,fdatasync,msync"
WRITE_CALLS = "write,pwrite64,pwritev,writev,ftruncate,fallocate"


class _Calls(Fault):
    """System calls of a node fail or take long."""

    family = "disk"
    seconds = (2.0, 6.0)
    calls: ClassVar[str]

    @classmethod
    def obstacle(cls, cluster: ChaosCluster) -> str:
        del cluster
        return "" if can_inject() else "strace is not installed"

    def how(self) -> str:
        """What becomes of the calls, in strace's words."""
        raise NotImplementedError

    async def begin(self) -> str:
        leader = await self.leader()
        self._victim = self.chance.choice([leader, self.chance.choice(self.cluster.names)])
        how = self.how()
        data = self.cluster.data_folder(self._victim) / "state" / "data.mdb"
        self._failing = FailingCalls(self.cluster.node(self._victim).pid, self.calls, how, only=data)
        await self._failing.begin()
        return f"{self.calls.partition(',')[0]} of {self._victim}: {how}"

    async def end(self) -> None:
        await self._failing.end()
        if self.ends_nodes:
            await wait_if_it_ends(self.cluster, self._victim)


async def wait_if_it_ends(cluster: ChaosCluster, name: str, seconds: float = 3.0) -> None:
    """A node that stops because of its disk needs a moment to do so; one that met nothing bad goes on."""
    process = cluster.node(name).process
    if process is not None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while process.poll() is None:  # noqa: ASYNC110 - a process has no event
                    await asyncio.sleep(0.05)


class FsyncFails(_Calls):
    """Writes do not reach the disk, and the kernel says so once: the node must stop, and never claim what it cannot know."""

    name = "fsync-eio"
    calls = SYNC_CALLS
    ends_nodes = True

    def how(self) -> str:
        return f"error=EIO:when={self.chance.randrange(1, 40)}"


class NoSpace(_Calls):
    """Writes are refused because the disk is full."""

    name = "write-enospc"
    calls = WRITE_CALLS
    ends_nodes = True

    def how(self) -> str:
        return f"error=ENOSPC:when={self.chance.randrange(1, 40)}+"


class SlowFsync(_Calls):
    """The disk takes its time."""

    name = "fsync-slow"
    calls = SYNC_CALLS
    seconds = (3.0, 10.0)

    def how(self) -> str:
        delay_ms = self.chance.choice([20, 100, 300, 1_000, 4_000])
        return f"delay_enter={delay_ms * 1000}"


class DiskFull(Fault):
    """The file system of one node fills up to its last byte, and has room again at the end."""

    name = "disk-full"
    family = "disk"
    seconds = (3.0, 8.0)
    ends_nodes = True

    @classmethod
    def obstacle(cls, cluster: ChaosCluster) -> str:
        return (
            ""
            if cluster.setting.small_disk_bytes
            else "no node has a disk of its own here (that needs root and loop devices)"
        )

    async def begin(self) -> str:
        self._victim = self.chance.choice(self.cluster.names)
        self._ballast: Path = await asyncio.to_thread(fill, self.cluster.data_folder(self._victim))
        return f"no byte left on the disk of {self._victim}"

    async def end(self) -> None:
        await asyncio.to_thread(self._ballast.unlink)
        await wait_if_it_ends(self.cluster, self._victim, seconds=0.5)


class PowerCut(Fault):
    """Nodes with disks of their own lose power at once, and with it all that was not synced."""

    name = "power-cut"
    family = "disk"
    seconds = (0.0, 1.0)

    @classmethod
    def obstacle(cls, cluster: ChaosCluster) -> str:
        return DiskFull.obstacle(cluster)

    async def begin(self) -> str:
        names = self.cluster.names
        self._victims = self.chance.sample(names, self.chance.randrange(1, len(names) + 1))
        for name in self._victims:
            await asyncio.to_thread(self.cluster.node(name).kill)
        for name in self._victims:
            await asyncio.to_thread(cut_power, self.cluster.data_folder(name))
        return f"power lost: {', '.join(self._victims)}"

    async def end(self) -> None:
        await revive(self.scene, self._victims)


DISK_FAULTS: tuple[type[Fault], ...] = (FsyncFails, NoSpace, SlowFsync, DiskFull, PowerCut)
