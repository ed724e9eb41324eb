"""LimitService, QueueService and NamespaceService over gRPC, and what executions say that they wait for."""

from __future__ import annotations

import uuid

import grpc
import pytest
from google.protobuf import text_format
from google.protobuf.field_mask_pb2 import FieldMask
from service_harness import FakeNode, manual_job, refused

from horologe.v1 import execution_pb2, execution_service_pb2, job_pb2, job_service_pb2
from horologe.v1 import limit_service_pb2 as limits
from horologe.v1 import namespace_service_pb2 as namespaces
from horologe.v1 import queue_service_pb2 as queues

DB = "namespaces/default/limits/db"


async def create(node: FakeNode, job_id: str = "tick", fields: str = "") -> None:
    job = manual_job()
    text_format.Merge(f"overlap: OVERLAP_POLICY_ALLOW {fields}", job)
    await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id=job_id, job=job))


async def run(node: FakeNode, job_id: str = "tick") -> int:
    name = f"namespaces/default/jobs/{job_id}"
    answer = await node.jobs.RunJob(job_service_pb2.RunJobRequest(name=name, force=True))
    return int(answer.execution.name.rpartition("/")[2])


async def get(node: FakeNode, number: int) -> execution_pb2.Execution:
    name = f"namespaces/-/jobs/-/executions/{number}"
    return (await node.executions.GetExecution(execution_service_pb2.GetExecutionRequest(name=name))).execution


async def set_limit(node: FakeNode, count: int, name: str = DB) -> limits.Limit:
    return (await node.limits.SetLimit(limits.SetLimitRequest(name=name, max_running=count))).limit


async def update_queue(node: FakeNode, fields: str, *paths: str) -> queues.Queue:
    queue = text_format.Parse(f"name: 'queues/default' {fields}", queues.Queue())
    mask = FieldMask(paths=paths) if paths else None
    return (await node.queues.UpdateQueue(queues.UpdateQueueRequest(queue=queue, update_mask=mask))).queue


# Limits


async def test_a_limit_counts_jobs_what_runs_and_what_waits(node):
    assert (await set_limit(node, 1)).job_count == 0
    await create(node, fields="limits: 'db'")
    session = node.open_session()
    first, second = await run(node), await run(node)
    node.assign(first, session)
    node.assign(second, session)
    limit = (await node.limits.GetLimit(limits.GetLimitRequest(name=DB))).limit
    assert (limit.max_running, limit.running_count, limit.waiting_count, limit.job_count) == (1, 1, 1, 1)
    assert (await get(node, second)).waits_for == f"room under {DB}"
    assert (await get(node, first)).waits_for == ""
    error = await refused(node.limits.DeleteLimit(limits.DeleteLimitRequest(name=DB)))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LIMIT_IN_USE")


async def test_limits_are_listed_by_namespace(node):
    for name in (DB, "namespaces/default/limits/api", "namespaces/shop/limits/db"):
        await set_limit(node, 2, name)
    own = await node.limits.ListLimits(limits.ListLimitsRequest(page_size=1))
    assert [each.name for each in own.limits] == ["namespaces/default/limits/api"]
    rest = await node.limits.ListLimits(limits.ListLimitsRequest(page_size=1, page_token=own.next_page_token))
    assert [each.name for each in rest.limits] == [DB] and not rest.next_page_token
    everything = await node.limits.ListLimits(limits.ListLimitsRequest(parent="namespaces/-"))
    assert len(everything.limits) == 3


async def test_a_job_cannot_name_a_limit_that_is_not_there(node):
    job = manual_job()
    job.limits.append("db")
    error = await refused(node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="tick", job=job)))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "LIMIT_NOT_FOUND")
    assert DB in error.text


@pytest.mark.parametrize(("name", "count"), [("db", 1), ("namespaces/-/limits/db", 1), (DB, 0), (DB, 2_000_000)])
async def test_limits_that_cannot_be(node, name, count):
    error = await refused(node.limits.SetLimit(limits.SetLimitRequest(name=name, max_running=count)))
    assert error.reason == "INVALID_FIELD"


async def test_a_limit_is_deleted_once(node):
    await set_limit(node, 1)
    request = limits.DeleteLimitRequest(name=DB, request_id=str(uuid.uuid4()))
    await node.limits.DeleteLimit(request)
    await node.limits.DeleteLimit(request)
    error = await refused(node.limits.DeleteLimit(limits.DeleteLimitRequest(name=DB)))
    assert error.reason == "LIMIT_NOT_FOUND"


# Queues


