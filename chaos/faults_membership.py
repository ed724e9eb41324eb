"""Faults of membership, which are none: nodes come and go while everything else goes on, or goes wrong."""

from __future__ import annotations

import asyncio

from horologe.chaos.cluster import ChaosCluster, NotInTimeError
from horologe.chaos.nemesis import Fault
from horologe.client.errors import HorologeError

JOIN_SECONDS = 60.0
"""It has to fetch the whole state, perhaps beside another fault."""


class _Change(Fault):
    """A node joins; when the fault ends it votes, and then one is removed, so that there are as many as before."""

    family = "membership"
    seconds = (1.0, 4.0)

    @classmethod
    def obstacle(cls, cluster: ChaosCluster) -> str:
        return "" if cluster.setting.spare_seats else "there is no seat for one more node"

    async def begin(self) -> str:
        self._before = list(self.cluster.names)
        self._joining = asyncio.create_task(self._join())
        return f"a node joins {'+'.join(self._before)}"

    async def _join(self) -> str:
        name = await self.cluster.new_node()
        await self.cluster.join(name, seconds=JOIN_SECONDS)
        return name

    async def end(self) -> None:
        try:
            joined = await self._joining
            leaving = await self.choose(joined)
            process = self.cluster.node(leaving)
            await self.cluster.remove(leaving)
        except HorologeError as error:
            raise NotInTimeError(f"the change of members was not answered: {error}") from error
        code = await asyncio.to_thread(process.wait_stopped)
        self.outcome = f"{joined} votes, {leaving} leaves with exit code {code}"

    async def choose(self, joined: str) -> str:
        """Who leaves."""
        raise NotImplementedError


class AddAndRemove(_Change):
    """A node joins, and leaves again when it has become a voter."""

    name = "membership-add-remove"

    async def choose(self, joined: str) -> str:
        return joined


class Replace(_Change):
    """A node joins, and one of the others leaves for good; the leader, as often as anybody else."""

    name = "membership-replace"

    async def choose(self, joined: str) -> str:
        leader = await self.leader()
        others = [name for name in self.cluster.names if name != joined]
        return leader if leader in others and self.chance.random() < 0.5 else self.chance.choice(others)


MEMBERSHIP_FAULTS: tuple[type[Fault], ...] = (AddAndRemove, Replace)
