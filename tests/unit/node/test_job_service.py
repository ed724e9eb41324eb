"""JobService over gRPC: what is stored, what is answered, what is refused."""

from __future__ import annotations

import uuid

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Value
from service_harness import START_MS, FakeNode, interval_job, manual_job, once_job, refused

from horologe.log.v1 import log_pb2
from horologe.node.proposals import NoLeaderError, OutcomeUnknownError, OverloadedError
from horologe.raft.model import LedgerOutcome, Reason
from horologe.raft.records import LEDGER_KEY, U64, JobState, LedgerEntry
from horologe.v1 import execution_pb2, job_pb2, job_service_pb2

Api = job_service_pb2
NIGHTLY = "namespaces/default/jobs/nightly"


async def create(
    node: FakeNode, job: job_pb2.Job | None = None, job_id: str = "nightly", **fields
) -> Api.CreateJobResponse:
    return await node.jobs.CreateJob(Api.CreateJobRequest(job_id=job_id, job=job or interval_job(), **fields))


def state_of(node: FakeNode, number: int) -> JobState:
    with node.store.read() as tables:
        return JobState.unpack(tables.job_state.get(U64.pack(number)))


def ledger_of(node: FakeNode, job: int) -> list[tuple[int, LedgerEntry]]:
    with node.store.read() as tables:
        rows = list(tables.ledger.scan(LEDGER_KEY.pack(job, 0, 0)))
    return [(LEDGER_KEY.unpack(key)[1], LedgerEntry.unpack(value)) for key, value in rows]


async def test_create_answers_the_stored_job_with_all_defaults(node):
    answer = await create(node)
    job = answer.job
    assert job.name == NIGHTLY
    assert answer.revision == 1
    assert job.etag == "1"
    assert uuid.UUID(job.uid)
    assert job.state == job_pb2.Job.STATE_ACTIVE
    assert job.retry.max_attempts == 3
    assert (job.queue, job.priority, job.timeout.seconds, job.grace.seconds) == ("default", 5, 3600, 10)
    assert job.catchup_window.seconds == 60
    assert job.schedules[0].interval.HasField("phase")
    assert START_MS < job.next_due_time.ToMilliseconds() <= START_MS + 60_000
    assert job.create_time.ToMilliseconds() == START_MS
    got = await node.jobs.GetJob(Api.GetJobRequest(name=NIGHTLY))
    assert got.job == job
    assert got.revision == 1


async def test_a_job_may_begin_paused(node):
    job = interval_job()
    job.state, job.pause_reason = job_pb2.Job.STATE_PAUSED, "suspended there"
    answer = await create(node, job)
    assert (answer.job.state, answer.job.pause_reason) == (job_pb2.Job.STATE_PAUSED, "suspended there")
    assert not answer.job.HasField("next_due_time")
    assert (await node.jobs.ResumeJob(Api.ResumeJobRequest(name=NIGHTLY))).job.HasField("next_due_time")
    job.name, job.description = NIGHTLY, "a paused definition does not pause a job that is there"
    applied = await node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=[job]))
    assert applied.jobs[0].state == job_pb2.Job.STATE_ACTIVE


async def test_the_due_time_in_the_state_is_the_one_that_was_answered(node):
    job = (await create(node)).job
    assert state_of(node, 1).next_due_ms == job.next_due_time.ToMilliseconds()


async def test_a_taken_name_is_refused(node):
    await create(node)
    error = await refused(create(node))
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "JOB_EXISTS")
    assert error.metadata == {"name": NIGHTLY}
    error = await refused(create(node, validate_only=True))
    assert error.reason == "JOB_EXISTS"


