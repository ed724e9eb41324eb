"""What a refused batch of jobs means to its caller: which fields of which jobs the refusal is about.

The state machine answers a code and the names concerned; here those are found again in the request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from horologe.node import errors
from horologe.node.schedule import Violation
from horologe.node.templates import secret_names
from horologe.raft.calendars import calendar_names
from horologe.raft.dependencies import short_name
from horologe.raft.limits import limit_name, namespace_of
from horologe.raft.model import Code, Result
from horologe.raft.secrets import secret_name
from horologe.v1 import job_pb2

__all__ = ["of_batch"]

_WHOLE: dict[Code, tuple[str, str]] = {
    # The field that is meant, and what is said of it, where the result carries the full name of a job.
    Code.JOB_EXISTS: (".name", "it exists already, or is here twice"),
    Code.ETAG_MISMATCH: ("", "it has changed"),
}
_RELATED: dict[Code, tuple[str, str]] = {
    # The same where the text of the result begins with the id of a job.
    Code.WORKFLOW_NOT_FOUND: (".workflow", "there is no such workflow"),
    Code.ORIGINS_DIFFER: (".schedules", "it is after jobs of other origins"),
    Code.KIND_CHANGED: (".action", "it is another kind of job"),
}


def of_batch(result: Result, jobs: Sequence[job_pb2.Job]) -> errors.ApiError:
    """The error for a refused request with these `jobs`; its violations say where in them, as far as that is known."""
    error = errors.of_result(result)
    error.violations = tuple(_violations(result, jobs))
    return error


def _violations(result: Result, jobs: Sequence[job_pb2.Job]) -> Iterator[Violation]:
    code, text = result.code, result.text
    if code in _WHOLE:
        field, said = _WHOLE[code]
        for position, job in enumerate(jobs):
            if job.name == text:
                yield Violation(f"jobs[{position}]{field}", said)
    elif code in (Code.LIMIT_NOT_FOUND, Code.CALENDAR_NOT_FOUND):
        yield from _unknown(code, text, jobs)
    elif code is Code.SECRET_NOT_FOUND:
        for position, job in enumerate(jobs):
            if text in (secret_name(job.name, id_) for id_ in secret_names(job.action)):
                yield Violation(f"jobs[{position}].action", f"there is no secret {short_name(text)}")
    elif code in _RELATED:
        field, said = _RELATED[code]
        for position, _ in _jobs_called([text.partition(" ")[0]], jobs):
            yield Violation(f"jobs[{position}]{field}", said)
    elif code in (Code.UPSTREAM_NOT_FOUND, Code.CYCLE):
        yield from _upstream(code, text, jobs)


def _unknown(code: Code, name: str, jobs: Sequence[job_pb2.Job]) -> Iterator[Violation]:
    for position, job in enumerate(jobs):
        if code is Code.LIMIT_NOT_FOUND:
            field, kind, named = "limits", "limit", [limit_name(job, each) for each in job.limits]
        else:
            field, kind, named = "calendars", "calendar", list(calendar_names(job.name, job.calendars))
        if name in named:
            yield Violation(f"jobs[{position}].{field}[{named.index(name)}]", f"there is no {kind} {short_name(name)}")


def _upstream(code: Code, text: str, jobs: Sequence[job_pb2.Job]) -> Iterator[Violation]:
    """The entries of `after` that lead to nothing, or around."""
    if code is Code.CYCLE:
        downstream = text.split(" -> ")
        wrong, said = set(downstream), "they wait for each other"
    else:
        first, _, missing = text.partition(" is after ")
        downstream, wrong, said = [first], set(missing.split(", ")), "there is no such job"
    for position, job in _jobs_called(downstream, jobs):
        for number, schedule in enumerate(job.schedules):
            for place, other in enumerate(schedule.after.jobs):
                if other in wrong:
                    yield Violation(f"jobs[{position}].schedules[{number}].after.jobs[{place}]", f"{other}: {said}")


def _jobs_called(ids: Sequence[str], jobs: Sequence[job_pb2.Job]) -> list[tuple[int, job_pb2.Job]]:
    """The jobs with these ids; none if they are in several namespaces, of which the result does not say which."""
    found = [(position, job) for position, job in enumerate(jobs) if short_name(job.name) in ids]
    return found if len({namespace_of(job.name) for _, job in found}) == 1 else []
