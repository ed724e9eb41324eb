"""Every method of a secure node, called by those who may not: refused, nothing changed, and written down.

The methods are found by reflection, and each gets a request about things that are there, so that the refusal has no other reason.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import pkgutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio
import pytest
from google.protobuf import message_factory, text_format
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2
from support.governed_node import GovernedNode, governed_node

import horologe.v1
from horologe.chaos.cluster import eventually
from horologe.node import authentication
from horologe.node.services import SERVICES
from horologe.raft.tables import TABLE_NAMES
from horologe.v1 import access_pb2, access_service_pb2

Role = access_pb2.Role
AUDIT_TABLES = frozenset({"audit", "meta", "request", "request_time"})
"""What a record of a refusal changes: the chain, its head and the counters, and the id under which a node wrote it."""
JOB = """name: "namespaces/blue/jobs/b" schedules { manual {} } action { shell { argv: "true" } }"""
BLUE = 'name: "namespaces/blue/jobs/a"'
EXECUTION = 'name: "namespaces/-/jobs/-/executions/1"'
RULE = 'name: "namespaces/blue/notifications/n"'
TELLS = 'events: NOTIFICATION_EVENT_FAILED email { to: "ops@example.com" }'
PARENT = 'parent: "namespaces/blue"'
REQUESTS = {
    "AccessService.CreateToken": 'principal: "admin"',
    "AccessService.DeleteGrant": 'subject: "admin" namespace: "blue"',
    "AccessService.ListGrants": 'subject: "admin" namespace: "blue"',
    "AccessService.ListPrincipals": "",
    "AccessService.ListTokens": 'principal: "admin"',
    "AccessService.RevokeToken": 'name: "tokens/{token}"',
    "AccessService.SetGrant": 'grant { subject: "zoe" namespace: "blue" role: ROLE_VIEWER }',
    "AccessService.UpdatePrincipal": 'name: "viewer" disabled: true',
    "AccessService.WhoAmI": "",
    "ActivityService.GetActivity": "",
    "AuditService.ExportAuditRecords": "",
    "AuditService.GetAuditCheckpoint": "",
    "AuditService.ListAuditRecords": "",
    "BackfillService.BackfillJob": BLUE + " start_time { seconds: 1 } end_time { seconds: 2 }",
    "BackupService.CreateBackup": "",
    "CalendarService.DeleteCalendar": 'name: "namespaces/blue/calendars/c"',
    "CalendarService.GetCalendar": 'name: "namespaces/blue/calendars/c"',
    "CalendarService.ListCalendars": PARENT,
    "CalendarService.SetCalendar": 'calendar { name: "namespaces/blue/calendars/d" }',
    "ClusterService.AddMember": 'name: "n9" peer_address: "127.0.0.1:1"',
    "ClusterService.GetClusterStatus": "",
    "ClusterService.GetStateDigest": "revision: 1",
    "ClusterService.ListMembers": "",
    "ClusterService.PromoteMember": 'name: "n1"',
    "ClusterService.RemoveMember": 'name: "n1"',
    "ClusterService.TakeCheckpoint": "",
    "ClusterService.TransferLeader": "",
    "ClusterService.UpgradeCluster": "action: ACTION_FINALIZE",
    "DeadLetterService.GetDeadLetter": EXECUTION,
    "DeadLetterService.ListDeadLetterGroups": PARENT,
    "DeadLetterService.ListDeadLetters": PARENT,
    "DeadLetterService.PurgeDeadLetter": EXECUTION,
    "DeadLetterService.PurgeDeadLetters": PARENT,
    "DeadLetterService.RedriveDeadLetter": EXECUTION,
    "DeadLetterService.RedriveDeadLetters": PARENT,
    "DefinitionService.ApplyPlan": f"jobs {{ {JOB} }}",
    "DefinitionService.GetJobVersion": BLUE,
    "DefinitionService.ListJobVersions": 'parent: "namespaces/blue/jobs/a"',
    "DefinitionService.PlanJobs": f"jobs {{ {JOB} }}",
    "DiagnosticsService.GetDiagnostics": "",
    "DiagnosticsService.ListLogLevels": "",
    "DiagnosticsService.SetLogLevel": 'logger: "nobody" level: "debug"',
    "EncryptionService.GetEncryption": "",
    "EncryptionService.RotateKeys": "",
    "ExecutionService.CancelExecution": EXECUTION,
    "ExecutionService.GetExecution": EXECUTION,
    "ExecutionService.ListExecutions": 'parent: "namespaces/blue/jobs/-"',
    "ExecutionService.ListLedger": 'parent: "namespaces/blue/jobs/a"',
    "ExecutionService.WatchExecutions": 'parent: "namespaces/blue/jobs/-"',
    "ForecastService.GetForecast": PARENT,
    "ForecastService.ProposeSpread": PARENT,
    "JobService.ApplyJobs": f"jobs {{ {JOB} }}",
    "JobService.BatchCreateJobs": f"jobs {{ {JOB} }}",
    "JobService.CreateJob": PARENT + ' job_id: "b" job { schedules { manual {} } action { shell { argv: "true" } } }',
    "JobService.DeleteJob": BLUE,
    "JobService.GetJob": BLUE,
    "JobService.GetJobStatistics": BLUE,
    "JobService.ListJobs": PARENT,
    "JobService.PauseJob": BLUE,
    "JobService.PreviewSchedule": 'job: "namespaces/blue/jobs/a" schedule { manual {} }',
    "JobService.ResumeJob": BLUE,
    "JobService.RunJob": BLUE,
    "JobService.UpdateJob": f'job {{ {BLUE} description: "x" }} update_mask {{ paths: "description" }}',
    "LimitService.DeleteLimit": 'name: "namespaces/blue/limits/l"',
    "LimitService.GetLimit": 'name: "namespaces/blue/limits/l"',
    "LimitService.ListLimits": PARENT,
    "LimitService.SetLimit": 'name: "namespaces/blue/limits/m" max_running: 1',
    "NamespaceService.GetNamespace": 'name: "namespaces/blue"',
    "NamespaceService.ListNamespaces": "",
    "NamespaceService.UpdateNamespace": (
        'namespace { name: "namespaces/blue" max_running: 1 } update_mask { paths: "max_running" }'
    ),
    "NotificationService.DeleteNotification": RULE,
    "NotificationService.GetNotification": RULE,
    "NotificationService.ListDeliveries": 'parent: "namespaces/blue/notifications/n"',
    "NotificationService.ListNotifications": PARENT,
    "NotificationService.SetNotification": f"rule {{ {RULE} {TELLS} }}",
    "NotificationService.TestNotification": RULE,
    "OperationService.CancelOperation": 'name: "namespaces/-/operations/1"',
    "OperationService.GetOperation": 'name: "namespaces/-/operations/1"',
    "OperationService.ListOperations": PARENT,
    "OutputService.ReadOutput": EXECUTION,
    "OutputService.SearchOutput": 'parent: "namespaces/blue/jobs/a" text: "x"',
    "PauseService.ListPauses": "",
    "PauseService.Pause": 'scope: "namespaces/blue"',
    "PauseService.Resume": 'scope: "namespaces/blue"',
    "QueueService.GetQueue": 'name: "queues/default"',
    "QueueService.ListQueues": "",
    "QueueService.PauseQueue": 'name: "queues/default"',
    "QueueService.ResumeQueue": 'name: "queues/default"',
    "QueueService.UpdateQueue": 'queue { name: "queues/default" aging { seconds: 60 } } update_mask { paths: "aging" }',
    "ScheduleService.ExplainCron": 'schedule { expression: "0 2 * * *" }',
    "SecretService.DeleteSecret": 'name: "namespaces/blue/secrets/s"',
    "SecretService.ListSecrets": PARENT,
    "SecretService.SetSecret": 'name: "namespaces/blue/secrets/t" value: "x"',
    "ServerReflection.ServerReflectionInfo": 'list_services: ""',
    "StoryService.ExplainDueTime": BLUE,
    "StoryService.GetExecutionStory": EXECUTION,
    "WatchService.WatchChanges": "",
    "WatchService.WatchEvents": 'parent: "namespaces/blue/jobs/-"',
    "WorkerService.Connect": (
        'hello { worker: "w1" incarnation: "a" queues: "default" slot_count: 1 protocol_version: 1 }'
    ),
    "WorkerService.DrainWorker": 'name: "workers/w1"',
    "WorkerService.ListWorkers": "",
    "WorkflowService.GetWorkflow": BLUE,
    "WorkflowService.ListRuns": 'parent: "namespaces/blue/jobs/a"',
    "WorkflowService.ListWorkflows": PARENT,
    "WorkflowService.RerunExecution": EXECUTION,
}
"""A request of each method about what is there, in the namespace `blue` or in none."""
READS = frozenset(
    {
        *("AccessService.WhoAmI", "ActivityService.GetActivity", "BackfillService.x"),
        *("CalendarService.GetCalendar", "CalendarService.ListCalendars"),
        *("ClusterService.GetClusterStatus", "ClusterService.GetStateDigest", "ClusterService.ListMembers"),
        *("DeadLetterService.GetDeadLetter", "DeadLetterService.ListDeadLetterGroups"),
        *("DeadLetterService.ListDeadLetters", "DefinitionService.GetJobVersion", "DefinitionService.ListJobVersions"),
        *("DefinitionService.PlanJobs", "EncryptionService.GetEncryption", "ExecutionService.GetExecution"),
        *("ExecutionService.ListExecutions", "ExecutionService.ListLedger", "ExecutionService.WatchExecutions"),
        "DiagnosticsService.ListLogLevels",
        *("ForecastService.GetForecast", "ForecastService.ProposeSpread", "ScheduleService.ExplainCron"),
        *("JobService.GetJob", "JobService.GetJobStatistics", "JobService.ListJobs", "JobService.PreviewSchedule"),
        "LimitService.GetLimit",
        *("LimitService.ListLimits", "NamespaceService.GetNamespace", "NamespaceService.ListNamespaces"),
        *("NotificationService.GetNotification", "NotificationService.ListDeliveries"),
        "NotificationService.ListNotifications",
        *("OperationService.GetOperation", "OperationService.ListOperations", "OutputService.ReadOutput"),
        *("OutputService.SearchOutput", "PauseService.ListPauses", "QueueService.GetQueue", "QueueService.ListQueues"),
        *("SecretService.ListSecrets", "ServerReflection.ServerReflectionInfo", "StoryService.ExplainDueTime"),
        *("StoryService.GetExecutionStory", "WatchService.WatchChanges", "WatchService.WatchEvents"),
        "WorkerService.ListWorkers",
        *("WorkflowService.GetWorkflow", "WorkflowService.ListRuns", "WorkflowService.ListWorkflows"),
    }
) - {"BackfillService.x"}
"""What a viewer of everything may do. The rest are writes, and what only administrators and auditors see."""
OF_NO_NAMESPACE = frozenset(
    {
        *("AccessService.WhoAmI", "ClusterService.GetClusterStatus", "ClusterService.GetStateDigest"),
        *("ClusterService.ListMembers", "NamespaceService.ListNamespaces", "PauseService.ListPauses"),
        *("QueueService.GetQueue", "QueueService.ListQueues", "ServerReflection.ServerReflectionInfo"),
        *("ActivityService.GetActivity", "ScheduleService.ExplainCron", "WatchService.WatchChanges"),
        "WorkerService.ListWorkers",
    }
)
"""What whoever has a part in any namespace may see; it shows nothing of the others."""


SERVED = frozenset((*SERVICES, reflection.SERVICE_NAME))


class Method(NamedTuple):
    """One method of the API."""

    name: str
    descriptor: MethodDescriptor

    @property
    def path(self) -> str:
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"


def methods() -> Iterator[Method]:
    """All of a client's port, but for what is for anybody."""
    modules = [module.name for module in pkgutil.iter_modules(horologe.v1.__path__) if module.name.endswith("_pb2")]
    files = [importlib.import_module(f"horologe.v1.{module}").DESCRIPTOR for module in modules]
    for file in (*files, reflection_pb2.DESCRIPTOR):
        for service in file.services_by_name.values():
            for method in service.methods if service.full_name in SERVED else ():
                yield Method(f"{service.name}.{method.name}", method)


