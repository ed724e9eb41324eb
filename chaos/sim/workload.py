"""What a simulated cluster has to do, by dice: jobs with schedules and policies of all kinds, and callers who create, change,
run and cancel jobs of their own.

Each job belongs to one caller, who asks again under the same request id until it knows the answer or gives the operation up. So
the last acknowledged change of a job is what must be there in the end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from horologe.chaos.history import Answer
from horologe.chaos.sim.administrator import Administrator, insist
from horologe.chaos.sim.clients import SimClient
from horologe.chaos.sim.definitions import SHARED_LIMIT, SHARED_MAX, Definition, retries, workflow
from horologe.chaos.sim.definitions import recurring as recurring_job
from horologe.chaos.sim.listener import Listener
from horologe.chaos.sim.watcher import Watcher
from horologe.chaos.sim.workers import HANDLER, payload
from horologe.chaos.sim.world import World
from horologe.client import jobs, names
from horologe.client.errors import FailedPrecondition
from horologe.v1.execution_pb2 import Execution
from horologe.v1.job_pb2 import Job

TRIES = 4
WORKFLOWS_FROM = 9_000
"""The numbers at the end of their ids, far from those of recurring jobs."""
LONG_SECONDS = 600.0
"""What runs so long ends only when it is told to."""
UNFINISHED = (Execution.STATE_QUEUED, Execution.STATE_RUNNING, Execution.STATE_SCHEDULED)
Found = TypeVar("Found")


@dataclass(slots=True)
class Recurring:
    """A job whose every due time is judged.

    Attributes:
        number: At the end of the job's id.
        stored: The job as it was acknowledged, with all that the cluster added; None until then.
    """

    number: int
    definition: Definition
    stored: Job | None = None

    @property
    def job(self) -> str:
        """The job's id."""
        return self.definition.job.name

    @property
    def has_timetable(self) -> bool:
        """Its due times can be computed."""
        return all(not each.HasField("fixed_delay") for each in self.definition.job.schedules)


