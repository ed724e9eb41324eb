"""What the scenario tests share: one cluster for all scenarios of a file, played at the same time, judged one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from horologe.chaos.cluster import ChaosCluster, eventually
from horologe.chaos.evidence import Kind, Mark, read_folder
from horologe.chaos.history import FINAL_STATES
from horologe.chaos.recording_worker import HOLD
from horologe.chaos.workload import state_of
from horologe.client import jobs, names
from horologe.v1.execution_pb2 import Attempt, Execution
from horologe.v1.job_pb2 import Job

SECONDS = 60
# Longer than it takes to start another one and see that both run, on a machine that is slow; and shorter than a lease less
# two heartbeats: a frozen attempt is past its end when it thaws, and one that is cut off comes to its end.
HOLD_SECONDS = 4.0

Scenario = Callable[[ChaosCluster], Awaitable[None]]
Played = Mapping[Scenario, Awaitable[None]]


@asynccontextmanager
async def playing(cluster: ChaosCluster, *scenarios: Scenario) -> AsyncIterator[Played]:
    """Plays all scenarios at once; awaiting one raises what was wrong with it."""
    async with cluster:
        tasks = {scenario: asyncio.ensure_future(scenario(cluster)) for scenario in scenarios}
        try:
            yield tasks
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)


def held(name: str, queue: str, seconds: float = HOLD_SECONDS, **policy: str) -> Job:
    """A job that is run by hand and lasts a moment."""
    return jobs.job(name, jobs.manual(), jobs.python(HOLD, {"seconds": seconds}), queue=queue, **policy)


async def run(cluster: ChaosCluster, job: Job) -> int:
    """Creates a job and runs it once; answers the execution."""
    await cluster.client.create_job(job)
    return names.execution_number((await cluster.client.run_job(job.name)).name)


def starts_of(cluster: ChaosCluster, execution: int) -> list[Mark]:
    """What handlers wrote of their starts."""
    marks = [mark for mark in read_folder(cluster.evidence) if mark.execution == execution]
    return [mark for mark in marks if mark.kind == Kind.STARTED]


async def started(cluster: ChaosCluster, execution: int, count: int = 1) -> list[Mark]:
    """Waits for so many starts of an execution."""

    async def found() -> list[Mark] | None:
        starts = starts_of(cluster, execution)
        return starts if len(starts) >= count else None

    return await eventually(found, SECONDS, f"{count} starts of execution {execution}")


async def over(cluster: ChaosCluster, execution: int) -> Execution:
    """Waits for the end of an execution, also through nodes that have not heard of it yet."""

    async def final() -> Execution | None:
        found = await cluster.client.get_execution(execution)
        return found if state_of(found) in FINAL_STATES else None

    return await eventually(final, SECONDS, f"the end of execution {execution}")


async def ended(cluster: ChaosCluster, execution: int, state: str, attempts: str) -> Execution:
    """Waits for the end of an execution, and compares how it and its attempts ended with what is expected."""
    found = await over(cluster, execution)
    states = " ".join(Attempt.State.Name(attempt.state).removeprefix("STATE_") for attempt in found.attempts)
    assert (state_of(found), states) == (state, attempts), found
    tokens = [attempt.fencing_token for attempt in found.attempts]
    assert tokens == sorted(set(tokens)), "tokens are unique and grow"
    return found
