"""The methods of the API: one table of them, and one builder for each, shared by both clients.

A builder turns Python arguments into a request, and says how the answer becomes the result; its signature and docstring
are those of the clients' methods. It does no I/O. The first argument is always the client's namespace.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from google.protobuf import field_mask_pb2, json_format, struct_pb2
from google.protobuf.message import Message

from horologe.client import names, times, words
from horologe.client.errors import InvalidArgument
from horologe.client.json_value import NESTING_RULE, is_too_deep
from horologe.v1 import execution_service_pb2 as executions
from horologe.v1 import job_service_pb2 as jobs
from horologe.v1 import output_service_pb2 as outputs
from horologe.v1.execution_pb2 import Execution
from horologe.v1.job_pb2 import Job, Schedule

__all__ = ["AppliedJob", "Call", "Method", "Pages", "Stream"]

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)
Result = TypeVar("Result")

PAGE_SIZE = 500
"""Items asked for at a time; the server's limit is 1,000."""


@dataclass(frozen=True, slots=True)
class Method(Generic[Request, Answer]):
    """One method of a service, as gRPC wants it."""

    service: str
    name: str
    request: type[Request]
    answer: type[Answer]
    is_write: bool = False

    @property
    def path(self) -> str:
        """As in the HTTP/2 request."""
        return f"/horologe.v1.{self.service}/{self.name}"


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """A request with one answer."""

    method: Method[Any, Any]
    request: Message
    pick: Callable[[Any], Result]


@dataclass(frozen=True, slots=True)
class Pages(Generic[Result]):
    """A list that comes in pages; the request's `page_token` is filled in for each."""

    method: Method[Any, Any]
    request: Any
    pick: Callable[[Any], Iterable[Result]]


@dataclass(frozen=True, slots=True)
class Stream(Generic[Result]):
    """A request that is answered by a stream. `behind` makes the request for what follows an item, if that can be asked for."""

    method: Method[Any, Any]
    request: Message
    item: type[Result]
    behind: Callable[[Any], Message] | None = None


@dataclass(frozen=True, slots=True)
class AppliedJob:
    """A job after `apply_jobs`, and what was done to it."""

    job: Job
    outcome: str
    """`created`, `updated` or `unchanged`."""


CREATE_JOB = Method("JobService", "CreateJob", jobs.CreateJobRequest, jobs.CreateJobResponse, is_write=True)
BATCH_CREATE_JOBS = Method(
    "JobService", "BatchCreateJobs", jobs.BatchCreateJobsRequest, jobs.BatchCreateJobsResponse, is_write=True
)
APPLY_JOBS = Method("JobService", "ApplyJobs", jobs.ApplyJobsRequest, jobs.ApplyJobsResponse, is_write=True)
GET_JOB = Method("JobService", "GetJob", jobs.GetJobRequest, jobs.GetJobResponse)
LIST_JOBS = Method("JobService", "ListJobs", jobs.ListJobsRequest, jobs.ListJobsResponse)
UPDATE_JOB = Method("JobService", "UpdateJob", jobs.UpdateJobRequest, jobs.UpdateJobResponse, is_write=True)
DELETE_JOB = Method("JobService", "DeleteJob", jobs.DeleteJobRequest, jobs.DeleteJobResponse, is_write=True)
PAUSE_JOB = Method("JobService", "PauseJob", jobs.PauseJobRequest, jobs.PauseJobResponse, is_write=True)
RESUME_JOB = Method("JobService", "ResumeJob", jobs.ResumeJobRequest, jobs.ResumeJobResponse, is_write=True)
RUN_JOB = Method("JobService", "RunJob", jobs.RunJobRequest, jobs.RunJobResponse, is_write=True)
GET_JOB_STATISTICS = Method(
    "JobService", "GetJobStatistics", jobs.GetJobStatisticsRequest, jobs.GetJobStatisticsResponse
)
PREVIEW_SCHEDULE = Method("JobService", "PreviewSchedule", jobs.PreviewScheduleRequest, jobs.PreviewScheduleResponse)
GET_EXECUTION = Method(
    "ExecutionService", "GetExecution", executions.GetExecutionRequest, executions.GetExecutionResponse
)
LIST_EXECUTIONS = Method(
    "ExecutionService", "ListExecutions", executions.ListExecutionsRequest, executions.ListExecutionsResponse
)
CANCEL_EXECUTION = Method(
    "ExecutionService",
    "CancelExecution",
    executions.CancelExecutionRequest,
    executions.CancelExecutionResponse,
    is_write=True,
)
WATCH_EXECUTIONS = Method(
    "ExecutionService", "WatchExecutions", executions.WatchExecutionsRequest, executions.WatchExecutionsResponse
)
READ_OUTPUT = Method("OutputService", "ReadOutput", outputs.ReadOutputRequest, outputs.ReadOutputResponse)
SEARCH_OUTPUT = Method("OutputService", "SearchOutput", outputs.SearchOutputRequest, outputs.SearchOutputResponse)
LIST_LEDGER = Method("ExecutionService", "ListLedger", executions.ListLedgerRequest, executions.ListLedgerResponse)


