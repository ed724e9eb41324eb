"""An operator who replaces nodes while the cluster works: a new one joins, learns, votes; the old one is removed for good.

Everything goes through the commands of the SDK, and is asked again until it is done, whatever breaks meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from horologe.chaos.sim.clients import SimClient
from horologe.chaos.sim.world import World
from horologe.client.errors import HorologeError
from horologe.v1.cluster_service_pb2 import Member

AGAIN_SECONDS = 0.5


class Operator:
    """One change at a time."""

    def __init__(self, world: World) -> None:
        self.is_busy = False
        self._world = world
        self._client: SimClient | None = None

    def replace(self, old: str) -> bool:
        """Begins to replace a node by one with a name that was never used; False if there is no such name, or no time."""
        spares = [name for name in self._world.spare_names if name not in self._world.nodes]
        if self.is_busy or not spares:
            return False
        self.is_busy = True
        new = spares[0]
        self._world.spare_names.remove(new)
        self._client = self._client or self._world.add_client("operator")
        self._client.run(lambda client: self._replace(client, old, new))
        return True

    async def _replace(self, client: SimClient, old: str, new: str) -> None:
        world, sdk = self._world, client.sdk
        world.tell("operator", f"replaces {old} by {new}")
        world.add_node(new, list(world.nodes), join=True).start()
        await self._until_done(client, lambda one: sdk.add_member(new, f"{new}:7500", request_id=one))
        await self._until_it_votes(client, new)
        world.tell("operator", f"{new} votes")
        await self._until_done(client, lambda one: sdk.remove_member(old, request_id=one))
        world.tell("operator", f"{old} is removed")
        world.count("members replaced")
        world.retire(old)
        self.is_busy = False

    async def _until_done(self, client: SimClient, call: Callable[[str], Awaitable[object]]) -> None:
        while True:
            try:
                await call(client.new_request_id())
            except HorologeError as error:
                self._world.tell("operator", f"asks again: {error}")
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                return

    async def _until_it_votes(self, client: SimClient, name: str) -> None:
        while True:
            with suppress(HorologeError):
                async for member in client.sdk.list_members():
                    if member.name.endswith(name) and member.role != Member.ROLE_LEARNER:
                        return
            await asyncio.sleep(AGAIN_SECONDS)
