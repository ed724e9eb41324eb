"""What a cluster under torment has to do: recurring jobs whose due times are known by arithmetic, and callers that note
every answer they get.

An acknowledged operation is a promise; one without an answer may or may not have happened, and counts as neither.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from horologe.chaos.history import Due, LedgerLine, Outcome, Policy
from horologe.chaos.recording_worker import HOLD, NOOP, job_number
from horologe.client import jobs, names
from horologe.client.async_client import AsyncClient
from horologe.client.errors import DeadlineExceeded, HorologeError, OutcomeUnknown, Unavailable
from horologe.v1.execution_pb2 import Attempt, Execution
from horologe.v1.execution_service_pb2 import LedgerRow
from horologe.v1.job_pb2 import Action, Job, RetryPolicy

CREATE_BATCH = 500
IN_FLIGHT = 16
READ_SECONDS = 60.0

USUAL_POLICY = Policy()

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class RecurringJobs:
    """`count` jobs with one due time each per period, spread evenly over it; numbered from `first`."""

    count: int
    period_ms: int
    prefix: str = "tick"
    first: int = 1
    action: Callable[[int], Action] = lambda _: jobs.python(NOOP)
    """By number."""
    # Every due time shall run, whatever became of the one before.
    overlap: str = "allow"
    catchup: str = ""
    on_lease_loss: str = ""
    retry: RetryPolicy = field(default_factory=lambda: jobs.retry(max_attempts=5, base="100ms"))
    policy: Policy = USUAL_POLICY
    """What the options above allow to become of a due time, in the checker's words."""

    @property
    def numbers(self) -> range:
        """Of the jobs."""
        return range(self.first, self.first + self.count)

    def job_id(self, number: int) -> str:
        """The name of a job."""
        return f"{self.prefix}-{number}"

    def job(self, number: int) -> Job:
        """The definition of the job with this number."""
        return jobs.job(
            self.job_id(number),
            jobs.every(timedelta(milliseconds=self.period_ms), phase=timedelta(milliseconds=self._phase_ms(number))),
            self.action(number),
            overlap=self.overlap,
            catchup=self.catchup,
            on_lease_loss=self.on_lease_loss,
            retry=self.retry,
        )

    async def create(self, client: AsyncClient) -> None:
        """Creates all of them."""
        definitions = [self.job(number) for number in self.numbers]
        for start in range(0, len(definitions), CREATE_BATCH):
            await client.with_timeout(READ_SECONDS).batch_create_jobs(definitions[start : start + CREATE_BATCH])

    def expected(self, from_ms: int, until_ms: int) -> list[Due]:
        """All due times in [from_ms, until_ms)."""
        found: list[Due] = []
        for number in self.numbers:
            phase_ms = self._phase_ms(number)
            first_ms = from_ms + (phase_ms - from_ms) % self.period_ms
            found += [Due(number, due_ms) for due_ms in range(first_ms, until_ms, self.period_ms)]
        return found

    def _phase_ms(self, number: int) -> int:
        return (number - self.first) * self.period_ms // self.count

    async def ledger(self, client: AsyncClient) -> list[LedgerLine]:
        """What the cluster says became of every due time of these jobs."""
        found: list[LedgerLine] = []

        async def read(number: int) -> None:
            async for row in client.list_ledger(self.job_id(number), page_size=1_000):
                found.extend(self._lines(number, row))

        await each(self.numbers, read)
        return found

    def _lines(self, number: int, row: LedgerRow) -> Iterable[LedgerLine]:
        outcome = LedgerRow.Outcome.Name(row.outcome).removeprefix("OUTCOME_")
        execution = names.execution_number(row.execution) if row.execution else 0
        first_ms = row.due_time.ToMilliseconds()
        for position in range(row.count):
            yield LedgerLine(number, first_ms + position * self.period_ms, outcome, execution, row.reason.upper())


async def read_outcomes(client: AsyncClient, retried: Iterable[int] = ()) -> list[Outcome]:
    """How all executions of the namespace stand; those in `retried` with their successful attempts."""
    found: dict[int, Outcome] = {}
    patient = client.with_timeout(READ_SECONDS)
    async for execution in patient.list_executions(page_size=1_000):
        outcome = _outcome(execution)
        found[outcome.execution] = outcome

    async def look(number: int) -> None:
        execution = await patient.get_execution(number)
        tokens = [one.fencing_token for one in execution.attempts if one.state == Attempt.STATE_SUCCEEDED]
        found[number] = _outcome(execution)._replace(
            succeeded_attempts=len(tokens), succeeded_token=tokens[-1] if tokens else 0
        )

    await each(retried, look)
    return list(found.values())


def _outcome(execution: Execution) -> Outcome:
    number = names.execution_number(execution.name)
    return Outcome(number, state_of(execution), job=execution.name.split("/")[3])


def state_of(execution: Execution) -> str:
    """COMPLETED, RUNNING..."""
    return Execution.State.Name(execution.state).removeprefix("STATE_")


async def each(items: Iterable[int], work: Callable[[int], Awaitable[None]], in_flight: int = IN_FLIGHT) -> None:
    """Does the work for every item, a few at a time; the first failure ends the rest."""
    turns = iter(items)

    async def take_turns() -> None:
        for item in turns:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(take_turns())


@dataclass(slots=True)
class Callers:
    """Callers who submit and cancel without pause, each through any node, and note what was acknowledged to them."""

    prefix: str = "asked"
    counts: Counter[str] = field(default_factory=Counter)
    """Operations by what became of them: ok, failed, unknown."""
    created: set[str] = field(default_factory=set)
    """Job ids."""
    run: dict[int, str] = field(default_factory=dict)
    """Executions that were asked for and acknowledged, with their job."""
    cancelled: set[int] = field(default_factory=set)
    """Executions whose cancellation was acknowledged."""
    errors: Counter[str] = field(default_factory=Counter)

    async def keep_asking(self, client: AsyncClient, callers: int, stop: asyncio.Event) -> None:
        """Runs until `stop` is set."""
        async with asyncio.TaskGroup() as group:
            for caller in range(1, callers + 1):
                group.create_task(self._ask(client, caller, stop))

    async def _ask(self, client: AsyncClient, caller: int, stop: asyncio.Event) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            job = f"{self.prefix}-{caller * 1_000_000 + turn}"
            # A third of the runs last long, so that there is something to cancel.
            action = jobs.python(HOLD, {"seconds": 600}) if turn % 3 == 0 else jobs.python(NOOP)
            definition = jobs.job(job, jobs.manual(), action, overlap="allow")
            if await self._try(client.create_job(definition, request_id=str(uuid.uuid4()))) is None:
                continue
            self.created.add(job)
            execution = await self._try(client.run_job(job, request_id=str(uuid.uuid4())))
            if execution is None:
                continue
            number = names.execution_number(execution.name)
            self.run[number] = job
            if turn % 3 == 0 and await self._try(client.cancel_execution(number)) is not None:
                self.cancelled.add(number)

    async def _try(self, operation: Awaitable[Answer]) -> Answer | None:
        try:
            answer = await operation
        except (OutcomeUnknown, DeadlineExceeded, Unavailable) as error:
            self.counts["unknown"] += 1
            self.errors[type(error).__name__] += 1
            await asyncio.sleep(0.05)
            return None
        except HorologeError as error:
            self.counts["failed"] += 1
            self.errors[f"{type(error).__name__}: {error}"] += 1
            await asyncio.sleep(0.05)
            return None
        self.counts["ok"] += 1
        return answer


__all__ = ["Callers", "RecurringJobs", "each", "job_number", "read_outcomes", "state_of"]