ALL = {method.name: method for method in methods()}


class SecureCluster:
    """One secure node, and somebody with every kind of token."""

    def __init__(self, governed: GovernedNode) -> None:
        self.governed = governed
        self.channel = governed.channel
        self.admin = governed.admin
        self.tokens: dict[str, str] = {"nobody": "", "admin": governed.admin}

    async def call(self, name: str, token: str, text: str | None = None) -> Any:
        """The answer, or the first one of a stream. Raises AioRpcError."""
        method = ALL[name].descriptor
        request = message_factory.GetMessageClass(method.input_type)()
        id_ = self.admin.split("_")[1]
        text_format.Parse((REQUESTS[name] if text is None else text).replace("{token}", id_), request)
        kind = {(False, False): "unary_unary", (False, True): "unary_stream", (True, True): "stream_stream"}[
            (method.client_streaming, method.server_streaming)
        ]
        stub = getattr(self.channel, kind)(
            ALL[name].path,
            request_serializer=message_factory.GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        if kind == "unary_unary":
            return await stub(request, metadata=metadata, timeout=60)
        call = stub(request, metadata=metadata, timeout=60) if kind == "unary_stream" else stub(metadata=metadata)
        if kind == "stream_stream":
            with suppress(asyncio.InvalidStateError):  # refused before it was asked
                await call.write(request)
        try:
            return await call.read()
        finally:
            call.cancel()

    async def somebody(self, name: str, role: int, namespace: str, seconds: int = 3_600) -> str:
        grant = access_pb2.Grant(subject=name, namespace=namespace, role=role)
        await self.call("AccessService.SetGrant", self.admin, text_format.MessageToString(
            access_service_pb2.SetGrantRequest(grant=grant)))  # fmt: skip
        answer = await self.call(
            "AccessService.CreateToken", self.admin, f'principal: "{name}" time_to_live {{ seconds: {seconds} }}'
        )
        self.tokens[name] = answer.secret
        return answer.secret

    async def refused(self, name: str, token: str) -> grpc.StatusCode:
        try:
            answer = await self.call(name, token)
        except grpc.aio.AioRpcError as error:
            return error.code()
        raise AssertionError(f"{name} was not refused: {answer}")

    def digest(self) -> str:
        """Over everything that is kept but for the audit log."""
        digest = hashlib.sha256()
        with self.governed.node.context.store.read() as tables:
            for name in sorted(set(TABLE_NAMES) - AUDIT_TABLES):
                for key, value in getattr(tables, name).scan():
                    digest.update(f"{name} {len(key)} {len(value)} ".encode() + bytes(key) + bytes(value))
        return digest.hexdigest()


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SecureCluster]:
    # Here all failures shall be seen, and not that there are many.
    monkeypatch.setattr(authentication, "FAILURES_BURST", 1e6)
    async with governed_node(tmp_path) as node:
        cluster = SecureCluster(node)
        await prepare(cluster)
        yield cluster


