"""Where each method of the API is found over HTTP: the one table, in the manner of google.api.http and the AIPs.

Everything else is derived from the proto: what is not in the path is in the body (`body`: the whole request, or one field of
it), and what is in neither is a query parameter. A new method needs a row here; tests/unit/node/test_http_routes.py says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

STAR = "*"
WHOLE = "*"
_PIECE = re.compile(r"\{([\w.]+)=([^}]+)\}|([^/{}]+)")
_JOB = "namespaces/*/jobs/*"
_RULE = "namespaces/*/notifications/*"
_EXECUTION = f"{_JOB}/executions/*"


@dataclass(frozen=True, slots=True)
class Route:
    """How one method is called."""

    verb: str
    template: str
    body: str = ""
    """Empty: it has none. `*`: the request without what is in the path. Else the field that it is."""
    also: str = ""
    """A second path, for requests that leave the name in the first one empty."""

    @property
    def templates(self) -> tuple[Template, ...]:
        return tuple(Template(text) for text in (self.template, self.also) if text)


@dataclass(frozen=True)
class Template:
    """A path with fields of the request in it, as `/v1/{name=namespaces/*/jobs/*}:pause`."""

    text: str

    @cached_property
    def verb(self) -> str:
        """`pause`; of a path without one, nothing."""
        return self.text.rpartition(":")[2] if ":" in self.text.rpartition("/")[2] else ""

    @cached_property
    def _pieces(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Field and segments; the field is empty for what is always the same."""
        path = self.text.removesuffix(f":{self.verb}") if self.verb else self.text
        return tuple(
            (found[1], tuple(found[2].split("/"))) if found[1] else ("", (found[3],)) for found in _PIECE.finditer(path)
        )

    @cached_property
    def segments(self) -> tuple[str, ...]:
        """Of the path, with a star for each that may be anything."""
        return tuple(segment for _, segments in self._pieces for segment in segments)

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Of the request, that are in the path."""
        return tuple(field for field, _ in self._pieces if field)

    @cached_property
    def named(self) -> tuple[tuple[str, str], ...]:
        """A name for each star, `namespace` and `job` in the example, and the field that it is in."""
        found = []
        for field, segments in self._pieces:
            for position, segment in enumerate(segments):
                if segment == STAR:
                    name = segments[position - 1].removesuffix("s") if position else field.rpartition(".")[2]
                    found.append((name, field))
        return tuple(found)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names."""
        return tuple(name for name, _ in self.named)

    @cached_property
    def public(self) -> str:
        """As OpenAPI writes it: `/v1/namespaces/{namespace}/jobs/{job}:pause`."""
        names = iter(self.parameters)
        path = "/".join(f"{{{next(names)}}}" if segment == STAR else segment for segment in self.segments)
        return f"/{path}:{self.verb}" if self.verb else f"/{path}"

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        """The values of the fields in a path; None if it is another one. The custom verb is not part of it."""
        if len(segments) != len(self.segments):
            return None
        if any(own not in (STAR, given) or not given for own, given in zip(self.segments, segments, strict=True)):
            return None
        values, start = {}, 0
        for field, own in self._pieces:
            if field:
                values[field] = "/".join(segments[start : start + len(own)])
            start += len(own)
        return values


