"""Writing jobs in Python: small functions that give the messages of the API.

    jobs.job(
        "nightly-report",
        jobs.cron("0 2 * * *", time_zone="Europe/Berlin"),
        jobs.shell(["pg_dump", "mydb"]),
        retry=jobs.retry(max_attempts=5, base="10s"),
        timeout="10m",
    )

Words are those of job files (`overlap="skip"`); spans of time are texts such as `5m`, or timedeltas; instants are
datetimes with a zone, or RFC 3339 texts. A value that cannot be read raises InvalidArgument, naming the field.
"""

from __future__ import annotations

import json as json_module
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypedDict, TypeVar

from google.protobuf import duration_pb2, timestamp_pb2

from horologe.client import calls, durations, times, words
from horologe.client.errors import InvalidArgument, Violation
from horologe.v1 import job_pb2
from horologe.v1.job_pb2 import Action, CronSchedule, Job, RetryPolicy, Schedule

__all__ = [
    "Policies",
    "after",
    "after_delay",
    "cron",
    "every",
    "fixed_delay",
    "http",
    "job",
    "manual",
    "once",
    "python",
    "retry",
    "shell",
    "sql",
    "workflow",
]

Span = str | timedelta
Instant = datetime | str


class Policies(TypedDict, total=False):
    """What may be said of a job beside its name, schedule and action: the keywords of `job`, for functions that hand them on."""

    start_time: Instant | None
    end_time: Instant | None
    max_executions: int
    jitter: Span | None
    calendars: Iterable[str]
    on_exclusion: str
    delete_when_finished: bool
    retry: RetryPolicy | None
    timeout: Span | None
    execution_timeout: Span | None
    deadline: Span | None
    grace: Span | None
    overlap: str
    queue_max: int
    max_running: int
    limits: Iterable[str]
    catchup: str
    catchup_max: int
    catchup_window: Span | None
    on_lease_loss: str
    queue: str
    priority: int | None
    worker_labels: Mapping[str, str] | None
    workflow: str
    apply_set: str
    output_bytes_max: int
    owner: str
    labels: Mapping[str, str] | None
    description: str


Read = TypeVar("Read")
Given = TypeVar("Given")
Number = TypeVar("Number", bound=int)


def job(
    name: str,
    schedule: Schedule | Iterable[Schedule],
    action: Action,
    *,
    start_time: Instant | None = None,
    end_time: Instant | None = None,
    max_executions: int = 0,
    jitter: Span | None = None,
    calendars: Iterable[str] = (),
    on_exclusion: str = "",
    delete_when_finished: bool = False,
    retry: RetryPolicy | None = None,
    timeout: Span | None = None,
    execution_timeout: Span | None = None,
    deadline: Span | None = None,
    grace: Span | None = None,
    overlap: str = "",
    queue_max: int = 0,
    max_running: int = 0,
    limits: Iterable[str] = (),
    catchup: str = "",
    catchup_max: int = 0,
    catchup_window: Span | None = None,
    on_lease_loss: str = "",
    queue: str = "",
    priority: int | None = None,
    worker_labels: Mapping[str, str] | None = None,
    workflow: str = "",
    apply_set: str = "",
    output_bytes_max: int = 0,
    owner: str = "",
    labels: Mapping[str, str] | None = None,
    description: str = "",
) -> Job:
    """A job. `name` is an id in the client's namespace, or a full name. What is left out takes the cluster's default."""
    return Job(
        name=name,
        schedules=[schedule] if isinstance(schedule, Schedule) else list(schedule),
        action=action,
        start_time=_instant("start_time", start_time),
        end_time=_instant("end_time", end_time),
        max_executions=max_executions,
        jitter=_span("jitter", jitter),
        calendars=calendars,
        on_exclusion=_word("on_exclusion", job_pb2.ExclusionPolicy, on_exclusion),
        delete_when_finished=delete_when_finished,
        retry=retry,
        timeout=_span("timeout", timeout),
        execution_timeout=_span("execution_timeout", execution_timeout),
        deadline=_span("deadline", deadline),
        grace=_span("grace", grace),
        overlap=_word("overlap", job_pb2.OverlapPolicy, overlap),
        queue_max=queue_max,
        max_running=max_running,
        limits=limits,
        catchup=_word("catchup", job_pb2.CatchupPolicy, catchup),
        catchup_max=catchup_max,
        catchup_window=_span("catchup_window", catchup_window),
        on_lease_loss=_word("on_lease_loss", job_pb2.LeaseLossPolicy, on_lease_loss),
        queue=queue,
        priority=priority,
        worker_labels=worker_labels,
        workflow=workflow,
        apply_set=apply_set,
        output_bytes_max=output_bytes_max,
        owner=owner,
        labels=labels,
        description=description,
    )


