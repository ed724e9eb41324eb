"""What the core costs by itself: one store on disk, one planner that leads, one state machine, in simulated time.

No network, no Raft and no workers, so that what is measured is the work per due time, and whether it grows with the number of
jobs. A round is what a step does on a leader: plan, apply, and later the outcomes, each one entry and one commit.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from horologe.log.v1 import log_pb2
from horologe.node.planner import LeaderPlanner, PlannerSettings
from horologe.raft.commands import OUTCOME, Outcome
from horologe.raft.machine import StateMachine
from horologe.raft.model import Effects
from horologe.raft.records import LEDGER_KEY, U64, JobState
from horologe.raft.store import Store
from horologe.v1 import job_pb2

START_MS = 1_800_000_000_000
ROUND_MS = 100
"""Due times of so much simulated time go into one plan."""
JOBS_PER_ENTRY = 1_000
TURNS = 10
SETTINGS = PlannerSettings(lease_term_seconds=10.0, clock_drift=0.01, history_retention_seconds=30 * 86_400.0)


@dataclass(frozen=True, slots=True)
class CoreCost:
    """One measurement."""

    jobs: int
    fires: int
    seconds: float
    """Processor time of planning, applying and committing."""

    @property
    def microseconds_per_fire(self) -> float:
        return self.seconds * 1e6 / self.fires


class Core:
    """One replica's core on its own disk, driven by hand."""

    def __init__(self, folder: Path) -> None:
        self._store = Store(folder, "n1")
        self._machine = StateMachine()
        self._planner = LeaderPlanner(SETTINGS, random.Random(1))
        self._index = 0
        self.now_ms = START_MS

    def close(self) -> None:
        self._store.close()

    def apply(self, *commands: log_pb2.Command) -> Effects:
        """One entry, durable."""
        self._index += 1
        entry = log_pb2.Entry(time_ms=self.now_ms, commands=commands)
        _, effects = self._machine.apply(self._store.tables, self._index, entry)
        self._planner.observe(effects)
        self._store.commit()
        return effects

    def begin(self) -> None:
        """A worker with room for everything, and a planner that leads."""
        worker = log_pb2.OpenSession(worker="w1", incarnation="a", queues=["default"], slot_count=10_000, gateway="n1")
        self.apply(log_pb2.Command(open_session=worker))
        with self._store.read() as tables:
            self._planner.lead(tables, self._now, self.now_ms)

    def round(self) -> int:
        """Fires what is due now, and completes it. Answers how many executions that were."""
        fired = 0
        while True:
            with self._store.read() as tables:
                # The worker is well.
                self._planner.renew([1], tables, self._now)
                plan = self._planner.plan(tables, self._now, self.now_ms)
            if not isinstance(plan, log_pb2.Plan):
                return fired
            assigned = self.apply(log_pb2.Command(plan=plan)).assigned
            if assigned:
                fired += len(assigned)
                self.apply(log_pb2.Command(complete=log_pb2.Complete(outcomes=b"".join(map(_succeeded, assigned)))))

    def step(self) -> None:
        """One plan, applied, with the outcomes of what it started: what a leader does in one step."""
        with self._store.read() as tables:
            self._planner.renew([1], tables, self._now)
            plan = self._planner.plan(tables, self._now, self.now_ms)
        if isinstance(plan, log_pb2.Plan):
            assigned = self.apply(log_pb2.Command(plan=plan)).assigned
            if assigned:
                self.apply(log_pb2.Command(complete=log_pb2.Complete(outcomes=b"".join(map(_succeeded, assigned)))))

    def next_due_ms(self, job: int) -> int:
        """When a job is due next."""
        with self._store.read() as tables:
            return JobState.unpack(bytes(tables.job_state.get(U64.pack(job)) or b"")).next_due_ms

    def ledger_row_count(self, job: int) -> int:
        """Rows of a job."""
        with self._store.read() as tables:
            return sum(LEDGER_KEY.unpack(key)[0] == job for key, _ in tables.ledger.scan())

    @property
    def _now(self) -> float:
        return self.now_ms / 1000