async def test_a_queue_says_what_waits_and_runs_in_all_its_lanes(node):
    await create(node)
    await create(node, "train", "worker_labels { key: 'gpu' value: 'a100' }")
    session = node.open_session()
    node.assign(await run(node), session)
    node.clock.now_ms += 1_000
    oldest_ms = node.clock.now_ms
    number = await run(node, "train")
    node.clock.now_ms += 1_000
    await run(node)
    (queue,) = (await node.queues.ListQueues(queues.ListQueuesRequest())).queues
    assert (queue.name, queue.waiting_count, queue.running_count) == ("queues/default", 2, 1)
    assert queue.oldest_due_time.ToMilliseconds() == oldest_ms
    assert queue.aging.seconds == 600 and not queue.HasField("start_rate")
    assert (await get(node, number)).queue == "default"


async def test_settings_are_changed_one_by_one(node):
    assert (await update_queue(node, "start_rate { count: 5 }")).start_rate.burst == 5
    queue = await update_queue(node, "aging { seconds: 60 }")
    assert (queue.start_rate.per.seconds, queue.aging.seconds) == (1, 60)
    queue = await update_queue(node, "start_rate { count: 1 per { seconds: 60 } }", "start_rate")
    assert (queue.start_rate.count, queue.start_rate.burst, queue.aging.seconds) == (1, 1, 60)
    queue = await update_queue(node, "", "start_rate", "aging")
    assert not queue.HasField("start_rate") and queue.aging.seconds == 600


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ("start_rate { count: 0 }", ("start_rate",)),
        ("start_rate { count: 1 per { nanos: 1000000 } }", ()),
        ("start_rate { count: 1 burst: -1 }", ()),
        ("aging { seconds: -1 }", ()),
        ("aging { seconds: 315576000000 }", ()),
        ("", ("paused",)),
    ],
)
async def test_settings_that_cannot_be(node, fields, paths):
    error = await refused(update_queue(node, fields, *paths))
    assert error.reason == "INVALID_FIELD"


async def test_a_paused_queue_says_who_and_why(node):
    await create(node)
    request = queues.PauseQueueRequest(name="queues/default", reason="the database moves")
    answer = await node.queues.PauseQueue(request, metadata=(("horologe-author", "ada@home"),))
    assert (answer.queue.paused, answer.queue.pause_reason, answer.queue.paused_by) == (
        True,
        "the database moves",
        "ada@home",
    )
    number = await run(node)
    assert (await get(node, number)).waits_for == "the end of its queue's pause"
    assert (await refused(node.queues.PauseQueue(request))).reason == "QUEUE_PAUSED"
    resumed = await node.queues.ResumeQueue(queues.ResumeQueueRequest(name="queues/default"))
    assert not resumed.queue.paused and not resumed.queue.HasField("pause_time")
    error = await refused(node.queues.ResumeQueue(queues.ResumeQueueRequest(name="queues/default")))
    assert error.reason == "QUEUE_NOT_PAUSED"


@pytest.mark.parametrize(("name", "reason"), [("queues/none", "QUEUE_NOT_FOUND"), ("default", "INVALID_FIELD")])
async def test_a_queue_that_is_not_there(node, name, reason):
    assert (await refused(node.queues.GetQueue(queues.GetQueueRequest(name=name)))).reason == reason


# Namespaces


async def test_a_namespace_gets_and_loses_a_limit(node):
    await create(node)
    name = "namespaces/default"
    wanted = namespaces.Namespace(name=name, max_running=1)
    answer = await node.namespaces.UpdateNamespace(namespaces.UpdateNamespaceRequest(namespace=wanted))
    assert answer.namespace.max_running == 1
    session = node.open_session()
    first, second = await run(node), await run(node)
    node.assign(first, session)
    node.assign(second, session)
    assert (await get(node, second)).waits_for == "room under max_running of its namespace"
    found = (await node.namespaces.GetNamespace(namespaces.GetNamespaceRequest(name=name))).namespace
    assert found.running_count == 1
    wanted.max_running = 0
    mask = FieldMask(paths=["max_running"])
    request = namespaces.UpdateNamespaceRequest(namespace=wanted, update_mask=mask)
    assert (await node.namespaces.UpdateNamespace(request)).namespace.max_running == 0
    listed = await node.namespaces.ListNamespaces(namespaces.ListNamespacesRequest())
    assert [each.name for each in listed.namespaces] == [name]


