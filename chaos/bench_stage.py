"""The stage of a benchmark: a cluster that is ready, the jobs of this run on it, and samples of how it stands.

Profiles (bench_profiles.py) play on it. Processes are the fleet's (bench_fleet.py); here is what goes through the API.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

import psutil

from horologe.chaos.bench_fleet import BenchError, Fleet, Usage
from horologe.chaos.bench_progress import Steps
from horologe.chaos.bench_worker import HANDLER
from horologe.client import jobs
from horologe.client.async_client import AsyncClient
from horologe.client.errors import HorologeError, NotFound
from horologe.v1.cluster_service_pb2 import GetClusterStatusResponse
from horologe.v1.job_pb2 import Job, Schedule

READY_SECONDS = 60.0
SETTLE_SECONDS = 30.0
"""How long what was due in time may take to end before it counts as missed."""
FOREIGN_SETTLE_SECONDS = 10.0
"""The same on a cluster with other work, whose counters say nothing about ours."""
CATCH_UP_SECONDS = 60.0
"""How long a cluster may take to work off what came up while the jobs were created."""
BEHIND_MS = 500
"""A due time that has not fired so long after it was to shows that the cluster has not caught up."""
LOOKED_AT = 40
"""About so many jobs are asked for theirs."""
AGREE_SECONDS = 5.0
POLL_SECONDS = 0.25
RESTART_POLL_SECONDS = 0.02
CREATE_BATCH = 500
CREATE_IN_FLIGHT = 4
DELETE_IN_FLIGHT = 64
CALL_SECONDS = 60.0

Status = GetClusterStatusResponse


@dataclass(frozen=True, slots=True)
class Sample:
    """How everything stands at one instant."""

    at: float
    """Monotonic seconds."""
    status: Status
    nodes: dict[str, Usage]
    worker_cpu_seconds: float
    load_cpu_seconds: float
    """Of this process, which makes the load."""
    machine: MachineTime


@dataclass(frozen=True, slots=True)
class MachineTime:
    """Core seconds of the whole machine since it began."""

    busy: float
    stolen: float
    """Wanted, but given to other virtual machines by the host."""

    @classmethod
    def now(cls) -> MachineTime:
        times = psutil.cpu_times()
        waiting = times.idle + getattr(times, "iowait", 0.0)
        stolen: float = getattr(times, "steal", 0.0)
        # `guest` is a part of `user`, and not counted again.
        guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        return cls(sum(times) - waiting - stolen - guest, stolen)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The cluster's own counters over the whole run, once the workers have left."""

    fired: int
    completed: int
    failed: int
    not_run: int
    """Due times that were skipped, missed or coalesced."""
    refused_tokens: int
    waiting: int
    """Queued or running: fired after the measured time."""

    @classmethod
    def between(cls, before: Status, after: Status) -> Ledger:
        return cls(
            after.fired_count - before.fired_count,
            after.completed_count - before.completed_count,
            after.failed_count - before.failed_count,
            after.not_run_count - before.not_run_count,
            after.refused_token_count - before.refused_token_count,
            after.queued_count + after.running_count - before.queued_count - before.running_count,
        )

    def agrees(self, executions: int) -> bool:
        """Whether it says what the handlers say: so many executions, each completed, nothing left out or refused."""
        return (
            self.completed == executions
            and self.fired == self.completed + self.waiting
            and not (self.failed or self.not_run or self.refused_tokens)
        )