async def test_validate_only_stores_nothing(node):
    answer = await create(node, validate_only=True)
    assert answer.job.retry.max_attempts == 3
    assert not answer.job.uid
    assert not node.commands


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (Api.CreateJobRequest(job_id="Nightly", job=interval_job()), "job_id"),
        (Api.CreateJobRequest(job=interval_job()), "job_id"),
        (Api.CreateJobRequest(job_id="x" * 64, job=interval_job()), "job_id"),
        (Api.CreateJobRequest(job_id="a", parent="default", job=interval_job()), "parent"),
        (Api.CreateJobRequest(job_id="a", parent="namespaces/-", job=interval_job()), "parent"),
        (Api.CreateJobRequest(job_id="a", job=interval_job(name="b")), "job.name"),
        (Api.CreateJobRequest(job_id="a", job=interval_job(), request_id="7"), "request_id"),
        (Api.CreateJobRequest(job_id="a", job=interval_job(seconds=0)), "job.schedules[0].interval.every"),
        (Api.CreateJobRequest(job_id="a"), "job.schedules"),
    ],
)
async def test_wrong_fields_are_named(node, request_, field):
    error = await refused(node.jobs.CreateJob(request_))
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "INVALID_FIELD"
    assert field in error.fields
    assert not node.commands


async def test_a_name_alone_is_enough(node):
    answer = await node.jobs.CreateJob(Api.CreateJobRequest(job=interval_job(name="nightly")))
    assert answer.job.name == NIGHTLY


async def test_a_repeated_request_gets_the_first_answer(node):
    request_id = str(uuid.uuid4())
    first = await create(node, request_id=request_id)
    again = await create(node, request_id=request_id)
    assert again.job == first.job
    assert node.counters().jobs == 1
    error = await refused(create(node, interval_job(61), request_id=request_id))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


async def test_a_repetition_is_not_judged_by_todays_clock(node):
    request_id = str(uuid.uuid4())
    job = once_job(START_MS + 1000)
    await create(node, job, request_id=request_id)
    node.clock.now_ms += 5000
    assert (await create(node, job, request_id=request_id)).job.name == NIGHTLY
    error = await refused(create(node, job, job_id="other"))
    assert "job.schedules[0].once.time" in error.fields


async def test_a_refusal_is_repeated_too(node):
    request_id = str(uuid.uuid4())
    await create(node)
    assert (await refused(create(node, request_id=request_id))).reason == "JOB_EXISTS"
    await node.jobs.DeleteJob(Api.DeleteJobRequest(name=NIGHTLY))
    assert (await refused(create(node, request_id=request_id))).reason == "JOB_EXISTS"


@pytest.mark.parametrize(
    ("failure", "code", "reason"),
    [
        (NoLeaderError("x"), grpc.StatusCode.UNAVAILABLE, "NO_LEADER"),
        (OverloadedError("x"), grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL"),
        (OutcomeUnknownError("x"), grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN"),
    ],
)
async def test_commands_without_a_result(node, failure, code, reason):
    node.failures.append(failure)
    error = await refused(create(node))
    assert (error.code, error.reason) == (code, reason)
    assert error.retry_ms


async def test_a_defect_is_logged_and_tells_nothing(node, caplog):
    node.failures.append(RuntimeError("secret of the inside"))
    error = await refused(create(node))
    assert (error.code, error.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "secret" not in error.text


# Batches


async def test_batch_creates_all_or_none(node):
    jobs = [interval_job(name="one"), manual_job(name="two")]
    answer = await node.jobs.BatchCreateJobs(Api.BatchCreateJobsRequest(jobs=jobs))
    assert [job.name.rpartition("/")[2] for job in answer.jobs] == ["one", "two"]
    assert len(node.commands) == 1
    error = await refused(
        node.jobs.BatchCreateJobs(Api.BatchCreateJobsRequest(jobs=[interval_job(name="three"), jobs[0]]))
    )
    assert error.reason == "JOB_EXISTS"
    assert node.counters().jobs == 2


async def test_a_batch_names_every_wrong_field_of_every_job(node):
    jobs = [interval_job(name="one"), interval_job(0, name="two"), interval_job(name="three")]
    jobs[2].priority = 10
    error = await refused(node.jobs.BatchCreateJobs(Api.BatchCreateJobsRequest(jobs=jobs)))
    assert set(error.fields) == {"jobs[1].schedules[0].interval.every", "jobs[2].priority"}


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_has_a_size(node, count):
    jobs = [interval_job(name=f"j{i}") for i in range(count)]
    error = await refused(node.jobs.BatchCreateJobs(Api.BatchCreateJobsRequest(jobs=jobs)))
    assert "jobs" in error.fields


async def test_a_batch_has_a_job_once(node):
    jobs = [interval_job(name="one"), interval_job(name="one")]
    error = await refused(node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=jobs)))
    assert "jobs[1].name" in error.fields


async def test_a_batch_that_does_not_fit_one_command_is_refused(node):
    jobs = [interval_job(name=f"j{i}") for i in range(300)]
    for job in jobs:
        job.description = "x" * 4000
    error = await refused(node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=jobs)))
    assert "split it" in error.fields["jobs"]
    assert not node.commands


