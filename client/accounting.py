"""Is every due time of every job accounted for, exactly once? The question asked of a live cluster, through its API.

The schedule says when a job was due, the ledger says what became of it. A due time that the ledger does not know is missing;
one that it knows twice, or that made two executions, is double.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from horologe.client.async_client import AsyncClient
from horologe.v1 import execution_pb2, execution_service_pb2, job_pb2

PREVIEW_COUNT = 1_000
_Row = execution_service_pb2.LedgerRow


@dataclass(slots=True)
class JobAccount:
    """What became of one job's due times up to an instant."""

    name: str
    due: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """By ledger outcome (ran, skipped, missed, coalesced)."""
    states: Counter[str] = field(default_factory=Counter)
    """Executions of due times, by state."""
    manual: int = 0
    missing: list[datetime] = field(default_factory=list)
    double: list[datetime] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        return not self.missing and not self.double


async def account(client: AsyncClient, until: datetime) -> list[JobAccount]:
    """The account of every job that exists, for due times from its creation to `until`.

    Jobs whose definition was changed since their creation are accounted for from their last change.
    """
    return [await _account_job(client, job, until) async for job in client.list_jobs()]


async def _account_job(client: AsyncClient, job: job_pb2.Job, until: datetime) -> JobAccount:
    result = JobAccount(job.name)
    since = job.update_time.ToDatetime(UTC)
    expected = Counter([due async for due in _due_times(client, job, since, until)])
    result.due = len(expected)
    instants = sorted(expected)
    known: Counter[datetime] = Counter()
    executions: Counter[str] = Counter()
    async for row in client.list_ledger(job.name):
        first, last = row.due_time.ToDatetime(UTC), row.last_due_time.ToDatetime(UTC)
        if first > until:
            continue
        covered = instants[bisect_left(instants, first) : bisect_right(instants, last)]
        if row.outcome == _Row.OUTCOME_RAN and first not in expected:
            result.manual += 1
            continue
        for due in covered:
            known[due] += 1
        result.outcomes[_Row.Outcome.Name(row.outcome).removeprefix("OUTCOME_").lower()] += len(covered)
        if row.outcome == _Row.OUTCOME_RAN:
            executions[row.execution] += 1
    async for execution in client.list_executions(job.name):
        if execution.name in executions:
            state = execution_pb2.Execution.State.Name(execution.state).removeprefix("STATE_").lower()
            result.states[state] += 1
    result.missing = sorted(due for due in expected if not known[due])
    result.double = sorted(due for due, count in known.items() if count > 1)
    return result


async def _due_times(
    client: AsyncClient, job: job_pb2.Job, since: datetime, until: datetime
) -> AsyncIterator[datetime]:
    """The union of the job's schedules, after `since` and up to `until`, each instant once."""
    seen: set[datetime] = set()
    for schedule in job.schedules:
        start = since
        while start < until:
            preview = await client.preview_schedule(schedule, start=start, count=PREVIEW_COUNT, job=job.name)
            for time in preview.due_times:
                due = time.ToDatetime(UTC)
                if due > until:
                    break
                if due not in seen:
                    seen.add(due)
                    yield due
            if len(preview.due_times) < PREVIEW_COUNT:
                break
            start = preview.due_times[-1].ToDatetime(UTC)
