"""The table of rules: it has every method, and every rule sees every object of a request."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from contextlib import suppress
from dataclasses import replace

import grpc
import pytest
from google.protobuf import message_factory
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from secure_harness import Role, SecureNode, bearer, certificate
from service_harness import interval_job, refused

import horologe.v1
from horologe.chaos.cluster import eventually
from horologe.log.v1 import log_pb2
from horologe.node import paging, views
from horologe.node.authorization import RULES, Open, check
from horologe.node.errors import ApiError
from horologe.raft.access import Verb
from horologe.raft.records import LEDGER_KEY, U64
from horologe.v1 import (
    access_pb2,
    access_service_pb2,
    calendar_service_pb2,
    cluster_service_pb2,
    dead_letter_service_pb2,
    definition_service_pb2,
    execution_service_pb2,
    job_service_pb2,
    limit_service_pb2,
    namespace_service_pb2,
    operation_service_pb2,
    output_service_pb2,
    pause_service_pb2,
    queue_service_pb2,
    worker_service_pb2,
)

GRANT = access_pb2.Grant(subject="ann", namespace="blue", role=Role.ROLE_VIEWER)


def methods() -> set[str]:
    """Of every service that a client's port has, by reflection."""
    names = [module.name for module in pkgutil.iter_modules(horologe.v1.__path__) if module.name.endswith("_pb2")]
    files = [importlib.import_module(f"horologe.v1.{name}").DESCRIPTOR for name in names]
    files += [health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR]
    return {
        f"{service.name}.{method.name}"
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    }


def test_every_method_has_a_rule_and_every_rule_a_method():
    found = methods()
    assert len(found) > 90
    assert found == RULES.keys()


def test_only_health_is_for_anybody():
    assert {name.partition(".")[0] for name, rule in RULES.items() if isinstance(rule, Open)} == {"Health"}


def test_every_verb_opens_something():
    used = {getattr(rule, "verb", None) for rule in RULES.values()}
    used |= {getattr(getattr(rule, "others", None), "verb", None) for rule in RULES.values()}
    # Asked by the state, for the secrets that a definition names.
    assert set(Verb) - used == {Verb.SECRET_USE}


@pytest.fixture
async def node(tmp_path):
    async with SecureNode(tmp_path).serve() as node:
        for namespace in ("blue", "red"):
            for name in ("a", "b"):
                parent = f"namespaces/{namespace}"
                request = job_service_pb2.CreateJobRequest(parent=parent, job_id=name, job=interval_job(3_600))
                await node.jobs.CreateJob(request, metadata=bearer(node.admin))
        yield node


async def run(node, name: str) -> str:
    """A new execution of a job."""
    answer = await node.jobs.RunJob(job_service_pb2.RunJobRequest(name=name), metadata=bearer(node.admin))
    return answer.execution.name


async def denied(node, call) -> list[str]:
    """The objects in the audit record of the call, which must be refused for want of a right."""
    refusal = await refused(call)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"), refusal.text
    [record] = await node.denied()
    assert record.reason == "PERMISSION_DENIED"
    return list(record.objects)


async def test_a_batch_needs_the_right_for_each_job(node):
    ann = node.somebody("ann", Role.ROLE_EDITOR, "blue")
    jobs = [interval_job(name="x"), interval_job(name="x")]
    jobs[0].name, jobs[1].name = "namespaces/blue/jobs/x", "namespaces/red/jobs/x"
    for call, request in (
        (node.jobs.BatchCreateJobs, job_service_pb2.BatchCreateJobsRequest(jobs=jobs)),
        (node.jobs.ApplyJobs, job_service_pb2.ApplyJobsRequest(jobs=jobs)),
        (node.definitions.ApplyPlan, definition_service_pb2.ApplyPlanRequest(jobs=jobs)),
        (node.definitions.PlanJobs, definition_service_pb2.PlanJobsRequest(jobs=jobs)),
    ):
        assert await denied(node, call(request, metadata=ann)) == [job.name for job in jobs]
    deletion = definition_service_pb2.JobDeletion(name="namespaces/red/jobs/a", etag="1")
    call = node.definitions.ApplyPlan(definition_service_pb2.ApplyPlanRequest(deletions=[deletion]), metadata=ann)
    assert await denied(node, call) == ["namespaces/red/jobs/a"]
    await node.jobs.BatchCreateJobs(job_service_pb2.BatchCreateJobsRequest(jobs=jobs[:1]), metadata=ann)


