"""The profiles of `horologe bench`: what each does to the cluster, and what it expects to come of it.

A profile plays on a stage and answers a report. Due times are arithmetic here (jobs have phases that we choose), so what
had to run is known without asking the cluster.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Protocol

from horologe.chaos.bench_evidence import MINUTE_MS, Distribution, account, account_by_minute, starts_per_second
from horologe.chaos.bench_fleet import BenchError
from horologe.chaos.bench_readers import readers
from horologe.chaos.bench_report import Minute, Report
from horologe.chaos.bench_stage import CATCH_UP_SECONDS, READY_SECONDS, SETTLE_SECONDS, Sample, Stage, every, once
from horologe.client import jobs
from horologe.client.async_client import AsyncClient
from horologe.client.errors import HorologeError
from horologe.v1.job_pb2 import Schedule

FAR_MS = 10 * 365 * 86_400_000
"""Jobs that only have to be there are due this far in the future."""
CREATIONS_PER_SECOND_MIN = 200
"""A cluster that is slower than this at creating jobs in batches is given up."""
LEAD_SECONDS = 4.0
"""From the end of the creation to the instant of a burst."""
DRAIN_POLL_SECONDS = 0.02
PROBE_JOBS = 1_000
DAY_MS = 86_400_000
QUIET_MS = 2 * 3_600_000


class Profile(Protocol):
    """One kind of load."""

    @property
    def seconds_max(self) -> float:
        """When to give up, whatever happens."""

    async def play(self, stage: Stage) -> Report: ...


@dataclass(frozen=True, slots=True)
class Steady:
    """`jobs` recurring jobs with one period, their phases spread evenly over it, or as the cluster derives them."""

    jobs: int
    period_ms: int
    seconds: int
    warm_up_seconds: float
    derived_phases: bool = False
    readers: int = 0
    """People who have the dashboard open meanwhile."""
    history_count: int = 0
    """So many executions are kept, and older ones dropped: what makes a long run stand still in size. 0: all."""
    by_minute: bool = False
    """Whether the report tells each minute by itself."""

    @property
    def seconds_max(self) -> float:
        creation_seconds = self.jobs / CREATIONS_PER_SECOND_MIN
        return 180 + creation_seconds + self.warm_up_seconds + CATCH_UP_SECONDS + self.seconds + SETTLE_SECONDS

    def phase_ms(self, job: int) -> int:
        return job * self.period_ms // self.jobs

    def schedule(self, job: int) -> Schedule:
        if self.derived_phases:
            return jobs.every(timedelta(milliseconds=self.period_ms))
        return every(self.period_ms, self.phase_ms(job))

    def due_times(self, phases_ms: Sequence[int], from_ms: int, until_ms: int) -> Iterator[tuple[int, int]]:
        """Every (job, due time) in [from_ms, until_ms)."""
        for job, phase_ms in enumerate(phases_ms):
            first_ms = phase_ms + -((phase_ms - from_ms) // self.period_ms) * self.period_ms
            for due_ms in range(first_ms, until_ms, self.period_ms):
                yield job, due_ms

    async def play(self, stage: Stage) -> Report:
        report = Report("steady", asdict(self) | {"rate_per_second": self.jobs * 1000 / self.period_ms})
        await stage.start_workers()
        if self.history_count:
            await stage.client.update_namespace(history_count_max=self.history_count)
        begun = await stage.status()
        stored = await stage.create([stage.job(number, self.schedule(number)) for number in range(self.jobs)])
        phases_ms = [job.schedules[0].interval.phase.ToMilliseconds() for job in stored]
        await stage.steps.wait_until("Warming up", time.time() + self.warm_up_seconds)
        await stage.catch_up(waiting_max=max(10, self.jobs * 1000 // self.period_ms // 2), due=stored)
        from_ms = int((time.time() + 1) * 1000)
        until_ms = from_ms + self.seconds * 1000
        firsts_ms = [job.next_due_time.ToMilliseconds() for job in stored]
        in_time = sum(len(range(first_ms, until_ms, self.period_ms)) for first_ms in firsts_ms)
        await stage.steps.wait_until("Beginning", from_ms / 1000)
        before = await stage.sample()
        async with readers(stage.fleet.page_addresses, self.readers) as visits:
            samples = [before, *[sample async for sample in self._measure(stage, from_ms, until_ms)]]
        after = samples[-1]
        report.calls, report.failed_calls = len(visits.taken_ms), visits.failed
        report.call_ms = Distribution.of(visits.taken_ms)
        await stage.settle(begun, in_time)
        starts = await asyncio.to_thread(stage.fleet.stop_workers)
        executions = starts.execution_count()
        ledger = await stage.ledger(begun, executions)
        found, delays = account_by_minute(starts, partial(self.due_times, phases_ms), from_ms, until_ms)
        if self.by_minute:
            report.minutes = [_minute(*pair, delay) for pair, delay in zip(pairwise(samples), delays, strict=True)]
        report.starts_per_second = starts_per_second(starts, from_ms // 1000 + 1, until_ms // 1000)
        report.take_account(found, ledger, executions)
        report.take_usage(before, after)
        took_seconds = max(self.seconds, found.last_start_us / 1e6 - from_ms / 1000)
        report.throughput_per_second = round(found.executions / took_seconds, 1)
        return report

    async def _measure(self, stage: Stage, from_ms: int, until_ms: int) -> AsyncIterator[Sample]:
        """A sample at the end, or at the end of each minute."""
        step_ms = MINUTE_MS if self.by_minute else until_ms - from_ms
        for begin_ms in range(from_ms, until_ms, step_ms):
            await stage.steps.wait_until("Measuring", min(begin_ms + step_ms, until_ms) / 1000)
            yield await stage.sample()


def _minute(before: Sample, after: Sample, start_delay: Distribution | None) -> Minute:
    used = sum(usage.cpu_seconds - before.nodes[node].cpu_seconds for node, usage in after.nodes.items())
    return Minute(
        round(used / (after.at - before.at), 3),
        {node: usage.rss_bytes for node, usage in after.nodes.items()},
        {node: usage.data_bytes for node, usage in after.nodes.items()},
        start_delay,
    )


@dataclass(frozen=True, slots=True)
class Burst:
    """`count` jobs, all due at one instant, while somebody else creates jobs one after the other."""

    count: int

    @property
    def seconds_max(self) -> float:
        return 180 + 3 * self.count / CREATIONS_PER_SECOND_MIN + SETTLE_SECONDS

    async def play(self, stage: Stage) -> Report:
        report = Report("burst", asdict(self))
        await stage.start_workers()
        begun = await stage.status()
        instant_ms = await self._instant_ms(stage)
        await stage.create([stage.job(number, once(instant_ms)) for number in range(self.count)])
        if time.time() * 1000 > instant_ms - 1000:
            raise BenchError("creating the jobs took until the instant at which they are due; the machine is too busy")
        await stage.steps.wait_until("Waiting for the instant", instant_ms / 1000 - 0.5)
        before = await stage.sample()
        await stage.steps.wait_until("Bursting", instant_ms / 1000)
        async with _calls(stage, report, in_flight=1, first=2 * self.count):
            await stage.settle(before.status, self.count, poll_seconds=DRAIN_POLL_SECONDS)
            drained_at = time.time()
        after = await stage.sample()
        starts = await asyncio.to_thread(stage.fleet.stop_workers)
        executions = starts.execution_count()
        ledger = await stage.ledger(begun, executions)
        found = account(list(starts), ((job, instant_ms) for job in range(self.count)), instant_ms, instant_ms + 1)
        report.take_account(found, ledger, executions)
        report.take_usage(before, after)
        report.drained_seconds = round(drained_at - instant_ms / 1000, 3)
        report.throughput_per_second = round(found.executions / report.drained_seconds, 1)
        return report

    async def _instant_ms(self, stage: Stage) -> int:
        """An instant by which all jobs are there: a first lot tells how long the rest will take."""
        numbers = range(self.count, self.count + min(PROBE_JOBS, self.count))
        far_ms = int(time.time() * 1000) + FAR_MS
        begun = time.monotonic()
        await stage.create([stage.job(number, once(far_ms)) for number in numbers])
        seconds = (time.monotonic() - begun) * self.count / len(numbers)
        # On whole seconds, as people write their schedules; the first lot ran on a cold cluster, so twice is plenty.
        return int(time.time() + 2 * seconds + LEAD_SECONDS + 1) * 1000


@dataclass(frozen=True, slots=True)
class Submit:
    """Callers who each create a job (or a batch of them), wait for the answer, and create the next."""

    seconds: float
    in_flight: int
    batch: int
    warm_up_seconds: float

    @property
    def seconds_max(self) -> float:
        return 240 + self.warm_up_seconds + self.seconds

    async def play(self, stage: Stage) -> Report:
        report = Report("submit", asdict(self))
        warm_up = Report("", {})
        begun = await stage.status()
        async with _calls(stage, warm_up, self.in_flight, batch=self.batch):
            await stage.steps.wait_until("Warming up", time.time() + self.warm_up_seconds)
        before = await stage.sample()
        async with _calls(stage, report, self.in_flight, batch=self.batch, first=warm_up.calls * self.batch):
            await stage.steps.wait_until("Submitting", time.time() + self.seconds)
        after = await stage.sample()
        report.take_usage(before, after)
        report.throughput_per_second = round(report.calls * self.batch / report.seconds, 1)
        if stage.fleet.is_own:
            # Every job that was acknowledged has to be there, and no other.
            expected = begun.job_count + (warm_up.calls + report.calls) * self.batch
            difference = await stage.job_count() - expected
            report.missed, report.duplicated = max(0, -difference), max(0, difference)
        report.failed_calls += warm_up.failed_calls
        return report


@dataclass(frozen=True, slots=True)
class Idle:
    """Daily jobs, none of which is due soon: what a cluster costs that only waits, and how long its nodes take to come back."""

    jobs: int
    seconds: float
    warm_up_seconds: float
    restarts: int = 0
    """How often a node is killed and started again, one node after the other."""

    @property
    def seconds_max(self) -> float:
        creation_seconds = self.jobs / CREATIONS_PER_SECOND_MIN
        return 180 + creation_seconds + self.warm_up_seconds + self.seconds + self.restarts * READY_SECONDS

    def phase_ms(self, job: int, now_ms: int) -> int:
        """Spread over the day, but for two hours from now and two hours before: so much is left for filling and measuring."""
        return (now_ms + QUIET_MS + job * (DAY_MS - 2 * QUIET_MS) // self.jobs) % DAY_MS

    async def play(self, stage: Stage) -> Report:
        report = Report("idle", asdict(self))
        begun = await stage.status()
        now_ms = int(time.time() * 1000)
        filled_seconds = await stage.fill(self.jobs, lambda number: every(DAY_MS, self.phase_ms(number, now_ms)))
        report.more["created_per_second"] = round(self.jobs / filled_seconds, 1)
        await stage.steps.wait_until("Coming to rest", time.time() + self.warm_up_seconds)
        before = await stage.sample()
        await stage.steps.wait_until("Measuring", time.time() + self.seconds)
        after = await stage.sample()
        report.take_usage(before, after)
        if stage.fleet.is_own:
            report.missed = max(0, self.jobs - (after.status.job_count - begun.job_count))
        for turn in range(self.restarts):
            seconds = await stage.restart(turn % len(stage.fleet.addresses))
            report.restart_seconds.append(round(seconds, 3))
        return report


@dataclass(slots=True)
class _Caller:
    """Creates jobs far in the future until it is told to stop; what is under way then is finished and counted."""

    stage: Stage
    report: Report
    batch: int
    next_number: int
    stopping: bool = False
    latencies_ms: list[float] = field(default_factory=list)

    async def call(self, client: AsyncClient) -> None:
        schedule = once(int(time.time() * 1000) + FAR_MS)
        while not self.stopping:
            first, self.next_number = self.next_number, self.next_number + self.batch
            definitions = [self.stage.job(number, schedule) for number in range(first, first + self.batch)]
            began = time.perf_counter()
            try:
                if self.batch == 1:
                    await client.create_job(definitions[0])
                else:
                    await client.batch_create_jobs(definitions)
            except HorologeError as error:
                self.report.failed_calls += 1
                self.report.lost_details.append({"kind": "failed call", "error": str(error)})
                del self.report.lost_details[20:]
                continue
            self.latencies_ms.append((time.perf_counter() - began) * 1000)
            self.stage.created(job.name for job in definitions)
        self.report.calls = len(self.latencies_ms)
        self.report.call_ms = Distribution.of(self.latencies_ms)


@asynccontextmanager
async def _calls(
    stage: Stage, report: Report, in_flight: int, *, batch: int = 1, first: int = 0
) -> AsyncIterator[None]:
    """`in_flight` callers, spread over the nodes, while the block runs; their calls are counted in `report`."""
    caller = _Caller(stage, report, batch, first)
    async with asyncio.TaskGroup() as group:
        for position in range(in_flight):
            group.create_task(caller.call(stage.clients[position % len(stage.clients)]))
        try:
            yield
        finally:
            caller.stopping = True