class Stage:
    """A ready cluster, from `async with` to its end. Everything it does is bounded in time."""

    def __init__(self, fleet: Fleet, steps: Steps) -> None:
        self.fleet = fleet
        self.steps = steps
        self.queue = fleet.run
        self._stack = AsyncExitStack()
        self._created: list[str] = []

    async def __aenter__(self) -> Self:
        context = self.fleet.context
        self.client = await self._stack.enter_async_context(AsyncClient(context))
        self.client = self.client.with_timeout(CALL_SECONDS)
        self.clients = [
            (await self._stack.enter_async_context(AsyncClient(replace(context, addresses=(address,))))).with_timeout(
                CALL_SECONDS
            )
            for address in self.fleet.addresses
        ]
        """One for each node, for load that shall come in everywhere."""
        await self._wait("the cluster", self._has_leader)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # The cluster

    async def start_workers(self) -> None:
        """Starts the workers and waits until all of them have a session."""
        wanted = {f"workers/{name}" for name in self.fleet.start_workers(self.queue)}

        async def connected() -> bool:
            return wanted <= {worker.name async for worker in self.client.list_workers()}

        await self._wait("the workers", connected)

    async def status(self) -> Status:
        return await self.client.cluster_status()

    async def job_count(self) -> int:
        """How many jobs there are, once the node that is asked, which may be behind, has applied all that is committed now."""
        statuses = [await client.cluster_status() for client in self.clients]
        committed = max(status.commit_index for status in statuses)

        async def has_come_up() -> bool:
            return (await self.status()).revision >= committed

        await self._wait("the last jobs", has_come_up)
        return (await self.status()).job_count

    async def sample(self) -> Sample:
        self.fleet.check()
        status = await self.status()
        own = time.process_time()
        return Sample(
            time.monotonic(),
            status,
            self.fleet.node_usage(),
            self.fleet.worker_cpu_seconds(),
            own,
            MachineTime.now(),
        )

    async def _has_leader(self) -> bool:
        statuses = [await client.with_timeout(2.0).cluster_status() for client in self.clients]
        return all(status.leader and status.has_quorum and status.cluster_id for status in statuses)

    async def _wait(self, what: str, condition: Callable[[], Awaitable[bool]]) -> None:
        step = self.steps.begin(f"Waiting for {what}", 1)
        try:
            async with asyncio.timeout(READY_SECONDS):
                while True:
                    self.fleet.check()
                    with suppress(HorologeError):
                        if await condition():
                            break
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise BenchError(f"{what} not ready after {READY_SECONDS:.0f} s") from None
        step.reach(1)

    # Jobs

    def job(self, number: int, schedule: Schedule) -> Job:
        """The `number`th job of this run, with a handler that does nothing."""
        return jobs.job(
            self.job_id(number),
            schedule,
            jobs.python(HANDLER),
            # Every due time shall run, whatever became of the one before, and once only.
            overlap="allow",
            retry=jobs.retry(max_attempts=1),
            queue=self.queue,
        )

    def job_id(self, number: int) -> str:
        return f"{self.fleet.run}-{number}"

    async def create(self, definitions: Sequence[Job]) -> list[Job]:
        """Creates jobs in batches, a few batches at a time; answers them as stored."""
        step = self.steps.begin(f"Creating {len(definitions):,} jobs", len(definitions))
        batches = [definitions[start : start + CREATE_BATCH] for start in range(0, len(definitions), CREATE_BATCH)]
        stored: list[list[Job]] = [[] for _ in batches]
        turns = iter(range(len(batches)))

        async def work(client: AsyncClient) -> None:
            for turn in turns:
                stored[turn] = await client.batch_create_jobs(batches[turn])
                step.add(len(batches[turn]))

        await _all(work(client) for client in itertools.islice(itertools.cycle(self.clients), CREATE_IN_FLIGHT))
        self.created([job.name for batch in stored for job in batch])
        return [job for batch in stored for job in batch]

    async def fill(self, count: int, schedule: Callable[[int], Schedule]) -> float:
        """Creates so many jobs that nobody needs to know again, however many; answers how many seconds that took."""
        step = self.steps.begin(f"Creating {count:,} jobs", count)
        firsts = iter(range(0, count, CREATE_BATCH))
        begun = time.monotonic()

        async def work(client: AsyncClient) -> None:
            for first in firsts:
                numbers = range(first, min(count, first + CREATE_BATCH))
                batch = [self.job(number, schedule(number)) for number in numbers]
                await client.batch_create_jobs(batch)
                self.created(job.name for job in batch)
                step.add(len(batch))

        await _all(work(client) for client in itertools.islice(itertools.cycle(self.clients), CREATE_IN_FLIGHT))
        return time.monotonic() - begun

    def created(self, names: Iterable[str]) -> None:
        """Notes jobs that have to go again from a cluster that is not ours."""
        if not self.fleet.is_own:
            self._created += names

    async def clear(self) -> None:
        """Deletes the jobs of this run, unless the cluster goes with them."""
        if not self._created:
            return
        step = self.steps.begin(f"Deleting {len(self._created):,} jobs", len(self._created))
        names = iter(self._created)

        async def work() -> None:
            for name in names:
                with suppress(NotFound):
                    await self.client.delete_job(name, cancel_running=True)
                step.add(1)

        await _all(work() for _ in range(DELETE_IN_FLIGHT))

    async def catch_up(self, waiting_max: int, due: Sequence[Job]) -> None:
        """Waits until at most so many executions are on their way and none of some jobs in `due` is long overdue.

        Or for a minute: a cluster that has not caught up by then cannot keep up, and that shows.
        """
        step = self.steps.begin("Catching up with what came due meanwhile", 1)
        some = due[:: max(1, len(due) // LOOKED_AT)]
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while time.monotonic() < deadline:
            self.fleet.check()
            status = await self.status()
            if status.queued_count + status.running_count <= waiting_max and not await self._is_behind(some):
                break
            await asyncio.sleep(POLL_SECONDS)
        step.reach(1)

    async def _is_behind(self, some: Sequence[Job]) -> bool:
        """Whether a due time of one of these has not fired."""
        for job in some:
            stored = await self.client.get_job(job.name)
            if stored.next_due_time.ToMilliseconds() < time.time() * 1000 - BEHIND_MS:
                return True
        return False

    # Nodes

    async def restart(self, position: int) -> float:
        """Kills a node and starts it again; answers the seconds from its start until it serves: it knows a leader, and reads.

        A new connection for each try: one that waits before it tries again would be what is measured.
        """
        begun = await asyncio.to_thread(self.fleet.restart, position)
        address = self.fleet.addresses[position]
        context = replace(self.fleet.context, addresses=(address,))
        host, _, port = address.rpartition(":")
        while time.monotonic() - begun < READY_SECONDS:
            self.fleet.check()
            with suppress(OSError, HorologeError):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
                async with AsyncClient(context) as client:
                    status = await client.with_timeout(1.0).cluster_status()
                    if status.leader and status.has_quorum:
                        seconds = time.monotonic() - begun
                        # The clients of this run find their way back before they are used again.
                        await self._wait("the cluster", self._has_leader)
                        return seconds
            await asyncio.sleep(RESTART_POLL_SECONDS)
        raise BenchError(f"the node at {address} does not serve {READY_SECONDS:.0f} s after its start")

    # The end of a run

    async def settle(self, before: Status, executions: int, *, poll_seconds: float = POLL_SECONDS) -> None:
        """Waits until so many executions have ended since `before`, or as long as is reasonable.

        On a cluster with other work the counters may get there too early, so the full time is waited.
        """
        step = self.steps.begin("Waiting for what was due", executions)
        deadline = time.monotonic() + (SETTLE_SECONDS if self.fleet.is_own else FOREIGN_SETTLE_SECONDS)
        while time.monotonic() < deadline:
            self.fleet.check()
            completed = (await self.status()).completed_count - before.completed_count
            step.reach(completed)
            if completed >= executions and self.fleet.is_own:
                return
            await asyncio.sleep(poll_seconds)

    async def ledger(self, before: Status, executions: int) -> Ledger | None:
        """The counters since `before`, given a moment to agree; None on a cluster that has other work."""
        if not self.fleet.is_own:
            return None
        deadline = time.monotonic() + AGREE_SECONDS
        while True:
            found = Ledger.between(before, await self.status())
            if found.agrees(executions) or time.monotonic() > deadline:
                return found
            await asyncio.sleep(POLL_SECONDS)


def every(period_ms: int, phase_ms: int) -> Schedule:
    """Due times at `phase_ms` and every `period_ms` from there, counted from the epoch."""
    return jobs.every(timedelta(milliseconds=period_ms), phase=timedelta(milliseconds=phase_ms))


def once(due_ms: int) -> Schedule:
    return jobs.once(datetime.fromtimestamp(due_ms / 1000, UTC))


async def _all(work: Iterable[Awaitable[None]]) -> None:
    """Runs everything at the same time; the first failure ends the rest."""
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(_await(one))


async def _await(one: Awaitable[None]) -> None:
    await one
