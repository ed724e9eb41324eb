"""The attempts a worker has: what they are, which are running, and which ended without an acknowledgement yet.

Bookkeeping only: nothing here starts, stops or sends anything.
"""

from __future__ import annotations

import asyncio
import enum
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from horologe.client.json_value import from_python, to_python
from horologe.client.redaction import Redactor
from horologe.v1 import job_pb2, worker_pb2

if TYPE_CHECKING:
    from google.protobuf import struct_pb2

    from horologe.client.outbox import Output

# Tokens of so many executions are remembered at least, after their results were acknowledged: at ten thousand a second
# that is a lease term, and no node that lags longer still has a session.
REMEMBERED_EXECUTIONS_MIN = 100_000

ERROR_BYTES_MAX = 4096

AttemptKey = tuple[int, int]


class StopReason(enum.Enum):
    """Why an attempt has to end before it is done."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    SHUT_DOWN = "shut down"
    FENCED = "fenced"


_KIND_OF_STOP = {
    StopReason.CANCELLED: worker_pb2.AttemptResult.OUTCOME_CANCELLED,
    StopReason.TIMED_OUT: worker_pb2.AttemptResult.OUTCOME_TIMED_OUT,
    StopReason.SHUT_DOWN: worker_pb2.AttemptResult.OUTCOME_FAILED,
    StopReason.FENCED: worker_pb2.AttemptResult.OUTCOME_FAILED,
}


_ERROR_KIND_OF_STOP = {
    StopReason.CANCELLED: "",
    StopReason.TIMED_OUT: "timeout",
    StopReason.SHUT_DOWN: "lost",
    StopReason.FENCED: "lost",
}


@dataclass(slots=True)
class Outcome:
    """How an attempt ended, as an executor tells it."""

    kind: worker_pb2.AttemptResult.Outcome.ValueType = worker_pb2.AttemptResult.OUTCOME_SUCCEEDED
    error: str = ""
    error_kind: str = ""
    """What a retry policy calls it: see `retry_on` in job.proto."""
    exit_code: int | None = None
    http_status: int | None = None
    result: struct_pb2.Value | None = None
    permanent: bool = False
    retry_after_seconds: float | None = None

    @classmethod
    def failed(cls, error: str, *, kind: str = "", permanent: bool = False) -> Outcome:
        """A failure with one line that says why; `permanent` when another attempt would not help."""
        failed = worker_pb2.AttemptResult.OUTCOME_FAILED
        return cls(kind=failed, error=error, error_kind=kind, permanent=permanent)


@dataclass(slots=True)
class Definition:
    """What a job does: the message of the cluster, taken apart once per session."""

    job_name: str
    action: job_pb2.Action
    kind: str
    timeout_seconds: float
    grace_seconds: float
    labels: dict[str, str] = field(default_factory=dict)
    is_templated: bool = False
    output_bytes_max: int = 0
    """0: as much as the worker takes."""

    @classmethod
    def from_message(cls, message: worker_pb2.Definition) -> Definition:
        """Takes the message apart; an absent timeout or grace is the one of the job's documentation."""
        return cls(
            job_name=message.job_name,
            action=message.action,
            kind=message.action.WhichOneof("kind") or "",
            timeout_seconds=message.timeout.ToNanoseconds() / 1e9 if message.HasField("timeout") else 3600.0,
            grace_seconds=message.grace.ToNanoseconds() / 1e9 if message.HasField("grace") else 10.0,
            labels=dict(message.labels),
            is_templated=b"{{" in message.action.SerializeToString(),
            output_bytes_max=message.output_bytes_max,
        )

    @property
    def namespace(self) -> str:
        """The part after `namespaces/`."""
        return self.job_name.split("/")[1] if self.job_name.startswith("namespaces/") else ""

    @property
    def job_id(self) -> str:
        """The part after `jobs/`."""
        return self.job_name.rpartition("/")[2]


