"""DefinitionService over gRPC: what a plan says, that exactly this is done, and what is remembered of each job."""

from __future__ import annotations

import grpc
import pytest
from service_harness import FakeNode, interval_job, refused

from horologe.v1 import definition_service_pb2, job_pb2, job_service_pb2

Api = definition_service_pb2
Change = Api.JobChange
NIGHTLY = "namespaces/default/jobs/nightly"


def described(name: str, description: str = "", apply_set: str = "") -> job_pb2.Job:
    job = interval_job(name=name)
    job.description, job.apply_set = description, apply_set
    return job


async def put(node: FakeNode, *jobs: job_pb2.Job, author: str = "") -> None:
    metadata = (("horologe-author", author),) if author else ()
    await node.jobs.ApplyJobs(job_service_pb2.ApplyJobsRequest(jobs=jobs), metadata=metadata)


async def plan(node: FakeNode, *jobs: job_pb2.Job, prune_set: str = "") -> list[Change]:
    answer = await node.definitions.PlanJobs(Api.PlanJobsRequest(jobs=jobs, prune_set=prune_set))
    return list(answer.changes)


def request_of(changes: list[Change], **fields: str) -> Api.ApplyPlanRequest:
    request = Api.ApplyPlanRequest(**fields)
    for change in changes:
        if change.kind == Change.KIND_DELETE:
            request.deletions.add(name=change.before.name, etag=change.before.etag)
        else:
            request.jobs.add().CopyFrom(change.after)
            request.jobs[-1].etag = change.before.etag
    return request


async def names(node: FakeNode) -> list[str]:
    return [job.name for job in (await node.jobs.ListJobs(job_service_pb2.ListJobsRequest(parent="namespaces/-"))).jobs]


async def test_a_plan_says_what_is_to_be_done_and_does_nothing(node):
    await put(node, described("nightly", "old"), described("same"), described("gone", apply_set="shop"))
    commands = len(node.commands)
    changes = await plan(node, described("nightly", "new"), described("same"), described("fresh"), prune_set="shop")
    assert [change.kind for change in changes] == [
        Change.KIND_UPDATE, Change.KIND_KEEP, Change.KIND_CREATE, Change.KIND_DELETE,
    ]  # fmt: skip
    update, keep, create, delete = changes
    assert (update.before.description, update.after.description) == ("old", "new")
    assert update.before.etag == "1"
    assert keep.after.retry.max_attempts == 3, "with all defaults"
    assert not create.HasField("before")
    assert delete.before.name == "namespaces/default/jobs/gone" and not delete.HasField("after")
    assert len(node.commands) == commands


async def test_a_plan_is_done_in_one_entry(node):
    await put(node, described("nightly", "old"), described("gone", apply_set="shop"))
    changes = await plan(
        node, described("nightly", "new", "shop"), described("fresh", apply_set="shop"), prune_set="shop"
    )
    commands = len(node.commands)
    answer = await node.definitions.ApplyPlan(request_of(changes), metadata=(("horologe-author", "ada@home"),))
    assert [job.description for job in answer.jobs] == ["new", ""]
    assert len(node.commands) == commands + 1
    assert await names(node) == ["namespaces/default/jobs/fresh", NIGHTLY]
    assert [change.kind for change in await plan(node, described("nightly", "new", "shop"), prune_set="shop")] == [
        Change.KIND_KEEP, Change.KIND_DELETE,
    ]  # fmt: skip


async def test_a_repeated_plan_gets_the_first_answer(node):
    request = request_of(await plan(node, described("nightly")), request_id="00000000-0000-4000-8000-000000000001")
    first = await node.definitions.ApplyPlan(request)
    assert (await node.definitions.ApplyPlan(request)).jobs == first.jobs


async def test_what_has_changed_since_the_plan_is_not_overwritten(node):
    await put(node, described("nightly", "old"), described("gone", apply_set="shop"))
    changes = await plan(node, described("nightly", "new"), described("fresh"), prune_set="shop")
    for other in (described("nightly", "theirs"), described("fresh"), described("gone", "theirs", "shop")):
        current = await plan(node, described("nightly", "new"), described("fresh"), prune_set="shop")
        await put(node, other)
        error = await refused(node.definitions.ApplyPlan(request_of(current)))
        assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
        assert error.metadata["name"] == other.name
    error = await refused(node.definitions.ApplyPlan(request_of(changes)))
    assert error.reason == "ETAG_MISMATCH"
    assert len(await names(node)) == 3


async def test_only_the_own_set_is_pruned_wherever_it_is(node):
    elsewhere = described("b", apply_set="shop")
    elsewhere.name = "namespaces/other/jobs/b"
    await put(node, described("a", apply_set="shop"), elsewhere, described("c", apply_set="shops"), described("d"))
    changes = await plan(node, described("x", apply_set="shop"), prune_set="shop")
    assert [change.before.name for change in changes[1:]] == ["namespaces/default/jobs/a", elsewhere.name]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (Api.PlanJobsRequest(), "jobs"),
        (Api.PlanJobsRequest(jobs=[described("a")], prune_set="no/name"), "prune_set"),
        (Api.PlanJobsRequest(jobs=[described("a"), described("b", apply_set="no name")]), "jobs[1].apply_set"),
        (Api.ApplyPlanRequest(jobs=[described("a")], deletions=[{"name": NIGHTLY}]), "deletions[0].etag"),
        (Api.ApplyPlanRequest(jobs=[described("a")], deletions=[{"name": "x", "etag": "1"}]), "deletions[0].name"),
        (Api.ApplyPlanRequest(jobs=[described("a")], deletions=[{"name": NIGHTLY, "etag": "1"}] * 1001), "deletions"),
    ],
)
async def test_bad_requests(node, request_, field):
    method = node.definitions.PlanJobs if isinstance(request_, Api.PlanJobsRequest) else node.definitions.ApplyPlan
    error = await refused(method(request_))
    assert error.reason == "INVALID_FIELD"
    assert field in error.fields


async def test_versions_newest_first_page_after_page(node):
    for number in range(5):
        await put(node, described("nightly", str(number)), author=f"user{number}")
    await put(node, described("other"))
    request = Api.ListJobVersionsRequest(parent=NIGHTLY, page_size=2)
    found = []
    while True:
        page = await node.definitions.ListJobVersions(request)
        found += page.versions
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert [(version.revision, version.job.description, version.author) for version in found] == [
        (number + 1, str(number), f"user{number}") for number in reversed(range(5))
    ]
    assert [version.job.etag for version in found] == ["5", "4", "3", "2", "1"]
    one = await node.definitions.GetJobVersion(Api.GetJobVersionRequest(name=NIGHTLY, job_revision=2))
    assert one.version == found[3]


async def test_versions_that_are_not_there(node):
    error = await refused(node.definitions.ListJobVersions(Api.ListJobVersionsRequest(parent=NIGHTLY)))
    assert error.reason == "JOB_NOT_FOUND"
    await put(node, described("nightly"))
    for revision in (7, 0, -1):
        wanted = Api.GetJobVersionRequest(name=NIGHTLY, job_revision=revision)
        error = await refused(node.definitions.GetJobVersion(wanted))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "VERSION_NOT_FOUND")