def cron(
    expression: str,
    *,
    time_zone: str = "",
    dialect: str = "",
    dst_gap: str = "",
    dst_overlap: str = "",
    day_match: str = "",
) -> Schedule:
    """Due times of a cron expression, for example `cron("0 2 * * *", time_zone="Europe/Berlin")`. No zone: UTC."""
    return Schedule(
        cron=CronSchedule(
            expression=expression,
            time_zone=time_zone,
            dialect=_word("dialect", CronSchedule.Dialect, dialect),
            dst_gap=_word("dst_gap", CronSchedule.GapPolicy, dst_gap),
            dst_overlap=_word("dst_overlap", CronSchedule.OverlapPolicy, dst_overlap),
            day_match=_word("day_match", CronSchedule.DayMatch, day_match),
        )
    )


def every(period: Span, *, phase: Span | None = None, anchor: Instant | None = None) -> Schedule:
    """Due times at a fixed distance, for example `every("5m")`. Without `phase` it follows from the job's identity.

    `anchor` says the same as `phase` by naming an instant at which the job would be due.
    """
    return Schedule(
        interval=job_pb2.IntervalSchedule(
            every=_span("every", period), phase=_span("phase", phase), anchor=_instant("anchor", anchor)
        )
    )


def fixed_delay(delay: Span) -> Schedule:
    """Due when the job is created, then so long after the end of the previous execution, however that ended."""
    return Schedule(fixed_delay=job_pb2.FixedDelaySchedule(delay=_span("fixed_delay", delay)))


def after(jobs: str | Iterable[str], *, condition: str = "") -> Schedule:
    """Due when other jobs of the namespace have ended: `all_succeeded` (default), `all_done`, `any_succeeded`, `any_failed`."""
    return Schedule(
        after=job_pb2.AfterSchedule(
            jobs=[jobs] if isinstance(jobs, str) else jobs,
            condition=_word("condition", job_pb2.AfterSchedule.Condition, condition),
        )
    )


def once(time: Instant, *, time_zone: str = "", allow_past: bool = False) -> Schedule:
    """One due time. A past one is refused unless `allow_past`, and then due at once."""
    return Schedule(once=job_pb2.OnceSchedule(time=_instant("once", time, time_zone), allow_past=allow_past))


def after_delay(delay: str | timedelta) -> Schedule:
    """One due time, so long after the job was created."""
    return Schedule(once=job_pb2.OnceSchedule(delay=_span("delay", delay)))


def manual() -> Schedule:
    """No due times: the job runs on request only."""
    return Schedule(manual=job_pb2.ManualSchedule())


def shell(
    command: Sequence[str] | str,
    *,
    interpreter: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: str = "",
    stdin: str | bytes = b"",
    success_codes: Iterable[int] = (),
    user: str = "",
    rlimits: Mapping[str, int] | None = None,
) -> Action:
    """A command as a list, run without a shell; or the text of a script, read by `interpreter` (default `/bin/sh`)."""
    is_script = isinstance(command, str)
    # A field of a message, and no shell of a process.
    return Action(  # nosec B604
        shell=job_pb2.ShellAction(
            argv=() if is_script else command,
            script=str(command) if is_script else "",
            interpreter=interpreter,
            env=env,
            cwd=cwd,
            stdin=_bytes(stdin),
            success_codes=success_codes,
            user=user,
            rlimits=rlimits,
        )
    )


