"""Every error that the SDK raises, and the one table that decides which.

The tree:

    HorologeError
    ├── Unauthenticated       the cluster does not know who calls: the token or certificate is missing, unknown or expired
    ├── PermissionDenied      it knows who calls, and whoever that is may not do this
    ├── InvalidArgument       the call is wrong; `.violations` says which fields and why
    ├── NotFound              no such job, execution, worker or member
    ├── AlreadyExists         the name is taken
    ├── Conflict              somebody changed it in between (the etag is old)
    ├── OutOfRange            older than what the cluster keeps: list anew, and watch from there
    ├── FailedPrecondition    right call, wrong moment: it is paused, finished, overlapping...
    ├── ResourceExhausted     a limit; `.retry_after` says when to come again
    ├── Unavailable           no node answers, or there is no leader; nothing was changed
    ├── OutcomeUnknown        the write may or may not have happened; repeat it with the same request id
    ├── DeadlineExceeded      no answer in time
    ├── Internal              a defect of the cluster
    ├── InvalidFile           a job file or a crontab is wrong; `.problems` says where
    ├── InvalidContext        the context file or an address is wrong
    └── InvalidBackup         a backup is damaged, not whole, or does not open with the key

What does not belong here: gRPC (see `channel.py`) and how errors are shown (see `cli/failures.py`).
"""

# ruff: noqa: N818 - the names say what happened, as the API's statuses do; "Error" at the end of each would add nothing.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

__all__ = [
    "REASONS",
    "STATUSES",
    "AlreadyExists",
    "Conflict",
    "DeadlineExceeded",
    "FailedPrecondition",
    "HorologeError",
    "Internal",
    "InvalidArgument",
    "InvalidBackup",
    "InvalidContext",
    "InvalidFile",
    "NotFound",
    "OutOfRange",
    "OutcomeUnknown",
    "PermissionDenied",
    "Problem",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Violation",
    "error_class",
]


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that breaks a rule."""

    field: str
    """Path of the field, for example `job.schedules[0].cron.expression`."""
    description: str
    """The value and the rule."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or cannot be carried over, at a place in a file."""

    file: str
    line: int
    """From 1; 0 where the whole file is meant."""
    column: int
    """From 1; 0 where the whole line is meant."""
    text: str

    def __str__(self) -> str:
        place = ":".join([self.file, *(str(number) for number in (self.line, self.column) if number)])
        return f"{place}: {self.text}"


class HorologeError(Exception):
    """Anything that went wrong between the caller and the cluster."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
        request_id: str = "",
        status: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        """One line for people."""
        self.reason = reason
        """UPPER_SNAKE word from the server, for example `JOB_NOT_FOUND`; empty where none came."""
        self.metadata: Mapping[str, str] = MappingProxyType(dict(metadata or {}))
        """Every value that the message mentions."""
        self.violations = tuple(violations)
        """Fields that break a rule, or that say what the cluster refuses."""
        self.problems: tuple[Problem, ...] = ()
        """The places of files that it is about, where those are known."""
        self.retry_after = retry_after
        """Seconds after which the server asks to be called again; None where it did not say."""
        self.request_id = request_id
        """Of the write that failed: repeating it with this id cannot do it twice."""
        self.status = status
        """Name of the gRPC status; empty for errors that never left this process."""

    def __str__(self) -> str:
        return self.message


class Unauthenticated(HorologeError):
    """The cluster does not know who calls: the token or the certificate is missing, unknown, revoked or expired."""


class PermissionDenied(HorologeError):
    """Whoever calls may not do this."""


class InvalidArgument(HorologeError):
    """The call is wrong; `.violations` says which fields and why."""


class NotFound(HorologeError):
    """No such job, execution, worker or member."""


class AlreadyExists(HorologeError):
    """The name is taken."""


class Conflict(HorologeError):
    """Somebody changed it in between: the etag is old. Read it again, then decide."""


class OutOfRange(HorologeError):
    """What was asked for is older than what the cluster keeps. List anew, and watch from there."""


class FailedPrecondition(HorologeError):
    """Right call, wrong moment: the job is paused, the execution has finished, the overlap policy says no."""


class ResourceExhausted(HorologeError):
    """A limit is reached; `.retry_after` says when to come again, where the server knows."""


class Unavailable(HorologeError):
    """No node answers, or there is no leader. Nothing was changed."""


class OutcomeUnknown(HorologeError):
    """The write may or may not have happened. Repeat it with `.request_id` to find out without doing it twice."""


class DeadlineExceeded(HorologeError):
    """No answer in time. A write may or may not have happened."""


class Internal(HorologeError):
    """A defect of the cluster."""


class InvalidFile(HorologeError):
    """A job file or a crontab is wrong. All problems that were found are in `.problems`, by line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems), reason="INVALID_FILE")
        self.problems = tuple(problems)