ROUTES: Mapping[str, Route] = {
    "AccessService.WhoAmI": Route("GET", "/v1/whoami"),
    "AccessService.CreateToken": Route("POST", "/v1/tokens", WHOLE),
    "AccessService.ListTokens": Route("GET", "/v1/tokens"),
    "AccessService.RevokeToken": Route("POST", "/v1/{name=tokens/*}:revoke", WHOLE),
    "AccessService.SetGrant": Route("PUT", "/v1/namespaces/{grant.namespace=*}/grants/{grant.subject=*}", body="grant"),
    "AccessService.DeleteGrant": Route("DELETE", "/v1/namespaces/{namespace=*}/grants/{subject=*}"),
    "AccessService.ListGrants": Route("GET", "/v1/grants"),
    "AccessService.UpdatePrincipal": Route("PATCH", "/v1/principals/{name=*}", WHOLE),
    "AccessService.ListPrincipals": Route("GET", "/v1/principals"),
    "ActivityService.GetActivity": Route("GET", "/v1/activity"),
    "AuditService.ListAuditRecords": Route("GET", "/v1/auditRecords"),
    "AuditService.GetAuditCheckpoint": Route("GET", "/v1/auditCheckpoint"),
    "AuditService.ExportAuditRecords": Route("GET", "/v1/auditRecords:export"),
    "BackfillService.BackfillJob": Route("POST", f"/v1/{{name={_JOB}}}:backfill", WHOLE),
    "BackupService.CreateBackup": Route("POST", "/v1/backups", WHOLE),
    "CalendarService.SetCalendar": Route("PUT", "/v1/{calendar.name=namespaces/*/calendars/*}", body="calendar"),
    "CalendarService.GetCalendar": Route("GET", "/v1/{name=namespaces/*/calendars/*}"),
    "CalendarService.ListCalendars": Route("GET", "/v1/{parent=namespaces/*}/calendars"),
    "CalendarService.DeleteCalendar": Route("DELETE", "/v1/{name=namespaces/*/calendars/*}"),
    "ClusterService.GetClusterStatus": Route("GET", "/v1/cluster"),
    "ClusterService.ListMembers": Route("GET", "/v1/members"),
    "ClusterService.TransferLeader": Route("POST", "/v1/cluster:transferLeader", WHOLE),
    "ClusterService.UpgradeCluster": Route("POST", "/v1/cluster:upgrade", WHOLE),
    "ClusterService.AddMember": Route("POST", "/v1/members", WHOLE),
    "ClusterService.PromoteMember": Route("POST", "/v1/members/{name=*}:promote", WHOLE),
    "ClusterService.RemoveMember": Route("DELETE", "/v1/members/{name=*}"),
    "ClusterService.TakeCheckpoint": Route("POST", "/v1/cluster:takeCheckpoint", WHOLE),
    "ClusterService.GetStateDigest": Route("GET", "/v1/cluster/stateDigest"),
    "DeadLetterService.GetDeadLetter": Route("GET", f"/v1/{{name={_EXECUTION}}}/deadLetter"),
    "DeadLetterService.ListDeadLetters": Route("GET", "/v1/{parent=namespaces/*}/deadLetters"),
    "DeadLetterService.ListDeadLetterGroups": Route("GET", "/v1/{parent=namespaces/*}/deadLetterGroups"),
    "DeadLetterService.RedriveDeadLetter": Route("POST", f"/v1/{{name={_EXECUTION}}}:redrive", WHOLE),
    "DeadLetterService.RedriveDeadLetters": Route("POST", "/v1/{parent=namespaces/*}/deadLetters:redrive", WHOLE),
    "DeadLetterService.PurgeDeadLetter": Route("POST", f"/v1/{{name={_EXECUTION}}}:purge", WHOLE),
    "DeadLetterService.PurgeDeadLetters": Route("POST", "/v1/{parent=namespaces/*}/deadLetters:purge", WHOLE),
    "DefinitionService.PlanJobs": Route("POST", "/v1/jobs:plan", WHOLE),
    "DefinitionService.ApplyPlan": Route("POST", "/v1/jobs:applyPlan", WHOLE),
    "DefinitionService.ListJobVersions": Route("GET", f"/v1/{{parent={_JOB}}}/versions"),
    "DefinitionService.GetJobVersion": Route("GET", f"/v1/{{name={_JOB}}}/versions/{{job_revision=*}}"),
    "DiagnosticsService.ListLogLevels": Route("GET", "/v1/logLevels"),
    "DiagnosticsService.SetLogLevel": Route("POST", "/v1/logLevels:set", WHOLE),
    "DiagnosticsService.GetDiagnostics": Route("GET", "/v1/diagnostics"),
    "EncryptionService.GetEncryption": Route("GET", "/v1/encryption"),
    "EncryptionService.RotateKeys": Route("POST", "/v1/encryption:rotateKeys", WHOLE),
    "ExecutionService.GetExecution": Route("GET", f"/v1/{{name={_EXECUTION}}}"),
    "ExecutionService.ListExecutions": Route("GET", f"/v1/{{parent={_JOB}}}/executions"),
    "ExecutionService.CancelExecution": Route("POST", f"/v1/{{name={_EXECUTION}}}:cancel", WHOLE),
    "ExecutionService.WatchExecutions": Route("GET", f"/v1/{{parent={_JOB}}}/executions:watch"),
    "ExecutionService.ListLedger": Route("GET", f"/v1/{{parent={_JOB}}}/ledger"),
    "ForecastService.GetForecast": Route("GET", "/v1/{parent=namespaces/*}/forecast"),
    "ForecastService.ProposeSpread": Route("POST", "/v1/{parent=namespaces/*}/forecast:proposeSpread", WHOLE),
    "JobService.CreateJob": Route("POST", "/v1/{parent=namespaces/*}/jobs", body="job"),
    "JobService.BatchCreateJobs": Route("POST", "/v1/jobs:batchCreate", WHOLE),
    "JobService.ApplyJobs": Route("POST", "/v1/jobs:apply", WHOLE),
    "JobService.GetJob": Route("GET", f"/v1/{{name={_JOB}}}"),
    "JobService.GetJobStatistics": Route("GET", f"/v1/{{name={_JOB}}}/statistics"),
    "JobService.ListJobs": Route("GET", "/v1/{parent=namespaces/*}/jobs"),
    "JobService.UpdateJob": Route("PATCH", f"/v1/{{job.name={_JOB}}}", body="job"),
    "JobService.DeleteJob": Route("DELETE", f"/v1/{{name={_JOB}}}"),
    "JobService.PauseJob": Route("POST", f"/v1/{{name={_JOB}}}:pause", WHOLE),
    "JobService.ResumeJob": Route("POST", f"/v1/{{name={_JOB}}}:resume", WHOLE),
    "JobService.RunJob": Route("POST", f"/v1/{{name={_JOB}}}:run", WHOLE),
    "JobService.PreviewSchedule": Route("POST", "/v1/jobs:previewSchedule", WHOLE),
    "LimitService.SetLimit": Route("PUT", "/v1/{name=namespaces/*/limits/*}", WHOLE),
    "LimitService.GetLimit": Route("GET", "/v1/{name=namespaces/*/limits/*}"),
    "LimitService.ListLimits": Route("GET", "/v1/{parent=namespaces/*}/limits"),
    "LimitService.DeleteLimit": Route("DELETE", "/v1/{name=namespaces/*/limits/*}"),
    "NamespaceService.ListNamespaces": Route("GET", "/v1/namespaces"),
    "NamespaceService.GetNamespace": Route("GET", "/v1/{name=namespaces/*}"),
    "NamespaceService.UpdateNamespace": Route("PATCH", "/v1/{namespace.name=namespaces/*}", body="namespace"),
    "NotificationService.SetNotification": Route(
        "PUT", f"/v1/{{rule.name={_RULE}}}", body="rule", also="/v1/{rule.name=notifications/*}"
    ),
    "NotificationService.GetNotification": Route("GET", f"/v1/{{name={_RULE}}}", also="/v1/{name=notifications/*}"),
    "NotificationService.ListNotifications": Route(
        "GET", "/v1/{parent=namespaces/*}/notifications", also="/v1/{parent=cluster}/notifications"
    ),
    "NotificationService.DeleteNotification": Route(
        "DELETE", f"/v1/{{name={_RULE}}}", also="/v1/{name=notifications/*}"
    ),
    "NotificationService.ListDeliveries": Route(
        "GET", f"/v1/{{parent={_RULE}}}/deliveries", also="/v1/{parent=notifications/*}/deliveries"
    ),
    "NotificationService.TestNotification": Route(
        "POST", f"/v1/{{name={_RULE}}}:test", WHOLE, also="/v1/{name=notifications/*}:test"
    ),
    "OperationService.GetOperation": Route("GET", "/v1/{name=namespaces/*/operations/*}"),
    "OperationService.ListOperations": Route("GET", "/v1/{parent=namespaces/*}/operations"),
    "OperationService.CancelOperation": Route("POST", "/v1/{name=namespaces/*/operations/*}:cancel", WHOLE),
    "OutputService.ReadOutput": Route("GET", f"/v1/{{name={_EXECUTION}}}/output"),
    "OutputService.SearchOutput": Route("GET", f"/v1/{{parent={_JOB}}}/output:search"),
    "PauseService.Pause": Route("POST", "/v1/{scope=namespaces/*}:pause", WHOLE, also="/v1/cluster:pause"),
    "PauseService.Resume": Route("POST", "/v1/{scope=namespaces/*}:resume", WHOLE, also="/v1/cluster:resume"),
    "PauseService.ListPauses": Route("GET", "/v1/pauses"),
    "QueueService.ListQueues": Route("GET", "/v1/queues"),
    "QueueService.GetQueue": Route("GET", "/v1/{name=queues/*}"),
    "QueueService.UpdateQueue": Route("PATCH", "/v1/{queue.name=queues/*}", body="queue"),
    "QueueService.PauseQueue": Route("POST", "/v1/{name=queues/*}:pause", WHOLE),
    "QueueService.ResumeQueue": Route("POST", "/v1/{name=queues/*}:resume", WHOLE),
    "ScheduleService.ExplainCron": Route("POST", "/v1/cron:explain", WHOLE),
    "SecretService.SetSecret": Route("PUT", "/v1/{name=namespaces/*/secrets/*}", WHOLE),
    "SecretService.ListSecrets": Route("GET", "/v1/{parent=namespaces/*}/secrets"),
    "SecretService.DeleteSecret": Route("DELETE", "/v1/{name=namespaces/*/secrets/*}"),
    "StoryService.ExplainDueTime": Route("GET", f"/v1/{{name={_JOB}}}:explain"),
    "StoryService.GetExecutionStory": Route("GET", f"/v1/{{name={_EXECUTION}}}/story"),
    "WatchService.WatchChanges": Route("GET", "/v1/changes:watch"),
    "WatchService.WatchEvents": Route("GET", f"/v1/{{parent={_JOB}}}/events:watch"),
    "WorkerService.ListWorkers": Route("GET", "/v1/workers"),
    "WorkerService.DrainWorker": Route("POST", "/v1/{name=workers/*}:drain", WHOLE),
    "WorkflowService.ListWorkflows": Route("GET", "/v1/{parent=namespaces/*}/workflows"),
    "WorkflowService.GetWorkflow": Route("GET", f"/v1/{{name={_JOB}}}/workflow"),
    "WorkflowService.ListRuns": Route("GET", f"/v1/{{parent={_JOB}}}/runs"),
    "WorkflowService.RerunExecution": Route("POST", f"/v1/{{name={_EXECUTION}}}:rerun", WHOLE),
}
"""By service and method. `WorkerService.Connect` is for workers, over gRPC."""