async def test_a_plan_leaves_out_jobs_of_a_set_that_lie_elsewhere(node):
    """Nobody learns of them, and nobody in another namespace can spoil a plan by the name of its set."""
    job = interval_job()
    job.name, job.apply_set = "namespaces/red/jobs/s", "everything"
    await node.jobs.ApplyJobs(job_service_pb2.ApplyJobsRequest(jobs=[job]), metadata=bearer(node.admin))
    ann = node.somebody("ann", Role.ROLE_EDITOR, "blue")
    mine = interval_job()
    mine.name = "namespaces/blue/jobs/x"
    plan = definition_service_pb2.PlanJobsRequest(jobs=[mine], prune_set="everything")
    kinds = definition_service_pb2.JobChange
    changes = (await node.definitions.PlanJobs(plan, metadata=ann)).changes
    assert [change.kind for change in changes] == [kinds.KIND_CREATE]
    changes = (await node.definitions.PlanJobs(plan, metadata=bearer(node.admin))).changes
    assert [change.kind for change in changes] == [kinds.KIND_CREATE, kinds.KIND_DELETE]


async def test_a_number_leads_to_its_namespace(node):
    ann = node.somebody("ann", Role.ROLE_VIEWER, "blue")
    mine, theirs = await run(node, "namespaces/blue/jobs/a"), await run(node, "namespaces/red/jobs/a")
    number = theirs.rpartition("/")[2]
    get = execution_service_pb2.GetExecutionRequest
    assert (await node.executions.GetExecution(get(name=mine), metadata=ann)).execution.name == mine
    for name in (theirs, f"namespaces/-/jobs/-/executions/{number}", f"namespaces/-/jobs/a/executions/{number}"):
        assert await denied(node, node.executions.GetExecution(get(name=name), metadata=ann)) == [name]
        call = node.output.ReadOutput(output_service_pb2.ReadOutputRequest(name=name), metadata=ann)
        assert await denied(node, call.read()) == [name]
    # Under a wrong name nobody finds it.
    for name in (f"namespaces/blue/jobs/a/executions/{number}", f"namespaces/blue/jobs/-/executions/{number}"):
        refusal = await refused(node.executions.GetExecution(get(name=name), metadata=ann))
        assert refusal.reason == "EXECUTION_NOT_FOUND"


async def test_what_is_not_there_is_not_found_by_those_who_could_see_it(node):
    ann, zoe = node.somebody("ann", Role.ROLE_VIEWER, "blue"), bearer(node.token("zoe"))
    call = execution_service_pb2.GetExecutionRequest(name="namespaces/-/jobs/-/executions/99999")
    assert (await refused(node.executions.GetExecution(call, metadata=ann))).reason == "EXECUTION_NOT_FOUND"
    assert await denied(node, node.executions.GetExecution(call, metadata=zoe)) == [call.name]
    operation = operation_service_pb2.GetOperationRequest(name="namespaces/-/operations/7")
    assert (await refused(node.operations.GetOperation(operation, metadata=ann))).reason == "OPERATION_NOT_FOUND"
    job = job_service_pb2.GetJobRequest(name="namespaces/blue/jobs/none")
    assert (await refused(node.jobs.GetJob(job, metadata=ann))).reason == "JOB_NOT_FOUND"
    # A name that nobody can read tells those who may not read it nothing.
    broken = job_service_pb2.GetJobRequest(name="what?")
    assert (await refused(node.jobs.GetJob(broken, metadata=ann))).reason == "INVALID_FIELD"
    assert await denied(node, node.jobs.GetJob(broken, metadata=zoe)) == ["what?"]


