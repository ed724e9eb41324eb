"""The methods of DefinitionService, as `calls.py` has those of the other services: plans, and the versions of a job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from horologe.client import names
from horologe.client.calls import PAGE_SIZE, Call, Method, Pages, named, request_id_or_new
from horologe.v1 import definition_service_pb2 as definitions
from horologe.v1.definition_service_pb2 import JobChange, JobVersion
from horologe.v1.job_pb2 import Job

__all__ = ["apply_plan", "get_job_version", "list_job_versions", "plan_jobs"]

_SERVICE = "DefinitionService"
PLAN_JOBS = Method(_SERVICE, "PlanJobs", definitions.PlanJobsRequest, definitions.PlanJobsResponse)
APPLY_PLAN = Method(_SERVICE, "ApplyPlan", definitions.ApplyPlanRequest, definitions.ApplyPlanResponse, is_write=True)
LIST_JOB_VERSIONS = Method(
    _SERVICE, "ListJobVersions", definitions.ListJobVersionsRequest, definitions.ListJobVersionsResponse
)
GET_JOB_VERSION = Method(_SERVICE, "GetJobVersion", definitions.GetJobVersionRequest, definitions.GetJobVersionResponse)


def plan_jobs(namespace: str, jobs: Iterable[Job], *, prune_set: str = "") -> Call[list[JobChange]]:
    """What it would take to make the cluster hold these definitions: one change for each, in their order, then deletions.

    With `prune_set`, jobs of that apply set that are not among them are to be deleted. Changes nothing.
    """
    request = definitions.PlanJobsRequest(jobs=named(namespace, jobs), prune_set=prune_set)

    def pick(answer: definitions.PlanJobsResponse) -> list[JobChange]:
        return list(answer.changes)

    return Call(PLAN_JOBS, request, pick)


def apply_plan(namespace: str, changes: Sequence[JobChange], *, request_id: str = "") -> Call[list[Job]]:
    """Does what `plan_jobs` answered, all or none, and returns the jobs as stored. Conflict if one of them has changed since."""
    del namespace  # A plan has full names.
    request = definitions.ApplyPlanRequest(request_id=request_id_or_new(request_id))
    for change in changes:
        if change.kind == JobChange.KIND_DELETE:
            request.deletions.add(name=change.before.name, etag=change.before.etag)
        else:
            request.jobs.add().CopyFrom(change.after)
            request.jobs[-1].etag = change.before.etag

    def pick(answer: definitions.ApplyPlanResponse) -> list[Job]:
        return list(answer.jobs)

    return Call(APPLY_PLAN, request, pick)


def list_job_versions(namespace: str, job: str, *, page_size: int = PAGE_SIZE) -> Pages[JobVersion]:
    """The definitions that a job has had, newest first; the first one is what it has now."""
    request = definitions.ListJobVersionsRequest(parent=names.job_name(job, namespace), page_size=page_size)

    def pick(answer: definitions.ListJobVersionsResponse) -> Iterable[JobVersion]:
        return answer.versions

    return Pages(LIST_JOB_VERSIONS, request, pick)


def get_job_version(namespace: str, job: str, revision: int) -> Call[JobVersion]:
    """One definition that a job has had. NotFound if that version is not kept."""
    request = definitions.GetJobVersionRequest(name=names.job_name(job, namespace), job_revision=revision)

    def pick(answer: definitions.GetJobVersionResponse) -> JobVersion:
        return answer.version

    return Call(GET_JOB_VERSION, request, pick)
