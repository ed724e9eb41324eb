"""Callers who never stop asking, each through any node, and write down every answer: the operations of a run.

An acknowledged operation is a promise. One without an answer may or may not have happened; the caller asks again under the
same request id through another node until it knows, or gives up, and then it counts as neither. Some operations that were
answered are asked again too: the answer must be the first one.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from horologe.chaos.history import Answer, Operation
from horologe.chaos.recording_worker import HOLD, NOOP
from horologe.chaos.workload import state_of
from horologe.client import jobs, names
from horologe.client.async_client import AsyncClient
from horologe.client.errors import DeadlineExceeded, HorologeError, OutcomeUnknown, Unavailable
from horologe.v1.execution_pb2 import Execution
from horologe.v1.job_pb2 import Job

CALL_SECONDS = 3.0
ASK_AGAIN_SHARE = 0.1
"""Of the operations that were answered."""
GIVE_UP_SHARE = 0.3
"""Of the tries that brought no answer, where giving up leaves something to judge."""
HOLD_SECONDS = 3_600
"""Longer than any run: it ends by its cancellation."""
PAUSE_SECONDS = 0.1
ASKED_JOBS_FROM = 1_000_000
"""The numbers of jobs that callers create begin here."""

Send = Callable[[AsyncClient, str], Awaitable[Job | Execution | list[Job]]]


@dataclass(slots=True)
class Caller:
    """One of them. `recurring` is the job that this caller alone pauses, resumes and updates."""

    number: int
    clients: Callable[[], Mapping[str, AsyncClient]]
    """Those of the present members, by node; each knows that node only."""
    chance: random.Random
    recurring: str
    operations: list[Operation] = field(default_factory=list)
    held: list[tuple[str, int]] = field(default_factory=list)
    """Job and execution of runs that last until they are cancelled."""
    _turn: int = 0
    _ready: list[tuple[str, bool]] = field(default_factory=list)
    """Jobs that are known to exist, and whether their runs last."""
    _paused: bool = False

    async def live(self, stop: asyncio.Event) -> None:
        """Asks until it is told to stop, and finishes what it has begun."""
        actions = (self._create, self._run, self._run, self._cancel, self._pause_or_resume, self._update)
        while not stop.is_set():
            self._turn += 1
            await self.chance.choice(actions)()
            await asyncio.sleep(PAUSE_SECONDS * self.chance.random())

    async def tidy_up(self) -> None:
        """Cancels what would last for ever, and leaves the recurring job running."""
        while self.held:
            await self._cancel()
        if self._paused:
            await self._pause_or_resume()

    async def _create(self) -> None:
        """Two jobs at once: both or none."""
        first = ASKED_JOBS_FROM * self.number + 2 * self._turn
        made = [f"asked-{first}", f"held-{first + 1}"]
        definitions = [
            jobs.job(made[0], jobs.manual(), jobs.python(NOOP), overlap="allow", retry=jobs.retry(max_attempts=20)),
            jobs.job(
                made[1], jobs.manual(), jobs.python(HOLD, {"seconds": HOLD_SECONDS}), overlap="allow",
                retry=jobs.retry(max_attempts=100, base="100ms", cap="1s"),
            ),
        ]  # fmt: skip

        async def send(client: AsyncClient, request_id: str) -> list[Job]:
            return await client.batch_create_jobs(definitions, request_id=request_id)

        if await self._ask("create", ",".join(made), send, may_give_up=True) is not None:
            self._ready += [(made[0], False), (made[1], True)]

    async def _run(self) -> None:
        if not self._ready:
            return await self._create()
        job, lasts = self.chance.choice(self._ready[-20:])

        async def send(client: AsyncClient, request_id: str) -> Execution:
            return await client.run_job(job, request_id=request_id)

        answer = await self._ask("run", job, send, may_give_up=not lasts)
        if lasts and answer is not None:
            self.held.append((job, int(answer)))
        return None

    async def _cancel(self) -> None:
        if not self.held:
            return
        job, execution = self.held.pop(self.chance.randrange(len(self.held)))

        async def send(client: AsyncClient, request_id: str) -> Execution:
            return await client.cancel_execution(execution, request_id=request_id)

        if await self._ask("cancel", job, send, argument=str(execution)) is None:
            # Asked through a node that has not heard of it yet; another time.
            self.held.append((job, execution))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _pause_or_resume(self) -> None:
        kind = "resume" if self._paused else "pause"

        async def send(client: AsyncClient, request_id: str) -> Job:
            call = client.resume_job if kind == "resume" else client.pause_job
            return await call(self.recurring, request_id=request_id)

        if await self._ask(kind, self.recurring, send) is not None:
            self._paused = kind == "pause"

    async def _update(self) -> None:
        description = f"turn {self._turn}"

        async def send(client: AsyncClient, request_id: str) -> Job:
            job = Job(name=self.recurring, description=description)
            return await client.update_job(job, update_mask=["description"], request_id=request_id)

        await self._ask("update", self.recurring, send, argument=description)

    async def _ask(
        self, kind: str, job: str, send: Send, *, argument: str = "", may_give_up: bool = False
    ) -> str | None:
        """Asks until there is an answer; None if it was refused, or nobody will ever know."""
        request_id = str(uuid.UUID(int=self.chance.getrandbits(128), version=4))
        while True:
            operation = await self._try(kind, job, request_id, send, argument)
            self.operations.append(operation)
            if operation.answer is Answer.OK:
                if self.chance.random() < ASK_AGAIN_SHARE:
                    self.operations.append(await self._try(kind, job, request_id, send, argument))
                return operation.detail
            if operation.answer is Answer.FAILED:
                return None
            if may_give_up and self.chance.random() < GIVE_UP_SHARE:
                return None
            await asyncio.sleep(PAUSE_SECONDS)

    async def _try(self, kind: str, job: str, request_id: str, send: Send, argument: str) -> Operation:
        clients = self.clients()
        node = self.chance.choice(sorted(clients))
        sent_ns, sent_ms = time.monotonic_ns(), _wall_ms()
        try:
            answer, detail = Answer.OK, _detail(await send(clients[node].with_timeout(CALL_SECONDS), request_id))
        except (OutcomeUnknown, DeadlineExceeded, Unavailable) as error:
            answer, detail = Answer.UNKNOWN, type(error).__name__
        except HorologeError as error:
            answer, detail = Answer.FAILED, f"{type(error).__name__}: {error}"
        return Operation(
            kind, job, request_id, node, sent_ns, time.monotonic_ns(), sent_ms, _wall_ms(), answer, detail, argument
        )


def _detail(answer: Job | Execution | list[Job]) -> str:
    """What of an answer must be the same when it is given again, or is needed to judge what came later."""
    if not isinstance(answer, Execution):
        return ""
    if answer.cancel_requested or state_of(answer) == "CANCELLED":
        token = answer.attempts[-1].fencing_token if answer.attempts else 0
        return f"{state_of(answer)}:{token}"
    return str(names.execution_number(answer.name))


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