class Attempt:
    """One try of an execution, under one fencing token."""

    __slots__ = (
        "action",
        "arrived_at",
        "assignment",
        "cancelled_event",
        "cluster_id",
        "definition",
        "ended",
        "execution",
        "fencing_token",
        "kill",
        "number",
        "output",
        "redactor",
        "started",
        "started_at",
        "stop_message",
        "stop_reason",
        "task",
        "timer",
    )

    def __init__(
        self, assignment: worker_pb2.Assignment, definition: Definition, arrived_at: float, cluster_id: str = ""
    ) -> None:
        self.assignment = assignment
        self.definition = definition
        # What to do; once its templates are rendered, that.
        self.action = definition.action
        self.cluster_id = cluster_id
        self.execution = assignment.execution
        self.number = assignment.attempt
        self.fencing_token = assignment.fencing_token
        self.arrived_at = arrived_at
        self.started = False
        self.started_at = arrived_at
        # True as soon as nothing about it will be reported any more, even if its code still runs.
        self.ended = False
        self.stop_reason: StopReason | None = None
        self.stop_message = ""
        # Set once it waits for something: an attempt that ends at once never has a task or a timer of its own.
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        # Ends it without grace; set by executors that have something outside this process.
        self.kill: Callable[[], None] | None = None
        self.cancelled_event: threading.Event | None = None
        self.output: Output
        # Nearly no attempt has secrets, and one without costs nothing.
        self.redactor = Redactor(assignment.secrets) if assignment.secrets else None

    @property
    def key(self) -> AttemptKey:
        """Names it among all attempts of the cluster."""
        return (self.execution, self.fencing_token)

    @property
    def execution_name(self) -> str:
        """The resource name of its execution."""
        return f"{self.definition.job_name}/executions/{self.execution}"

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts of an execution, different for everything else, in this cluster and in others."""
        return f"{self.cluster_id}-{self.execution}" if self.cluster_id else str(self.execution)

    def stopped_outcome(self, exit_code: int | None = None) -> Outcome:
        """How it ended, given that it was told to stop."""
        assert self.stop_reason is not None
        return Outcome(
            kind=_KIND_OF_STOP[self.stop_reason],
            error=self.stop_message,
            error_kind=_ERROR_KIND_OF_STOP[self.stop_reason],
            exit_code=exit_code,
        )


def new_attempt_id(execution: int, attempt: int, fencing_token: int) -> worker_pb2.AttemptId:
    """The message that names an attempt."""
    return worker_pb2.AttemptId(execution=execution, attempt=attempt, fencing_token=fencing_token)


def new_result(attempt: Attempt, outcome: Outcome, ended_at: float) -> worker_pb2.AttemptResult:
    """The message that reports how an attempt ended; no secret of the attempt is in it."""
    if attempt.redactor is not None:
        outcome = _redacted(outcome, attempt.redactor)
    result = worker_pb2.AttemptResult(
        execution=attempt.execution,
        attempt=attempt.number,
        fencing_token=attempt.fencing_token,
        outcome=outcome.kind,
        start_delay_ms=int((attempt.started_at - attempt.arrived_at) * 1000),
        duration_ms=int((ended_at - attempt.started_at) * 1000),
    )
    if outcome.error:
        result.error = one_line(outcome.error)
    if outcome.error_kind:
        result.error_kind = outcome.error_kind
    if outcome.exit_code is not None:
        result.exit_code = outcome.exit_code
    if outcome.http_status is not None:
        result.http_status = outcome.http_status
    if outcome.result is not None:
        result.result.CopyFrom(outcome.result)
    if outcome.permanent:
        result.permanent = True
    if outcome.retry_after_seconds is not None:
        result.retry_after.FromNanoseconds(int(outcome.retry_after_seconds * 1e9))
    result.output_chunk_count = attempt.output.chunk_count
    if attempt.output.truncated:
        result.output_truncated = True
    return result


def _redacted(outcome: Outcome, redactor: Redactor) -> Outcome:
    result = outcome.result
    if result is not None:
        try:
            result = from_python(redactor.json_value(to_python(result)))
        except ValueError:
            # The marks are longer than what they stand for.
            result = from_python("[too large once its secrets are taken out]")
    error, error_kind = redactor.text(outcome.error), redactor.text(outcome.error_kind)
    return replace(outcome, error=error, error_kind=error_kind, result=result)


def one_line(text: str) -> str:
    """`text` on one line and within the limit for errors."""
    line = " ".join(text.split())
    encoded = line.encode("utf-8", "replace")
    if len(encoded) <= ERROR_BYTES_MAX:
        return encoded.decode("utf-8")
    return encoded[: ERROR_BYTES_MAX - 3].decode("utf-8", "ignore") + "..."


class AttemptTable:
    """Which attempts are running, which results are not acknowledged yet, and the highest token of each execution.

    The tokens of executions that are long done are forgotten in generations: when the young generation is full it
    becomes the old one, and the old one is dropped. So memory is bounded and nothing has to be searched.
    """

    def __init__(self, remembered_min: int = REMEMBERED_EXECUTIONS_MIN) -> None:
        self._remembered_min = remembered_min
        self.running: dict[AttemptKey, Attempt] = {}
        self.unacknowledged: dict[AttemptKey, worker_pb2.AttemptResult] = {}
        self.idle = asyncio.Event()
        self.idle.set()
        self._tokens: dict[int, int] = {}
        self._older_tokens: dict[int, int] = {}

    def highest_token(self, execution: int) -> int:
        """The highest token seen for the execution; 0 for none. An assignment must have a higher one.

        So a repeated assignment and one that was overtaken are refused alike: for one token code is started at most once.
        """
        return self._tokens.get(execution) or self._older_tokens.get(execution) or 0

    def add(self, attempt: Attempt) -> None:
        """The attempt is now running, or waits for its turn in this process."""
        self.running[attempt.key] = attempt
        self._tokens[attempt.execution] = attempt.fencing_token
        if len(self._tokens) >= self._remembered_min:
            self._forget_oldest()
        self.idle.clear()

    def end(self, attempt: Attempt, result: worker_pb2.AttemptResult) -> None:
        """The attempt is over; its result is kept until it is acknowledged."""
        key = attempt.key
        del self.running[key]
        self.unacknowledged[key] = result

    def drop(self, attempt: Attempt) -> None:
        """The attempt is over and nobody wants its result."""
        self.running.pop(attempt.key, None)
        self._check_idle()

    def forget_results(self, keys: Iterable[AttemptKey]) -> None:
        """The cluster has settled these: they need not be reported again."""
        for key in keys:
            self.unacknowledged.pop(key, None)
        self._check_idle()

    def held(self) -> list[worker_pb2.AttemptId]:
        """What a Hello lists: running, or ended and not acknowledged."""
        held = [new_attempt_id(one.execution, one.number, one.fencing_token) for one in self.running.values()]
        held += [new_attempt_id(one.execution, one.attempt, one.fencing_token) for one in self.unacknowledged.values()]
        return held

    def _forget_oldest(self) -> None:
        self._older_tokens = self._tokens
        # What is still here must not be forgotten, however old it is.
        self._tokens = dict(sorted([*self.unacknowledged, *self.running]))

    def _check_idle(self) -> None:
        if not self.running and not self.unacknowledged:
            self.idle.set()