async def test_everywhere_means_everywhere(node):
    ann, all_ = node.somebody("ann", Role.ROLE_VIEWER, "blue"), node.somebody("all", Role.ROLE_VIEWER, "*")
    for request, call in (
        (job_service_pb2.ListJobsRequest(parent="namespaces/-"), node.jobs.ListJobs),
        (execution_service_pb2.ListExecutionsRequest(parent="namespaces/-/jobs/-"), node.executions.ListExecutions),
        (execution_service_pb2.ListExecutionsRequest(parent="namespaces/-/jobs/a"), node.executions.ListExecutions),
        (calendar_service_pb2.ListCalendarsRequest(parent="namespaces/-"), node.calendars.ListCalendars),
        (limit_service_pb2.ListLimitsRequest(parent="namespaces/-"), node.limits.ListLimits),
        (operation_service_pb2.ListOperationsRequest(parent="namespaces/-"), node.operations.ListOperations),
    ):
        assert await denied(node, call(request, metadata=ann)) == [request.parent]
        await call(request, metadata=all_)
    listed = job_service_pb2.ListJobsRequest(parent="namespaces/blue")
    assert len((await node.jobs.ListJobs(listed, metadata=ann)).jobs) == 2


async def test_the_token_of_one_page_opens_no_other_namespace(node):
    """A token holds a key; one that is made up may name any."""
    for place in ("blue", "red"):
        name = f"namespaces/{place}/limits/l"
        await node.limits.SetLimit(
            limit_service_pb2.SetLimitRequest(name=name, max_running=1), metadata=bearer(node.admin)
        )
        await run(node, f"namespaces/{place}/jobs/a")
    ann = node.somebody("ann", Role.ROLE_VIEWER, "blue")
    jobs = job_service_pb2.ListJobsRequest(parent="namespaces/blue")
    jobs.page_token = paging.next_token(jobs, b"namespaces/red/jobs/a")
    assert not (await node.jobs.ListJobs(jobs, metadata=ann)).jobs
    limits = limit_service_pb2.ListLimitsRequest(parent="namespaces/blue")
    limits.page_token = paging.next_token(limits, b"namespaces/red/")
    assert not (await node.limits.ListLimits(limits, metadata=ann)).limits
    ledger = execution_service_pb2.ListLedgerRequest(parent="namespaces/blue/jobs/a")
    with node.store.read() as tables:
        other = views.find_job(tables, "namespaces/red/jobs/a")
    ledger.page_token = paging.next_token(ledger, LEDGER_KEY.pack(other.id, 0, 0))
    assert not (await node.executions.ListLedger(ledger, metadata=ann)).rows
    executions = execution_service_pb2.ListExecutionsRequest(parent="namespaces/blue/jobs/-")
    executions.page_token = paging.next_token(executions, U64.pack(1 << 40))
    found = (await node.executions.ListExecutions(executions, metadata=ann)).executions
    assert {each.name.split("/")[1] for each in found} == {"blue"}


async def test_namespaces_and_pauses_are_shown_to_those_who_may_read_them(node):
    ann = node.somebody("ann", Role.ROLE_VIEWER, "blue")
    for scope in ("namespaces/blue", "namespaces/red", ""):
        await node.pauses.Pause(pause_service_pb2.PauseRequest(scope=scope), metadata=bearer(node.admin))
    listed = await node.namespaces.ListNamespaces(namespace_service_pb2.ListNamespacesRequest(), metadata=ann)
    assert [each.name for each in listed.namespaces] == ["namespaces/blue"]
    # Nor does a page token name the others.
    request = namespace_service_pb2.ListNamespacesRequest(page_size=1)
    assert not (await node.namespaces.ListNamespaces(request, metadata=ann)).next_page_token
    pauses = await node.pauses.ListPauses(pause_service_pb2.ListPausesRequest(), metadata=ann)
    assert [pause.scope for pause in pauses.pauses] == ["", "namespaces/blue"]
    nobody = bearer(node.token("zoe"))
    assert not (
        await node.namespaces.ListNamespaces(namespace_service_pb2.ListNamespacesRequest(), metadata=nobody)
    ).namespaces