def create_job(namespace: str, job: Job, *, request_id: str = "", validate_only: bool = False) -> Call[Job]:
    """Creates a job and returns it as stored. AlreadyExists if its name is taken.

    `job.name` may be a bare id. With `validate_only` nothing is stored.
    """
    parent, _, job_id = names.job_name(job.name, namespace).partition("/jobs/")
    request = jobs.CreateJobRequest(
        parent=parent, job_id=job_id, job=job, request_id=request_id_or_new(request_id), validate_only=validate_only
    )
    request.job.name = f"{parent}/jobs/{job_id}"
    return Call(CREATE_JOB, request, _job)


def batch_create_jobs(
    namespace: str, definitions: Iterable[Job], *, request_id: str = "", validate_only: bool = False
) -> Call[list[Job]]:
    """Creates many jobs, all or none, and returns them as stored, in the same order."""
    request = jobs.BatchCreateJobsRequest(
        jobs=named(namespace, definitions), request_id=request_id_or_new(request_id), validate_only=validate_only
    )

    def pick(answer: jobs.BatchCreateJobsResponse) -> list[Job]:
        return list(answer.jobs)

    return Call(BATCH_CREATE_JOBS, request, pick)


def apply_jobs(
    namespace: str, definitions: Iterable[Job], *, request_id: str = "", validate_only: bool = False
) -> Call[list[AppliedJob]]:
    """Makes the cluster hold these definitions, creating or updating as needed, all or none."""
    request = jobs.ApplyJobsRequest(
        jobs=named(namespace, definitions), request_id=request_id_or_new(request_id), validate_only=validate_only
    )

    def pick(answer: jobs.ApplyJobsResponse) -> list[AppliedJob]:
        outcomes = [words.render(jobs.ApplyJobsResponse.Outcome, outcome) for outcome in answer.outcomes]
        return [AppliedJob(job, outcome) for job, outcome in zip(answer.jobs, outcomes, strict=True)]

    return Call(APPLY_JOBS, request, pick)


def get_job(namespace: str, name: str) -> Call[Job]:
    """Reads a job. NotFound if there is none."""
    return Call(GET_JOB, jobs.GetJobRequest(name=names.job_name(name, namespace)), _job)


