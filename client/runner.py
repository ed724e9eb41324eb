"""Runs attempts: starts them, limits their time, stops them, and makes the one report about each.

Which attempts exist is in `attempts.py`; how an action is carried out is in `executors/`; the network is in `session.py`.
"""

from __future__ import annotations

import asyncio
import traceback
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import Any

import structlog

from horologe.client.attempts import (
    Attempt,
    AttemptKey,
    AttemptTable,
    Definition,
    Outcome,
    StopReason,
    new_result,
)
from horologe.client.context import Context
from horologe.client.executors.executor import Executor
from horologe.client.lease import Lease
from horologe.client.outbox import Outbox, Output
from horologe.client.templates import RenderError, render_action, values_of
from horologe.v1 import worker_pb2

log = structlog.get_logger(__name__)

# Handlers that never wait are run one after the other; after this long others get a turn (heartbeats above all).
TURN_SECONDS_MAX = 0.005

# An attempt that has not ended so long after its grace is reported without waiting for it any longer.
ABANDON_AFTER_GRACE_SECONDS = 1.0

# What starts a worker that has a kind of actions, for those whose worker has not.
_COMMANDS = {
    "shell": "horologe worker run",
    "http": "horologe worker run",
    "sql": "horologe worker run --sql NAME=URL",
    "python": "horologe worker run --handlers FILE.py",
}