async def test_many_violations_still_reach_the_caller(node):
    jobs = [interval_job(0, name=f"j{i}") for i in range(1000)]
    error = await refused(node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=jobs)))
    assert error.reason == "INVALID_FIELD"
    assert "and 999 more" in error.text
    assert len(error.fields) + int(error.metadata["more_violations"]) == 1000


async def test_apply_creates_updates_and_leaves_alone(node):
    jobs = [interval_job(name="one"), manual_job(name="two")]
    outcomes = Api.ApplyJobsResponse
    answer = await node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=jobs))
    assert list(answer.outcomes) == [outcomes.OUTCOME_CREATED, outcomes.OUTCOME_CREATED]
    node.clock.now_ms += 10_000
    jobs[1].labels["team"] = "data"
    dry = await node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=jobs, validate_only=True))
    answer = await node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=jobs))
    assert list(answer.outcomes) == [outcomes.OUTCOME_UNCHANGED, outcomes.OUTCOME_UPDATED]
    assert list(dry.outcomes) == list(answer.outcomes)
    assert [job.etag for job in answer.jobs] == ["1", "2"]


async def test_applying_what_was_read_changes_nothing_and_minds_its_etag(node):
    await create(node)
    job = (await node.jobs.GetJob(Api.GetJobRequest(name=NIGHTLY))).job
    answer = await node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=[job]))
    assert list(answer.outcomes) == [Api.ApplyJobsResponse.OUTCOME_UNCHANGED]
    job.etag = "99"
    error = await refused(node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=[job])))
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")


async def test_applying_a_one_time_job_again_after_it_ran_does_not_fire_it_again(node):
    job = once_job(START_MS + 1000)
    job.name = NIGHTLY
    await node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=[job]))
    node.fire(1)
    node.clock.now_ms += 60_000
    answer = await node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=[job]))
    assert list(answer.outcomes) == [Api.ApplyJobsResponse.OUTCOME_UNCHANGED]
    job.schedules.add().interval.every.FromSeconds(3600)
    answer = await node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=[job]))
    assert list(answer.outcomes) == [Api.ApplyJobsResponse.OUTCOME_UPDATED]
    assert answer.jobs[0].next_due_time.ToMilliseconds() > node.clock.now_ms


async def test_a_past_instant_that_the_ledger_has_is_not_due_again(node):
    await create(node)
    due_ms = state_of(node, 1).next_due_ms
    node.fire(1)
    node.clock.now_ms += 1000
    job = once_job(due_ms, allow_past=True)
    job.name = NIGHTLY
    answer = await node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=[job]))
    assert not answer.jobs[0].HasField("next_due_time")
    job.schedules[0].once.time.FromMilliseconds(due_ms + 1)
    answer = await node.jobs.ApplyJobs(Api.ApplyJobsRequest(jobs=[job]))
    assert answer.jobs[0].next_due_time.ToMilliseconds() == due_ms + 1


# Updates


async def update(node: FakeNode, job: job_pb2.Job, *paths: str, **fields) -> job_pb2.Job:
    request = Api.UpdateJobRequest(job=job, **fields)
    if paths:
        request.update_mask.CopyFrom(FieldMask(paths=paths))
    return (await node.jobs.UpdateJob(request)).job


