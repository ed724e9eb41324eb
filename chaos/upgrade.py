"""A rolling upgrade under load, back, and forward again: is anything lost or doubled, and how late does anything start?

`horologe chaos upgrade` does it with two wheels side by side (programs.py), as docs/upgrading.md says: the version is held; one
node after the other is told to end and starts with the other program, on its own folder and under its own name, the leader last.
While programs are mixed, what only the newer one knows is refused by every node. At last the cluster's version is raised, and the
older program does not start any more. Tests run it with less load and judge only what is lost or doubled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from horologe.chaos.changes import QUIET_SECONDS, Change, latest_starts_ms, lines_of, make_change
from horologe.chaos.cluster import ChaosCluster, eventually
from horologe.chaos.programs import InstalledProgram, Releases
from horologe.chaos.under_load import Course, Say, run_under_load
from horologe.chaos.verify import Verification, verify
from horologe.client.errors import HorologeError
from horologe.v1.calendar_pb2 import Calendar

NODES = 3
FAILING_EACH = 10
"""Each so manieth job fails once and is tried again, so that retries are under way while nodes come and go."""
GRACE_MS = 3_000
WAIT_SECONDS = 90.0
"""For a node that starts, on a machine that has much else to do."""
EXIT_REFUSED = 1


class UpgradeError(AssertionError):
    """An upgrade did not do what docs/upgrading.md says. The text says which node, and what it said."""


@dataclass(slots=True)
class Played:
    """What was done, and what was seen."""

    changes: list[Change] = field(default_factory=list)
    refused_count: int = 0
    """How often a node has refused what only the newer program knows."""
    versions: tuple[int, int] = (0, 0)
    """The cluster's, before and after."""
    complaint: str = ""
    """What the older program said when it was started after that; empty if the version did not go up."""
    verification: Verification = field(default_factory=Verification)


@dataclass(slots=True)
class UpgradeReport:
    """What came of it."""

    releases: Releases
    course: Course[Played]
    max_delays_ms: dict[str, float]
    """By change: of what was due meanwhile, the latest start."""

    @property
    def is_sound(self) -> bool:
        """Nothing lost, nothing doubled, all members hold one state, and enough happened to say so."""
        found = self.course.done.verification
        return self.course.is_sound and found.is_sound and found.is_complete and found.due > 0

    def summary(self) -> str:
        """A few lines for people."""
        played = self.course.done
        found = played.verification
        lines = [self.course.summary(), *lines_of(played.changes, self.max_delays_ms)]
        if self.releases.knows_later_kinds:
            lines.append(f"refused while the version did not allow it: {played.refused_count} times")
        lines.append(f"the cluster's version: {played.versions[0]} before, {played.versions[1]} after")
        if played.complaint:
            lines.append(
                f"horologe {self.releases.older.version} was started after that, and said:\n  {played.complaint}"
            )
        lines.append(
            f"verify: {found.due} due times, {'sound' if found.is_sound else f'NOT SOUND ({found.wrong})'}"
            f"{'' if found.is_complete else ', incomplete'}; {len(found.members)} members, {len(found.digests)} different "
            f"state{'' if len(found.digests) == 1 else 's'}"
        )
        return "\n".join(lines)


async def run(
    folder: Path,
    releases: Releases,
    rate: float,
    period_seconds: float,
    say: Say,
    *,
    quiet_seconds: float = QUIET_SECONDS,
) -> UpgradeReport:
    """Three nodes go from the older program to the newer one, back, and forward again, under `rate` executions per second."""
    course = await run_under_load(
        folder,
        rate,
        period_seconds,
        NODES,
        lambda cluster: _Play(cluster, releases, say, quiet_seconds).play(),
        say,
        command=releases.older.command,
        failing_each=FAILING_EACH,
    )
    return UpgradeReport(releases, course, latest_starts_ms(course.marks, course.done.changes))


