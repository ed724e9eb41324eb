"""What a batch of jobs is refused for is said with the fields that it is about, and before it is tried as well."""

from __future__ import annotations

import pytest
from service_harness import interval_job, manual_job, refused

from horologe.v1 import definition_service_pb2, job_pb2, job_service_pb2

Api = job_service_pb2


def after(name: str, *others: str) -> job_pb2.Job:
    job = manual_job(name=name)
    job.schedules[0].after.jobs[:] = others
    return job


def with_limit() -> job_pb2.Job:
    job = manual_job(name="limited")
    job.limits.append("db")
    return job


def with_calendar() -> job_pb2.Job:
    job = interval_job(name="closed")
    job.calendars.append("holidays")
    return job


def member() -> job_pb2.Job:
    job = manual_job(name="member")
    job.workflow = "nowhere"
    return job


CASES = [
    ([with_limit()], "LIMIT_NOT_FOUND", ["jobs[1].limits[0]"]),
    ([with_calendar()], "CALENDAR_NOT_FOUND", ["jobs[1].calendars[0]"]),
    ([after("a", "good", "lost")], "UPSTREAM_NOT_FOUND", ["jobs[1].schedules[0].after.jobs[1]"]),
    ([member()], "WORKFLOW_NOT_FOUND", ["jobs[1].workflow"]),
    (
        [after("a", "b"), after("b", "a")],
        "CYCLE",
        ["jobs[1].schedules[0].after.jobs[0]", "jobs[2].schedules[0].after.jobs[0]"],
    ),
    (
        [manual_job(name="other"), after("a", "good", "other")],
        "ORIGINS_DIFFER",
        ["jobs[2].schedules"],
    ),
]


@pytest.mark.parametrize(("jobs", "reason", "fields"), CASES, ids=[case[1] for case in CASES])
async def test_a_refusal_names_its_fields_whoever_is_asked(node, jobs, reason, fields):
    jobs = [manual_job(name="good"), *jobs]
    plan = definition_service_pb2.PlanJobsRequest(jobs=jobs)
    calls = [
        node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=jobs, validate_only=True)),
        node.jobs.BatchCreateJobs(Api.BatchCreateJobsRequest(jobs=jobs, validate_only=True)),
        node.definitions.PlanJobs(plan),
    ]
    for call in calls:
        error = await refused(call)
        assert (error.reason, list(error.fields)) == (reason, fields)
    assert not node.commands, "nothing of that was proposed"
    for call in (
        node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=jobs)),
        node.jobs.BatchCreateJobs(Api.BatchCreateJobsRequest(jobs=jobs)),
    ):
        error = await refused(call)
        assert (error.reason, list(error.fields)) == (reason, fields)


async def test_taken_and_changed_jobs_are_named(node):
    await node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=[manual_job(name="taken")]))
    jobs = [manual_job(name="fresh"), manual_job(name="taken")]
    error = await refused(node.jobs.BatchCreateJobs(Api.BatchCreateJobsRequest(jobs=jobs)))
    assert (error.reason, list(error.fields)) == ("JOB_EXISTS", ["jobs[1].name"])
    jobs[1].etag = "99"
    error = await refused(node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=jobs, validate_only=True)))
    assert (error.reason, list(error.fields)) == ("ETAG_MISMATCH", ["jobs[1]"])


async def test_a_plan_that_leaves_jobs_without_those_before_them_is_refused(node):
    first, second = manual_job(name="first"), after("second", "first")
    first.apply_set = "shop"
    await node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=[first, second]))
    plan = definition_service_pb2.PlanJobsRequest(jobs=[manual_job(name="other")], prune_set="shop")
    error = await refused(node.definitions.PlanJobs(plan))
    assert error.reason == "HAS_DEPENDANTS"
