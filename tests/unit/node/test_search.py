"""Lists with filters: whatever is asked, and however little a page looks at, together they hold what a look at all would find."""

from __future__ import annotations

import itertools
import random

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from service_harness import START_MS, FakeNode, interval_job, refused

from horologe.log.v1 import log_pb2
from horologe.node import execution_search, job_search
from horologe.raft import search
from horologe.raft.commands import Outcome
from horologe.raft.model import Code
from horologe.v1 import execution_pb2, execution_service_pb2, job_pb2, job_service_pb2

State = execution_pb2.Execution
MINUTE = 60_000
TEAMS, OWNERS, QUEUES, SPACES = ("data", "web", ""), ("ann", "bob", ""), ("default", "gpu"), ("default", "b")


def at(time_ms: int) -> Timestamp:
    moment = Timestamp()
    moment.FromMilliseconds(time_ms)
    return moment


@pytest.fixture
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were far more than there is."""
    monkeypatch.setattr(execution_search, "WORK_PER_PAGE", 7)
    monkeypatch.setattr(job_search, "WORK_PER_PAGE", 3)
    monkeypatch.setattr(search, "BLOCK_BITS", 2)
    monkeypatch.setattr(execution_search, "BLOCK_BITS", 2)
    monkeypatch.setattr(execution_search, "FEW_JOBS", 4)


async def make(node: FakeNode) -> dict[int, job_pb2.Job]:
    """Jobs of all kinds, some of them deleted again, and executions in all states; answers the jobs by their numbers."""
    dice = random.Random(7)
    jobs: dict[int, job_pb2.Job] = {}
    for position, (team, owner, queue) in enumerate(itertools.product(TEAMS, OWNERS, QUEUES)):
        job = interval_job(50 + position % 3)
        job.owner, job.queue = owner, queue
        if position % 3 == 0:
            job.worker_labels["zone"] = "a"
        job.overlap = job_pb2.OVERLAP_POLICY_ALLOW
        if team:
            job.labels["team"] = team
        space = SPACES[position % 2]
        request = job_service_pb2.CreateJobRequest(
            parent=f"namespaces/{space}", job_id=f"{'ab'[position % 2]}-{position}", job=job
        )
        jobs[position + 1] = (await node.jobs.CreateJob(request)).job
    sessions = [node.open_session(f"w{number}") for number in (1, 2)]
    outcomes = [(Outcome.SUCCEEDED, 0), (Outcome.FAILED, -1), (Outcome.FAILED, -2), (Outcome.FAILED, 9_000)]
    for _ in range(6):
        for number in jobs:
            session = dice.choice([0, *sessions])
            execution = node.fire(number, session)
            if session and dice.random() < 0.8:
                outcome, delay_ms = dice.choice(outcomes)
                node.complete(execution, outcome, retry_delay_ms=delay_ms)
    for number in (3, 6):
        await node.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(name=jobs[number].name))
    for number in (1, 4):
        await node.jobs.PauseJob(job_service_pb2.PauseJobRequest(name=jobs[number].name))
    return jobs


async def found(node: FakeNode, **fields: object) -> list[int]:
    numbers: list[int] = []
    token = ""
    for _ in range(1_000):
        request = execution_service_pb2.ListExecutionsRequest(page_token=token, page_size=5, **fields)  # type: ignore[arg-type]
        answer = await node.executions.ListExecutions(request)
        numbers += [int(each.name.rpartition("/")[2]) for each in answer.executions]
        token = answer.next_page_token
        if not token:
            return numbers
    raise AssertionError("the pages do not end")


async def found_jobs(node: FakeNode, **fields: object) -> list[str]:
    names: list[str] = []
    token = ""
    for _ in range(1_000):
        request = job_service_pb2.ListJobsRequest(parent="namespaces/-", page_token=token, page_size=2, **fields)  # type: ignore[arg-type]
        answer = await node.jobs.ListJobs(request)
        names += [each.name.rpartition("/")[2] for each in answer.jobs]
        token = answer.next_page_token
        if not token:
            return names
    raise AssertionError("the pages do not end")


@pytest.mark.usefixtures("_small_pages")
async def test_filters_of_executions(node: FakeNode) -> None:
    jobs = await make(node)
    everything = await found(node, parent="namespaces/-/jobs/-")
    assert everything == sorted(everything, reverse=True)
    assert len(everything) == 6 * len(jobs)
    executions = {number: node.execution(number) for number in everything}
    workers = {1: "w1", 2: "w2"}
    middle_ms = sorted(each.create_ms for each in executions.values())[len(everything) // 2]

    async def check(keep: object, **fields: object) -> None:
        wanted = [number for number in everything if keep(executions[number], jobs[executions[number].job])]  # type: ignore[operator]
        assert await found(node, **{"parent": "namespaces/-/jobs/-", **fields}) == wanted, fields

    await check(lambda _, job: job.name.startswith("namespaces/b/"), parent="namespaces/b/jobs/-")
    await check(lambda _, job: job.labels.get("team") == "web", labels={"team": "web"})
    await check(
        lambda _, job: job.owner == "bob" and job.labels.get("team") == "web", labels={"team": "web"}, owner="bob"
    )
    await check(lambda _, job: job.owner == "ann", owner="ann")
    await check(lambda _, job: job.name.endswith("/b-5"), parent="namespaces/b/jobs/-", name_prefix="b-5")
    await check(lambda _, job: "/jobs/a-" in job.name, name_prefix="a")
    await check(lambda _, job: job.queue == "gpu", queue="gpu")
    await check(lambda _, job: job.schedules[0].interval.every.seconds == 51, schedule="51 SECONDS")
    await check(lambda each, _: workers.get(each.worker) == "w2", worker="workers/w2")
    await check(lambda each, _: each.create_ms >= middle_ms, created_from=at(middle_ms))
    await check(lambda each, _: each.create_ms < middle_ms, created_before=at(middle_ms))
    await check(lambda each, _: START_MS <= each.due_ms < middle_ms, due_from=at(START_MS), due_before=at(middle_ms))
    for state in range(1, 9):
        await check(lambda each, _, state=state: each.state == state, states=[state])
        await check(
            lambda each, job, state=state: each.state == state and job.owner == "bob", states=[state], owner="bob"
        )
    await check(lambda each, _: each.state in (5, 7), states=[State.STATE_FAILED, State.STATE_DEAD])
    await check(
        lambda each, job: each.state == 4 and job.queue == "gpu" and each.worker == 1 and each.create_ms >= middle_ms,
        states=[State.STATE_COMPLETED],
        queue="gpu",
        worker="w1",
        created_from=at(middle_ms),
    )
    one = jobs[2].name
    assert await found(node, parent=one, worker="w2") == [
        n for n in await found(node, parent=one) if executions[n].worker == 2
    ]


async def test_what_nobody_has_is_found_at_once(node: FakeNode) -> None:
    await make(node)
    for fields in (
        {"queue": "none"},
        {"worker": "none"},
        {"labels": {"no": "no"}},
        {"owner": "none"},
        {"schedule": "none"},
    ):
        assert await found(node, parent="namespaces/-/jobs/-", **fields) == []
    assert await found(node, parent="namespaces/none/jobs/-") == []


@pytest.mark.usefixtures("_small_pages")
async def test_pages_stay_right_while_executions_come_and_go(node: FakeNode) -> None:
    await make(node)
    request = execution_service_pb2.ListExecutionsRequest(parent="namespaces/-/jobs/-", page_size=5)
    first = await node.executions.ListExecutions(request)
    before = await found(node, parent="namespaces/-/jobs/-")
    for number in (2, 5, 7):
        node.fire(number)
    request.page_token = first.next_page_token
    second = await node.executions.ListExecutions(request)
    seen = [int(each.name.rpartition("/")[2]) for answer in (first, second) for each in answer.executions]
    assert seen == before[: len(seen)]


@pytest.mark.usefixtures("_small_pages")
async def test_filters_of_jobs(node: FakeNode) -> None:
    jobs = await make(node)
    live = sorted((job for number, job in jobs.items() if number not in (3, 6)), key=lambda job: job.name)
    paused = {jobs[1].name, jobs[4].name}

    async def check(keep: object, **fields: object) -> None:
        wanted = [job.name.rpartition("/")[2] for job in live if keep(job)]  # type: ignore[operator]
        assert wanted
        assert await found_jobs(node, **fields) == wanted, fields

    await check(lambda _: True)
    await check(lambda job: job.labels.get("team") == "data", labels={"team": "data"})
    await check(lambda job: job.owner == "ann" and job.queue == "gpu", owner="ann", queue="gpu")
    await check(lambda job: job.queue == "default", queue="default")
    await check(lambda job: job.queue == "gpu", queue="gpu")
    await check(lambda job: job.name in paused, state=job_pb2.Job.STATE_PAUSED)
    await check(lambda job: job.name not in paused, state=job_pb2.Job.STATE_ACTIVE)
    await check(lambda job: job.schedules[0].interval.every.seconds == 52, schedule="every 52 seconds")
    await check(lambda job: job.name not in paused, due_from=at(START_MS))
    await check(lambda _: True, created_from=at(START_MS), created_before=at(START_MS + 1))
    assert await found_jobs(node, created_before=at(START_MS)) == []
    assert await found_jobs(node, due_before=at(START_MS)) == []


@pytest.mark.usefixtures("_small_pages")
async def test_jobs_of_a_paused_namespace_are_paused(node: FakeNode) -> None:
    jobs = await make(node)
    pause = log_pb2.PauseScope(namespace="b", paused=True, reason="repair")
    assert node.apply(log_pb2.Command(pause_scope=pause)).code == Code.OK
    wanted = {
        job.name for number, job in jobs.items() if number in (1, 4) or (number not in (3, 6) and number % 2 == 0)
    }
    found = await found_jobs(node, state=job_pb2.Job.STATE_PAUSED)
    assert found == [name.rpartition("/")[2] for name in sorted(wanted)]
    some = await found_jobs(node, state=job_pb2.Job.STATE_PAUSED, name_contains="b-")
    assert some == [name for name in found if "b-" in name]


async def test_questions_that_cannot_be_asked(node: FakeNode) -> None:
    list_executions, list_jobs = node.executions.ListExecutions, node.jobs.ListJobs
    for fields in ({"owner": "o" * 201}, {"queue": "q" * 201}, {"due_from": Timestamp(seconds=1 << 60)}):
        executions = execution_service_pb2.ListExecutionsRequest(parent="namespaces/-/jobs/-", **fields)  # type: ignore[arg-type]
        assert next(iter(fields)) in (await refused(list_executions(executions))).fields
        jobs = job_service_pb2.ListJobsRequest(**fields)  # type: ignore[arg-type]
        assert next(iter(fields)) in (await refused(list_jobs(jobs))).fields
