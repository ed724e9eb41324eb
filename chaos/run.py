"""One chaos run, from its start to its verdict: load and callers and faults at once, then peace, the final read, the judgement.

`horologe chaos run` is this. The parts are in load.py, callers.py, nemesis.py and judge.py; report.py says what came of it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from horologe.chaos.callers import Caller
from horologe.chaos.checker import Rule, Verdict
from horologe.chaos.checker_operations import count_answers
from horologe.chaos.cluster import ChaosCluster, NotInTimeError, Setting, eventually
from horologe.chaos.disk import can_mount
from horologe.chaos.evidence import Kind, Mark, read_folder, read_latest, read_marks, read_proofs
from horologe.chaos.faults import FAULTS
from horologe.chaos.history import Answer, Due, History, JobView, Leadership, Phase
from horologe.chaos.judge import judge
from horologe.chaos.load import Load
from horologe.chaos.nemesis import Fault, Freeze, Nemesis, Scene, make_whole, wait_steady
from horologe.chaos.network import LoopbackNetwork, NamespaceNetwork
from horologe.chaos.verify import Verification, compare_members
from horologe.chaos.workload import read_outcomes
from horologe.client.async_client import AsyncClient
from horologe.v1.job_pb2 import Job

WARM_UP_SECONDS = 5.0
PEACE_SECONDS = 10.0
SETTLE_SECONDS = 90.0
CALLERS_END_SECONDS = 90.0
WATCH_SECONDS = 0.25
SMALL_DISK_BYTES = 2 << 30
"""Room for the state of an hour, and for `disk_free_bytes_min`."""
OFFSET_SECONDS = 86_400
THAW_NS = 1_000_000_000
"""What was on its way to a worker when it was stopped begins when it goes on, and ends soon after."""
LOOKED_AT_MAX = 5_000
"""So many executions that were tried again are looked at one by one."""
LEASE = {"lease_term_ms": 4_000, "heartbeat_ms": 60, "election_timeout_ms_min": 300, "election_timeout_ms_max": 600}
"""Shorter than usual, so that stopped and isolated workers outlast their lease often enough."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of a run."""

    minutes: float = 5
    nodes: int = 3
    workers: int = 3
    callers: int = 3
    rate: float = 100
    """Executions per second, of recurring jobs."""
    pause_seconds: float = 4.0
    """Between the end of a recovery and the next fault, on average."""
    faults: Sequence[type[Fault]] = FAULTS
    seed: int = 0


@dataclass(slots=True)
class Run:
    """What a run leaves behind, for the report."""

    plan: Plan
    verdict: Verdict
    history: History
    nemesis: Nemesis
    network: str
    impossible: dict[str, str]
    """Faults that were asked for and cannot be done here, with the reason."""
    load: str
    from_ns: int
    until_ns: int
    reached: dict[str, int]
    """What the faults led to, so that an idle run cannot pass."""

    @property
    def is_sound(self) -> bool:
        """No rule fell, faults have struck, and callers were answered."""
        return self.verdict.is_sound and bool(self.nemesis.strikes) and self.reached.get("operations ok", 0) > 0


Say = Callable[[str], None]


async def run(folder: Path, plan: Plan, network: NamespaceNetwork | LoopbackNetwork, say: Say) -> Run:
    """Carries a plan out in a folder, on a network that was entered."""
    load = Load.of(plan.rate, plan.callers)
    chance = random.Random(plan.seed)
    cluster = ChaosCluster(folder, plan.nodes, network=network, setting=_setting(plan, network))
    async with cluster:
        workers = [f"w{number}" for number in range(1, plan.workers + 1)]
        for name in workers:
            cluster.add_worker(name).start()
        await cluster.wait_workers(*workers)
        await load.create(cluster.client)
        possible = [kind for kind in plan.faults if not kind.obstacle(cluster)]
        impossible = {kind.name: kind.obstacle(cluster) for kind in plan.faults if kind.obstacle(cluster)}
        say(f"seed {plan.seed}; {plan.nodes} nodes in {network.description}")
        for name, reason in impossible.items():
            say(f"impossible here: {name}: {reason}")
        stage = _Stage(
            cluster, plan, load, Nemesis(Scene(cluster, chance, workers), possible, plan.pause_seconds, say), say
        )
        await stage.play()
        return await stage.close(impossible)