def list_jobs(
    namespace: str,
    *,
    parent: str = "",
    name_prefix: str = "",
    name_contains: str = "",
    state: Job.State.ValueType = Job.STATE_UNSPECIFIED,
    labels: Mapping[str, str] | None = None,
    owner: str = "",
    queue: str = "",
    schedule: str = "",
    created_from: datetime | None = None,
    created_before: datetime | None = None,
    due_from: datetime | None = None,
    due_before: datetime | None = None,
    page_size: int = PAGE_SIZE,
) -> Pages[Job]:
    """Jobs by name, page after page. `parent="-"` lists all namespaces; all else cuts the list down.

    `schedule` is a part of a schedule's text, such as `0 2 * * *`; `due_from` and `due_before` are about the next due time.
    """
    request = jobs.ListJobsRequest(
        parent=names.namespace_name(parent or namespace),
        name_prefix=name_prefix,
        name_contains=name_contains,
        state=state,
        labels=labels,
        owner=owner,
        queue=queue,
        schedule=schedule,
        page_size=page_size,
    )
    _bound(request, created_from, created_before, due_from, due_before)

    def pick(answer: jobs.ListJobsResponse) -> Iterable[Job]:
        return answer.jobs

    return Pages(LIST_JOBS, request, pick)


def update_job(
    namespace: str, job: Job, *, update_mask: Sequence[str] | None = None, request_id: str = ""
) -> Call[Job]:
    """Changes a job: the fields in `update_mask`, or those that are set; `["*"]` replaces all.

    With `job.etag`, Conflict if it changed since it was read.
    """
    request = jobs.UpdateJobRequest(job=job, request_id=request_id_or_new(request_id))
    request.job.name = names.job_name(job.name, namespace)
    if update_mask is not None:
        request.update_mask.CopyFrom(field_mask_pb2.FieldMask(paths=update_mask))
    return Call(UPDATE_JOB, request, _job)


def delete_job(
    namespace: str, name: str, *, etag: str = "", cancel_running: bool = False, request_id: str = ""
) -> Call[None]:
    """Deletes a job. Its running executions finish, unless `cancel_running`. With `etag`, Conflict if it changed."""
    request = jobs.DeleteJobRequest(
        name=names.job_name(name, namespace),
        etag=etag,
        cancel_running=cancel_running,
        request_id=request_id_or_new(request_id),
    )

    def pick(_: jobs.DeleteJobResponse) -> None:
        return None

    return Call(DELETE_JOB, request, pick)


def pause_job(namespace: str, name: str, *, reason: str = "", request_id: str = "") -> Call[Job]:
    """Stops following the schedule. FailedPrecondition if it is paused already."""
    request = jobs.PauseJobRequest(
        name=names.job_name(name, namespace), reason=reason, request_id=request_id_or_new(request_id)
    )
    return Call(PAUSE_JOB, request, _job)


def resume_job(namespace: str, name: str, *, catchup: bool = False, request_id: str = "") -> Call[Job]:
    """Follows the schedule again, from now on. FailedPrecondition if it is not paused.

    With `catchup`, what the pause swallowed is caught up, as the job's policy says, and not skipped.
    """
    request = jobs.ResumeJobRequest(
        name=names.job_name(name, namespace), catchup=catchup, request_id=request_id_or_new(request_id)
    )
    return Call(RESUME_JOB, request, _job)


def run_job(
    namespace: str, name: str, *, payload: object = None, force: bool = False, request_id: str = ""
) -> Call[Execution]:
    """Runs a job now, beside its schedule, and returns the execution, which is the handle of the run.

    `payload` (any JSON value) replaces the payload of a Python action. FailedPrecondition if the overlap policy says
    no, unless `force`.
    """
    request = jobs.RunJobRequest(
        name=names.job_name(name, namespace), force=force, request_id=request_id_or_new(request_id)
    )
    if payload is not None:
        request.payload.CopyFrom(to_value(payload))
    return Call(RUN_JOB, request, _execution)


def preview_schedule(
    namespace: str, schedule: Schedule, *, start: datetime | None = None, count: int = 10, job: str = ""
) -> Call[jobs.PreviewScheduleResponse]:
    """The next due times of a schedule after `start` (default: now), and an English sentence about it.

    `job` is the one that has the schedule or is to have it: `H` and intervals without a phase follow from its name.
    """
    request = jobs.PreviewScheduleRequest(schedule=schedule, count=count)
    if job:
        request.job = names.job_name(job, namespace)
    if start is not None:
        # `from` is a keyword in Python.
        getattr(request, "from").CopyFrom(times.to_proto(start))
    return Call(PREVIEW_SCHEDULE, request, itself)


