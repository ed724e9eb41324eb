"""What callers may do: one rule for every method of the API, and the check of it before the service hears of the call.

The state decides over every write again, by the same verbs; what is refused here is refused early, and reads are refused here
alone. A method without a rule is refused. The order of a check: does the caller have the verb anywhere, which objects is the
request about, does it have the verb for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from horologe.node import objects
from horologe.node.callers import Caller, CallerKind
from horologe.node.errors import ApiError
from horologe.node.objects import Objects, Thing
from horologe.node.tokens import RESOURCE
from horologe.raft.access import EVERYWHERE, Verb
from horologe.raft.tables import Tables


class DeniedError(ApiError):
    """The caller may not. Knows what it asked for, for the audit log; the text says no more than the caller knows."""

    def __init__(self, caller: Caller, what: str, things: Sequence[Thing] = ()) -> None:
        who = caller.principal or "the caller"
        super().__init__(
            "PERMISSION_DENIED", f"{who} may not: {what}; ask an administrator for it, or use another token"
        )
        self.objects = tuple(thing.name for thing in things if thing.name)


class Rule(Protocol):
    """Who may call a method."""

    def check(self, tables: Tables, caller: Caller, request: Any) -> None:
        """Raises DeniedError, or another ApiError if the request cannot be read."""


@dataclass(frozen=True)
class Open:
    """Anybody, also who has proved nothing."""

    def check(self, tables: Tables, caller: Caller, request: Any) -> None:
        """Never refuses."""


@dataclass(frozen=True)
class Authenticated:
    """Everybody whom the cluster knows; the service shows each its own."""

    def check(self, tables: Tables, caller: Caller, request: Any) -> None:
        if not caller.principal:
            raise DeniedError(caller, "this is for those whom the cluster knows")


@dataclass(frozen=True)
class InNamespace:
    """Whoever has the verb for each object of the request."""

    verb: Verb
    objects: Objects
    own: tuple[Verb, ...] = ()
    """With these verbs it may be done to what runs in the caller's own name."""

    def check(self, tables: Tables, caller: Caller, request: Any) -> None:
        rights = caller.rights
        if not any(rights.may_somewhere(verb) for verb in (self.verb, *self.own)):
            raise DeniedError(caller, f"it has no right {self.verb}", _names_in(request))
        things: list[Thing] = []
        is_denied = False
        for thing in self.objects(tables, request):
            things.append(thing)
            is_denied |= not self._may(caller, thing)
        if is_denied or (not things and not rights.may_somewhere(self.verb)):
            raise DeniedError(caller, f"it has no right {self.verb} there", things)

    def _may(self, caller: Caller, thing: Thing) -> bool:
        if caller.rights.may(self.verb, thing.namespace):
            return True
        if not self.own or not thing.owner or thing.owner != caller.principal:
            return False
        enough = (thing.own_verb,) if thing.own_verb else self.own
        return any(caller.rights.may(verb, thing.namespace) for verb in enough)


@dataclass(frozen=True)
class Somewhere:
    """Whoever has the verb in any namespace: for what belongs to none, and what everybody with a part in it may see."""

    verb: Verb

    def check(self, tables: Tables, caller: Caller, request: Any) -> None:
        if not caller.rights.may_somewhere(self.verb):
            raise DeniedError(caller, f"it has no right {self.verb}", _names_in(request))


@dataclass(frozen=True)
class Everywhere:
    """Whoever has the verb in all namespaces."""

    verb: Verb

    def check(self, tables: Tables, caller: Caller, request: Any) -> None:
        if not caller.rights.may(self.verb, EVERYWHERE):
            raise DeniedError(caller, f"it has no right {self.verb} everywhere", _names_in(request))


@dataclass(frozen=True)
class Workers:
    """Workers, by their certificates."""

    def check(self, tables: Tables, caller: Caller, request: Any) -> None:
        if caller.kind is not CallerKind.WORKER:
            raise DeniedError(caller, "this is for workers, which come to the workers' port with a certificate")


@dataclass(frozen=True)
class Oneself:
    """Clients, for themselves; for others, whoever passes another rule."""

    field: str
    """Names the principal; empty: the caller's own."""
    others: Rule
    is_empty_own: bool = True

    def check(self, tables: Tables, caller: Caller, request: Any) -> None:
        whose = _principal_of(tables, self.field, request)
        is_own = whose == caller.principal or (whose == "" and self.is_empty_own)
        if not (is_own and caller.principal and caller.kind is CallerKind.CLIENT):
            self.others.check(tables, caller, request)