class InvalidContext(HorologeError):
    """The context file, or an address, is wrong."""


class InvalidBackup(HorologeError):
    """A backup is damaged, not whole, or does not open with the key. Nothing of it counts."""


# The server holds the same table the other way round: one reason, one status, one class.
REASONS: Mapping[str, type[HorologeError]] = MappingProxyType(
    {
        "INVALID_FIELD": InvalidArgument,
        "JOB_NOT_FOUND": NotFound,
        "EXECUTION_NOT_FOUND": NotFound,
        "WORKER_NOT_FOUND": NotFound,
        "LIMIT_NOT_FOUND": NotFound,
        "LIMIT_IN_USE": FailedPrecondition,
        "QUEUE_NOT_FOUND": NotFound,
        "QUEUE_PAUSED": FailedPrecondition,
        "QUEUE_NOT_PAUSED": FailedPrecondition,
        "NAMESPACE_NOT_FOUND": NotFound,
        "JOB_EXISTS": AlreadyExists,
        "ETAG_MISMATCH": Conflict,
        "JOB_PAUSED": FailedPrecondition,
        "JOB_NOT_PAUSED": FailedPrecondition,
        "EXECUTION_FINISHED": FailedPrecondition,
        "OVERLAP": FailedPrecondition,
        "LEASE_LOST": FailedPrecondition,
        "REQUEST_ID_REUSED": InvalidArgument,
        "LIMIT_EXCEEDED": ResourceExhausted,
        "QUEUE_FULL": ResourceExhausted,
        "MEMBER_NOT_FOUND": NotFound,
        "MEMBER_EXISTS": AlreadyExists,
        "MEMBER_REMOVED": FailedPrecondition,
        "MEMBER_BEHIND": FailedPrecondition,
        "LAST_VOTER": FailedPrecondition,
        "QUORUM_AT_RISK": FailedPrecondition,
        "VERSION_TOO_LOW": FailedPrecondition,
        "VERSION_NOT_READY": FailedPrecondition,
        "NOT_LEADER": FailedPrecondition,
        "NO_LEADER": Unavailable,
        "BEHIND": Unavailable,
        "OUTCOME_UNKNOWN": OutcomeUnknown,
        "EVENTS_GONE": OutOfRange,
        "AUDIT_RECORDS_GONE": OutOfRange,
        "UNAUTHENTICATED": Unauthenticated,
        "PERMISSION_DENIED": PermissionDenied,
        "RATE_LIMITED": ResourceExhausted,
        "TOKEN_NOT_FOUND": NotFound,
        "GRANT_NOT_FOUND": NotFound,
        "PRINCIPAL_NOT_FOUND": NotFound,
        "LAST_ADMIN": FailedPrecondition,
        "ALREADY_SECURE": FailedPrecondition,
        "SECRET_NOT_FOUND": NotFound,
        "SECRET_IN_USE": FailedPrecondition,
        "INTERNAL": Internal,
    }
)

# For answers without a reason that we know: from a newer server, or from gRPC itself.
STATUSES: Mapping[str, type[HorologeError]] = MappingProxyType(
    {
        "UNAUTHENTICATED": Unauthenticated,
        "PERMISSION_DENIED": PermissionDenied,
        "INVALID_ARGUMENT": InvalidArgument,
        "OUT_OF_RANGE": OutOfRange,
        "NOT_FOUND": NotFound,
        "ALREADY_EXISTS": AlreadyExists,
        "ABORTED": Conflict,
        "FAILED_PRECONDITION": FailedPrecondition,
        "RESOURCE_EXHAUSTED": ResourceExhausted,
        "UNAVAILABLE": Unavailable,
        "DEADLINE_EXCEEDED": DeadlineExceeded,
        "INTERNAL": Internal,
        "UNKNOWN": Internal,
        "DATA_LOSS": Internal,
    }
)


def error_class(status: str, reason: str = "") -> type[HorologeError]:
    """The class for an answer: by its reason, else by the name of its gRPC status.

    OUTCOME_UNKNOWN travels as UNAVAILABLE, so the reason goes first.
    """
    return REASONS.get(reason) or STATUSES.get(status, HorologeError)