async def test_update_without_a_mask_takes_the_fields_that_are_set(node):
    created = (await create(node)).job
    job = await update(node, job_pb2.Job(name=NIGHTLY, priority=0, labels={"a": "b"}))
    assert (job.priority, dict(job.labels)) == (0, {"a": "b"})
    assert job.uid == created.uid
    assert job.etag == "2"
    assert job.next_due_time == created.next_due_time
    assert list(job.schedules) == list(created.schedules)


async def test_update_with_a_mask_takes_its_fields_and_absent_ones_become_defaults(node):
    await create(node)
    await update(node, job_pb2.Job(name=NIGHTLY, priority=7, labels={"a": "b"}, description="x"))
    wanted = job_pb2.Job(name=NIGHTLY, queue="other")
    wanted.retry.max_attempts = 9
    job = await update(node, wanted, "priority", "labels", "retry.max_attempts")
    assert (job.priority, dict(job.labels), job.description, job.queue) == (5, {}, "x", "default")
    assert (job.retry.max_attempts, job.retry.base.seconds) == (9, 5)


async def test_update_of_everything(node):
    await create(node)
    await update(node, job_pb2.Job(name=NIGHTLY, description="x"))
    job = await update(node, interval_job(120, name="nightly"), "*")
    assert job.description == ""
    assert job.schedules[0].interval.every.seconds == 120
    assert job.catchup_window.seconds == 120


async def test_the_window_that_nobody_chose_follows_the_schedule(node):
    await create(node)
    job = await update(node, interval_job(7200, name="nightly"), "schedules")
    assert job.catchup_window.seconds == 7200
    wanted = job_pb2.Job(name=NIGHTLY)
    wanted.catchup_window.seconds = 99
    await update(node, wanted)
    job = await update(node, interval_job(60, name="nightly"), "schedules")
    assert job.catchup_window.seconds == 99


@pytest.mark.parametrize(
    "path", ["name", "uid", "nonsense", "retry.nonsense", "labels.team", "schedules.cron", "", "*.x"]
)
async def test_a_wrong_mask_is_refused(node, path):
    await create(node)
    error = await refused(update(node, job_pb2.Job(name=NIGHTLY), "queue", path))
    assert "update_mask.paths[1]" in error.fields


async def test_update_minds_the_etag(node):
    await create(node)
    await update(node, job_pb2.Job(name=NIGHTLY, priority=1))
    error = await refused(update(node, job_pb2.Job(name=NIGHTLY, priority=2, etag="1")))
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    error = await refused(update(node, job_pb2.Job(name=NIGHTLY, etag="soon")))
    assert "job.etag" in error.fields
    assert (await update(node, job_pb2.Job(name=NIGHTLY, priority=2, etag="2"))).priority == 2


async def test_update_tries_again_when_somebody_comes_in_between(node):
    await create(node)
    request_id = str(uuid.uuid4())
    node.before_apply.append(lambda: touch(node))
    job = await update(node, job_pb2.Job(name=NIGHTLY, priority=2), request_id=request_id)
    assert (job.priority, job.description) == (2, "touched")
    count = len(node.commands)
    again = await update(node, job_pb2.Job(name=NIGHTLY, priority=2), request_id=request_id)
    assert again == job
    assert len(node.commands) == count


def touch(node: FakeNode) -> None:
    with node.store.read() as tables:
        record = log_pb2.JobRecord.FromString(tables.job.get(U64.pack(1)))
    record.job.ClearField("uid")
    record.job.description = "touched"
    put = log_pb2.PutJobs(mode=log_pb2.PutJobs.MODE_UPDATE, jobs=[log_pb2.JobDraft(job=record.job)])
    node.apply(log_pb2.Command(put_jobs=put))


async def test_what_is_not_there_cannot_be_touched(node):
    for call in (
        update(node, job_pb2.Job(name=NIGHTLY, priority=1)),
        node.jobs.GetJob(Api.GetJobRequest(name=NIGHTLY)),
        node.jobs.DeleteJob(Api.DeleteJobRequest(name=NIGHTLY)),
        node.jobs.PauseJob(Api.PauseJobRequest(name=NIGHTLY)),
        node.jobs.ResumeJob(Api.ResumeJobRequest(name=NIGHTLY)),
        node.jobs.RunJob(Api.RunJobRequest(name=NIGHTLY)),
    ):
        error = await refused(call)
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")
        assert NIGHTLY in error.text