class _Play:
    """The steps, one after the other."""

    def __init__(self, cluster: ChaosCluster, releases: Releases, say: Say, quiet_seconds: float) -> None:
        self._cluster, self._releases, self._say, self._quiet_seconds = cluster, releases, say, quiet_seconds
        self._runs = dict.fromkeys(cluster.names, releases.older.version)
        """Which version each node runs."""
        self._played = Played()

    async def play(self) -> Played:
        older, newer = self._releases.older, self._releases.newer
        before = await self._cluster_version()
        await self._change("no change", lambda: asyncio.sleep(0))
        await self._cluster.client.upgrade_cluster("hold")
        await self._look(before)
        for what, program in (("upgraded", newer), ("rolled back", older), ("upgraded again", newer)):
            for name in [*await self._cluster.followers(), await self._cluster.wait_leader()]:
                await self._change(f"{name} is {what} to {program.version}", partial(self._replace, name, program))
                await self._look(before)
        if await self._can_go_up():
            await self._change("the cluster's version is raised", self._raise)
            await self._accepted()
            await self._change(f"{older.version} is refused", partial(self._refused, before + 1))
        self._played.versions = (before, await self._cluster_version())
        self._played.verification = await self._verified()
        return self._played

    async def _change(self, name: str, step: Callable[[], Awaitable[object]]) -> None:
        self._played.changes.append(await make_change(self._cluster, name, step, self._say, self._quiet_seconds))

    # Nodes

    async def _replace(self, name: str, program: InstalledProgram) -> None:
        """Stops a node in good order, and starts the other program in its place."""
        await self._stop(name)
        await self._start(name, program)

    async def _stop(self, name: str) -> None:
        node = self._cluster.node(name)
        if code := await asyncio.to_thread(node.stop):
            raise UpgradeError(f"{name} was told to end, and ended with {code}: {node.last_words()}")

    async def _start(self, name: str, program: InstalledProgram) -> None:
        node = self._cluster.node(name)
        node.command = program.command
        self._runs[name] = program.version
        await asyncio.to_thread(node.start)
        await self._cluster.wait_caught_up(name, WAIT_SECONDS)

        async def all_are_there() -> bool:
            # By the names that they had before: a node that came back as another one would be one too many.
            found = {member.name: member.version async for member in self._cluster.client.list_members()}
            return found == self._runs

        await eventually(all_are_there, WAIT_SECONDS, f"members that run {self._runs}")

    async def _refused(self, version: int) -> None:
        """Starts the older program on a follower's folder, and sees it end by itself; then brings the newer one back."""
        older = self._releases.older
        name = (await self._cluster.followers())[0]
        node = self._cluster.node(name)
        await self._stop(name)
        node.command = older.command
        await asyncio.to_thread(node.start)

        async def has_stopped() -> bool:
            return not node.is_running

        await eventually(has_stopped, WAIT_SECONDS, f"horologe {older.version} ends on the folder of {name}")
        code, said = node.wait_stopped(), node.last_words()
        complaints = [line for line in said.splitlines() if line.startswith("horologe: ")]
        if code != EXIT_REFUSED or f"the state is of cluster version {version}" not in said:
            raise UpgradeError(f"{name} ended with {code} under horologe {older.version}, and said: {said}")
        self._played.complaint = complaints[-1]
        await self._start(name, self._releases.newer)

    # The cluster's version

    async def _cluster_version(self) -> int:
        """As the leader has it."""
        leader = self._cluster.on(await self._cluster.wait_leader())
        return (await leader.cluster_status()).cluster_version

    async def _look(self, version: int) -> None:
        """The version stays where it is, and what it does not allow is refused by every node, whatever that runs."""
        if (found := await self._cluster_version()) != version:
            raise UpgradeError(f"the version was held at {version}, and is {found}")
        if not self._releases.knows_later_kinds:
            return
        for name in self._cluster.names:

            async def refused(name: str = name) -> bool:
                try:
                    await self._cluster.on(name).set_calendar(_calendar(name))
                except HorologeError as error:
                    if error.reason == "VERSION_TOO_LOW":
                        return True
                    raise
                raise UpgradeError(f"{name} runs {self._runs[name]} and took what version {version} does not allow")

            await eventually(refused, WAIT_SECONDS, f"{name} refuses what version {version} does not allow")
            self._played.refused_count += 1

    async def _can_go_up(self) -> bool:
        """Whether the newer program can apply a version that the cluster has not got; then all members can by now."""
        client = self._cluster.on(await self._cluster.wait_leader())
        if not (await client.cluster_status()).next_version:
            self._say("the newer program can apply no newer version of a cluster: there is nothing to raise")
            return False

        async def nobody_is_missing() -> bool:
            return not (await client.cluster_status()).next_version_waits_for

        await eventually(nobody_is_missing, WAIT_SECONDS, "all members can apply the next version")
        return True

    async def _raise(self) -> None:
        await self._cluster.client.upgrade_cluster("finalize")

        async def all_have_it() -> bool:
            statuses = [await self._cluster.status(name) for name in self._cluster.names]
            return len({one.cluster_version if one is not None else 0 for one in statuses}) == 1

        await eventually(all_have_it, WAIT_SECONDS, "all members at the next version")

    async def _accepted(self) -> None:
        """What was refused before is taken now, by every node, and is there on all others."""
        if not self._releases.knows_later_kinds:
            return
        for name in self._cluster.names:
            await self._cluster.on(name).set_calendar(_calendar(name))
        for name in self._cluster.names:
            reader = self._cluster.on(name).linearizable()
            for other in self._cluster.names:
                await reader.get_calendar(f"from-{other}")

    async def _verified(self) -> Verification:
        """As `horologe verify` does; work goes on meanwhile."""

        async def sound() -> Verification | None:
            found = await verify(self._cluster.client, GRACE_MS)
            return found if found.is_sound and found.is_complete else None

        try:
            return await eventually(sound, WAIT_SECONDS, "everything is accounted for")
        except AssertionError:
            return await verify(self._cluster.client, GRACE_MS)


def _calendar(name: str) -> Calendar:
    return Calendar(name=f"from-{name}", dates=["*-12-25"])