async def test_a_namespace_keeps_its_history_as_it_likes(node):
    await create(node)
    wanted = namespaces.Namespace(name="namespaces/default", history_count_max=1000)
    wanted.history_retention.FromSeconds(14 * 86_400)
    wanted.dead_letter_retention.FromSeconds(3_600)
    answer = await node.namespaces.UpdateNamespace(namespaces.UpdateNamespaceRequest(namespace=wanted))
    wanted.job_count = 1
    assert answer.namespace == wanted
    mask = FieldMask(paths=["history_retention", "history_count_max"])
    bare = namespaces.Namespace(name="namespaces/default")
    request = namespaces.UpdateNamespaceRequest(namespace=bare, update_mask=mask)
    found = (await node.namespaces.UpdateNamespace(request)).namespace
    assert not found.HasField("history_retention"), "the default again"
    assert (found.history_count_max, found.dead_letter_retention.seconds) == (0, 3_600)
    for field in ("history_retention", "dead_letter_retention"):
        wanted = namespaces.Namespace(name="namespaces/default")
        getattr(wanted, field).FromSeconds(3_599)
        error = await refused(node.namespaces.UpdateNamespace(namespaces.UpdateNamespaceRequest(namespace=wanted)))
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", [f"namespace.{field}"])
    wanted = namespaces.Namespace(name="namespaces/default", history_count_max=-1)
    error = await refused(node.namespaces.UpdateNamespace(namespaces.UpdateNamespaceRequest(namespace=wanted)))
    assert error.reason == "INVALID_FIELD"


async def test_a_namespace_has_quotas(node):
    wanted = namespaces.Namespace(name="namespaces/default", job_count_max=1)
    wanted.start_rate.count = 5
    answer = await node.namespaces.UpdateNamespace(namespaces.UpdateNamespaceRequest(namespace=wanted))
    assert (answer.namespace.job_count_max, answer.namespace.job_count) == (1, 0)
    assert (answer.namespace.start_rate.per.seconds, answer.namespace.start_rate.burst) == (1, 5)
    await create(node)
    made = job_service_pb2.CreateJobRequest(job_id="second", job=manual_job())
    error = await refused(node.jobs.CreateJob(made))
    assert (error.reason, error.code) == ("LIMIT_EXCEEDED", grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert error.text.startswith("namespaces/default has 1 job, and its quota is 1; ")
    bare = namespaces.Namespace(name="namespaces/default")
    mask = FieldMask(paths=["job_count_max", "start_rate"])
    request = namespaces.UpdateNamespaceRequest(namespace=bare, update_mask=mask)
    found = (await node.namespaces.UpdateNamespace(request)).namespace
    assert (found.job_count_max, found.job_count, found.HasField("start_rate")) == (0, 1, False)
    await node.jobs.CreateJob(made)


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("job_count_max", namespaces.Namespace(job_count_max=-1)),
        ("start_rate.count", namespaces.Namespace(start_rate=queues.StartRate(count=-1))),
        ("start_rate.burst", namespaces.Namespace(start_rate=queues.StartRate(count=1, burst=-1))),
    ],
)
async def test_quotas_that_cannot_be(node, field, wanted):
    wanted.name = "namespaces/default"
    error = await refused(node.namespaces.UpdateNamespace(namespaces.UpdateNamespaceRequest(namespace=wanted)))
    assert (error.reason, list(error.fields)) == ("INVALID_FIELD", [f"namespace.{field}"])


async def test_an_execution_says_that_it_waits_for_the_rate_of_its_namespace(node):
    await create(node)
    wanted = namespaces.Namespace(name="namespaces/default")
    wanted.start_rate.count = wanted.start_rate.burst = 1
    await node.namespaces.UpdateNamespace(namespaces.UpdateNamespaceRequest(namespace=wanted))
    session = node.open_session()
    first, second = await run(node), await run(node)
    node.assign(first, session)
    node.assign(second, session)
    assert (await get(node, second)).waits_for == "room under the start rate of its namespace"


async def test_finished_executions_are_counted(node):
    await create(node)
    number = await run(node)
    name = f"namespaces/-/jobs/-/executions/{number}"
    await node.executions.CancelExecution(execution_service_pb2.CancelExecutionRequest(name=name))
    request = namespaces.GetNamespaceRequest(name="namespaces/default")
    assert (await node.namespaces.GetNamespace(request)).namespace.finished_count == 1


async def test_namespaces_that_cannot_be(node):
    wanted = namespaces.Namespace(name="namespaces/default", max_running=-1)
    error = await refused(node.namespaces.UpdateNamespace(namespaces.UpdateNamespaceRequest(namespace=wanted)))
    assert error.reason == "INVALID_FIELD"
    error = await refused(node.namespaces.GetNamespace(namespaces.GetNamespaceRequest(name="namespaces/none")))
    assert error.reason == "NAMESPACE_NOT_FOUND"


# What executions wait for


async def test_a_held_execution_says_what_it_waits_for(node):
    job = manual_job()
    job.overlap = job_pb2.OVERLAP_POLICY_QUEUE_ALL
    await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="tick", job=job))
    name = "namespaces/default/jobs/tick"
    numbers = []
    for _ in range(2):
        answer = await node.jobs.RunJob(job_service_pb2.RunJobRequest(name=name))
        numbers.append(int(answer.execution.name.rpartition("/")[2]))
    assert (await get(node, numbers[0])).waits_for == ""
    assert (await get(node, numbers[1])).waits_for == "the end of other executions of its job (overlap)"