async def test_a_job_that_is_over_can_still_be_described_otherwise(node):
    await create(node, once_job(START_MS + 1000))
    node.fire(1)
    node.clock.now_ms += 1000
    job = await update(node, job_pb2.Job(name=NIGHTLY, description="done"))
    assert (job.description, job.state) == ("done", job_pb2.Job.STATE_FINISHED)
    assert not job.HasField("next_due_time")


# Delete, pause, resume, run


async def test_delete_frees_the_name(node):
    first = (await create(node)).job
    error = await refused(node.jobs.DeleteJob(Api.DeleteJobRequest(name=NIGHTLY, etag="7")))
    assert error.reason == "ETAG_MISMATCH"
    request_id = str(uuid.uuid4())
    answer = await node.jobs.DeleteJob(Api.DeleteJobRequest(name=NIGHTLY, request_id=request_id))
    assert answer.revision == 3
    await node.jobs.DeleteJob(Api.DeleteJobRequest(name=NIGHTLY, request_id=request_id))
    assert (await create(node)).job.uid != first.uid


async def test_pause_and_resume_account_for_what_was_swallowed(node):
    await create(node, interval_job(60))
    first_ms = state_of(node, 1).next_due_ms
    request = Api.PauseJobRequest(name=NIGHTLY, reason="audit")
    job = (await node.jobs.PauseJob(request, metadata=(("horologe-author", "ann"),))).job
    assert (job.state, job.pause_reason, job.paused_by) == (job_pb2.Job.STATE_PAUSED, "audit", "ann")
    assert not job.HasField("next_due_time")
    assert (await refused(node.jobs.PauseJob(Api.PauseJobRequest(name=NIGHTLY)))).reason == "JOB_PAUSED"
    node.clock.now_ms = first_ms + 3 * 60_000 + 1
    job = (await node.jobs.ResumeJob(Api.ResumeJobRequest(name=NIGHTLY))).job
    assert (job.state, job.pause_reason, job.paused_by) == (job_pb2.Job.STATE_ACTIVE, "", "")
    assert job.next_due_time.ToMilliseconds() == first_ms + 4 * 60_000
    rows = ledger_of(node, 1)
    assert [(due, row.first_due_ms, row.count) for due, row in rows] == [(first_ms + 180_000, first_ms, 4)]
    assert (rows[0][1].outcome, rows[0][1].reason) == (LedgerOutcome.SKIPPED, Reason.PAUSED)
    assert (await refused(node.jobs.ResumeJob(Api.ResumeJobRequest(name=NIGHTLY)))).reason == "JOB_NOT_PAUSED"


async def test_resume_is_repeatable_and_wins_races(node):
    await create(node)
    await node.jobs.PauseJob(Api.PauseJobRequest(name=NIGHTLY))
    request = Api.ResumeJobRequest(name=NIGHTLY, request_id=str(uuid.uuid4()))
    node.before_apply.append(lambda: touch(node))
    first = await node.jobs.ResumeJob(request)
    assert first.job.state == job_pb2.Job.STATE_ACTIVE
    assert (await node.jobs.ResumeJob(request)).job == first.job


async def test_a_pause_of_a_job_without_due_times_swallows_none(node):
    await create(node, manual_job())
    await node.jobs.PauseJob(Api.PauseJobRequest(name=NIGHTLY))
    await update(node, interval_job(60, name="nightly"), "schedules")
    changed_ms = node.clock.now_ms
    node.clock.now_ms += 90_000
    await node.jobs.ResumeJob(Api.ResumeJobRequest(name=NIGHTLY))
    assert all(due > changed_ms and row.count <= 2 for due, row in ledger_of(node, 1))


