"""What a handler gets to see of its attempt, and the exceptions by which it speaks back.

Everything is computed when it is asked for: a handler that asks for nothing costs nothing.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from horologe.client import words
from horologe.client.attempts import Attempt
from horologe.client.json_value import to_python
from horologe.client.outbox import STANDARD_ERROR, STANDARD_OUTPUT
from horologe.v1 import execution_pb2, worker_pb2

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

    from horologe.client.redaction import Redactor

__all__ = ["AttemptCancelledError", "Context", "PermanentError", "Upstream"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Upstream:
    """How a job before this one ended, in the same run."""

    job: str
    """Its id."""
    execution: int
    """The number of its execution."""
    state: str
    """How that ended: `completed`, `failed`, `dead`, `cancelled` or `skipped`."""
    result: Any
    """What its handler returned, as Python values; None if it returned nothing."""
    result_omitted: bool
    """There is a result, but all of them together are too large to be sent along: read it with the SDK."""


def upstream_of(assignment: worker_pb2.Assignment) -> dict[str, Upstream]:
    """What came with an assignment, by the job's id."""
    return {
        one.job: Upstream(
            one.job,
            one.execution,
            words.render(execution_pb2.Execution.State, one.state),
            to_python(one.result),
            one.result_omitted,
        )
        for one in assignment.upstream
    }


class PermanentError(Exception):
    """Raised by a handler to say that another attempt would not help: the execution fails without a retry."""


class AttemptCancelledError(Exception):
    """Raised by `Context.raise_if_cancelled`; a handler lets it pass."""


class _Redaction:
    """Takes an attempt's secrets out of what its handler logs; goes first, so that an exception is text by then."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def __call__(self, logger: WrappedLogger, name: str, entry: EventDict) -> EventDict:
        entry = structlog.processors.format_exc_info(logger, name, entry)
        return {key: self._shown(value) for key, value in entry.items()}

    def _shown(self, value: Any) -> Any:
        try:
            return self._redactor.json_value(value)
        except TypeError:
            return self._redactor.text(repr(value))


class Context:
    """One attempt, as its handler sees it."""

    __slots__ = ("_attempt", "_logger")

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._logger: FilteringBoundLogger | None = None

    def __repr__(self) -> str:
        return f"<Context {self.execution_name} attempt {self.attempt}>"

    @property
    def job_name(self) -> str:
        """`namespaces/{namespace}/jobs/{job}`."""
        return self._attempt.definition.job_name

    @property
    def namespace(self) -> str:
        """The namespace alone."""
        return self._attempt.definition.namespace

    @property
    def job(self) -> str:
        """The job's id alone."""
        return self._attempt.definition.job_id

    @property
    def labels(self) -> dict[str, str]:
        """The job's labels."""
        return dict(self._attempt.definition.labels)

    @property
    def execution(self) -> int:
        """The execution's number, unique in the cluster."""
        return self._attempt.execution

    @property
    def execution_name(self) -> str:
        """`namespaces/{namespace}/jobs/{job}/executions/{number}`."""
        return self._attempt.execution_name

    @property
    def attempt(self) -> int:
        """Which try this is, from 1."""
        return self._attempt.number

    @property
    def due_time(self) -> datetime:
        """The due time the execution answers for, in UTC: not the time at which it started."""
        return _EPOCH + timedelta(milliseconds=self._attempt.assignment.due_time_ms)

    @property
    def due_time_text(self) -> str:
        """The due time as RFC 3339 in UTC with milliseconds: `2027-01-01T00:00:00.000Z`."""
        return self.due_time.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts of this execution; give it to systems that drop what they have already done."""
        return self._attempt.idempotency_key

    @property
    def fencing_token(self) -> int:
        """Larger than that of any earlier attempt of this execution; give it to systems that refuse older ones."""
        return self._attempt.fencing_token

    @property
    def traceparent(self) -> str:
        """The span of this attempt, for OpenTelemetry to go on from, as the W3C's Trace Context writes it.

        Empty unless the cluster sends this trace."""
        return self._attempt.assignment.traceparent

    @property
    def payload(self) -> Any:
        """The payload as Python values; whole numbers are int. None if there is none."""
        assignment = self._attempt.assignment
        if assignment.HasField("payload"):
            return to_python(assignment.payload)
        python = self._attempt.action.python
        return to_python(python.payload) if python.HasField("payload") else None

    @property
    def secrets(self) -> dict[str, str]:
        """The secrets that the job names, by their ids; the worker takes them out of what it reports."""
        return dict(self._attempt.assignment.secrets)

    @property
    def upstream(self) -> dict[str, Upstream]:
        """The jobs before this one in its run that have ended, by id: `context.upstream["extract"].result`."""
        return upstream_of(self._attempt.assignment)

    @property
    def logger(self) -> FilteringBoundLogger:
        """A structured logger that knows the job, the execution and the attempt."""
        if self._logger is None:
            logger = structlog.get_logger("horologe.handler")
            redactor = self._attempt.redactor
            if redactor is not None:
                processors = [_Redaction(redactor), *structlog.get_config()["processors"]]
                logger = structlog.wrap_logger(None, processors, logger_factory_args=("horologe.handler",))
            self._logger = logger.bind(job=self.job_name, execution=self.execution, attempt=self.attempt)
        return self._logger

    @property
    def cancelled(self) -> threading.Event:
        """Set when the attempt has to end: it was cancelled, ran too long, or the worker lost its lease.

        Async handlers get `asyncio.CancelledError` instead and need not look.
        """
        attempt = self._attempt
        if attempt.cancelled_event is None:
            attempt.cancelled_event = threading.Event()
            # The request to stop may have come in between, and found no event to set.
            if attempt.stop_reason is not None:
                attempt.cancelled_event.set()
        return attempt.cancelled_event

    def progress(self, fraction: float, message: str = "") -> None:
        """Says how far the attempt is, from 0 to 1, as a line of its output, which can be followed while it runs.

        Ends a handler that has to end, as `raise_if_cancelled` does. The lease needs no help: the worker renews it.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"a progress of {fraction:g} is outside 0 to 1")
        self.raise_if_cancelled()
        self.write_output(f"progress {fraction:.0%}" + (f": {message}" if message else "") + "\n")

    def raise_if_cancelled(self) -> None:
        """Raises `AttemptCancelledError` when the attempt has to end. Sync handlers call it between steps."""
        if self._attempt.stop_reason is not None:
            raise AttemptCancelledError(self._attempt.stop_message)

    def write_output(self, data: str | bytes, *, error: bool = False) -> None:
        """Adds to the captured standard output, or to standard error; any thread may call it."""
        encoded = data.encode("utf-8", "replace") if isinstance(data, str) else data
        self._attempt.output.write(STANDARD_ERROR if error else STANDARD_OUTPUT, encoded)