def preview_job(
    namespace: str, definition: Job, *, start: datetime | None = None, count: int = 10
) -> Call[jobs.PreviewScheduleResponse]:
    """When a job is due after `start` (default: now), by all its schedules, its bounds and its calendars; it need not exist."""
    request = jobs.PreviewScheduleRequest(definition=definition, count=count)
    request.definition.name = names.job_name(definition.name, namespace)
    if start is not None:
        getattr(request, "from").CopyFrom(times.to_proto(start))
    return Call(PREVIEW_SCHEDULE, request, itself)


def get_execution(namespace: str, name: str | int) -> Call[Execution]:
    """Reads an execution with its attempts, by its name or its number. NotFound if there is none."""
    del namespace  # Numbers are unique in the cluster.
    return Call(GET_EXECUTION, executions.GetExecutionRequest(name=names.execution_name(name)), _execution)


def list_executions(
    namespace: str,
    job: str = "",
    *,
    states: Iterable[Execution.State.ValueType] = (),
    name_prefix: str = "",
    labels: Mapping[str, str] | None = None,
    owner: str = "",
    queue: str = "",
    schedule: str = "",
    worker: str = "",
    created_from: datetime | None = None,
    created_before: datetime | None = None,
    due_from: datetime | None = None,
    due_before: datetime | None = None,
    page_size: int = PAGE_SIZE,
) -> Pages[Execution]:
    """Executions, newest first, of one job or of the namespace; all else cuts the list down.

    `name_prefix`, `labels`, `owner` and `schedule` (a part of a schedule's text) are about their jobs.
    """
    request = executions.ListExecutionsRequest(
        parent=names.executions_parent(job, namespace),
        states=states,
        name_prefix=name_prefix,
        labels=labels,
        owner=owner,
        queue=queue,
        schedule=schedule,
        worker=worker,
        page_size=page_size,
    )
    _bound(request, created_from, created_before, due_from, due_before)

    def pick(answer: executions.ListExecutionsResponse) -> Iterable[Execution]:
        return answer.executions

    return Pages(LIST_EXECUTIONS, request, pick)


def cancel_execution(namespace: str, name: str | int, *, reason: str = "", request_id: str = "") -> Call[Execution]:
    """Asks that an execution end. One that waits is cancelled at once; one that runs is told to stop."""
    del namespace  # Numbers are unique in the cluster.
    request = executions.CancelExecutionRequest(
        name=names.execution_name(name), reason=reason, request_id=request_id_or_new(request_id)
    )
    return Call(CANCEL_EXECUTION, request, _execution)


def watch_executions(namespace: str, job: str = "") -> Stream[executions.WatchExecutionsResponse]:
    """Changes of executions as they happen, in batches, until the caller stops. Unavailable when the node goes away.

    A reader that is slow misses changes; `dropped_count` of a batch says how many.
    """
    request = executions.WatchExecutionsRequest(parent=names.executions_parent(job, namespace))
    return Stream(WATCH_EXECUTIONS, request, executions.WatchExecutionsResponse)


def read_output(
    namespace: str, name: str | int, *, attempt: int = 0, follow: bool = False
) -> Stream[outputs.ReadOutputResponse]:
    """The captured output of an attempt (0: the last), piece by piece; with `follow` until the attempt ends.

    When the node that is asked goes away, another one is asked for the rest.
    """
    del namespace  # Numbers are unique in the cluster.
    request = outputs.ReadOutputRequest(name=names.execution_name(name), attempt=attempt, follow=follow)

    def behind(piece: outputs.ReadOutputResponse) -> outputs.ReadOutputRequest:
        return outputs.ReadOutputRequest(
            name=request.name, attempt=piece.attempt, follow=follow, after_position=piece.position
        )

    return Stream(READ_OUTPUT, request, outputs.ReadOutputResponse, behind)


