"""How long a page of a list takes when there is much to search: a store is filled by the state machine, and read as services do.

No cluster: what is measured is the state and the search over it. The store is made for the purpose and removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from horologe.log.v1 import log_pb2
from horologe.node import views
from horologe.node.catalog import Catalog
from horologe.node.execution_search import ExecutionFilter, ExecutionSearch
from horologe.node.job_search import JobQuery, JobSearch
from horologe.raft.commands import FIRE, OUTCOME, Outcome
from horologe.raft.machine import StateMachine
from horologe.raft.store import Store
from horologe.v1 import execution_pb2, execution_service_pb2, job_pb2, job_service_pb2

START_MS = 1_800_000_000_000
PERIOD_MS = 60_000
PAGE_SIZE = 100
PAGES_MAX = 60
"""Read of each list: enough to meet the slow ones, and to come to the end of what is rare."""
JOBS_PER_ENTRY = 500
FIRES_PER_ENTRY = 200
ENTRIES_PER_COMMIT = 100
WORKERS = 20
ALL = "namespaces/-/jobs/-"


@dataclass(slots=True)
class Measured:
    """The pages of one list."""

    name: str
    found: int
    page_ms: list[float]
    is_complete: bool

    def to_record(self) -> dict[str, object]:
        return {
            "filter": self.name,
            "found": self.found,
            "pages": len(self.page_ms),
            "is_complete": self.is_complete,
            "page_ms_median": round(median(self.page_ms), 2),
            "page_ms_max": round(max(self.page_ms), 2),
            "all_ms": round(sum(self.page_ms), 1),
        }


@dataclass(slots=True)
class SearchReport:
    """What was filled, and how long it took to read."""

    jobs: int
    executions: int
    apply_us: float
    """Processor time of the state machine for one execution: fired, assigned and completed."""
    lists: list[Measured] = field(default_factory=list)

    def to_record(self) -> dict[str, Any]:
        return {
            "jobs": self.jobs,
            "executions": self.executions,
            "apply_us_per_execution": round(self.apply_us, 1),
            "lists": [each.to_record() for each in self.lists],
        }


def run(folder: Path, jobs: int, executions: int, say: Callable[[str], None]) -> SearchReport:
    """Fills a store in `folder` and measures. Takes a minute or two for a million executions."""
    store = Store(folder / "search", "bench")
    try:
        filling = Filling(store)
        filling.make_jobs(jobs)
        say(f"{jobs} jobs")
        filling.run_all(executions, say)
        report = SearchReport(jobs, executions, filling.apply_seconds * 1e6 / executions)
        report.lists += _measure_executions(store)
        report.lists += _measure_jobs(store)
    finally:
        store.close()
    return report


class Filling:
    """A log of its own, applied at once and committed rarely. It goes on behind `index`."""

    def __init__(
        self, store: Store, index: int = 0, start_ms: int = START_MS, period_ms: int = PERIOD_MS, author: str = ""
    ) -> None:
        """`author`: the principal that writes the jobs, where there is security."""
        self._store = store
        self.index = index
        self._start_ms = start_ms
        self._period_ms = period_ms
        self._actor = log_pb2.Actor(principal=author) if author else None
        self._revisions: list[int] = []
        self.apply_seconds = 0.0

    def make_jobs(self, count: int) -> None:
        for number in range(WORKERS):
            opened = log_pb2.OpenSession(
                worker=f"worker-{number}",
                incarnation="a",
                queues=["default", "rare"],
                slot_count=10_000,
                gateway="bench",
            )
            self.apply(log_pb2.Command(open_session=opened))
        for start in range(0, count, JOBS_PER_ENTRY):
            drafts = [self._draft(number) for number in range(start, min(start + JOBS_PER_ENTRY, count))]
            create = log_pb2.PutJobs(mode=log_pb2.PutJobs.MODE_CREATE, jobs=drafts)
            self.apply(log_pb2.Command(put_jobs=create, actor=self._actor))
            self._revisions += [self.index] * len(drafts)
        self._store.commit()

    def run_all(self, count: int, say: Callable[[str], None]) -> None:
        """Each job in turn. Nearly all succeed."""
        made, begun = 0, time.thread_time()
        for entries, batch in enumerate(self._batches(count)):
            fires, round_ms = batch
            command = log_pb2.Command(plan=log_pb2.Plan(fires=b"".join(fires)))
            self.apply(command, round_ms)
            outcomes = [_outcome(made + position + 1, self.index) for position in range(len(fires))]
            made += len(fires)
            self.apply(log_pb2.Command(complete=log_pb2.Complete(outcomes=b"".join(outcomes))), round_ms)
            if entries % ENTRIES_PER_COMMIT == 0:
                self._store.commit()
                say(f"{made} executions")
        self._store.commit()
        self.apply_seconds = time.thread_time() - begun

    def _batches(self, count: int) -> Iterator[tuple[list[bytes], int]]:
        jobs = len(self._revisions)
        for start in range(0, count, FIRES_PER_ENTRY):
            fires = []
            for position in range(start, min(start + FIRES_PER_ENTRY, count)):
                job = position % jobs + 1
                due_ms = self._start_ms + (position // jobs + 1) * self._period_ms
                # One worker has had one attempt only.
                session = WORKERS if position == count // 3 else position % (WORKERS - 1) + 1
                next_ms = due_ms + self._period_ms
                revision = self._revisions[job - 1]
                fires.append(FIRE.pack(job, revision, due_ms, next_ms, next_ms, session, 0, 0, 0, 0, 1))
            yield fires, self._start_ms + (start // jobs + 1) * self._period_ms

    def _draft(self, number: int) -> log_pb2.JobDraft:
        space = "tiny" if number % 50_000 == 7 else f"space-{number % 5}"
        job = job_pb2.Job(name=f"namespaces/{space}/jobs/job-{number:07}", queue="default", priority=5)
        job.queue = "rare" if number % 20_000 == 11 else "default"
        job.owner = f"owner-{number % 1_000}"
        job.labels.update({"team": f"team-{number % 50}", "customer": str(number)})
        interval = job.schedules.add().interval
        interval.every.FromMilliseconds(self._period_ms)
        interval.phase.FromMilliseconds(self._start_ms % self._period_ms)
        if number % 30_000 == 13:
            job.schedules.add().cron.expression = "0 2 29 2 *"
        job.action.shell.argv.append("true")
        job.retry.max_attempts = 1
        job.timeout.FromSeconds(3_600)
        job.catchup_window.FromSeconds(3_600)
        job.overlap, job.catchup = job_pb2.OVERLAP_POLICY_ALLOW, job_pb2.CATCHUP_POLICY_LATEST
        job.on_lease_loss = job_pb2.LEASE_LOSS_POLICY_RETRY
        next_ms = self._start_ms + self._period_ms
        return log_pb2.JobDraft(job=job, next_due_ms=next_ms, next_fire_ms=next_ms, uid=str(number))

    def apply(self, command: log_pb2.Command, time_ms: int = 0) -> None:
        """One entry, which is not durable yet."""
        self.index += 1
        entry = log_pb2.Entry(time_ms=time_ms or self._start_ms, commands=[command])
        StateMachine().apply(self._store.tables, self.index, entry)


def _outcome(number: int, token: int) -> bytes:
    """One in a hundred thousand still runs, one in a thousand is out of attempts."""
    if number % 100_000 == 17:
        return b""
    outcome = Outcome.FAILED if number % 1_000 == 19 else Outcome.SUCCEEDED
    return OUTCOME.pack(number, token, 1, outcome, 0, 0, 5, 10, -1)


def _measure_executions(store: Store) -> Iterator[Measured]:
    request = execution_service_pb2.ListExecutionsRequest
    states = execution_pb2.Execution
    recent = request(parent=ALL)
    recent.created_before.FromMilliseconds(START_MS + 2 * PERIOD_MS)
    due = request(parent=ALL)
    due.due_from.FromMilliseconds(START_MS + 3 * PERIOD_MS)
    due.due_before.FromMilliseconds(START_MS + 3 * PERIOD_MS + 1)
    due.states.append(states.STATE_DEAD)
    requests = {
        "all": request(parent=ALL),
        "one job": request(parent="namespaces/space-0/jobs/job-0000000"),
        "namespace": request(parent="namespaces/space-3/jobs/-"),
        "namespace, rare": request(parent="namespaces/tiny/jobs/-"),
        "state RUNNING, rare": request(parent=ALL, states=[states.STATE_RUNNING]),
        "state DEAD": request(parent=ALL, states=[states.STATE_DEAD]),
        "state CANCELLED, none": request(parent=ALL, states=[states.STATE_CANCELLED]),
        "queue, rare": request(parent=ALL, queue="rare"),
        "worker": request(parent=ALL, worker="worker-3"),
        "worker, rare": request(parent=ALL, worker=f"worker-{WORKERS - 1}"),
        "label, common": request(parent=ALL, labels={"team": "team-7"}),
        "label, of one job": request(parent=ALL, labels={"customer": "4711"}),
        "owner": request(parent=ALL, owner="owner-17"),
        "name prefix, of ten jobs": request(parent=ALL, name_prefix="job-000123"),
        "name prefix in a namespace": request(parent="namespaces/space-1/jobs/-", name_prefix="job-00012"),
        "schedule text, rare": request(parent=ALL, schedule="29 2"),
        "created before": recent,
        "due range and state": due,
    }
    for name, wanted in requests.items():
        yield _measure_list(store, f"executions: {name}", wanted)


def _measure_list(store: Store, name: str, request: execution_service_pb2.ListExecutionsRequest) -> Measured:
    catalog = Catalog()
    measured = Measured(name, 0, [], is_complete=False)
    below: bytes | None = None
    while len(measured.page_ms) < PAGES_MAX and not measured.is_complete:
        begun = time.thread_time()
        with store.read() as tables:
            search = ExecutionSearch(tables, catalog, ExecutionFilter.of(request))
            found, below = search.page(PAGE_SIZE, below)
            response = execution_service_pb2.ListExecutionsResponse()
            response.executions.extend(
                views.execution_view(tables, catalog, number, execution, full=False) for number, execution in found
            )
            response.SerializeToString()
        measured.page_ms.append((time.thread_time() - begun) * 1e3)
        measured.found += len(found)
        measured.is_complete = below is None
    return measured


def _measure_jobs(store: Store) -> Iterator[Measured]:
    request = job_service_pb2.ListJobsRequest
    requests = {
        "all": request(parent="namespaces/-"),
        "name prefix": request(parent="namespaces/space-1", name_prefix="job-00012"),
        "label, common": request(parent="namespaces/-", labels={"team": "team-7"}),
        "label, of one job": request(parent="namespaces/-", labels={"customer": "4711"}),
        "owner": request(parent="namespaces/-", owner="owner-17"),
        "queue, rare": request(parent="namespaces/-", queue="rare"),
        "paused, none": request(parent="namespaces/-", state=job_pb2.Job.STATE_PAUSED),
        "finished, none": request(parent="namespaces/-", state=job_pb2.Job.STATE_FINISHED),
        "schedule text, rare": request(parent="namespaces/-", schedule="29 2"),
    }
    for name, wanted in requests.items():
        measured = Measured(f"jobs: {name}", 0, [], is_complete=False)
        start: bytes | None = None
        while len(measured.page_ms) < PAGES_MAX and not measured.is_complete:
            begun = time.thread_time()
            with store.read() as tables:
                found, start = JobSearch(tables, JobQuery.of(wanted)).page(PAGE_SIZE, start)
                job_service_pb2.ListJobsResponse(jobs=found).SerializeToString()
            measured.page_ms.append((time.thread_time() - begun) * 1e3)
            measured.found += len(found)
            measured.is_complete = start is None
        yield measured
