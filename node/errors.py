"""What a caller is told when something cannot be done: the one table from the cluster's words to gRPC's.

A service raises an ApiError; the interceptor turns it into a google.rpc.Status with ErrorInfo (a reason that programs
compare, and the values that the text mentions), with BadRequest for fields and RetryInfo where waiting helps. Nothing about
the inside of a node belongs into these texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from horologe.node.proposals import NoLeaderError, OverloadedError, ProposalError
from horologe.node.schedule import Violation
from horologe.raft.model import Code, Result

DOMAIN = "horologe"
DETAILS_BYTES_MAX = 3_500
"""Details travel in the trailers, and 8 KiB of those is what gRPC clients take: message and details, in base64."""
MESSAGE_LENGTH_MAX = 1_000
NO_LEADER_RETRY_SECONDS = 0.2
OVERLOAD_RETRY_SECONDS = 1.0

REASONS: Mapping[str, grpc.StatusCode] = {
    "INVALID_FIELD": grpc.StatusCode.INVALID_ARGUMENT,
    "REQUEST_ID_REUSED": grpc.StatusCode.INVALID_ARGUMENT,
    "JOB_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "QUEUE_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "QUEUE_PAUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "QUEUE_NOT_PAUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "NAMESPACE_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "LIMIT_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "LIMIT_IN_USE": grpc.StatusCode.FAILED_PRECONDITION,
    "EXECUTION_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "WORKER_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "OUTPUT_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "OUTPUT_GONE": grpc.StatusCode.NOT_FOUND,
    "DIGEST_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "VERSION_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "UPSTREAM_NOT_FOUND": grpc.StatusCode.FAILED_PRECONDITION,
    "WORKFLOW_NOT_FOUND": grpc.StatusCode.FAILED_PRECONDITION,
    "CYCLE": grpc.StatusCode.INVALID_ARGUMENT,
    "ORIGINS_DIFFER": grpc.StatusCode.INVALID_ARGUMENT,
    "WORKFLOW_TOO_LARGE": grpc.StatusCode.INVALID_ARGUMENT,
    "HAS_DEPENDANTS": grpc.StatusCode.FAILED_PRECONDITION,
    "NOT_IN_A_RUN": grpc.StatusCode.FAILED_PRECONDITION,
    "RUN_UNFINISHED": grpc.StatusCode.FAILED_PRECONDITION,
    "NOTHING_TO_RERUN": grpc.StatusCode.FAILED_PRECONDITION,
    "KIND_CHANGED": grpc.StatusCode.FAILED_PRECONDITION,
    "CALENDAR_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "CALENDAR_IN_USE": grpc.StatusCode.FAILED_PRECONDITION,
    "SCOPE_PAUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "SCOPE_NOT_PAUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "JOB_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "ETAG_MISMATCH": grpc.StatusCode.ABORTED,
    "JOB_PAUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "JOB_NOT_PAUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "EXECUTION_FINISHED": grpc.StatusCode.FAILED_PRECONDITION,
    "OVERLAP": grpc.StatusCode.FAILED_PRECONDITION,
    "LEASE_LOST": grpc.StatusCode.FAILED_PRECONDITION,
    "NOT_LEADER": grpc.StatusCode.FAILED_PRECONDITION,
    "MEMBER_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "MEMBER_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "MEMBER_REMOVED": grpc.StatusCode.FAILED_PRECONDITION,
    "MEMBER_BEHIND": grpc.StatusCode.FAILED_PRECONDITION,
    "LAST_VOTER": grpc.StatusCode.FAILED_PRECONDITION,
    "QUORUM_AT_RISK": grpc.StatusCode.FAILED_PRECONDITION,
    "VERSION_TOO_LOW": grpc.StatusCode.FAILED_PRECONDITION,
    "VERSION_NOT_READY": grpc.StatusCode.FAILED_PRECONDITION,
    "LIMIT_EXCEEDED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "QUEUE_FULL": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "DEAD_LETTER_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "OPERATION_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "OPERATION_FINISHED": grpc.StatusCode.FAILED_PRECONDITION,
    "ATTEMPTS_EXHAUSTED": grpc.StatusCode.FAILED_PRECONDITION,
    "DISK_FULL": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "NO_LEADER": grpc.StatusCode.UNAVAILABLE,
    "OUTCOME_UNKNOWN": grpc.StatusCode.UNAVAILABLE,
    "OUTPUT_UNREACHABLE": grpc.StatusCode.UNAVAILABLE,
    "BEHIND": grpc.StatusCode.UNAVAILABLE,
    "FORECAST_UNDER_WAY": grpc.StatusCode.UNAVAILABLE,
    "TRANSFER_TIMED_OUT": grpc.StatusCode.DEADLINE_EXCEEDED,
    "EVENTS_GONE": grpc.StatusCode.OUT_OF_RANGE,
    "AUDIT_RECORDS_GONE": grpc.StatusCode.OUT_OF_RANGE,
    "UNAUTHENTICATED": grpc.StatusCode.UNAUTHENTICATED,
    "PERMISSION_DENIED": grpc.StatusCode.PERMISSION_DENIED,
    "RATE_LIMITED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "TOKEN_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "GRANT_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "PRINCIPAL_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "TOKEN_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "LAST_ADMIN": grpc.StatusCode.FAILED_PRECONDITION,
    "ALREADY_SECURE": grpc.StatusCode.FAILED_PRECONDITION,
    "SECRET_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "SECRET_IN_USE": grpc.StatusCode.FAILED_PRECONDITION,
    "NOTIFICATION_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "KEY_NOT_USABLE": grpc.StatusCode.FAILED_PRECONDITION,
    "INTERNAL": grpc.StatusCode.INTERNAL,
}

_RESULTS: Mapping[Code, tuple[str, str]] = {
    # What the state machine said -> reason and text; {text} is the name that the result carries.
    Code.JOB_EXISTS: ("JOB_EXISTS", "{text} exists already; choose another name, or update or apply it"),
    Code.JOB_NOT_FOUND: ("JOB_NOT_FOUND", "{text} does not exist"),
    Code.ETAG_MISMATCH: ("ETAG_MISMATCH", "{text} was changed by somebody else in between; read it again, then decide"),
    Code.JOB_PAUSED: ("JOB_PAUSED", "{text} is paused already"),
    Code.JOB_NOT_PAUSED: ("JOB_NOT_PAUSED", "{text} is not paused"),
    Code.EXECUTION_NOT_FOUND: ("EXECUTION_NOT_FOUND", "execution {text} does not exist, or its history is too old"),
    Code.EXECUTION_FINISHED: ("EXECUTION_FINISHED", "the execution is {text} already"),
    Code.OVERLAP: (
        "OVERLAP",
        "{text} has an execution that is not finished, and its overlap policy is SKIP; wait for it, or force the run",
    ),
    Code.QUEUE_FULL: (
        "OVERLAP",
        "as many executions of {text} wait for the one before them as its overlap policy allows; force the run, or try later",
    ),
    Code.LIMIT_NOT_FOUND: ("LIMIT_NOT_FOUND", "{text} does not exist; set it first: horologe limit set"),
    Code.LIMIT_IN_USE: (
        "LIMIT_IN_USE",
        "{text} is named by a job, or executions of a deleted job still run under it; change those jobs first",
    ),
    Code.PERMISSION_DENIED: ("PERMISSION_DENIED", "{text}; ask an administrator for the right, or use another token"),
    Code.TOKEN_NOT_FOUND: ("TOKEN_NOT_FOUND", "tokens/{text} does not exist"),
    Code.TOKEN_EXISTS: ("TOKEN_EXISTS", "tokens/{text} exists already"),
    Code.GRANT_NOT_FOUND: ("GRANT_NOT_FOUND", "{text} has no grant there"),
    Code.PRINCIPAL_NOT_FOUND: ("PRINCIPAL_NOT_FOUND", "there is no principal {text}"),
    Code.LAST_ADMIN: (
        "LAST_ADMIN",
        "without {text} nobody could govern the cluster any more; make another administrator first",
    ),
    Code.ALREADY_SECURE: ("ALREADY_SECURE", "the cluster has its first administrator already"),
    Code.SECRET_NOT_FOUND: ("SECRET_NOT_FOUND", "{text} does not exist; set it first: horologe secret set"),
    Code.SECRET_IN_USE: (
        "SECRET_IN_USE",
        "{text} is named by a job or a notification rule; change those that name it first",
    ),
    Code.NOTIFICATION_NOT_FOUND: ("NOTIFICATION_NOT_FOUND", "{text} does not exist"),
    Code.QUOTA_EXCEEDED: (
        "LIMIT_EXCEEDED",
        "{text}; delete what is not needed, or ask an administrator for a larger quota",
    ),
    Code.MOVED_ON: ("ETAG_MISMATCH", "{text} came due again and again while it was changed; try again"),
    Code.CALENDAR_NOT_FOUND: ("CALENDAR_NOT_FOUND", "{text} does not exist; set the calendar first"),
    Code.CALENDAR_IN_USE: ("CALENDAR_IN_USE", "{text} names this calendar; take it out of the jobs that name it first"),
    Code.SCOPE_PAUSED: ("SCOPE_PAUSED", "{text} is paused already"),
    Code.SCOPE_NOT_PAUSED: ("SCOPE_NOT_PAUSED", "{text} is not paused"),
    Code.TOO_MANY_PAUSES: ("LIMIT_EXCEEDED", "{text} namespaces are paused already; pause the whole cluster instead"),
    Code.QUEUE_PAUSED: ("QUEUE_PAUSED", "queues/{text} is paused already"),
    Code.QUEUE_NOT_PAUSED: ("QUEUE_NOT_PAUSED", "queues/{text} is not paused"),
    Code.WORKER_NOT_FOUND: ("WORKER_NOT_FOUND", "workers/{text} has no session"),
    Code.SESSION_NOT_FOUND: ("LEASE_LOST", "session {text} is over"),
    Code.REQUEST_ID_REUSED: (
        "REQUEST_ID_REUSED",
        "request_id was used for another request before; use a new UUID for every new request",
    ),
    Code.MEMBER_NOT_FOUND: ("MEMBER_NOT_FOUND", "{text} is not a member of the cluster"),
    Code.MEMBER_EXISTS: ("MEMBER_EXISTS", "a member {text} exists already, with other data; choose another name"),
    Code.MEMBER_REMOVED: (
        "MEMBER_REMOVED",
        "{text} was removed from the cluster, and names of removed members do not come back; choose another name",
    ),
    Code.MEMBER_BEHIND: (
        "MEMBER_BEHIND",
        "{text} is not connected or lacks entries of the log; a learner votes only when it has caught up, try again later",
    ),
    Code.LAST_VOTER: ("LAST_VOTER", "{text} is the only member that votes; add another one first"),
    Code.QUORUM_AT_RISK: (
        "QUORUM_AT_RISK",
        "without {text} no majority of the voters would be reachable; bring the others back first, or add members",
    ),
    Code.VERSION_TOO_LOW: ("VERSION_TOO_LOW", "{text}"),
    Code.VERSION_NOT_READY: (
        "VERSION_NOT_READY",
        "the cluster's version stays as it is: {text}; `horologe cluster members` shows who runs which program",
    ),
    Code.UPSTREAM_NOT_FOUND: (
        "UPSTREAM_NOT_FOUND",
        "{text}, and there is no such job in its namespace; correct the name, or send all of the jobs together",
    ),
    Code.WORKFLOW_NOT_FOUND: (
        "WORKFLOW_NOT_FOUND",
        "{text}, and that is no job of the namespace whose action is `workflow`; create one, or send both together",
    ),
    Code.CYCLE: ("CYCLE", "the jobs would wait for one another for ever: {text}; take one of these steps out"),
    Code.ORIGINS_DIFFER: (
        "ORIGINS_DIFFER",
        "{text}; the jobs that one is after need one origin, so that their executions belong together: put all of them into "
        "one workflow",
    ),
    Code.WORKFLOW_TOO_LARGE: ("WORKFLOW_TOO_LARGE", "{text}; make several workflows of it"),
    Code.HAS_DEPENDANTS: ("HAS_DEPENDANTS", "others are after {text}; change or delete those first"),
    Code.NOT_IN_A_RUN: (
        "NOT_IN_A_RUN",
        "execution {text} is neither of a workflow nor of jobs that are after one another; run its job again",
    ),
    Code.RUN_UNFINISHED: (
        "RUN_UNFINISHED",
        "the run of execution {text} is not over; wait for its end, or cancel it, before parts of it run again",
    ),
    Code.NOTHING_TO_RERUN: (
        "NOTHING_TO_RERUN",
        "in the run of execution {text} everything that is still there has ended well; name one of its executions to run it and "
        "all after it again",
    ),
    Code.KIND_CHANGED: (
        "KIND_CHANGED",
        "{text} cannot become a workflow, nor cease to be one; delete it and create it again, or choose another name",
    ),
    Code.DEAD_LETTER_NOT_FOUND: (
        "DEAD_LETTER_NOT_FOUND",
        "execution {text} is not in a dead letter queue; perhaps it was driven again or purged",
    ),
    Code.OPERATION_NOT_FOUND: ("OPERATION_NOT_FOUND", "operation {text} does not exist, or its history is too old"),
    Code.OPERATION_FINISHED: ("OPERATION_FINISHED", "the operation is {text} already"),
    Code.ATTEMPTS_EXHAUSTED: (
        "ATTEMPTS_EXHAUSTED",
        "execution {text} has had too many attempts to be driven again; run its job instead",
    ),
    Code.WRONG_CLUSTER: ("INTERNAL", "the cluster refused the command"),
    Code.MALFORMED: ("INTERNAL", "the node made a command that the cluster cannot read: {text}; this is a defect"),
}


class ApiError(Exception):
    """An answer other than OK. Its text is one line that the caller reads."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message if len(message) <= MESSAGE_LENGTH_MAX else message[: MESSAGE_LENGTH_MAX - 1] + "…"
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_seconds = retry_seconds

    @property
    def code(self) -> grpc.StatusCode:
        return REASONS[self.reason]

    def to_status(self) -> status_pb2.Status:
        """With all details that fit; how many violations did not is said in the ErrorInfo."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
        bad_request = error_details_pb2.BadRequest()
        size = info.ByteSize()
        for position, violation in enumerate(self.violations):
            found = error_details_pb2.BadRequest.FieldViolation(
                field=violation.field, description=violation.description
            )
            size += found.ByteSize() + 8
            if size > DETAILS_BYTES_MAX and position:
                info.metadata["more_violations"] = str(len(self.violations) - position)
                break
            bad_request.field_violations.append(found)
        _pack(status, info)
        if self.violations:
            _pack(status, bad_request)
        if self.retry_seconds is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromMilliseconds(int(self.retry_seconds * 1000))
            _pack(status, retry)
        return status


def invalid(violations: Sequence[Violation]) -> ApiError:
    """The caller's fields break rules. The text is the first one; BadRequest has them all."""
    first = violations[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return ApiError("INVALID_FIELD", f"{first.field}: {first.description}{more}", violations=violations)


def invalid_field(field: str, description: str) -> ApiError:
    """One field of the caller's breaks a rule."""
    return invalid([Violation(field, description)])


def job_not_found(name: str) -> ApiError:
    return of_result(Result(Code.JOB_NOT_FOUND, text=name))


def execution_not_found(name: str) -> ApiError:
    return ApiError(
        "EXECUTION_NOT_FOUND",
        f"{name} does not exist, or its history is too old",
        metadata={"execution": name},
    )


def of_result(result: Result) -> ApiError:
    """The error that a command's result means. The result must not be OK."""
    reason, text = _RESULTS[result.code]
    key = "state" if result.code in (Code.EXECUTION_FINISHED, Code.OPERATION_FINISHED) else "name"
    metadata = {key: result.text} if result.text else {}
    return ApiError(reason, text.format(text=result.text), metadata=metadata)


def of_proposal(error: ProposalError) -> ApiError:
    """The error of a command that has no result."""
    if isinstance(error, NoLeaderError):
        return no_leader()
    if isinstance(error, OverloadedError):
        text = "the cluster has more writes in flight than it takes; nothing was changed, try again later"
        return ApiError("QUEUE_FULL", text, retry_seconds=OVERLOAD_RETRY_SECONDS)
    text = "the cluster did not answer in time; the write may or may not happen, repeat it with the same request_id"
    return ApiError("OUTCOME_UNKNOWN", text, retry_seconds=NO_LEADER_RETRY_SECONDS)


def no_leader() -> ApiError:
    text = "the cluster has no leader at the moment; nothing was changed, try again"
    return ApiError("NO_LEADER", text, retry_seconds=NO_LEADER_RETRY_SECONDS)


def rate_limited(text: str, wait_seconds: float) -> ApiError:
    """Too often; the text says who, or from where."""
    return ApiError("RATE_LIMITED", f"{text}; try again in {wait_seconds:.1f} s", retry_seconds=wait_seconds)


def internal() -> ApiError:
    """A defect of ours. What it was stands in the log, not in the answer."""
    return ApiError("INTERNAL", "the node failed on this call; its log says why")


async def abort(context: grpc.aio.ServicerContext[Message, Message], error: ApiError) -> NoReturn:
    """Ends the call with the error and its details."""
    status = rpc_status.to_status(error.to_status())
    await context.abort(status.code, status.details, tuple(status.trailing_metadata or ()))


def _pack(status: status_pb2.Status, detail: Message) -> None:
    packed = Any()
    packed.Pack(detail)
    status.details.append(packed)
