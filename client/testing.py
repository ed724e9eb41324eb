"""Rehearsing jobs in the tests of a program: its handlers run inline, by a clock that the test moves, without a cluster.

    from horologe.client.testing import Rehearsal

    def test_report_is_sent_again():
        rehearsal = Rehearsal(handlers, start="2027-01-01T00:00:00Z")
        runs = rehearsal.advance("1d")
        assert [run.state for run in runs] == ["completed"]

What is due when, which definitions are valid, and how long a failed attempt waits is decided by the same code as in a cluster.
What is not there: workers, other nodes, time that passes by itself. A handler runs in the thread that calls, and takes no time.
"""

from __future__ import annotations

import asyncio
import heapq
import importlib.metadata
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from horologe.client import calls, durations, names, times, words
from horologe.client.attempts import Attempt, Definition, Outcome, StopReason, new_result
from horologe.client.context import Context
from horologe.client.errors import InvalidArgument, NotFound, Violation
from horologe.client.executors.python import Handlers, PythonExecutor
from horologe.client.json_value import to_python
from horologe.client.outbox import STANDARD_ERROR, Output
from horologe.client.templates import RenderError, render_action, values_of
from horologe.v1 import execution_pb2, job_pb2, worker_pb2
from horologe.v1.calendar_pb2 import Calendar

__all__ = ["Rehearsal", "Run", "Try"]

ENTRY_POINTS = "horologe.rehearsal"
DEFAULT_START = datetime(2027, 1, 1, tzinfo=UTC)
RUNS_MAX = 100_000
"""So many runs in one `advance` are taken for a mistake."""
_OVERLAPS = (job_pb2.OVERLAP_POLICY_SKIP, job_pb2.OVERLAP_POLICY_ALLOW)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Rules(Protocol):
    """What the cluster knows of jobs; a node's program brings it along. Milliseconds since 1970."""

    def complete(self, job: job_pb2.Job, now_ms: int) -> tuple[job_pb2.Job, list[tuple[str, str]]]: ...
    def first_due_ms(self, job: job_pb2.Job, now_ms: int) -> int | None: ...
    def next_due_ms(self, job: job_pb2.Job, created_ms: int, due_ms: int) -> int | None: ...
    def due_after_end_ms(self, job: job_pb2.Job, created_ms: int, end_ms: int) -> int | None: ...
    def fire_ms(self, job: job_pb2.Job, created_ms: int, due_ms: int) -> int: ...
    def retry_delay_ms(self, job: job_pb2.Job, result: worker_pb2.AttemptResult) -> tuple[int, str]: ...


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt."""

    number: int
    """From 1."""
    start_time: datetime
    error: str
    """One line; empty if it ended well."""
    output: str
    """What the handler wrote, and the trace of what it raised. Values of secrets are taken out."""


@dataclass(slots=True)
class Run:
    """One execution."""

    job: str
    """The job's id."""
    number: int
    due_time: datetime
    """For a run by hand: when it was asked for."""
    state: str = "running"
    """`running`, also while it waits for its next attempt; `completed`, `failed`, `dead`, `cancelled` or `skipped` in the end."""
    tries: list[Try] = field(default_factory=list)
    result: Any = None
    """What the handler returned, as it comes back out of the cluster."""

    @property
    def error(self) -> str:
        """Of the last attempt."""
        return self.tries[-1].error if self.tries else ""

    @property
    def output(self) -> str:
        """Of all attempts."""
        return "".join(each.output for each in self.tries)