async def test_one_s_own_jobs_need_less(node):
    """An editor pauses and cancels what runs in its name; of others, operators do."""
    ann, bob = node.somebody("ann", Role.ROLE_EDITOR, "blue"), node.somebody("bob", Role.ROLE_OPERATOR, "blue")
    name, execution = "namespaces/blue/jobs/a", await run(node, "namespaces/blue/jobs/a")
    pause, resume = job_service_pb2.PauseJobRequest(name=name), job_service_pb2.ResumeJobRequest(name=name)
    cancel = execution_service_pb2.CancelExecutionRequest(name=execution)
    for call, request in (
        (node.jobs.PauseJob, pause),
        (node.jobs.ResumeJob, resume),
        (node.executions.CancelExecution, cancel),
    ):
        await denied(node, call(request, metadata=ann))
    await node.jobs.PauseJob(pause, metadata=bob)
    await node.jobs.ResumeJob(resume, metadata=bob)
    await node.executions.CancelExecution(cancel, metadata=bob)
    # Whoever wrote a definition last owns the job.
    again = interval_job(1_800)
    again.name = name
    await node.jobs.ApplyJobs(job_service_pb2.ApplyJobsRequest(jobs=[again]), metadata=ann)
    await node.jobs.PauseJob(pause, metadata=ann)
    await node.jobs.ResumeJob(resume, metadata=ann)
    cancel.name = await run(node, name)
    await node.executions.CancelExecution(cancel, metadata=ann)


async def test_dead_letters_that_are_named_count_each(node):
    ann = node.somebody("ann", Role.ROLE_OPERATOR, "blue")
    theirs = await run(node, "namespaces/red/jobs/a")
    names = [f"namespaces/-/jobs/-/executions/{theirs.rpartition('/')[2]}"]
    redrive = dead_letter_service_pb2.RedriveDeadLettersRequest(parent="namespaces/blue", names=names)
    assert names[0] in await denied(node, node.dead_letters.RedriveDeadLetters(redrive, metadata=ann))
    purge = dead_letter_service_pb2.PurgeDeadLettersRequest(parent="namespaces/blue", names=names)
    assert names[0] in await denied(node, node.dead_letters.PurgeDeadLetters(purge, metadata=ann))


async def test_operations_are_cancelled_by_who_began_them(node):
    ann, cat = node.somebody("ann", Role.ROLE_EDITOR, "blue"), node.somebody("cat", Role.ROLE_EDITOR, "blue")
    redrive = dead_letter_service_pb2.RedriveDeadLettersRequest(parent="namespaces/blue")
    began = await node.dead_letters.RedriveDeadLetters(redrive, metadata=ann)
    number = began.operation.name.rpartition("/")[2]
    cancel = operation_service_pb2.CancelOperationRequest(name=f"namespaces/-/operations/{number}")
    assert await denied(node, node.operations.CancelOperation(cancel, metadata=cat)) == [cancel.name]
    await node.operations.CancelOperation(cancel, metadata=ann)


async def test_queues_workers_and_members_belong_to_no_namespace(node):
    ann, all_ = node.somebody("ann", Role.ROLE_OPERATOR, "blue"), node.somebody("all", Role.ROLE_OPERATOR, "*")
    await node.queues.ListQueues(queue_service_pb2.ListQueuesRequest(), metadata=ann)
    await node.workers.ListWorkers(worker_service_pb2.ListWorkersRequest(), metadata=ann)
    await node.cluster.ListMembers(cluster_service_pb2.ListMembersRequest(), metadata=ann)
    pause = queue_service_pb2.PauseQueueRequest(name="queues/default")
    assert await denied(node, node.queues.PauseQueue(pause, metadata=ann)) == ["queues/default"]
    await node.queues.PauseQueue(pause, metadata=all_)
    drain = worker_service_pb2.DrainWorkerRequest(name="workers/w1")
    assert await denied(node, node.workers.DrainWorker(drain, metadata=ann)) == ["workers/w1"]
    checkpoint = cluster_service_pb2.TakeCheckpointRequest()
    await denied(node, node.cluster.TakeCheckpoint(checkpoint, metadata=all_))
    await node.cluster.TakeCheckpoint(checkpoint, metadata=bearer(node.admin))
    assert node.commands[-1].actor.principal == "admin"