async def prepare(cluster: SecureCluster) -> None:
    """Something of everything, and somebody of every kind."""
    for name, text in (
        ("JobService.CreateJob", REQUESTS["JobService.CreateJob"].replace('"b"', '"a"')),
        ("JobService.RunJob", BLUE),
        ("CalendarService.SetCalendar", 'calendar { name: "namespaces/blue/calendars/c" }'),
        ("LimitService.SetLimit", 'name: "namespaces/blue/limits/l" max_running: 1'),
        ("SecretService.SetSecret", 'name: "namespaces/blue/secrets/s" value: "x"'),
        ("NotificationService.SetNotification", f"rule {{ {RULE} {TELLS} }}"),
        ("DeadLetterService.RedriveDeadLetters", PARENT),
    ):
        await cluster.call(name, cluster.admin, text)
    await cluster.somebody("viewer", Role.ROLE_VIEWER, "*")
    await cluster.somebody("red", Role.ROLE_ADMIN, "red")
    await cluster.somebody("gone", Role.ROLE_ADMIN, "*")
    await cluster.somebody("late", Role.ROLE_ADMIN, "*", seconds=1)
    id_ = cluster.tokens["gone"].split("_")[1]
    await cluster.call("AccessService.RevokeToken", cluster.admin, f'name: "tokens/{id_}"')

    async def is_late() -> bool:
        try:
            await cluster.call("AccessService.WhoAmI", cluster.tokens["late"])
        except grpc.aio.AioRpcError:
            return True
        return False

    await eventually(is_late, 60, "the short token is over")

    async def is_quiet() -> bool:
        operation = await cluster.call("OperationService.GetOperation", cluster.admin)
        return operation.operation.HasField("end_time")

    await eventually(is_quiet, 60, "the operation is over")


