"""StoryService over gRPC: why due times did or did not run, and what happened to executions."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from service_harness import START_MS, FakeNode, interval_job, manual_job, refused
from test_backfill_service import backfill
from test_dead_letter_service import work

from horologe.log.v1 import log_pb2
from horologe.raft.commands import FIRE, MissedFate, Outcome
from horologe.raft.records import U64, JobState
from horologe.v1 import execution_pb2, job_pb2, job_service_pb2, queue_service_pb2, story_service_pb2

Answer = story_service_pb2.ExplainDueTimeResponse
NAME = "namespaces/default/jobs/tick"
MINUTE = 60_000
NOBODY = "a worker: no worker that is connected takes from queue default"


async def create(node: FakeNode, job: job_pb2.Job | None = None) -> job_pb2.Job:
    job = job or interval_job()
    if job.schedules[0].HasField("interval"):
        job.schedules[0].interval.phase.FromMilliseconds(0)
    return (await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="tick", job=job))).job


async def explain(node: FakeNode, at_ms: int | None = None) -> Answer:
    request = story_service_pb2.ExplainDueTimeRequest(name=NAME)
    if at_ms is not None:
        request.time.FromMilliseconds(at_ms)
    return await node.stories.ExplainDueTime(request)


async def story(node: FakeNode, number: int) -> list[tuple[str, str]]:
    name = f"{NAME}/executions/{number}"
    answer = await node.stories.GetExecutionStory(story_service_pb2.GetExecutionStoryRequest(name=name))
    times = [entry.time.ToMilliseconds() for entry in answer.entries]
    assert times == sorted(times)
    return [(entry.kind, entry.text) for entry in answer.entries]


def fire_missed(node: FakeNode, count: int, fate: MissedFate, *, run: bool) -> None:
    """As the planner does after some minutes without one."""
    with node.store.read() as tables:
        state = JobState.unpack(tables.job_state.get(U64.pack(1)))
    first = state.next_due_ms
    last = first + (count - 1) * MINUTE
    due = last + MINUTE if run else 0
    next_ms = last + (2 if run else 1) * MINUTE
    node.clock.now_ms = next_ms - 1
    record = FIRE.pack(1, state.revision, due, next_ms, next_ms, 0, first, last, count, fate, run)
    node.apply(log_pb2.Command(plan=log_pb2.Plan(fires=record)))


async def test_a_due_time_that_ran(node: FakeNode) -> None:
    await create(node)
    session = node.open_session()
    number = node.fire(1, session)
    due_ms = node.execution(number).due_ms
    node.clock.now_ms += 40
    node.complete(number)
    for at_ms in (None, due_ms, due_ms // 1000 * 1000):
        answer = await explain(node, at_ms)
        assert (answer.finding, answer.time.ToMilliseconds()) == (Answer.FINDING_RAN, due_ms)
        assert answer.sentences[0].startswith(
            f"It ran as execution {number}: COMPLETED at 2027-01-15T08:01:00.040Z on w1"
        )
        assert (
            answer.sentences[1]
            == "It started 5 milliseconds late: 0 seconds until it was fired, 5 milliseconds until a worker had it."
        )
        assert answer.execution.state == execution_pb2.Execution.STATE_COMPLETED
        assert answer.next_due_time.ToMilliseconds() == due_ms + MINUTE
        assert not answer.policy


async def test_a_due_time_that_overlap_skipped(node: FakeNode) -> None:
    await create(node)
    session = node.open_session()
    number = node.fire(1, session)
    node.fire(1, session)
    answer = await explain(node)
    assert answer.finding == Answer.FINDING_DID_NOT_RUN
    assert answer.policy == "overlap: skip"
    assert "SKIPPED(overlap)" in answer.sentences[0]
    assert answer.sentences[1] == f"The execution before it is {number}: RUNNING on w1."
    assert answer.previous_due_time.ToMilliseconds() == node.execution(number).due_ms
    assert len(answer.sentences) == 2


async def test_what_was_in_the_way_says_why_it_waits(node: FakeNode) -> None:
    await create(node)
    number = node.fire(1)
    node.fire(1)
    answer = await explain(node)
    assert "SKIPPED(overlap)" in answer.sentences[0]
    assert answer.sentences[1:] == [
        f"The execution before it is {number}: QUEUED.",
        f"Execution {number} waits for {NOBODY}.",
    ]


@pytest.mark.parametrize(
    ("fate", "run", "policy"),
    [
        (MissedFate.COALESCED, True, "catchup: latest"),
        (MissedFate.MISSED_CATCHUP_SKIP, False, "catchup: latest"),
        (MissedFate.MISSED_CATCHUP_WINDOW, False, "catchup_window: 1 minute"),
    ],
)
async def test_due_times_that_were_missed(node: FakeNode, fate: MissedFate, run: bool, policy: str) -> None:
    await create(node)
    fire_missed(node, 5, fate, run=run)
    answer = await explain(node, START_MS + 3 * MINUTE)
    assert (answer.finding, answer.policy) == (Answer.FINDING_DID_NOT_RUN, policy)
    span = "from 2027-01-15T08:01:00Z to 2027-01-15T08:05:00Z"
    assert answer.sentences[1] == f"The same holds of 5 due times {span}."
    assert answer.time.ToMilliseconds() == START_MS + 3 * MINUTE
    between = await explain(node, START_MS + 3 * MINUTE + 7_001)
    assert between.finding == Answer.FINDING_NOT_DUE
    if run:
        assert answer.row.execution.endswith("/1")
        latest = await explain(node)
        assert latest.finding == Answer.FINDING_WAITING
        assert any("5 missed due times" in sentence for sentence in latest.sentences)


async def test_instants_at_which_nothing_was_due(node: FakeNode) -> None:
    await create(node)
    node.fire(1)
    answer = await explain(node, START_MS + MINUTE + 7_000)
    assert answer.finding == Answer.FINDING_NOT_DUE
    assert answer.sentences == ["The job was not due: its schedule does not name the instant."]
    assert answer.previous_due_time.ToMilliseconds() == START_MS + MINUTE
    assert answer.next_due_time.ToMilliseconds() == START_MS + 2 * MINUTE
    early = await explain(node, START_MS - MINUTE)
    assert "it was created later" in early.sentences[0]
    assert early.next_due_time.ToMilliseconds() == START_MS
    future = await explain(node, START_MS + 20 * MINUTE)
    assert future.finding == Answer.FINDING_WILL_BE_DUE


async def test_what_is_not_decided_yet(node: FakeNode) -> None:
    await create(node)
    node.clock.now_ms += MINUTE + 1
    pending = await explain(node, START_MS + MINUTE)
    assert pending.finding == Answer.FINDING_PENDING
    await node.jobs.PauseJob(job_service_pb2.PauseJobRequest(name=NAME, reason="repair"))
    paused = await explain(node, START_MS + MINUTE)
    assert paused.finding == Answer.FINDING_PENDING
    assert "The job is paused (repair)" in paused.sentences[1]
    later = await explain(node, START_MS + 20 * MINUTE)
    assert later.sentences[0] == "It will be due then, unless the pause lasts so long."
    node.clock.now_ms += MINUTE
    await node.jobs.ResumeJob(job_service_pb2.ResumeJobRequest(name=NAME))
    skipped = await explain(node, START_MS + MINUTE)
    assert skipped.finding == Answer.FINDING_DID_NOT_RUN
    assert "SKIPPED(paused)" in skipped.sentences[0]


async def test_jobs_without_due_times_and_bounds(node: FakeNode) -> None:
    await create(node, manual_job())
    answer = await explain(node)
    assert answer.sentences == ["The job was not due: it runs on request only."]
    number = int((await node.jobs.RunJob(job_service_pb2.RunJobRequest(name=NAME))).execution.name.rpartition("/")[2])
    asked = await explain(node, node.clock.now_ms)
    assert asked.finding == Answer.FINDING_WAITING
    assert asked.sentences[0] == f"It is execution {number}, on request, and waits for {NOBODY}."
    await node.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(name=NAME, cancel_running=True))
    job = interval_job()
    job.start_time.FromMilliseconds(START_MS + 5 * MINUTE)
    job.end_time.FromMilliseconds(START_MS + 9 * MINUTE)
    await create(node, job)
    assert "(start_time)" in (await explain(node, START_MS + 2 * MINUTE)).sentences[0]
    assert "(end_time)" in (await explain(node, START_MS + 10 * MINUTE)).sentences[0]


async def test_a_deleted_job_is_explained_until_its_name_is_taken(node: FakeNode) -> None:
    await create(node)
    number = node.fire(1)
    await node.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(name=NAME, cancel_running=True))
    answer = await explain(node)
    assert (answer.finding, answer.execution.name) == (Answer.FINDING_RAN, f"{NAME}/executions/{number}")
    after = await explain(node, node.clock.now_ms + MINUTE)
    assert "it was deleted at" in after.sentences[0]
    assert not after.HasField("next_due_time")
    await create(node, manual_job())
    assert "on request only" in (await explain(node)).sentences[0]


async def test_questions_that_have_no_answer(node: FakeNode) -> None:
    assert (await refused(explain(node))).reason == "JOB_NOT_FOUND"
    request = story_service_pb2.ExplainDueTimeRequest(name=NAME, time=Timestamp(seconds=-5))
    assert "time" in (await refused(node.stories.ExplainDueTime(request))).fields
    missing = story_service_pb2.GetExecutionStoryRequest(name=f"{NAME}/executions/9")
    assert (await refused(node.stories.GetExecutionStory(missing))).reason == "EXECUTION_NOT_FOUND"


async def test_the_story_of_an_execution(node: FakeNode) -> None:
    await create(node)
    number = node.fire(1)
    session = node.open_session()
    node.clock.now_ms += 2_000
    node.apply(log_pb2.Command(plan=log_pb2.Plan(assigns=U64.pack(number) + U64.pack(session))))
    first_token = node.index
    node.clock.now_ms += 100
    node.complete(
        number,
        Outcome.FAILED,
        retry_delay_ms=5_000,
        error="it broke.\nThere",
        exit_code=3,
        output_bytes=9,
        output_nodes=["n1"],
    )
    assert (await explain(node)).sentences[-1] == "Attempt 1 FAILED, exit code 3, 9 bytes of output on n1: it broke."
    node.clock.now_ms += 5_000
    retries = U64.pack(number) + U64.pack(node.clock.now_ms) + U64.pack(session)
    node.apply(log_pb2.Command(plan=log_pb2.Plan(retries=retries)))
    second_token = node.index
    node.apply(log_pb2.Command(cancel_execution=log_pb2.CancelExecution(execution=number, reason="enough")))
    node.clock.now_ms += 10
    node.complete(number, Outcome.CANCELLED)
    assert await story(node, number) == [
        ("due", "due by its schedule"),
        ("made", "fired, with priority 5"),
        ("queued", "queued, in queue default"),
        ("assigned", f"attempt 1 given to w1 after 2 seconds, with token {first_token}"),
        ("started", "attempt 1 started"),
        ("ended", "attempt 1 FAILED, exit code 3, 9 bytes of output on n1: it broke.\nThere"),
        ("backoff", "waits 5 seconds for attempt 2"),
        ("assigned", f"attempt 2 given to w1 after 5 seconds, with token {second_token}"),
        ("cancel", "its end was asked for"),
        ("started", "attempt 2 started"),
        ("ended", "attempt 2 CANCELLED"),
        ("done", "CANCELLED: enough"),
    ]


async def test_stories_that_are_not_over(node: FakeNode) -> None:
    await create(node)
    number = node.fire(1)
    assert (await story(node, number))[-1] == ("waits", f"waits for {NOBODY}")
    session = node.open_session()
    node.apply(log_pb2.Command(plan=log_pb2.Plan(assigns=U64.pack(number) + U64.pack(session))))
    assert (await story(node, number))[-1][0] == "assigned"
    node.complete(number, Outcome.FAILED, retry_delay_ms=5_000)
    assert (await story(node, number))[-1] == ("next", "attempt 2 is due")


async def waits(node: FakeNode, number: int) -> str:
    """What both say that an execution waits for."""
    kind, text = (await story(node, number))[-1]
    answer = await explain(node)
    assert (answer.finding, kind) == (Answer.FINDING_WAITING, "waits")
    assert answer.sentences[0] == f"It is execution {number}, and {text}."
    assert answer.sentences[-1].endswith("and has not started.")
    return text


async def test_what_has_not_started_says_why(node: FakeNode) -> None:
    await create(node)
    number = node.fire(1)
    assert await waits(node, number) == f"waits for {NOBODY}"
    pause = queue_service_pb2.PauseQueueRequest(name="queues/default", reason="the database moves")
    await node.queues.PauseQueue(pause, metadata=(("horologe-author", "ada@home"),))
    paused = "queue default is paused by ada@home (the database moves)"
    assert await waits(node, number) == f"waits for the end of its queue's pause: {paused}"
    await node.queues.ResumeQueue(queue_service_pb2.ResumeQueueRequest(name="queues/default"))
    rate = queue_service_pb2.UpdateQueueRequest(update_mask={"paths": ["start_rate"]})
    rate.queue.name = "queues/default"
    rate.queue.start_rate.count, rate.queue.start_rate.burst = 1, 1
    rate.queue.start_rate.per.FromMilliseconds(3_600_000)
    await node.queues.UpdateQueue(rate)
    session = node.open_session()
    assert await waits(node, number) == "waits for a worker: w1 has a free slot"
    node.assign(number, session)
    assert (await story(node, number))[-1][0] == "assigned"
    node.complete(number, Outcome.FAILED, retry_delay_ms=0)
    retried = await explain(node)
    assert retried.finding == Answer.FINDING_RAN
    assert (
        retried.sentences[1] == "It waits for a worker: queue default starts no more of them at once (its start rate)."
    )


async def test_workers_that_are_full_or_have_other_labels_are_told_of(node: FakeNode) -> None:
    job = interval_job()
    job.worker_labels["gpu"] = "a100"
    await create(node, job)
    number = node.fire(1)
    node.open_session()
    assert await waits(node, number) == f"waits for {NOBODY} and carries gpu=a100"
    opened = log_pb2.OpenSession(worker="w2", incarnation="a", queues=["default"], labels={"gpu": "a100"}, slot_count=1)
    session = node.apply(log_pb2.Command(open_session=opened)).numbers[0]
    assert await waits(node, number) == "waits for a worker: w2 has a free slot"
    job = manual_job()
    job.worker_labels["gpu"] = "a100"
    request = job_service_pb2.CreateJobRequest(job_id="other", job=job)
    other = (await node.jobs.CreateJob(request)).job.name
    run = (await node.jobs.RunJob(job_service_pb2.RunJobRequest(name=other))).execution.name
    node.assign(int(run.rpartition("/")[2]), session)
    full = "all slots of those that take from queue default are taken (1 of 1 workers)"
    assert await waits(node, number) == f"waits for a worker: {full}"
    node.apply(log_pb2.Command(drain_worker=log_pb2.DrainWorker(worker="w2")))
    assert await waits(node, number) == f"waits for {NOBODY} and carries gpu=a100"


async def test_what_a_backfill_runs_late_is_not_told_of_jitter(node: FakeNode) -> None:
    await create(node)
    await backfill(node, -MINUTE, 0)
    work(node)
    sentences = (await explain(node, START_MS - MINUTE)).sentences
    assert sentences[0] == f"It is execution 1, in a backfill, and waits for {NOBODY}."
    assert sentences[1] == "It was to start 1 minute after its due time, when its backfill came to it."
    assert (await story(node, 1))[:2] == [
        ("due", "due in the past, and run again by a backfill (operation 1)"),
        ("planned", "to start 1 minute later, when its backfill came to it"),
    ]


async def test_counters_of_a_job(node: FakeNode) -> None:
    await create(node)
    session = node.open_session()
    number = node.fire(1, session)
    node.fire(1)
    node.complete(number, Outcome.FAILED, retry_delay_ms=0)
    node.apply(log_pb2.Command(plan=log_pb2.Plan(assigns=U64.pack(number) + U64.pack(session))))
    node.complete(number)
    counters = (await node.jobs.GetJob(job_service_pb2.GetJobRequest(name=NAME))).job.counters
    told = (counters.executions, counters.completed, counters.failed, counters.skipped, counters.retries)
    assert told == (1, 1, 0, 1, 1)