def _setting(plan: Plan, network: NamespaceNetwork | LoopbackNetwork) -> Setting:
    families = {kind.family for kind in plan.faults}
    kinds = {kind.name for kind in plan.faults}
    in_namespaces = isinstance(network, NamespaceNetwork)
    return Setting(
        options=dict(LEASE),
        spare_seats=int("membership" in families),
        links=in_namespaces and bool(kinds & {"delay", "loss", "slow-close"}),
        clock_files="clock" in families,
        clock_offset_seconds=OFFSET_SECONDS if in_namespaces and "clock" in families else 0,
        small_disk_bytes=SMALL_DISK_BYTES if kinds & {"disk-full", "power-cut"} and can_mount() else 0,
    )


class _Stage:
    """The state of one run between its steps."""

    def __init__(self, cluster: ChaosCluster, plan: Plan, load: Load, nemesis: Nemesis, say: Say) -> None:
        self.cluster, self.plan, self.load, self.nemesis, self.say = cluster, plan, load, nemesis, say

        def clients() -> dict[str, AsyncClient]:
            return {name: cluster.on(name) for name in cluster.names}

        self.callers = [
            Caller(number, clients, random.Random(f"{plan.seed}-{number}"), load.owned.job_id(job))
            for number, job in enumerate(load.owned.numbers, 1)
        ]
        self.leaderships: list[Leadership] = []
        self.peace: list[Phase] = []
        self.from_ms = self.until_ms = 0
        self.from_ns = self.until_ns = 0

    async def play(self) -> None:
        """Load, callers and faults; then everything is healed, and goes on for a while in peace."""
        stop = asyncio.Event()
        watch = asyncio.create_task(self._watch())
        calling = [asyncio.create_task(caller.live(stop)) for caller in self.callers]
        try:
            await wait_steady(self.nemesis.scene)
            self.from_ms, self.from_ns = _next_second_ms(), time.monotonic_ns() + 1_000_000_000
            self.say(f"load: {self.load.description}")
            await asyncio.sleep(WARM_UP_SECONDS)
            await self.nemesis.torment(self.from_ns + int(self.plan.minutes * 60e9))
            await self._rest()
            stop.set()
            async with asyncio.timeout(CALLERS_END_SECONDS):
                await asyncio.gather(*calling)
                await asyncio.gather(*(caller.tidy_up() for caller in self.callers))
        finally:
            watch.cancel()
            for task in calling:
                task.cancel()
            await asyncio.gather(watch, *calling, return_exceptions=True)

    async def _rest(self) -> None:
        """The last part: nothing is wrong any more, so nothing may be late."""
        with suppress(NotInTimeError):
            # What does not come to rest is on the nemesis' list already, or will be judged as late.
            await make_whole(self.nemesis.scene)
            await wait_steady(self.nemesis.scene)
        begin_ns = time.monotonic_ns()
        await asyncio.sleep(PEACE_SECONDS)
        self.peace.append(Phase("peace", begin_ns, time.monotonic_ns()))
        self.until_ms, self.until_ns = _next_second_ms(), time.monotonic_ns() + 1_000_000_000

    async def close(self, impossible: dict[str, str]) -> Run:
        """Waits until everything has ended, reads all there is, and judges."""
        await asyncio.sleep(max(0.0, (self.until_ns - time.monotonic_ns()) / 1e9))
        expected = self.load.expected(self.from_ms, self.until_ms)
        # Before the load is paused: callers' jobs must be as the callers left them.
        jobs = await self._read_jobs()
        await self._settle(len(expected))
        history = await self._read(expected, jobs)
        verdict = judge(history, self.from_ms, self.until_ms)
        for text in self.nemesis.not_recovered:
            verdict.note(Rule.NOT_RECOVERED, text)
        for text in self.nemesis.ended_alone:
            verdict.note(Rule.NODE_ENDED, text)
        return Run(
            self.plan, verdict, history, self.nemesis, self.cluster.network.description, impossible,
            self.load.description, self.from_ns, self.until_ns, await self._reached(history),
        )  # fmt: skip

    async def _settle(self, expected: int) -> None:
        """Until what was due has been fired; then nothing more is, and all ends. What never ends the checker names."""

        async def fired() -> bool:
            latest = [mark for mark in read_latest(self.cluster.evidence, 20) if mark.kind == Kind.STARTED]
            return bool(latest) and latest[-1].due_ms > self.until_ms

        async def idle() -> bool:
            status = await self.cluster.client.cluster_status()
            return status.queued_count == 0 and status.running_count == 0

        self.say(f"{expected} due times; waiting until the last of them have ended")
        with suppress(NotInTimeError):
            await eventually(fired, SETTLE_SECONDS, "later ones started", poll_seconds=0.5)
        await self.load.pause(self.cluster.client)
        with suppress(NotInTimeError):
            await eventually(idle, SETTLE_SECONDS, "nothing left", poll_seconds=0.5)

    async def _read_jobs(self) -> list[JobView]:
        return [
            JobView(job.name.rpartition("/")[2], job.state == Job.STATE_PAUSED, job.description)
            async for job in self.cluster.client.list_jobs(page_size=1_000)
        ]

    async def _read(self, expected: list[Due], jobs: list[JobView]) -> History:
        client = self.cluster.client
        members = Verification()
        await compare_members(client, members)
        marks = read_folder(self.cluster.evidence)
        starts = Counter(mark.execution for mark in marks if mark.kind == Kind.STARTED)
        retried = [execution for execution, count in starts.items() if count > 1][:LOOKED_AT_MAX]
        operations = sorted((one for caller in self.callers for one in caller.operations), key=lambda one: one.sent_ns)
        asked = (int(one.detail) for one in operations if one.kind == "run" and one.answer is Answer.OK)
        return History(
            marks=marks,
            expected=expected,
            ledger=await self.load.ledger(client),
            outcomes=await read_outcomes(client, retried),
            operations=operations,
            jobs=jobs,
            leaderships=self.leaderships,
            phases=self.nemesis.phases(self.from_ns, self.until_ns),
            policies=self.load.policies(),
            frozen=frozen_executions(self.cluster.evidence, self.nemesis.scene.freezes),
            proofs=read_proofs(self.cluster.evidence),
            proven_jobs=self.load.proven(),
            skews=self.nemesis.scene.skews,
            wall_minus_monotonic_ms=time.time_ns() / 1e6 - time.monotonic_ns() / 1e6,
            peace=self.peace,
            digests={member.name: member.digest for member in members.members},
            owned_jobs=self.load.owned_numbers(),
            asked_executions=frozenset(asked),
        )

    async def _reached(self, history: History) -> dict[str, int]:
        """What the faults led to, as far as anybody can see it."""
        status = await self.cluster.client.cluster_status()
        starts = Counter(mark.execution for mark in history.marks if mark.kind == Kind.STARTED)
        return {
            "strikes": len(self.nemesis.strikes),
            "terms": status.term,
            "leaders seen": len({one.term for one in history.leaderships}),
            "executions tried again": sum(count > 1 for count in starts.values()),
            "outcomes refused for their token": status.refused_token_count,
            "due times left out": status.not_run_count,
            "proven starts": len(history.proofs or ()),
            **{f"operations {key}": count for key, count in count_answers(history.operations).items()},
        }

    async def _watch(self) -> None:
        """Notes who says that it leads."""
        while True:
            names = [node.name for node in self.cluster.local.nodes if node.is_running]
            statuses = await asyncio.gather(*(self.cluster.status(name) for name in names))
            now_ns = time.monotonic_ns()
            for one in statuses:
                if one is not None and one.leader == one.node:
                    self.leaderships.append(Leadership(now_ns, one.node, one.term))
            await asyncio.sleep(WATCH_SECONDS)


def frozen_executions(evidence: Path, freezes: Sequence[Freeze]) -> frozenset[int]:
    """Executions that a worker had not ended when it was stopped: they may go on for a moment after it is thawed."""
    found: set[int] = set()
    for freeze in freezes:
        for path in evidence.glob(f"{freeze.worker}-*.evidence"):
            ended_ns: dict[tuple[int, int], int] = {}
            started: list[Mark] = []
            for mark in read_marks(path):
                if mark.kind == Kind.STARTED:
                    started.append(mark)
                else:
                    ended_ns[mark.execution, mark.token] = mark.monotonic_ns
            for mark in started:
                end_ns = ended_ns.get((mark.execution, mark.token), freeze.until_ns)
                if mark.monotonic_ns <= freeze.until_ns + THAW_NS and end_ns >= freeze.from_ns:
                    found.add(mark.execution)
    return frozenset(found)


def _next_second_ms() -> int:
    return (int(time.time()) + 1) * 1000