def costs_of_firing(
    folder: Path, jobs: Sequence[int], rate: int, fires: int, note: Callable[[str], None]
) -> list[CoreCost]:
    """For each number of jobs: recurring ones with phases of their own, with the period that makes `rate` due times per second.

    They are measured in turns, a tenth of the fires each time, and the median turn counts: what else the machine does meets all.
    """
    cores: list[Core] = []
    try:
        for count in jobs:
            core = Core(folder / f"{count}-{len(cores)}")
            cores.append(core)
            create_jobs(core, count, period_ms=max(1_000, count * 1000 // rate))
            note(f"{count:,} jobs are there")
            core.begin()
            # The first rounds find cold pages and an empty catalog.
            for _ in range(20):
                core.now_ms += ROUND_MS
                core.round()
        turns = [[_turn(core, max(1, fires // TURNS)) for core in cores] for _ in range(TURNS)]
    finally:
        for core in cores:
            core.close()
    return [_median_cost(count, costs) for count, costs in zip(jobs, zip(*turns, strict=True), strict=True)]


def flatness(costs: Sequence[CoreCost]) -> float:
    """How much more the dearest costs than the cheapest: 0.1 is a tenth more."""
    each = [cost.microseconds_per_fire for cost in costs]
    return max(each) / min(each) - 1


def _turn(core: Core, fires: int) -> tuple[int, float]:
    """At least so many fires, and the processor time they took."""
    fired, began = 0, time.process_time()
    while fired < fires:
        core.now_ms += ROUND_MS
        fired += core.round()
    return fired, time.process_time() - began


def _median_cost(jobs: int, turns: Sequence[tuple[int, float]]) -> CoreCost:
    fired = sum(count for count, _ in turns)
    return CoreCost(jobs, fired, fired * statistics.median(seconds / count for count, seconds in turns))


def create_jobs(core: Core, jobs: int, period_ms: int) -> None:
    """Plain intervals, spread evenly over their period."""
    for first in range(0, jobs, JOBS_PER_ENTRY):
        drafts = [
            draft_of_interval(number, jobs, period_ms) for number in range(first, min(jobs, first + JOBS_PER_ENTRY))
        ]
        put = log_pb2.PutJobs(mode=log_pb2.PutJobs.MODE_CREATE, jobs=drafts)
        core.apply(log_pb2.Command(put_jobs=put))


def draft_of_interval(number: int, jobs: int, period_ms: int) -> log_pb2.JobDraft:
    """One of `jobs` with the same period."""
    phase_ms = number * period_ms // jobs
    every = job_pb2.IntervalSchedule(every=_span(period_ms), phase=_span(phase_ms))
    job = job_pb2.Job(
        name=f"namespaces/default/jobs/job-{number}",
        schedules=[job_pb2.Schedule(interval=every)],
        action=job_pb2.Action(python=job_pb2.PythonAction(handler="nothing")),
        retry=job_pb2.RetryPolicy(max_attempts=1, base=_span(1_000), cap=_span(1_000), factor=2.0),
        timeout=_span(3_600_000),
        overlap=job_pb2.OVERLAP_POLICY_ALLOW,
        catchup=job_pb2.CATCHUP_POLICY_LATEST,
        catchup_window=_span(60_000),
        on_lease_loss=job_pb2.LEASE_LOSS_POLICY_RETRY,
        queue="default",
        priority=5,
    )
    due_ms = phase_ms + ((START_MS - phase_ms) // period_ms + 1) * period_ms
    return log_pb2.JobDraft(job=job, next_due_ms=due_ms, next_fire_ms=due_ms, uid=f"uid-{number}")


def _span(milliseconds: int) -> Duration:
    return Duration(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def _succeeded(assigned: tuple[int, ...]) -> bytes:
    _, execution, _, attempt, _, token, _ = assigned
    return OUTCOME.pack(execution, token, attempt, Outcome.SUCCEEDED, 0, 0, 1, 1, 0)