async def test_run_answers_the_execution(node):
    job = manual_job()
    job.action.python.handler = "report"
    await create(node, job)
    payload = Value(string_value="hello")
    answer = await node.jobs.RunJob(Api.RunJobRequest(name=NIGHTLY, payload=payload))
    execution = answer.execution
    assert execution.name == f"{NIGHTLY}/executions/1"
    assert execution.state == execution_pb2.Execution.STATE_QUEUED
    assert execution.trigger == execution_pb2.Execution.TRIGGER_MANUAL
    assert execution.idempotency_key.endswith("-1")
    assert answer.revision == 2
    error = await refused(node.jobs.RunJob(Api.RunJobRequest(name=NIGHTLY)))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "OVERLAP")
    assert (await node.jobs.RunJob(Api.RunJobRequest(name=NIGHTLY, force=True))).execution.name.endswith("/2")
    huge = Value(string_value="x" * (256 << 10))
    assert "payload" in (await refused(node.jobs.RunJob(Api.RunJobRequest(name=NIGHTLY, payload=huge)))).fields


async def test_a_full_disk_refuses_what_needs_space_and_nothing_else(tmp_path, monkeypatch):
    fake = FakeNode(tmp_path)
    object.__setattr__(fake.config, "disk_free_bytes_min", 1000)
    free = [999]
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free[0]}))
    async with fake.serve() as node:
        error = await refused(create(node))
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
        assert error.retry_ms
        free[0] = 1000
        assert (await refused(create(node))).reason == "DISK_FULL", "looked at once per second at most"
        node.clock.now_ms += 1000
        await create(node)
        free[0] = 0
        node.clock.now_ms += 1000
        await node.jobs.DeleteJob(Api.DeleteJobRequest(name=NIGHTLY))


# Lists and previews


async def list_all(node: FakeNode, **fields) -> list[str]:
    names: list[str] = []
    token = ""
    while True:
        answer = await node.jobs.ListJobs(Api.ListJobsRequest(page_token=token, **fields))
        names += [job.name.removeprefix("namespaces/") for job in answer.jobs]
        token = answer.next_page_token
        if not token:
            return names


async def test_list_by_namespace_prefix_label_and_state(node):
    for parent, job_id in (("a", "x1"), ("a", "x2"), ("a", "y"), ("a-b", "x1"), ("b", "z")):
        job = interval_job()
        job.labels["team"] = job_id[0]
        await create(node, job, job_id, parent=f"namespaces/{parent}")
    await node.jobs.PauseJob(Api.PauseJobRequest(name="namespaces/a/jobs/x2"))
    assert await list_all(node, parent="namespaces/a") == ["a/jobs/x1", "a/jobs/x2", "a/jobs/y"]
    assert len(await list_all(node, parent="namespaces/-")) == 5
    assert await list_all(node, parent="namespaces/a", name_prefix="x", page_size=1) == ["a/jobs/x1", "a/jobs/x2"]
    assert await list_all(node, parent="namespaces/-", name_prefix="x1", page_size=1) == ["a-b/jobs/x1", "a/jobs/x1"]
    assert await list_all(node, parent="namespaces/-", labels={"team": "z"}) == ["b/jobs/z"]
    assert await list_all(node, parent="namespaces/-", state=job_pb2.Job.STATE_PAUSED) == ["a/jobs/x2"]
    assert await list_all(node) == []


async def test_list_refuses_wrong_pages(node):
    for job_id in ("a", "b"):
        await create(node, job_id=job_id)
    page = await node.jobs.ListJobs(Api.ListJobsRequest(page_size=1))
    assert page.next_page_token
    for fields, field in (
        ({"page_size": -1}, "page_size"),
        ({"page_token": "nonsense!"}, "page_token"),
        ({"page_token": "W10"}, "page_token"),
        ({"page_token": page.next_page_token, "name_prefix": "b"}, "page_token"),
        ({"parent": "jobs"}, "parent"),
        ({"state": 77}, "state"),
    ):
        error = await refused(node.jobs.ListJobs(Api.ListJobsRequest(**fields)))
        assert field in error.fields
    rest = await node.jobs.ListJobs(Api.ListJobsRequest(page_size=5000, page_token=page.next_page_token))
    assert [job.name[-1] for job in rest.jobs] == ["b"]


