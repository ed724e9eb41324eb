"""A large state goes to a new node while work goes on: how late is a step, and how much memory does it take?

`horologe chaos snapshot` fills a cluster of one node, adds a second, and watches both: the longest time between two steps from
their logs (node/stepper.py), and their memory from /proc. Pages of the state file that are mapped count as file-backed: the
kernel drops them when it needs the room; what a node has asked for itself is anonymous.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from horologe.chaos.cluster import ChaosCluster, Setting, eventually
from horologe.chaos.workload import RecurringJobs, each
from horologe.client import jobs
from horologe.node.local_cluster import LocalProcess

LATE_MS = 100.0
ANONYMOUS_MIB_MAX = 64.0
JOB_BYTES = 90_000
JOBS_PER_CALL = 10
IN_FLIGHT = 4
CALL_SECONDS = 60.0
JOIN_SECONDS = 300.0
QUIET_SECONDS = 5.0
LOOK_SECONDS = 0.05
RATE_PERIOD_MS = 1_000
JOBS_OF_LOAD = 50

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a process, in MiB."""

    anonymous: float
    file_backed: float

    @classmethod
    def of(cls, pid: int) -> Memory:
        """As it is now."""
        found = {}
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("RssAnon", "RssFile", "RssShmem"):
                found[name] = int(value.split()[0]) / 1024
        return cls(found["RssAnon"], found["RssFile"] + found["RssShmem"])


class Watch:
    """The largest memory of a process since it is watched."""

    def __init__(self, node: LocalProcess) -> None:
        self.node = node
        self.before = self.largest = Memory.of(node.pid)

    def look(self) -> None:
        """Once more."""
        now = Memory.of(self.node.pid)
        self.largest = Memory(
            max(self.largest.anonymous, now.anonymous), max(self.largest.file_backed, now.file_backed)
        )

    @property
    def growth(self) -> Memory:
        """Since the begin."""
        return Memory(
            self.largest.anonymous - self.before.anonymous, self.largest.file_backed - self.before.file_backed
        )


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """What came of it."""

    state_mib: float
    seconds: float
    longest_ms_before: float
    longest_ms: float
    """Between two steps of the leader, while the new node was given the state."""
    leader_growth: Memory
    newcomer_growth: Memory

    @property
    def is_in_bounds(self) -> bool:
        """Whether the leader kept the time and the room that it is allowed."""
        return self.longest_ms < LATE_MS and self.leader_growth.anonymous < ANONYMOUS_MIB_MAX

    def summary(self) -> str:
        """A few lines for people."""
        return (
            f"a state of {self.state_mib:.0f} MiB was at the new node, and that one voted, after {self.seconds:.1f} s\n"
            f"longest time between two steps of the leader: {self.longest_ms:.1f} ms (before: {self.longest_ms_before:.1f} ms)\n"
            f"memory of the leader grew by {self.leader_growth.anonymous:.1f} MiB anonymous, "
            f"{self.leader_growth.file_backed:.1f} MiB file-backed (mapped pages of the state file)\n"
            f"memory of the new node grew by {self.newcomer_growth.anonymous:.1f} MiB anonymous, "
            f"{self.newcomer_growth.file_backed:.1f} MiB file-backed"
        )


async def run(folder: Path, megabytes: int, say: Say) -> SnapshotReport:
    """Gives a state of so many megabytes to a new node."""
    async with ChaosCluster(folder, 1, setting=Setting({"log_level": "debug"})) as cluster:
        leader = cluster.node(await cluster.wait_leader())
        await _fill(cluster, megabytes * 1_000_000)
        cluster.add_worker("w1").start()
        await cluster.wait_workers("w1")
        await RecurringJobs(count=JOBS_OF_LOAD, period_ms=RATE_PERIOD_MS).create(cluster.client)
        size = (leader.folder / "state" / "data.mdb").stat().st_size
        say(f"filled: {size / (1 << 20):.0f} MiB")
        name = await cluster.new_node()
        newcomer = cluster.node(name)
        await asyncio.to_thread(newcomer.start)
        await eventually(lambda: cluster.status(name), QUIET_SECONDS * 4, f"{name} answers")
        quiet_from = time.time()
        await asyncio.sleep(QUIET_SECONDS)
        watches = [Watch(leader), Watch(newcomer)]
        begin = time.time()
        joining = asyncio.create_task(cluster.join(name, seconds=JOIN_SECONDS))
        while not joining.done():
            for watch in watches:
                watch.look()
            await asyncio.wait((joining,), timeout=LOOK_SECONDS)
        await joining
        end = time.time()
        # The last second is reported when it is over.
        await asyncio.sleep(QUIET_SECONDS / 2)
        gaps = list(_gaps(leader))
    return SnapshotReport(
        size / (1 << 20),
        end - begin,
        _longest(gaps, quiet_from + 1, begin),
        _longest(gaps, begin, end + 1),
        watches[0].growth,
        watches[1].growth,
    )


async def _fill(cluster: ChaosCluster, bytes_wanted: int) -> None:
    filler = "x" * JOB_BYTES

    async def create(number: int) -> None:
        definitions = [
            jobs.job(f"filler-{number}-{position}", jobs.manual(), jobs.shell(["echo", filler]))
            for position in range(JOBS_PER_CALL)
        ]
        await cluster.client.with_timeout(CALL_SECONDS).batch_create_jobs(definitions, request_id=str(uuid.uuid4()))

    await each(range(bytes_wanted // (JOB_BYTES * JOBS_PER_CALL)), create, in_flight=IN_FLIGHT)


def _gaps(node: LocalProcess) -> Iterable[tuple[float, float]]:
    """When it was reported, in seconds of the wall clock, and milliseconds."""
    for line in (node.folder / node.log_name).read_text().splitlines():
        if line.startswith("{") and (entry := json.loads(line)).get("event") == "longest time between two steps":
            yield datetime.fromisoformat(entry["timestamp"]).timestamp(), entry["milliseconds"]


def _longest(gaps: Iterable[tuple[float, float]], from_seconds: float, until_seconds: float) -> float:
    return max((gap_ms for at, gap_ms in gaps if from_seconds <= at <= until_seconds), default=0.0)