@dataclass(slots=True)
class Workload:
    """The load of one world."""

    world: World
    randomness: random.Random
    recurring: list[Recurring] = field(default_factory=list)
    workflows: list[list[Job]] = field(default_factory=list)
    watcher: Watcher = field(default_factory=Watcher)
    listener: Listener | None = None
    is_over: bool = False
    is_drained: bool = False
    """After `end`: everything was paused or cancelled."""
    _changeable: int = 0
    _callers: int = 0

    def begin(self, *, recurring: int, callers: int, workflows: int = 0) -> None:
        """Creates `recurring` jobs and `workflows` that nobody touches until the end; lets callers loose on jobs of their own.

        With callers there are an administrator, who changes what is shared, a watcher, and a listener.
        """
        for number in range(workflows):
            self.workflows.append(workflow(WORKFLOWS_FROM + 10 * number, self.randomness))
        owner = self.world.add_client("owner")
        for number in range(1, recurring + 1):
            self.recurring.append(Recurring(number, recurring_job(number, self.world.timeline.now, self.randomness)))
        owner.run(self._create_recurring)
        for number in range(1, callers + 1):
            self.world.add_client(f"caller{number}").run(self._keep_asking)
        if callers:
            self.world.add_client("administrator").run(self._keep_administrating)
            self.world.add_client("watcher").run(self.watcher.follow)
            self.listener = Listener(self.world.outside, random.Random(self.randomness.getrandbits(64)))
            self.world.add_client("listener").run(self.listener.ask)

    def end(self) -> None:
        """No more due times: the callers come to their end, every job is paused, and what would never end is cancelled."""
        self.is_over = True
        self._pause_when_alone()

    def _pause_when_alone(self) -> None:
        if self.is_over and not self._callers:
            self.world.clients["owner"].run(self._pause_everything)

    # The recurring jobs

    async def _create_recurring(self, client: SimClient) -> None:
        await insist(client, lambda one: client.sdk.set_limit(SHARED_LIMIT, SHARED_MAX, request_id=one))
        for made in self.workflows:
            await insist(client, lambda one, jobs=made: client.sdk.apply_jobs(jobs, request_id=one))  # type: ignore[misc]
        for recurring in self.recurring:
            request_id = client.new_request_id()
            while recurring.stored is None:
                recurring.stored = await client.ask(
                    "create",
                    recurring.job,
                    client.sdk.create_job(recurring.definition.job, request_id=request_id),
                    request_id=request_id,
                )

    async def _pause_everything(self, client: SimClient) -> None:
        # A node that is a moment behind may still show as paused what the administrator has just resumed.
        sdk = client.sdk.linearizable()
        async for job in sdk.list_jobs():
            if job.state == Job.STATE_ACTIVE:
                await self._ask(
                    client,
                    "pause",
                    job.name.rpartition("/")[2],
                    lambda one, name=job.name: client.sdk.pause_job(name, request_id=one),  # type: ignore[misc]
                )
        async for execution in sdk.list_executions(states=UNFINISHED):
            number = names.execution_number(execution.name)
            # It may end by itself just now.
            with suppress(FailedPrecondition):
                await client.sdk.cancel_execution(number, request_id=client.new_request_id())
        self.is_drained = True

    # The administrator

    async def _keep_administrating(self, client: SimClient) -> None:
        self._callers += 1
        await Administrator(client, self._jobs_there).work(lambda: self.is_over)
        self._callers -= 1
        self._pause_when_alone()

    def _jobs_there(self) -> list[str]:
        return [one.job for one in self.recurring if one.stored is not None and one.has_timetable]

    # The callers

    async def _keep_asking(self, client: SimClient) -> None:
        self._callers += 1
        while not self.is_over:
            self._changeable += 1
            await self._life_of_a_job(client, f"asked-by-{client.name}-{1000 + self._changeable}")
        self._callers -= 1
        self._pause_when_alone()

    async def _life_of_a_job(self, client: SimClient, job: str) -> None:
        dice, sdk = client.random, client.sdk
        is_long = dice.random() < 0.25
        action = jobs.python(HANDLER, payload(LONG_SECONDS if is_long else dice.choice([0.05, 1.0])))
        schedule = (
            jobs.manual() if is_long or dice.random() < 0.7 else jobs.every(timedelta(seconds=dice.choice([2, 5])))
        )
        definition = jobs.job(job, schedule, action, overlap="allow", retry=retries(dice), grace=timedelta(seconds=1))
        created = await self._ask(client, "create", job, lambda one: sdk.create_job(definition, request_id=one))
        if created is None:
            return
        for _ in range(dice.randint(2, 8)):
            if self.is_over:
                return
            await asyncio.sleep(dice.uniform(0.05, 1.5))
            await self._change(client, job, is_manual=schedule.WhichOneof("kind") == "manual", is_long=is_long)
        if dice.random() < 0.3:
            await self._ask(client, "delete", job, lambda one: sdk.delete_job(job, cancel_running=True, request_id=one))

    async def _change(self, client: SimClient, job: str, *, is_manual: bool, is_long: bool) -> None:
        dice, sdk = client.random, client.sdk
        kind = dice.choice(
            ["run", "run", "run", "update", "pause", "read"] if is_manual else ["update", "pause", "read"]
        )
        if kind == "run":
            await self._run(client, job, cancels=is_long)
        elif kind == "pause":
            await self._ask(client, "pause", job, lambda one: sdk.pause_job(job, request_id=one))
            await asyncio.sleep(dice.uniform(0.1, 3.0))
            await self._ask(client, "resume", job, lambda one: sdk.resume_job(job, request_id=one))
        elif kind == "update":
            description = f"version {dice.getrandbits(32):08x}"
            changed = Job(name=job, description=description)
            await self._ask(
                client,
                "update",
                job,
                lambda one: sdk.update_job(changed, update_mask=["description"], request_id=one),
                argument=description,
            )
        else:
            await client.ask("read", job, sdk.get_job(job))

    async def _run(self, client: SimClient, job: str, *, cancels: bool) -> None:
        sdk = client.sdk
        execution = await self._ask(
            client,
            "run",
            job,
            lambda one: sdk.run_job(job, request_id=one, force=True),
            detail=lambda answer: str(names.execution_number(answer.name)),
        )
        if execution is None or not cancels:
            return
        number = names.execution_number(execution.name)
        await asyncio.sleep(client.random.uniform(0.0, 2.0))
        await self._ask(
            client,
            "cancel",
            job,
            lambda one: sdk.cancel_execution(number, request_id=one),
            argument=str(number),
            detail=lambda answer: f"{answer.state}:{answer.attempts[-1].fencing_token if answer.attempts else 0}",
        )

    async def _ask(
        self,
        client: SimClient,
        kind: str,
        job: str,
        call: Callable[[str], Awaitable[Found]],
        *,
        argument: str = "",
        detail: Callable[[Found], str] = lambda answer: "",
    ) -> Found | None:
        """One operation, asked again under one request id until its answer is known or it is given up."""
        request_id = client.new_request_id()
        for _ in range(TRIES):
            answer = await client.ask(
                kind, job, call(request_id), request_id=request_id, argument=argument, detail=detail
            )
            if self.world.operations[-1].answer is not Answer.UNKNOWN:
                return answer
        return None