async def test_a_list_looks_at_so_many_rows_at_a_time(node, monkeypatch):
    monkeypatch.setattr("horologe.node.job_search.WORK_PER_PAGE", 3)
    for position in range(8):
        await create(node, interval_job(50 + position), f"j{position}")
    first = await node.jobs.ListJobs(Api.ListJobsRequest(schedule="every 57 seconds"))
    assert (list(first.jobs), bool(first.next_page_token)) == ([], True)
    assert await list_all(node, schedule="every 57 seconds") == ["default/jobs/j7"]


async def test_preview(node):
    request = Api.PreviewScheduleRequest(count=3)
    request.schedule.cron.expression = "0 2 * * *"
    request.schedule.cron.time_zone = "Europe/Berlin"
    answer = await node.jobs.PreviewSchedule(request)
    assert [due.ToJsonString() for due in answer.due_times] == [
        "2027-01-16T01:00:00Z",
        "2027-01-17T01:00:00Z",
        "2027-01-18T01:00:00Z",
    ]
    assert "02:00" in answer.description
    getattr(request, "from").FromJsonString("2027-07-01T00:00:00Z")
    answer = await node.jobs.PreviewSchedule(request)
    assert answer.due_times[0].ToJsonString() == "2027-07-02T00:00:00Z"
    request.schedule.cron.expression = "H H * * *"
    of_nobody = await node.jobs.PreviewSchedule(request)
    request.job = "namespaces/default/jobs/nightly"
    of_a_job = await node.jobs.PreviewSchedule(request)
    assert of_a_job.due_times[0].ToJsonString() == "2027-07-01T12:57:00Z"
    assert of_nobody.due_times[0] != of_a_job.due_times[0]
    assert "without a name" in of_nobody.description
    assert of_a_job.description == "At 14:57 (Europe/Berlin)"
    assert "job" in (await refused(node.jobs.PreviewSchedule(Api.PreviewScheduleRequest(job="jobs/x")))).fields
    request.schedule.cron.expression = "0 0 31 2 *"
    assert "schedule.cron.expression" in (await refused(node.jobs.PreviewSchedule(request))).fields
    assert "count" in (await refused(node.jobs.PreviewSchedule(Api.PreviewScheduleRequest(count=-1)))).fields


async def test_a_preview_of_what_has_passed_shows_that_nothing_comes(node):
    request = Api.PreviewScheduleRequest()
    request.definition.name = "namespaces/default/jobs/late"
    request.definition.schedules.add().once.time.FromSeconds(1)
    answer = await node.jobs.PreviewSchedule(request)
    assert list(answer.due_times) == []
    assert answer.description == "once at 1970-01-01T00:00:01Z"
    getattr(request, "from").FromSeconds(0)
    assert [due.seconds for due in (await node.jobs.PreviewSchedule(request)).due_times] == [1]


# The way in


async def test_a_caller_can_wait_for_a_revision(node):
    await create(node)
    request = Api.GetJobRequest(name=NIGHTLY)
    await node.jobs.GetJob(request, metadata=(("horologe-min-revision", "1"),))
    error = await refused(node.jobs.GetJob(request, metadata=(("horologe-min-revision", "x"),)))
    assert "horologe-min-revision" in error.fields
    call = node.jobs.GetJob(request, metadata=(("horologe-min-revision", "2"),))
    await update(node, job_pb2.Job(name=NIGHTLY, priority=1))
    assert (await call).revision == 2


async def test_a_node_that_is_behind_says_so(node, monkeypatch):
    monkeypatch.setattr("horologe.node.interceptors.BEHIND_WAIT_SECONDS_MAX", 0.01)
    request = Api.ListJobsRequest()
    error = await refused(node.jobs.ListJobs(request, metadata=(("horologe-min-revision", "9"),)))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "BEHIND")
    assert error.metadata == {"revision": "0", "min_revision": "9"}
