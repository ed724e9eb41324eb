"""The methods of DeadLetterService, BackfillService and OperationService, as `calls.py` has those of the other services."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from horologe.client import names, times, words
from horologe.client.calls import PAGE_SIZE, Call, Method, Pages, request_id_or_new, to_value
from horologe.client.errors import InvalidArgument
from horologe.v1 import backfill_service_pb2 as backfills
from horologe.v1 import dead_letter_service_pb2 as dead_letters
from horologe.v1 import operation_service_pb2 as operations
from horologe.v1.dead_letter_service_pb2 import DeadLetter, DeadLetterFilter
from horologe.v1.execution_pb2 import Execution
from horologe.v1.operation_pb2 import Operation

__all__ = [
    "OVER_STATES",
    "DeadLetterGroups",
    "backfill_job",
    "cancel_operation",
    "get_dead_letter",
    "get_operation",
    "group_dead_letters",
    "list_dead_letters",
    "list_operations",
    "purge_dead_letter",
    "purge_dead_letters",
    "redrive_dead_letter",
    "redrive_dead_letters",
]

OVER_STATES = frozenset({Operation.STATE_DONE, Operation.STATE_CANCELLED, Operation.STATE_FAILED})
"""An operation in one of these begins nothing new."""

_DEAD = "DeadLetterService"
GET_DEAD_LETTER = Method(_DEAD, "GetDeadLetter", dead_letters.GetDeadLetterRequest, dead_letters.GetDeadLetterResponse)
LIST_DEAD_LETTERS = Method(
    _DEAD, "ListDeadLetters", dead_letters.ListDeadLettersRequest, dead_letters.ListDeadLettersResponse
)
LIST_DEAD_LETTER_GROUPS = Method(
    _DEAD,
    "ListDeadLetterGroups",
    dead_letters.ListDeadLetterGroupsRequest,
    dead_letters.ListDeadLetterGroupsResponse,
)
REDRIVE_DEAD_LETTER = Method(
    _DEAD,
    "RedriveDeadLetter",
    dead_letters.RedriveDeadLetterRequest,
    dead_letters.RedriveDeadLetterResponse,
    is_write=True,
)
REDRIVE_DEAD_LETTERS = Method(
    _DEAD,
    "RedriveDeadLetters",
    dead_letters.RedriveDeadLettersRequest,
    dead_letters.RedriveDeadLettersResponse,
    is_write=True,
)
PURGE_DEAD_LETTER = Method(
    _DEAD,
    "PurgeDeadLetter",
    dead_letters.PurgeDeadLetterRequest,
    dead_letters.PurgeDeadLetterResponse,
    is_write=True,
)
PURGE_DEAD_LETTERS = Method(
    _DEAD,
    "PurgeDeadLetters",
    dead_letters.PurgeDeadLettersRequest,
    dead_letters.PurgeDeadLettersResponse,
    is_write=True,
)
BACKFILL_JOB = Method(
    "BackfillService", "BackfillJob", backfills.BackfillJobRequest, backfills.BackfillJobResponse, is_write=True
)
GET_OPERATION = Method(
    "OperationService", "GetOperation", operations.GetOperationRequest, operations.GetOperationResponse
)
LIST_OPERATIONS = Method(
    "OperationService", "ListOperations", operations.ListOperationsRequest, operations.ListOperationsResponse
)
CANCEL_OPERATION = Method(
    "OperationService",
    "CancelOperation",
    operations.CancelOperationRequest,
    operations.CancelOperationResponse,
    is_write=True,
)


@dataclass(frozen=True, slots=True)
class DeadLetterGroups:
    """Dead letters by their errors."""

    groups: list[dead_letters.DeadLetterGroup]
    """The most frequent error first."""
    is_complete: bool
    """False when there are more than one call counts: then only the latest ones were."""


def list_dead_letters(
    namespace: str,
    job: str = "",
    *,
    fingerprint: str = "",
    start: datetime | None = None,
    end: datetime | None = None,
    page_size: int = PAGE_SIZE,
) -> Pages[DeadLetter]:
    """Dead letters, the one that died last first: of the namespace or one job, with an error, from `start` to before `end`."""
    request = dead_letters.ListDeadLettersRequest(
        parent=names.namespace_name(namespace),
        page_size=page_size,
        filter=_filter(namespace, job, fingerprint, start, end),
    )

    def pick(answer: dead_letters.ListDeadLettersResponse) -> Iterable[DeadLetter]:
        return answer.dead_letters

    return Pages(LIST_DEAD_LETTERS, request, pick)


def group_dead_letters(
    namespace: str, job: str = "", *, start: datetime | None = None, end: datetime | None = None
) -> Call[DeadLetterGroups]:
    """Counts dead letters by their errors: how many, the first and the last, and a sample of each."""
    request = dead_letters.ListDeadLetterGroupsRequest(
        parent=names.namespace_name(namespace), filter=_filter(namespace, job, "", start, end)
    )

    def pick(answer: dead_letters.ListDeadLetterGroupsResponse) -> DeadLetterGroups:
        return DeadLetterGroups(list(answer.groups), not answer.incomplete)

    return Call(LIST_DEAD_LETTER_GROUPS, request, pick)


def get_dead_letter(namespace: str, name: str | int) -> Call[DeadLetter]:
    """Reads a dead letter with all its attempts. NotFound if the execution is in no dead letter queue."""
    del namespace  # Numbers are unique in the cluster.

    def pick(answer: dead_letters.GetDeadLetterResponse) -> DeadLetter:
        return answer.dead_letter

    return Call(GET_DEAD_LETTER, dead_letters.GetDeadLetterRequest(name=names.execution_name(name)), pick)


def redrive_dead_letter(
    namespace: str, name: str | int, *, payload: object = None, request_id: str = ""
) -> Call[Execution]:
    """Drives a dead letter again: the same execution, with new attempts and, if one is given, another payload.

    NotFound if the execution is in no dead letter queue.
    """
    del namespace  # Numbers are unique in the cluster.
    request = dead_letters.RedriveDeadLetterRequest(
        name=names.execution_name(name), request_id=request_id_or_new(request_id)
    )
    if payload is not None:
        request.payload.CopyFrom(to_value(payload))

    def pick(answer: dead_letters.RedriveDeadLetterResponse) -> Execution:
        return answer.execution

    return Call(REDRIVE_DEAD_LETTER, request, pick)


def redrive_dead_letters(
    namespace: str,
    chosen: Sequence[str | int] = (),
    *,
    job: str = "",
    fingerprint: str = "",
    start: datetime | None = None,
    end: datetime | None = None,
    rate: float = 0.0,
    payload: object = None,
    request_id: str = "",
) -> Call[Operation]:
    """Drives dead letters again: the `chosen` ones, or all that fit. Returns the operation, which goes on by itself.

    `rate` is how many a second at most; 0: as fast as it goes.
    """
    request = dead_letters.RedriveDeadLettersRequest(
        parent=names.namespace_name(namespace),
        names=[names.execution_name(name) for name in chosen],
        filter=_filter(namespace, job, fingerprint, start, end),
        rate=rate,
        request_id=request_id_or_new(request_id),
    )
    if payload is not None:
        request.payload.CopyFrom(to_value(payload))

    def pick(answer: dead_letters.RedriveDeadLettersResponse) -> Operation:
        return answer.operation

    return Call(REDRIVE_DEAD_LETTERS, request, pick)


def purge_dead_letter(namespace: str, name: str | int, *, request_id: str = "") -> Call[None]:
    """Takes a dead letter out of the queue for good; the execution stays in the history. NotFound if it is not there."""
    del namespace  # Numbers are unique in the cluster.

    def pick(_: dead_letters.PurgeDeadLetterResponse) -> None:
        return None

    request = dead_letters.PurgeDeadLetterRequest(
        name=names.execution_name(name), request_id=request_id_or_new(request_id)
    )
    return Call(PURGE_DEAD_LETTER, request, pick)


def purge_dead_letters(
    namespace: str,
    chosen: Sequence[str | int] = (),
    *,
    job: str = "",
    fingerprint: str = "",
    start: datetime | None = None,
    end: datetime | None = None,
    request_id: str = "",
) -> Call[Operation]:
    """Takes dead letters out of the queue for good: the `chosen` ones, or all that fit. Returns the operation."""
    request = dead_letters.PurgeDeadLettersRequest(
        parent=names.namespace_name(namespace),
        names=[names.execution_name(name) for name in chosen],
        filter=_filter(namespace, job, fingerprint, start, end),
        request_id=request_id_or_new(request_id),
    )

    def pick(answer: dead_letters.PurgeDeadLettersResponse) -> Operation:
        return answer.operation

    return Call(PURGE_DEAD_LETTERS, request, pick)


def backfill_job(
    namespace: str,
    job: str,
    start: datetime,
    end: datetime,
    *,
    order: str = "forwards",
    only: str = "missing",
    max_running: int = 1,
    validate_only: bool = False,
    request_id: str = "",
) -> Call[backfills.BackfillJobResponse]:
    """Runs a job for its due times from `start` to before `end`; the answer's operation goes on by itself.

    `order`: forwards or backwards. `only`: the due times for which nothing ran (missing), whose executions failed (failed), or
    all.
    With `validate_only` nothing is begun, and the answer says how many due times would be run, and which are the first.
    """
    request = backfills.BackfillJobRequest(
        name=names.job_name(job, namespace),
        start_time=times.to_proto(start),
        end_time=times.to_proto(end),
        order=_word("order", backfills.BackfillJobRequest.Order, order),
        only=_word("only", backfills.BackfillJobRequest.Only, only),
        max_running=max_running,
        validate_only=validate_only,
        request_id=request_id_or_new(request_id),
    )

    def pick(answer: backfills.BackfillJobResponse) -> backfills.BackfillJobResponse:
        return answer

    return Call(BACKFILL_JOB, request, pick)


def get_operation(namespace: str, name: str | int) -> Call[Operation]:
    """Reads an operation, by its name or its number. NotFound if there is none."""
    del namespace  # Numbers are unique in the cluster.
    return Call(GET_OPERATION, operations.GetOperationRequest(name=names.operation_name(name)), _operation)


def list_operations(namespace: str, *, parent: str = "", page_size: int = PAGE_SIZE) -> Pages[Operation]:
    """Operations, newest first. `parent="-"` lists all namespaces."""
    request = operations.ListOperationsRequest(parent=names.namespace_name(parent or namespace), page_size=page_size)

    def pick(answer: operations.ListOperationsResponse) -> Iterable[Operation]:
        return answer.operations

    return Pages(LIST_OPERATIONS, request, pick)


def cancel_operation(namespace: str, name: str | int, *, reason: str = "", request_id: str = "") -> Call[Operation]:
    """Lets an operation begin nothing new; what it has begun goes on. FailedPrecondition if it is over."""
    del namespace  # Numbers are unique in the cluster.
    request = operations.CancelOperationRequest(
        name=names.operation_name(name), reason=reason, request_id=request_id_or_new(request_id)
    )
    return Call(CANCEL_OPERATION, request, _operation)


def _filter(
    namespace: str, job: str, fingerprint: str, start: datetime | None, end: datetime | None
) -> DeadLetterFilter:
    chosen = DeadLetterFilter(job=names.job_name(job, namespace) if job else "", fingerprint=fingerprint)
    if start is not None:
        chosen.start_time.CopyFrom(times.to_proto(start))
    if end is not None:
        chosen.end_time.CopyFrom(times.to_proto(end))
    return chosen


def _word(field: str, enumeration: words.Enumeration[words.Number], word: str) -> words.Number:
    try:
        return words.parse(enumeration, word)
    except ValueError as error:
        raise InvalidArgument(f"{field}: {error}", reason="INVALID_FIELD") from error


def _operation(
    answer: operations.GetOperationResponse | operations.CancelOperationResponse,
) -> Operation:
    return answer.operation