def test_every_method_has_a_request():
    assert REQUESTS.keys() >= ALL.keys()
    assert OF_NO_NAMESPACE < READS < REQUESTS.keys()


async def test_every_call_of_those_who_may_not_is_refused_changes_nothing_and_is_written_down(cluster: SecureCluster):
    denied, unknown = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
    names = set(ALL)
    cases: Sequence[tuple[str, set[str], grpc.StatusCode]] = (
        ("nobody", names, unknown),
        ("viewer", names - READS, denied),
        ("red", names - OF_NO_NAMESPACE, denied),
        ("late", names, unknown),
        ("gone", names, unknown),
    )
    before = cluster.digest()
    for who, calls, status in cases:
        token = cluster.tokens[who]
        for name in sorted(calls):
            assert await cluster.refused(name, token) is status, f"{name} by {who}"
    assert cluster.digest() == before
    found = {
        (record.method, record.principal, record.token, record.reason) for record in await cluster.governed.refusals()
    }
    for who, calls, status in cases:
        principal = who if status is denied else ""
        id_ = cluster.tokens[who].split("_")[1] if cluster.tokens[who] else ""
        missing = {(name, principal, id_, status.name) for name in calls} - found
        assert not missing, missing


async def test_health_says_nothing_but_whether_it_serves(cluster: SecureCluster):
    check = cluster.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    assert (await check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING


async def test_what_they_may_is_not_refused(cluster: SecureCluster):
    """So that the refusals above mean something: who may, gets another answer."""
    refusals = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
    for who, calls in (("viewer", READS), ("red", OF_NO_NAMESPACE)):
        for name in sorted(
            (calls & ALL.keys()) - {"ExecutionService.WatchExecutions", "ClusterService.GetStateDigest"}
        ):
            try:
                await cluster.call(name, cluster.tokens[who])
            except grpc.aio.AioRpcError as error:
                assert error.code() not in refusals, f"{name} by {who}: {error.details()}"