def _principal_of(tables: Tables, name: str, request: Any) -> str:
    """Whose it is: a field says so, or the token that it names."""
    text = str(getattr(request, name))
    if not text.startswith(RESOURCE):
        return text
    return objects.owner_of_token(tables, text.removeprefix(RESOURCE))


def _names_in(request: Any) -> Sequence[Thing]:
    """What the request calls its objects, where nobody has looked at them."""
    found = (getattr(request, name, "") for name in ("name", "parent", "subject", "principal", "target", "scope"))
    return [Thing("", text) for text in found if isinstance(text, str) and text]


_READ, _WRITE, _RUN = Verb.JOB_READ, Verb.JOB_WRITE, Verb.JOB_RUN

LOCAL_ACTIONS = frozenset(
    {
        "BackupService.CreateBackup",
        "ClusterService.TransferLeader",
        "DiagnosticsService.GetDiagnostics",
        "DiagnosticsService.SetLogLevel",
        "EncryptionService.RotateKeys",
        "NotificationService.TestNotification",
    }
)
"""What a node does by itself when it is asked: no command of the log tells of it."""

RULES: Mapping[str, Rule] = {
    "ActivityService.GetActivity": Somewhere(Verb.CLUSTER_READ),
    "AccessService.WhoAmI": Authenticated(),
    "AccessService.CreateToken": Oneself("principal", Everywhere(Verb.ACCESS_WRITE)),
    "AccessService.ListTokens": Oneself("principal", Everywhere(Verb.ACCESS_READ)),
    "AccessService.RevokeToken": Oneself("name", Everywhere(Verb.ACCESS_WRITE), is_empty_own=False),
    "AccessService.SetGrant": InNamespace(Verb.ACCESS_WRITE, objects.bare_namespace_in("grant.namespace")),
    "AccessService.DeleteGrant": InNamespace(Verb.ACCESS_WRITE, objects.bare_namespace_in("namespace")),
    "AccessService.ListGrants": Oneself(
        "subject", InNamespace(Verb.ACCESS_READ, objects.bare_namespace_in("namespace")), is_empty_own=False
    ),
    "AccessService.UpdatePrincipal": Everywhere(Verb.ACCESS_WRITE),
    "AccessService.ListPrincipals": Everywhere(Verb.ACCESS_READ),
    "AuditService.ListAuditRecords": Everywhere(Verb.AUDIT_READ),
    "AuditService.GetAuditCheckpoint": Everywhere(Verb.AUDIT_READ),
    "AuditService.ExportAuditRecords": Everywhere(Verb.AUDIT_READ),
    "BackfillService.BackfillJob": InNamespace(_RUN, objects.job_in("name")),
    "BackupService.CreateBackup": Everywhere(Verb.CLUSTER_BACKUP),
    "CalendarService.SetCalendar": InNamespace(Verb.CALENDAR_WRITE, objects.named_in("calendar.name")),
    "CalendarService.GetCalendar": InNamespace(_READ, objects.named_in("name")),
    "CalendarService.ListCalendars": InNamespace(_READ, objects.namespace_in("parent")),
    "CalendarService.DeleteCalendar": InNamespace(Verb.CALENDAR_WRITE, objects.named_in("name")),
    "ClusterService.GetClusterStatus": Somewhere(Verb.CLUSTER_READ),
    "ClusterService.ListMembers": Somewhere(Verb.CLUSTER_READ),
    "ClusterService.TransferLeader": Everywhere(Verb.CLUSTER_WRITE),
    "ClusterService.UpgradeCluster": Everywhere(Verb.CLUSTER_WRITE),
    "ClusterService.AddMember": Everywhere(Verb.CLUSTER_WRITE),
    "ClusterService.PromoteMember": Everywhere(Verb.CLUSTER_WRITE),
    "ClusterService.RemoveMember": Everywhere(Verb.CLUSTER_WRITE),
    "ClusterService.TakeCheckpoint": Everywhere(Verb.CLUSTER_WRITE),
    "ClusterService.GetStateDigest": Somewhere(Verb.CLUSTER_READ),
    "DeadLetterService.GetDeadLetter": InNamespace(_READ, objects.execution_in("name")),
    "DeadLetterService.ListDeadLetters": InNamespace(_READ, objects.namespace_in("parent")),
    "DeadLetterService.ListDeadLetterGroups": InNamespace(_READ, objects.namespace_in("parent")),
    "DeadLetterService.RedriveDeadLetter": InNamespace(_RUN, objects.execution_in("name")),
    "DeadLetterService.RedriveDeadLetters": InNamespace(_RUN, objects.dead_letters),
    "DeadLetterService.PurgeDeadLetter": InNamespace(Verb.DEAD_LETTER_PURGE, objects.execution_in("name")),
    "DeadLetterService.PurgeDeadLetters": InNamespace(Verb.DEAD_LETTER_PURGE, objects.dead_letters),
    # Of a set that it prunes it shows only jobs of namespaces that the caller may read.
    "DefinitionService.PlanJobs": InNamespace(_READ, objects.jobs_in("jobs")),
    "DefinitionService.ApplyPlan": InNamespace(_WRITE, objects.jobs_in("jobs", "deletions")),
    "DefinitionService.ListJobVersions": InNamespace(_READ, objects.job_in("parent")),
    "DefinitionService.GetJobVersion": InNamespace(_READ, objects.job_in("name")),
    "DiagnosticsService.ListLogLevels": Everywhere(Verb.CLUSTER_READ),
    "DiagnosticsService.SetLogLevel": Everywhere(Verb.CLUSTER_WRITE),
    # Its log names principals and addresses of all namespaces.
    "DiagnosticsService.GetDiagnostics": Everywhere(Verb.CLUSTER_WRITE),
    "EncryptionService.GetEncryption": Everywhere(Verb.CLUSTER_READ),
    "EncryptionService.RotateKeys": Everywhere(Verb.CLUSTER_WRITE),
    "ExecutionService.GetExecution": InNamespace(_READ, objects.execution_in("name")),
    "ExecutionService.ListExecutions": InNamespace(_READ, objects.pattern_in("parent")),
    "ExecutionService.CancelExecution": InNamespace(Verb.JOB_CANCEL, objects.execution_in("name"), own=(_WRITE,)),
    "ExecutionService.WatchExecutions": InNamespace(_READ, objects.pattern_in("parent")),
    "ExecutionService.ListLedger": InNamespace(_READ, objects.job_in("parent")),
    "ForecastService.GetForecast": InNamespace(_READ, objects.namespace_in("parent")),
    "ForecastService.ProposeSpread": InNamespace(_READ, objects.namespace_in("parent")),
    "Health.Check": Open(),
    "Health.List": Open(),
    "Health.Watch": Open(),
    "JobService.CreateJob": InNamespace(_WRITE, objects.new_job),
    "JobService.BatchCreateJobs": InNamespace(_WRITE, objects.jobs_in("jobs")),
    "JobService.ApplyJobs": InNamespace(_WRITE, objects.jobs_in("jobs")),
    "JobService.GetJob": InNamespace(_READ, objects.job_in("name")),
    "JobService.GetJobStatistics": InNamespace(_READ, objects.job_in("name")),
    "JobService.ListJobs": InNamespace(_READ, objects.namespace_in("parent")),
    "JobService.UpdateJob": InNamespace(_WRITE, objects.job_in("job.name")),
    "JobService.DeleteJob": InNamespace(_WRITE, objects.job_in("name")),
    "JobService.PauseJob": InNamespace(Verb.JOB_PAUSE, objects.job_in("name"), own=(_WRITE,)),
    "JobService.ResumeJob": InNamespace(Verb.JOB_PAUSE, objects.job_in("name"), own=(_WRITE,)),
    "JobService.RunJob": InNamespace(_RUN, objects.job_in("name")),
    "JobService.PreviewSchedule": InNamespace(_READ, objects.preview),
    "LimitService.SetLimit": InNamespace(Verb.LIMIT_WRITE, objects.named_in("name")),
    "LimitService.GetLimit": InNamespace(_READ, objects.named_in("name")),
    "LimitService.ListLimits": InNamespace(_READ, objects.namespace_in("parent")),
    "LimitService.DeleteLimit": InNamespace(Verb.LIMIT_WRITE, objects.named_in("name")),
    # Shows only namespaces that the caller may read.
    "NamespaceService.ListNamespaces": Authenticated(),
    "NamespaceService.GetNamespace": InNamespace(_READ, objects.namespace_in("name")),
    "NamespaceService.UpdateNamespace": InNamespace(Verb.NAMESPACE_WRITE, objects.namespace_in("namespace.name")),
    "NotificationService.SetNotification": InNamespace(Verb.NOTIFICATION_WRITE, objects.notification_in("rule.name")),
    "NotificationService.GetNotification": InNamespace(_READ, objects.notification_in("name")),
    "NotificationService.ListNotifications": InNamespace(_READ, objects.notifications_in("parent")),
    "NotificationService.DeleteNotification": InNamespace(Verb.NOTIFICATION_WRITE, objects.notification_in("name")),
    "NotificationService.ListDeliveries": InNamespace(_READ, objects.notification_in("parent")),
    "NotificationService.TestNotification": InNamespace(Verb.NOTIFICATION_WRITE, objects.notification_in("name")),
    "OperationService.GetOperation": InNamespace(_READ, objects.operation_in("name")),
    "OperationService.ListOperations": InNamespace(_READ, objects.namespace_in("parent")),
    "OperationService.CancelOperation": InNamespace(
        Verb.JOB_CANCEL, objects.operation_in("name"), own=(_RUN, Verb.DEAD_LETTER_PURGE)
    ),
    "OutputService.ReadOutput": InNamespace(Verb.OUTPUT_READ, objects.execution_in("name")),
    "OutputService.SearchOutput": InNamespace(Verb.OUTPUT_READ, objects.job_in("parent")),
    "PauseService.Pause": InNamespace(Verb.JOB_PAUSE, objects.namespace_in("scope", is_default_everywhere=True)),
    "PauseService.Resume": InNamespace(Verb.JOB_PAUSE, objects.namespace_in("scope", is_default_everywhere=True)),
    # Shows only the pauses of namespaces that the caller may read, and that of the cluster.
    "PauseService.ListPauses": Somewhere(_READ),
    "QueueService.ListQueues": Somewhere(Verb.QUEUE_READ),
    "QueueService.GetQueue": Somewhere(Verb.QUEUE_READ),
    "QueueService.UpdateQueue": Everywhere(Verb.QUEUE_WRITE),
    "QueueService.PauseQueue": Everywhere(Verb.QUEUE_WRITE),
    "QueueService.ResumeQueue": Everywhere(Verb.QUEUE_WRITE),
    # Computes, and knows nothing of the cluster.
    "ScheduleService.ExplainCron": Authenticated(),
    "SecretService.SetSecret": InNamespace(Verb.SECRET_WRITE, objects.named_in("name")),
    "SecretService.ListSecrets": InNamespace(Verb.SECRET_LIST, objects.namespace_in("parent")),
    "SecretService.DeleteSecret": InNamespace(Verb.SECRET_WRITE, objects.named_in("name")),
    "ServerReflection.ServerReflectionInfo": Authenticated(),
    "StoryService.ExplainDueTime": InNamespace(_READ, objects.job_in("name")),
    "StoryService.GetExecutionStory": InNamespace(_READ, objects.execution_in("name")),
    "WatchService.WatchChanges": Authenticated(),
    "WatchService.WatchEvents": InNamespace(_READ, objects.pattern_in("parent")),
    "WorkerService.Connect": Workers(),
    "WorkerService.ListWorkers": Somewhere(Verb.WORKER_READ),
    "WorkerService.DrainWorker": Everywhere(Verb.WORKER_DRAIN),
    "WorkflowService.ListWorkflows": InNamespace(_READ, objects.namespace_in("parent")),
    "WorkflowService.GetWorkflow": InNamespace(_READ, objects.job_in("name")),
    "WorkflowService.ListRuns": InNamespace(_READ, objects.job_in("parent")),
    "WorkflowService.RerunExecution": InNamespace(_RUN, objects.execution_in("name")),
}
"""By service and method."""


def is_open(method: str) -> bool:
    """Whether the method is for anybody."""
    return isinstance(RULES.get(method), Open)


def check(tables: Tables, caller: Caller, request: Any) -> None:
    """Raises DeniedError if the caller may not do this, or another ApiError if nobody can tell."""
    rule = RULES.get(caller.method)
    if rule is None:
        raise DeniedError(caller, "nobody has said who may call this")
    rule.check(tables, caller, request)