def http(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: str | bytes = b"",
    json: object = None,
    expect: Iterable[int] = (),
    follow_redirects: bool = False,
    connect_timeout: str | timedelta | None = None,
    read_timeout: str | timedelta | None = None,
) -> Action:
    """An HTTP request. `json` is sent as the body, with its content type. Any 2xx is success unless `expect` is given."""
    sent = dict(headers or {})
    if json is not None:
        if body:
            raise _invalid("json", "an HTTP request has one body: give `body` or `json`")
        body = _read("json", json_module.dumps, json)
        if not any(name.lower() == "content-type" for name in sent):
            sent["Content-Type"] = "application/json"
    return Action(
        http=job_pb2.HttpAction(
            method=method.upper(),
            url=url,
            headers=sent,
            body=_bytes(body),
            expect=expect,
            follow_redirects=follow_redirects,
            connect_timeout=_span("connect_timeout", connect_timeout),
            read_timeout=_span("read_timeout", read_timeout),
        )
    )


def sql(connection: str, statement: str, parameters: Mapping[str, object] | None = None) -> Action:
    """A statement in one transaction, on a connection that the worker knows by that name. `:name` for parameters."""
    bound = calls.to_value(dict(parameters)).struct_value if parameters else None
    return Action(sql=job_pb2.SqlAction(connection=connection, statement=statement, parameters=bound))


def python(handler: str, payload: object = None) -> Action:
    """A handler that a worker program has registered, with any JSON value for it."""
    value = None if payload is None else calls.to_value(payload)
    return Action(python=job_pb2.PythonAction(handler=handler, payload=value))


def workflow() -> Action:
    """Runs the jobs that name this one as their `workflow`, in the order that their `after` says."""
    return Action(workflow=job_pb2.WorkflowAction())


def retry(
    *,
    max_attempts: int = 0,
    backoff: str = "",
    base: Span | None = None,
    factor: float = 0.0,
    cap: Span | None = None,
    jitter: str = "",
    retry_on: Iterable[str] = (),
    do_not_retry_on: Iterable[str] = (),
    retry_window: Span | None = None,
) -> RetryPolicy:
    """When and how often a failed attempt is tried again. 1 attempt means no retry.

    `retry_on` and `do_not_retry_on` name failures: `exit:75`, `exit:1-63`, `http:503`, `http:5xx`, `timeout`, `lost`, or the
    kind of an error, such as `ValueError`.
    """
    return RetryPolicy(
        max_attempts=max_attempts,
        backoff=_word("backoff", RetryPolicy.Backoff, backoff),
        base=_span("base", base),
        factor=factor,
        cap=_span("cap", cap),
        jitter=_word("jitter", RetryPolicy.Jitter, jitter),
        retry_on=retry_on,
        do_not_retry_on=do_not_retry_on,
        retry_window=_span("retry_window", retry_window),
    )


def _word(field: str, enumeration: words.Enumeration[Number], word: str) -> Number:
    if not word:
        return enumeration.items()[0][1]
    return _read(field, lambda text: words.parse(enumeration, text), word)


def _span(field: str, value: Span | None) -> duration_pb2.Duration | None:
    if value is None:
        return None
    return durations.to_proto(_read(field, durations.parse, value) if isinstance(value, str) else value)


def _instant(field: str, value: Instant | None, time_zone: str = "") -> timestamp_pb2.Timestamp | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = _read(field, lambda text: times.parse(text, time_zone), value)
    return _read(field, times.to_proto, value)


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _read(field: str, reader: Callable[[Given], Read], value: Given) -> Read:
    try:
        return reader(value)
    except (ValueError, TypeError) as error:
        raise _invalid(field, str(error)) from error


def _invalid(field: str, description: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field}: {description}", reason="INVALID_FIELD", violations=[Violation(field, description)]
    )