class Runner:
    """Everything that runs in this worker.

    A batch of attempts is driven by one task. One that ends without waiting for anything costs no task of its own; when
    one waits, the task becomes its own and another task goes on with the rest. So each attempt sees one task from its
    start to its end, and `asyncio.timeout`, task groups and cancellation work as everywhere.
    """

    def __init__(
        self,
        table: AttemptTable,
        outbox: Outbox,
        lease: Lease,
        executors: dict[str, Executor],
        output_bytes_max: int,
        on_fenced: Callable[[], None],
    ) -> None:
        self._table = table
        self._outbox = outbox
        self._lease = lease
        self._clock = lease.clock
        self._executors = executors
        self._output_bytes_max = output_bytes_max
        self._on_fenced = on_fenced
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    # Starting

    def start(
        self, assignments: Iterable[worker_pb2.Assignment], definitions: dict[int, Definition], cluster_id: str
    ) -> None:
        """Begins what is new among the assignments; what this worker already had is dropped."""
        now = self._clock()
        begun: deque[Attempt] = deque()
        for assignment in assignments:
            execution, fencing_token = assignment.execution, assignment.fencing_token
            highest_token = self._table.highest_token(execution)
            if highest_token:
                if fencing_token <= highest_token:
                    continue
                # A newer token ends the right of the older attempt, whether or not we were told.
                self.revoke([(execution, highest_token)])
            definition = definitions.get(assignment.job, _UNKNOWN_DEFINITION)
            attempt = Attempt(assignment, definition, now, cluster_id)
            bytes_max = min(definition.output_bytes_max or self._output_bytes_max, self._output_bytes_max)
            attempt.output = Output(self._outbox, execution, attempt.number, fencing_token, bytes_max, attempt.redactor)
            self._table.add(attempt)
            begun.append(attempt)
        if begun:
            self._spawn(begun)

    def _spawn(self, attempts: deque[Attempt]) -> None:
        task = self._loop.create_task(self._drive(attempts))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drive(self, attempts: deque[Attempt]) -> None:
        now = self._clock()
        turn_ends_at = now + TURN_SECONDS_MAX
        while attempts:
            attempt = attempts.popleft()
            if attempt.ended:
                continue
            if now >= self._lease.ends_at:
                self.fence()
                return
            attempt.started = True
            attempt.started_at = now
            coroutine = self._execute(attempt)
            try:
                awaited = coroutine.send(None)
            except StopIteration as stop:
                now = self._clock()
                self._finish(attempt, stop.value, now)
            else:
                if attempts:
                    self._spawn(attempts)
                await self._accompany(attempt, coroutine, awaited)
                return
            if now >= turn_ends_at and attempts:
                await asyncio.sleep(0)
                now = self._clock()
                turn_ends_at = now + TURN_SECONDS_MAX

    async def _execute(self, attempt: Attempt) -> Outcome:
        """Carries the action out; whatever an executor raises becomes an outcome."""
        executor = self._executors.get(attempt.definition.kind)
        if executor is None:
            return Outcome.failed(self._refusal(attempt))
        try:
            if attempt.definition.is_templated:
                attempt.action = render_action(attempt.action, values_of(Context(attempt)))
            return await executor.run(attempt, attempt.output)
        except RenderError as error:
            return Outcome.failed(str(error), permanent=True)
        except asyncio.CancelledError:
            if attempt.stop_reason is not None:
                return attempt.stopped_outcome()
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return Outcome.failed("it was cancelled from inside: it awaited something that was cancelled")
        except Exception as error:  # noqa: BLE001 - it is the outcome of this attempt, and nobody else's affair
            trace = traceback.format_exc()
            if attempt.redactor is not None:
                trace = attempt.redactor.text(trace)
            log.warning("an attempt failed unexpectedly", execution=attempt.execution, exception=trace)
            return Outcome.failed(f"{type(error).__name__}: {error}", kind=type(error).__name__)

    def _refusal(self, attempt: Attempt) -> str:
        if attempt.definition is _UNKNOWN_DEFINITION:
            return (
                f"the cluster sent no definition of job {attempt.assignment.job}; report this as a defect of Horologe"
            )
        kinds = ", ".join(sorted(self._executors))
        kind = attempt.definition.kind
        command = _COMMANDS.get(kind)
        hint = f" (`{command}` would)" if command else ""
        return f"this worker runs no {kind or 'unknown'} actions{hint}; it runs {kinds}"

    async def _accompany(self, attempt: Attempt, coroutine: Coroutine[Any, Any, Outcome], awaited: object) -> None:
        """Goes on with an attempt that waits: from here the current task is its own."""
        attempt.task = asyncio.current_task()
        timeout_seconds = attempt.definition.timeout_seconds
        attempt.timer = self._loop.call_later(timeout_seconds, self._time_out, attempt)
        if attempt.stop_reason is not None:
            # It was told to stop by its own first steps.
            self._interrupt(attempt)
        outcome = await _go_on(coroutine, awaited)
        self._finish(attempt, outcome, self._clock())

    def _finish(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """The one place where an attempt gets its result."""
        if now >= self._lease.ends_at:
            # Perhaps this process stood still. Nobody knows what happened meanwhile: the result is not ours to report.
            self.fence()
        if attempt.ended:
            return
        attempt.ended = True
        if attempt.timer is not None:
            attempt.timer.cancel()
        attempt.output.finish()
        result = new_result(attempt, outcome, now)
        self._table.end(attempt, result)
        self._outbox.add_result(attempt.output, result)

    # Stopping

    def cancel(self, keys: Iterable[AttemptKey], reason: str) -> None:
        """The cluster wants these to end."""
        message = f"cancelled: {reason}" if reason else "cancelled"
        for key in keys:
            attempt = self._table.running.get(key)
            if attempt is not None:
                self.stop(attempt, StopReason.CANCELLED, message)

    def stop(self, attempt: Attempt, reason: StopReason, message: str) -> None:
        """Asks an attempt to end: it may use its grace to clean up. The first reason stays."""
        if attempt.ended or attempt.stop_reason is not None:
            return
        attempt.stop_reason = reason
        attempt.stop_message = message
        if attempt.cancelled_event is not None:
            attempt.cancelled_event.set()
        if attempt.task is not None:
            self._interrupt(attempt)
        elif not attempt.started:
            self._finish(attempt, attempt.stopped_outcome(), self._clock())

    def stop_all(self, reason: StopReason, message: str) -> None:
        """Asks everything to end."""
        for attempt in list(self._table.running.values()):
            self.stop(attempt, reason, message)

    def _interrupt(self, attempt: Attempt) -> None:
        assert attempt.task is not None
        attempt.task.cancel()
        if attempt.timer is not None:
            attempt.timer.cancel()
        wait_seconds = attempt.definition.grace_seconds + ABANDON_AFTER_GRACE_SECONDS
        attempt.timer = self._loop.call_later(wait_seconds, self._abandon, attempt)

    def _time_out(self, attempt: Attempt) -> None:
        if self._clock() >= self._lease.ends_at:
            self.fence()
        self.stop(attempt, StopReason.TIMED_OUT, f"timed out after {attempt.definition.timeout_seconds:g} s")

    def _abandon(self, attempt: Attempt) -> None:
        log.warning("an attempt did not stop within its grace", execution=attempt.execution, attempt=attempt.number)
        outcome = attempt.stopped_outcome()
        outcome.error += "; it did not stop within its grace and may still be running"
        self._finish(attempt, outcome, self._clock())

    def revoke(self, keys: Iterable[AttemptKey]) -> None:
        """The tokens of these are no longer current: kill them, report nothing, forget results that wait."""
        lost = set(keys)
        self._table.forget_results(lost)
        self._drop([self._table.running[key] for key in lost if key in self._table.running])
        self._outbox.discard(lost)

    def fence(self) -> None:
        """The lease ended: kill what runs. Results that came before the end stay; the cluster decides about them."""
        attempts = list(self._table.running.values())
        self._lease.give_up()
        self._drop(attempts)
        self._outbox.discard({attempt.key for attempt in attempts})
        log.error(
            "the lease ended without an acknowledged heartbeat; running attempts were killed", count=len(attempts)
        )
        self._on_fenced()

    def check_lease(self) -> bool:
        """Fences if the lease has ended; tells whether it did."""
        if self._clock() < self._lease.ends_at:
            return False
        self.fence()
        return True

    def kill_all(self) -> None:
        """Ends everything at once and reports nothing."""
        self._drop(list(self._table.running.values()))

    def _drop(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            attempt.ended = True
            attempt.stop_reason = StopReason.FENCED
            attempt.stop_message = "the worker lost its lease"
            attempt.output.close()
            if attempt.kill is not None:
                attempt.kill()
        for attempt in attempts:
            if attempt.timer is not None:
                attempt.timer.cancel()
            if attempt.cancelled_event is not None:
                attempt.cancelled_event.set()
            if attempt.task is not None:
                attempt.task.cancel()
            self._table.drop(attempt)

    async def close(self) -> None:
        """Gives what was killed a moment to be gone."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=ABANDON_AFTER_GRACE_SECONDS)


_UNKNOWN_DEFINITION = Definition.from_message(worker_pb2.Definition())


@types.coroutine
def _go_on(coroutine: Coroutine[Any, Any, Outcome], awaited: object) -> Generator[Any, Any, Outcome]:
    """Awaits the rest of a coroutine that was started by hand and now waits for `awaited`."""
    while True:
        try:
            yield awaited
        except BaseException as error:  # noqa: BLE001 - all of them, cancellation above all, belong to the coroutine
            try:
                awaited = coroutine.throw(error)
            except StopIteration as stop:
                outcome: Outcome = stop.value
                return outcome
        else:
            last: Outcome = yield from coroutine
            return last