class _Captured(Output):
    """Output that stays here."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.truncated = False

    def write(self, stream: int, data: bytes) -> None:
        """Standard error is kept among the rest."""
        self.texts.append(data.decode("utf-8", "replace"))

    @property
    def chunk_count(self) -> int:
        """Nothing of it is sent."""
        return 0


@dataclass(slots=True)
class _Known:
    """A job of the rehearsal."""

    job: job_pb2.Job
    definition: Definition
    created_ms: int
    unfinished: int = 0
    scheduled: int = 0
    """Runs that its schedules began."""


@dataclass(slots=True)
class _Work:
    """A run, and with what it is tried."""

    known: _Known
    run: Run
    assignment: worker_pb2.Assignment
    cancelled: str


class Rehearsal:
    """Jobs and handlers of a program, and a clock.

    handlers: what the program's worker has (`worker.handlers`, or `Handlers`). Jobs that its `job` declared are there.
    start: what the clock shows at first, with a zone or as RFC 3339; all jobs are created then.
    calendars: what jobs may name in `calendars`, by their names.
    namespace: where the jobs are.

    Schedules act as in a cluster, `after` excepted: such a job runs by `run`. So do retries, jitter (a backoff with jitter takes
    the longest that it may), `start_time`, `end_time`, `max_executions`, calendars, templates and secrets, and of overlap `skip`
    and `allow`. Timeouts, limits, queues, priorities and catch-up do not act: nothing takes time here, and nothing is late.
    """

    def __init__(
        self,
        handlers: Handlers,
        *,
        start: datetime | str = DEFAULT_START,
        calendars: Mapping[str, Calendar] | None = None,
        namespace: str = "default",
    ) -> None:
        """InvalidArgument if a cluster would refuse a declared job, or it cannot be rehearsed."""
        self._rules = _find_rules(calendars or {})
        self._handlers = handlers
        self._executor = PythonExecutor(handlers, thread_count_max=0)
        self._namespace = namespace
        self._now_ms = _milliseconds(times.parse(start) if isinstance(start, str) else start)
        self._known: dict[str, _Known] = {}
        self._agenda: list[tuple[int, int, _Known | _Work, int]] = []
        """(when, in which order at one instant, what, the due time)."""
        self._order = 0
        self._executions = 0
        self.runs: list[Run] = []
        """All there were, in the order of their creation."""
        for job in handlers.jobs:
            self.add(job)

    @property
    def now(self) -> datetime:
        """What the clock shows, in UTC."""
        return _instant(self._now_ms)

    def add(self, job: job_pb2.Job) -> None:
        """Creates a job now, as `Client.create_job` does. InvalidArgument says what a cluster would refuse in it."""
        named = job_pb2.Job()
        named.CopyFrom(job)
        named.name = names.job_name(job.name, self._namespace)
        complete, found = self._rules.complete(named, self._now_ms)
        if complete.action.WhichOneof("kind") not in (None, "python"):
            found.append(("job.action", "is not for a handler, and only those are rehearsed"))
        if complete.overlap not in _OVERLAPS:
            word = words.render(job_pb2.OverlapPolicy, complete.overlap)
            found.append(("job.overlap", f"{word!r} is not rehearsed; skip and allow are"))
        if found:
            raise InvalidArgument(
                "; ".join(f"{path}: {what}" for path, what in found),
                reason="INVALID_FIELD",
                violations=[Violation(path, what) for path, what in found],
            )
        definition = Definition.from_message(
            worker_pb2.Definition(job_name=complete.name, action=complete.action, labels=complete.labels)
        )
        known = self._known[complete.name] = _Known(complete, definition, self._now_ms)
        self._plan(known, self._rules.first_due_ms(complete, self._now_ms))

    def advance(self, span: timedelta | str) -> list[Run]:
        """Moves the clock on, and does all that is due up to then. The runs that began meanwhile."""
        seconds = durations.parse(span) if isinstance(span, str) else span
        return self.advance_to(self.now + seconds)

    def advance_to(self, time: datetime | str) -> list[Run]:
        """As `advance`, to an instant, which is included."""
        until_ms = _milliseconds(times.parse(time) if isinstance(time, str) else time)
        if until_ms < self._now_ms:
            raise ValueError(f"the clock shows {self.now}, and does not go back to {_instant(until_ms)}")
        before = len(self.runs)
        while self._agenda and self._agenda[0][0] <= until_ms:
            self._next()
            if len(self.runs) - before > RUNS_MAX:
                raise ValueError(f"more than {RUNS_MAX} runs until {_instant(until_ms)}; advance less at a time")
        self._now_ms = until_ms
        return self.runs[before:]

    def run(
        self,
        job: str,
        *,
        payload: object = None,
        upstream: Mapping[str, object] | None = None,
        secrets: Mapping[str, str] | None = None,
        cancelled: str = "",
    ) -> Run:
        """Runs a job now, whatever its schedule says, up to its end: the clock moves on through the waits for its retries.

        `payload` takes the place of the job's own. `upstream` are results of jobs before it. `cancelled` is why the attempt has
        to end from its first moment: for handlers that look. NotFound without such a job.
        """
        name = names.job_name(job, self._namespace)
        known = self._known.get(name)
        if known is None:
            raise NotFound(f"there is no {name} in this rehearsal", reason="JOB_NOT_FOUND")
        assignment = worker_pb2.Assignment(secrets=secrets)
        if payload is not None:
            assignment.payload.CopyFrom(calls.to_value(payload))
        for before, result in (upstream or {}).items():
            state = execution_pb2.Execution.STATE_COMPLETED
            assignment.upstream.add(job=before, state=state, result=calls.to_value(result))
        work = self._begin(known, self._now_ms, assignment, cancelled)
        self._try(work)
        while work.run.state == "running":
            self._next()
        return work.run

    # Inside

    def _plan(self, known: _Known, due_ms: int | None) -> None:
        is_over = known.scheduled >= known.job.max_executions > 0
        if due_ms is not None and not is_over:
            fire_ms = self._rules.fire_ms(known.job, known.created_ms, due_ms)
            self._put(max(fire_ms, self._now_ms), known, due_ms)

    def _put(self, at_ms: int, what: _Known | _Work, due_ms: int) -> None:
        self._order += 1
        heapq.heappush(self._agenda, (at_ms, self._order, what, due_ms))

    def _next(self) -> None:
        at_ms, _, what, due_ms = heapq.heappop(self._agenda)
        self._now_ms = max(self._now_ms, at_ms)
        if isinstance(what, _Work):
            self._try(what)
            return
        what.scheduled += 1
        self._plan(what, self._rules.next_due_ms(what.job, what.created_ms, due_ms))
        is_skipped = what.unfinished and what.job.overlap == job_pb2.OVERLAP_POLICY_SKIP
        work = self._begin(what, due_ms, worker_pb2.Assignment(), "")
        if is_skipped:
            self._end(work, "skipped")
        else:
            self._try(work)

    def _begin(self, known: _Known, due_ms: int, assignment: worker_pb2.Assignment, cancelled: str) -> _Work:
        self._executions += 1
        known.unfinished += 1
        assignment.execution, assignment.due_time_ms = self._executions, due_ms
        run = Run(known.definition.job_id, self._executions, _instant(due_ms))
        self.runs.append(run)
        return _Work(known, run, assignment, cancelled)

    def _end(self, work: _Work, state: str) -> None:
        work.run.state = state
        work.known.unfinished -= 1
        known = work.known
        if state != "skipped":
            self._plan(known, self._rules.due_after_end_ms(known.job, known.created_ms, self._now_ms))

    def _try(self, work: _Work) -> None:
        run = work.run
        work.assignment.attempt = len(run.tries) + 1
        work.assignment.fencing_token += 1
        attempt = Attempt(work.assignment, work.known.definition, 0.0, "rehearsal")
        output = attempt.output = _Captured()
        if work.cancelled:
            attempt.stop_reason, attempt.stop_message = StopReason.CANCELLED, f"cancelled: {work.cancelled}"
        start_time = self.now
        handler = self._handlers.get(attempt.action.python.handler)
        finish = _in_a_loop if handler is not None and handler.is_async else _at_once
        result = new_result(attempt, finish(self._execute(attempt)), 0.0)
        text = "".join(output.texts)
        shown = text if attempt.redactor is None else attempt.redactor.text(text)
        run.tries.append(Try(attempt.number, start_time, result.error, shown))
        self._judge(work, result)

    async def _execute(self, attempt: Attempt) -> Outcome:
        try:
            if attempt.definition.is_templated:
                attempt.action = render_action(attempt.action, values_of(Context(attempt)))
        except RenderError as error:
            attempt.output.write(STANDARD_ERROR, f"{error}\n".encode())
            return Outcome.failed(str(error), permanent=True)
        return await self._executor.run(attempt, attempt.output)

    def _judge(self, work: _Work, result: worker_pb2.AttemptResult) -> None:
        if result.outcome == worker_pb2.AttemptResult.OUTCOME_SUCCEEDED:
            work.run.result = to_python(result.result) if result.HasField("result") else None
            self._end(work, "completed")
        elif result.outcome == worker_pb2.AttemptResult.OUTCOME_CANCELLED:
            self._end(work, "cancelled")
        else:
            delay_ms, state = self._rules.retry_delay_ms(work.known.job, result)
            if state:
                self._end(work, state)
            else:
                self._put(self._now_ms + delay_ms, work, 0)


def _find_rules(calendars: Mapping[str, Calendar]) -> _Rules:
    (point,) = importlib.metadata.entry_points(group=ENTRY_POINTS)
    rules: _Rules = point.load()(calendars)
    return rules


def _at_once(execution: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Runs what waits for nothing, here and without a loop: what must not be called beside one (Django's models) works."""
    try:
        execution.send(None)
    except StopIteration as stop:
        outcome: Outcome = stop.value
        return outcome
    raise RuntimeError("a sync handler waits for a loop")


def _in_a_loop(execution: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Runs it to its end here, or, in a test that has a loop of its own, in a thread while that loop stands still."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(execution)
    with ThreadPoolExecutor(1, thread_name_prefix="rehearsal") as thread:
        return thread.submit(asyncio.run, execution).result()


def _milliseconds(instant: datetime) -> int:
    if instant.tzinfo is None:
        raise ValueError(f"{instant} has no zone; say which, for example datetime(2027, 1, 1, tzinfo=UTC)")
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def _instant(time_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=time_ms)