async def test_a_token_s_scope_cuts_its_principal_s_rights_down(node):
    node.grant("ann", "*", Role.ROLE_ADMIN)
    narrow = bearer(node.token("ann", role=Role.ROLE_VIEWER, namespaces=("blue",)))
    get = job_service_pb2.GetJobRequest
    await node.jobs.GetJob(get(name="namespaces/blue/jobs/a"), metadata=narrow)
    await denied(node, node.jobs.GetJob(get(name="namespaces/red/jobs/a"), metadata=narrow))
    await denied(
        node, node.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(name="namespaces/blue/jobs/a"), metadata=narrow)
    )
    await denied(node, node.access.ListPrincipals(access_service_pb2.ListPrincipalsRequest(), metadata=narrow))


async def test_only_workers_connect(node):
    for metadata in (bearer(node.admin), certificate("client", "admin"), certificate("node", "n2")):
        call = node.workers.Connect(metadata=metadata)
        assert await denied(node, call.read()) == []


async def test_rights_are_those_of_the_state_that_the_call_waited_for(node):
    """A grant that a call asks to see counts for it, and what was taken away does not."""
    ann = bearer(node.token("ann"))
    get = job_service_pb2.GetJobRequest(name="namespaces/blue/jobs/a")
    for change, is_allowed in (
        (log_pb2.Command(set_grant=log_pb2.SetGrant(grant=GRANT)), True),
        (log_pb2.Command(delete_grant=log_pb2.DeleteGrant(subject="ann", namespace="blue")), False),
    ):
        newer = (*ann, ("horologe-min-revision", str(node.index + 1)))
        call = asyncio.ensure_future(node.jobs.GetJob(get, metadata=newer))

        async def waits() -> bool:
            return bool(node.context.applied_waiters)

        await eventually(waits, 60, "the call waits")
        node.by_admin(change)
        if is_allowed:
            assert (await call).job.name == get.name
        else:
            assert (await refused(call)).reason == "PERMISSION_DENIED"


ODD_TEXTS = (
    "x" * 2_000,
    "\0",
    "🙂" * 300,
    "-",
    "namespaces/",
    f"namespaces/{'a' * 600}/jobs/{'b' * 600}",
    f"namespaces/-/jobs/-/executions/{'9' * 30}",
    "namespaces/-/jobs/-/executions/0",
    f"namespaces/-/operations/{'9' * 30}",
    "namespaces/a/operations/0",
    f"tokens/{'x' * 600}",
    "tokens/",
)


def fill(message, text: str) -> None:
    """Puts the text wherever a text can be."""
    for field in message.DESCRIPTOR.fields:
        if field.type == field.TYPE_STRING:
            if field.is_repeated:
                getattr(message, field.name).append(text)
            else:
                setattr(message, field.name, text)
        elif field.type == field.TYPE_MESSAGE and not field.message_type.GetOptions().map_entry:
            inner = getattr(message, field.name)
            if field.message_type.full_name.startswith("horologe."):
                fill(inner.add() if field.is_repeated else inner, text)


def requests() -> dict[str, type]:
    """By method, of those that have a request before the call begins."""
    names = [module.name for module in pkgutil.iter_modules(horologe.v1.__path__) if module.name.endswith("_pb2")]
    files = [importlib.import_module(f"horologe.v1.{name}").DESCRIPTOR for name in names]
    return {
        f"{service.name}.{method.name}": message_factory.GetMessageClass(method.input_type)
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
        if not method.client_streaming
    }


@pytest.mark.parametrize("text", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
async def test_whatever_is_asked_for_the_answer_says_why_not(node, text):
    """Objects are looked for before a service has checked the request: no name is too long or too odd for that."""
    everything = node.somebody("everything", Role.ROLE_ADMIN, "*")
    blue = node.somebody("only-blue", Role.ROLE_ADMIN, "blue")
    caller = await node.control.outer[0]._authenticator.caller_of("/x.JobService/GetJob", Metadata(everything))
    narrow = await node.control.outer[0]._authenticator.caller_of("/x.JobService/GetJob", Metadata(blue))
    for name, kind in requests().items():
        request = kind()
        fill(request, text)
        for who in (caller, narrow):
            with node.store.read() as tables, suppress(ApiError):
                check(tables, replace(who, method=name), request)


class Metadata:
    """As much of a call as finding out who makes it needs."""

    def __init__(self, metadata) -> None:
        self._metadata = metadata

    def invocation_metadata(self):
        return self._metadata

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"
