"""Pauses of namespaces and of the cluster over the API, and what jobs show of them; catching up what a pause swallowed."""

from __future__ import annotations

from service_harness import START_MS, FakeNode, refused

from horologe.v1 import job_service_pb2 as jobs
from horologe.v1 import pause_service_pb2 as api
from horologe.v1.job_pb2 import Job

NAME = "namespaces/default/jobs/tick"
MINUTE_MS = 60_000


async def create(node: FakeNode) -> Job:
    job = Job(name=NAME)
    job.schedules.add().cron.expression = "* * * * *"
    job.action.shell.argv.append("true")
    return (await node.jobs.CreateJob(jobs.CreateJobRequest(job=job))).job


async def read(node: FakeNode) -> Job:
    return (await node.jobs.GetJob(jobs.GetJobRequest(name=NAME))).job


async def test_who_paused_what_and_why(node: FakeNode) -> None:
    await create(node)
    request = api.PauseRequest(scope="namespaces/default", reason="migration")
    await node.pauses.Pause(request, metadata=[("horologe-author", "ann")])
    await node.pauses.Pause(api.PauseRequest(reason="upgrade"))
    listed = (await node.pauses.ListPauses(api.ListPausesRequest())).pauses
    assert [(pause.scope, pause.reason, pause.author) for pause in listed] == [
        ("", "upgrade", ""),
        ("namespaces/default", "migration", "ann"),
    ]
    assert listed[0].time.ToMilliseconds() == START_MS
    job = await read(node)
    assert (job.state, job.pause_reason) == (Job.STATE_PAUSED, "the cluster is paused: upgrade")
    await node.pauses.Resume(api.ResumeRequest())
    assert (await read(node)).pause_reason == "the namespace is paused by ann: migration"
    paused = await node.jobs.ListJobs(jobs.ListJobsRequest(state=Job.STATE_PAUSED))
    assert [each.name for each in paused.jobs] == [NAME]
    await node.pauses.Resume(api.ResumeRequest(scope="namespaces/default"))
    assert (await read(node)).state == Job.STATE_ACTIVE
    assert not (await node.pauses.ListPauses(api.ListPausesRequest())).pauses


async def test_refusals(node: FakeNode) -> None:
    assert (await refused(node.pauses.Resume(api.ResumeRequest()))).reason == "SCOPE_NOT_PAUSED"
    await node.pauses.Pause(api.PauseRequest())
    assert (await refused(node.pauses.Pause(api.PauseRequest()))).reason == "SCOPE_PAUSED"
    assert (await refused(node.pauses.Pause(api.PauseRequest(scope="default")))).reason == "INVALID_FIELD"
    assert (await refused(node.pauses.Pause(api.PauseRequest(reason="x" * 1_001)))).reason == "INVALID_FIELD"


async def test_a_job_resumes_where_it_was_paused(node: FakeNode) -> None:
    await create(node)
    await node.jobs.PauseJob(jobs.PauseJobRequest(name=NAME))
    node.clock.now_ms += 10 * MINUTE_MS
    job = (await node.jobs.ResumeJob(jobs.ResumeJobRequest(name=NAME, catchup=True))).job
    assert job.next_due_time.ToMilliseconds() == START_MS + MINUTE_MS


async def test_what_a_deleted_job_owed_is_counted(node: FakeNode) -> None:
    await create(node)
    node.clock.now_ms += 10 * MINUTE_MS + 1
    await node.jobs.DeleteJob(jobs.DeleteJobRequest(name=NAME))
    pending = node.commands[-1].delete_job.pending
    assert (pending.first_ms, pending.last_ms, pending.count) == (
        START_MS + MINUTE_MS,
        START_MS + 10 * MINUTE_MS,
        10,
    )


async def test_who_counted_too_early_counts_again(node: FakeNode) -> None:
    """A due time is fired between the count and the entry."""
    job = Job(name=NAME)
    job.schedules.add().interval.every.FromSeconds(60)
    job.schedules[0].interval.phase.FromSeconds(0)
    job.action.shell.argv.append("true")
    await node.jobs.CreateJob(jobs.CreateJobRequest(job=job))
    node.clock.now_ms += 10 * MINUTE_MS + 1
    node.before_apply = [lambda: node.fire(1)]
    await node.jobs.DeleteJob(jobs.DeleteJobRequest(name=NAME))
    pending = node.commands[-1].delete_job.pending
    assert (pending.first_ms, pending.count) == (START_MS + 2 * MINUTE_MS, 9)