def search_output(
    namespace: str, job: str, text: str = "", *, ignore_case: bool = False, page_size: int = 0, page_token: str = ""
) -> Call[outputs.SearchOutputResponse]:
    """Lines with a text in what the latest executions of a job printed: one page, newest first. See the answer's fields."""
    request = outputs.SearchOutputRequest(
        parent=names.job_name(job, namespace),
        text=text,
        ignore_case=ignore_case,
        page_size=page_size,
        page_token=page_token,
    )
    return Call(SEARCH_OUTPUT, request, itself)


def list_ledger(
    namespace: str,
    job: str,
    *,
    outcomes: Iterable[executions.LedgerRow.Outcome.ValueType] = (),
    latest_first: bool = False,
    page_size: int = PAGE_SIZE,
) -> Pages[executions.LedgerRow]:
    """What became of a job's due times, oldest first unless `latest_first`; with `outcomes`, of those only."""
    request = executions.ListLedgerRequest(
        parent=names.job_name(job, namespace), outcomes=outcomes, latest_first=latest_first, page_size=page_size
    )

    def pick(answer: executions.ListLedgerResponse) -> Iterable[executions.LedgerRow]:
        return answer.rows

    return Pages(LIST_LEDGER, request, pick)


def get_job_statistics(
    namespace: str, job: str, *, start_time: datetime | None = None, end_time: datetime | None = None
) -> Call[jobs.GetJobStatisticsResponse]:
    """How many due times of a job came to what, day by day, from an instant to before another one.

    One call counts 5,000 due times at most; `counted_from` in the answer, if there is one, is the `end_time` of the next call.
    """
    request = jobs.GetJobStatisticsRequest(name=names.job_name(job, namespace))
    for field, moment in ((request.start_time, start_time), (request.end_time, end_time)):
        if moment is not None:
            field.CopyFrom(times.to_proto(moment))
    return Call(GET_JOB_STATISTICS, request, itself)


def to_value(payload: object) -> struct_pb2.Value:
    """Any JSON value as it travels. InvalidArgument when it is none."""
    if isinstance(payload, struct_pb2.Value):
        return payload
    if is_too_deep(payload):
        raise InvalidArgument(f"payload has {NESTING_RULE}", reason="INVALID_FIELD")
    try:
        return json_format.ParseDict(payload, struct_pb2.Value())  # type: ignore[arg-type]
    except (json_format.ParseError, TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"payload is not a JSON value: {error}", reason="INVALID_FIELD") from error


def named(namespace: str, definitions: Iterable[Job]) -> list[Job]:
    """Copies with full names."""
    named = []
    for definition in definitions:
        job = Job()
        job.CopyFrom(definition)
        job.name = names.job_name(job.name, namespace)
        named.append(job)
    return named


def request_id_or_new(given: str) -> str:
    """What makes a write repeatable: the caller's id, or one of our own."""
    return given or str(uuid.uuid4())


def _job(answer: Any) -> Job:
    job: Job = answer.job
    return job


def _execution(answer: Any) -> Execution:
    execution: Execution = answer.execution
    return execution


def itself(answer: Answer) -> Answer:
    """For calls whose result is the whole answer."""
    return answer


def _bound(
    request: jobs.ListJobsRequest | executions.ListExecutionsRequest,
    created_from: datetime | None,
    created_before: datetime | None,
    due_from: datetime | None,
    due_before: datetime | None,
) -> None:
    """Writes down the bounds that were given."""
    for field, moment in (
        (request.created_from, created_from),
        (request.created_before, created_before),
        (request.due_from, due_from),
        (request.due_before, due_before),
    ):
        if moment is not None:
            field.CopyFrom(times.to_proto(moment))
