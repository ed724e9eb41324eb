"""A cluster in memory, behind real gRPC on a loopback port: canned behaviour, and failures on demand.

Keeps jobs and executions just well enough for the SDK and the command line to be tried; says nothing about the real
cluster's rules.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from fake_access import FakeAccess
from fake_audit import FakeAudit
from fake_forecast import FakeForecast
from fake_governing import FakeGoverning
from fake_operations import FakeOperations
from fake_workflows import FakeWorkflows
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from horologe.client import (
    access_calls,
    activity_calls,
    audit_calls,
    calls,
    cluster_calls,
    definition_calls,
    forecast_calls,
    governing_calls,
    names,
    operation_calls,
    secret_calls,
    story_calls,
    watch_calls,
    words,
    workflow_calls,
)
from horologe.client.calls import Method
from horologe.client.durations import parse as duration
from horologe.client.durations import to_proto
from horologe.client.jobfile import to_definition
from horologe.client.times import parse as instant
from horologe.client.times import to_proto as timestamp
from horologe.v1 import activity_service_pb2 as activities
from horologe.v1 import cluster_service_pb2 as cluster
from horologe.v1 import definition_service_pb2 as definitions
from horologe.v1 import execution_service_pb2 as executions
from horologe.v1 import job_service_pb2 as jobs
from horologe.v1 import output_service_pb2 as outputs
from horologe.v1 import story_service_pb2 as stories
from horologe.v1 import watch_service_pb2 as watching
from horologe.v1 import worker_service_pb2 as workers
from horologe.v1.execution_pb2 import Attempt, Execution
from horologe.v1.job_pb2 import Job
from horologe.v1.worker_pb2 import Worker

STREAMS = {"ExportAuditRecords", "WatchEvents", "WatchExecutions", "ReadOutput"}
DUE = timestamp(instant("2027-01-01T00:00:00Z"))


def failure(
    status: str,
    reason: str = "",
    message: str = "no",
    violations: dict[str, str] | None = None,
    retry_after: str = "",
    **metadata: str,
) -> status_pb2.Status:
    """A failure as the server sends it, with its details."""
    details: list[Any] = []
    if reason:
        details.append(error_details_pb2.ErrorInfo(reason=reason, domain="horologe", metadata=metadata))
    if violations:
        entries = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
            for field, text in violations.items()
        ]
        details.append(error_details_pb2.BadRequest(field_violations=entries))
    if retry_after:
        details.append(error_details_pb2.RetryInfo(retry_delay=to_proto(duration(retry_after))))
    packed = []
    for detail in details:
        wrapped = any_pb2.Any()
        wrapped.Pack(detail)
        packed.append(wrapped)
    return status_pb2.Status(code=code_pb2.Code.Value(status), message=message, details=packed)


class FakeCluster(
    FakeAccess, FakeAudit, FakeForecast, FakeGoverning, FakeOperations, FakeWorkflows, grpc.GenericRpcHandler
):
    """One node. `failures[method]` are answered first, in order; `received` holds what came in."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None, port: int = 0) -> None:
        FakeAccess.__init__(self)
        FakeAudit.__init__(self)
        FakeGoverning.__init__(self)
        FakeOperations.__init__(self)
        self.jobs: dict[str, Job] = {}
        self.versions: dict[str, list[definitions.JobVersion]] = defaultdict(list)
        self.executions: dict[int, Execution] = {}
        self.ledger: list[executions.LedgerRow] = []
        self.workers: list[Worker] = []
        self.members: list[cluster.Member] = []
        self.member_changes: list[Callable[[], None]] = []
        """One of them happens after each time that the members were listed."""
        self.has_quorum = True
        self.http_address = ""
        self.planned = [instant("2027-01-01T00:00:00Z")]
        """Due times ahead, of every job."""
        self.revision = 0
        self.page_size = 2
        self.failures: dict[str, deque[status_pb2.Status]] = defaultdict(deque)
        self.received: list[tuple[str, Any, dict[str, str]]] = []
        self.output: list[tuple[int, bytes]] = []
        self.output_breaks = False
        """After each piece the node is gone."""
        self.found: list[outputs.SearchOutputResponse] = []
        """Pages; a token is the number of the next one."""
        self.events: list[watching.Event] = []
        self.changes: list[executions.WatchExecutionsResponse] = []
        self.has_free_slot = True
        self.outcome = Execution.STATE_COMPLETED
        self.ends_by_itself = False
        self._answers: dict[str, Any] = {}
        self.hang = threading.Event()
        self.hang.set()
        self._methods = {
            value.path: value
            for module in (
                access_calls,
                activity_calls,
                audit_calls,
                calls,
                cluster_calls,
                definition_calls,
                forecast_calls,
                governing_calls,
                operation_calls,
                secret_calls,
                story_calls,
                watch_calls,
                workflow_calls,
            )
            for value in vars(module).values()
            if isinstance(value, Method)
        }
        self._server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[self])
        place = f"127.0.0.1:{port}"
        added = self._server.add_insecure_port(place) if credentials is None else None
        self.address = f"127.0.0.1:{added or self._server.add_secure_port(place, credentials)}"
        self._server.start()

    def stop(self) -> None:
        """The node is gone: connections are refused."""
        self.hang.set()
        self._server.stop(None).wait()

    def requests(self, method: str) -> list[Any]:
        """The requests that a method got."""
        return [request for name, request, _ in self.received if name == method]

    def add_job(self, name: str, **fields: Any) -> Job:
        """A stored job, running `echo NAME` every minute."""
        job = Job(name=names.job_name(name), **fields)
        if not job.schedules:
            job.schedules.add().interval.every.CopyFrom(to_proto(duration("1m")))
        if job.action.WhichOneof("kind") is None:
            job.action.shell.argv.extend(["echo", name])
        return self._store(job)

    def add_execution(self, job: str, state: Execution.State.ValueType, **fields: Any) -> Execution:
        """A stored execution; those that ran have one attempt."""
        number = len(self.executions) + 1
        execution = Execution(
            name=f"{names.job_name(job)}/executions/{number}",
            state=state,
            trigger=Execution.TRIGGER_SCHEDULE,
            due_time=DUE,
            **fields,
        )
        self.executions[number] = execution
        return execution

    def service(self, handler_call_details: Any) -> Any:
        """Finds the behaviour of a method by its path."""
        method = self._methods[handler_call_details.method]

        def unary(request: Any, context: grpc.ServicerContext) -> Any:
            self._begin(method, request, context)
            # Sent again, a write gets its first answer.
            if (request_id := getattr(request, "request_id", "")) in self._answers:
                return self._answers[request_id]
            answer = getattr(self, f"_{method.name}")(request, context)
            if request_id:
                self._answers[request_id] = answer
            return answer

        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            self._begin(method, request, context)
            yield from getattr(self, f"_{method.name}")(request, context)

        kinds: dict[bool, Any] = {
            True: (grpc.unary_stream_rpc_method_handler, stream),
            False: (grpc.unary_unary_rpc_method_handler, unary),
        }
        make, behaviour = kinds[method.name in STREAMS]
        return make(
            behaviour,
            request_deserializer=method.request.FromString,
            response_serializer=method.answer.SerializeToString,
        )

    def _begin(self, method: Method[Any, Any], request: Any, context: grpc.ServicerContext) -> None:
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        self.received.append((method.name, request, metadata))
        self.hang.wait()
        if self.failures[method.name]:
            self._abort(context, self.failures[method.name].popleft())

    def _abort(self, context: grpc.ServicerContext, status: status_pb2.Status) -> None:
        context.abort_with_status(rpc_status.to_status(status))

    def _store(self, job: Job) -> Job:
        self.revision += 1
        stored = Job()
        stored.CopyFrom(job)
        stored.uid = stored.uid or f"uid-{self.revision}"
        stored.etag = f"etag-{self.revision}"
        stored.state = stored.state or Job.STATE_ACTIVE
        stored.create_time.CopyFrom(DUE)
        stored.next_due_time.CopyFrom(DUE)
        self.jobs[stored.name] = stored
        self.versions[stored.name].append(
            definitions.JobVersion(job=stored, revision=self.revision, create_time=DUE, author="ada@home")
        )
        return stored

    def _find(self, name: str, context: grpc.ServicerContext) -> Job:
        if name not in self.jobs:
            self._abort(context, failure("NOT_FOUND", "JOB_NOT_FOUND", f"there is no job {name}", job=name))
        return self.jobs[name]

    def _run(self, name: str, context: grpc.ServicerContext) -> Execution:
        number = names.execution_number(name)
        if number not in self.executions:
            self._abort(context, failure("NOT_FOUND", "EXECUTION_NOT_FOUND", f"there is no execution {number}"))
        return self.executions[number]

    def _page(self, found: list[Any], request: Any) -> tuple[list[Any], str]:
        start = int(request.page_token or 0)
        size = min(request.page_size or 100, self.page_size)
        following = start + size
        return found[start:following], str(following) if following < len(found) else ""

    def _CreateJob(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.job.name in self.jobs:
            self._abort(context, failure("ALREADY_EXISTS", "JOB_EXISTS", f"{request.job.name} is taken"))
        stored = request.job if request.validate_only else self._store(request.job)
        return jobs.CreateJobResponse(job=stored, revision=self.revision)

    def _BatchCreateJobs(self, request: Any, context: grpc.ServicerContext) -> Any:
        for job in request.jobs:
            if job.name in self.jobs:
                self._abort(context, failure("ALREADY_EXISTS", "JOB_EXISTS", f"{job.name} is taken"))
        stored = [self._store(job) for job in request.jobs]
        return jobs.BatchCreateJobsResponse(jobs=stored, revision=self.revision)

    def _ApplyJobs(self, request: Any, context: grpc.ServicerContext) -> Any:
        kind = jobs.ApplyJobsResponse
        outcomes = [kind.OUTCOME_UPDATED if job.name in self.jobs else kind.OUTCOME_CREATED for job in request.jobs]
        stored = [job if request.validate_only else self._store(job) for job in request.jobs]
        return kind(jobs=stored, outcomes=outcomes, revision=self.revision)

    def _PlanJobs(self, request: Any, context: grpc.ServicerContext) -> Any:
        changes = []
        for job in request.jobs:
            before = self.jobs.get(job.name)
            same = before is not None and to_definition(before) == to_definition(job)
            kind = "KIND_CREATE" if before is None else "KIND_KEEP" if same else "KIND_UPDATE"
            changes.append(definitions.JobChange(kind=kind, before=before, after=job))  # type: ignore[arg-type]
        wanted = {job.name for job in request.jobs}
        for name, job in sorted(self.jobs.items()):
            if request.prune_set and job.apply_set == request.prune_set and name not in wanted:
                changes.append(definitions.JobChange(kind=definitions.JobChange.KIND_DELETE, before=job))
        return definitions.PlanJobsResponse(changes=changes, revision=self.revision)

    def _ApplyPlan(self, request: Any, context: grpc.ServicerContext) -> Any:
        for each in (*request.jobs, *request.deletions):
            current = self.jobs.get(each.name)
            if each.etag != (current.etag if current is not None else ""):
                self._abort(context, failure("ABORTED", "ETAG_MISMATCH", "it changed"))
        for deletion in request.deletions:
            del self.jobs[deletion.name]
        stored = [self._store(job) for job in request.jobs]
        return definitions.ApplyPlanResponse(jobs=stored, revision=self.revision)

    def _ListJobVersions(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._find(request.parent, context)
        page, token = self._page(self.versions[request.parent][::-1], request)
        return definitions.ListJobVersionsResponse(versions=page, next_page_token=token, revision=self.revision)

    def _GetJobVersion(self, request: Any, context: grpc.ServicerContext) -> Any:
        found = [version for version in self.versions[request.name] if version.revision == request.job_revision]
        if not found:
            self._abort(context, failure("NOT_FOUND", "VERSION_NOT_FOUND", "there is no such version"))
        return definitions.GetJobVersionResponse(version=found[0], revision=self.revision)

    def _GetJob(self, request: Any, context: grpc.ServicerContext) -> Any:
        return jobs.GetJobResponse(job=self._find(request.name, context), revision=self.revision)

    def _ListJobs(self, request: Any, context: grpc.ServicerContext) -> Any:
        prefix = "namespaces/" if request.parent == "namespaces/-" else f"{request.parent}/jobs/"
        found = [job for name, job in sorted(self.jobs.items()) if name.startswith(prefix)]
        found = [job for job in found if names.job_id(job.name).startswith(request.name_prefix)]
        found = [job for job in found if request.name_contains in names.job_id(job.name)]
        page, token = self._page(found, request)
        return jobs.ListJobsResponse(jobs=page, next_page_token=token, revision=self.revision)

    def _UpdateJob(self, request: Any, context: grpc.ServicerContext) -> Any:
        current = self._find(request.job.name, context)
        if request.job.etag and request.job.etag != current.etag:
            self._abort(context, failure("ABORTED", "ETAG_MISMATCH", "it changed"))
        return jobs.UpdateJobResponse(job=self._store(request.job), revision=self.revision)

    def _DeleteJob(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._find(request.name, context)
        del self.jobs[request.name]
        self.revision += 1
        return jobs.DeleteJobResponse(revision=self.revision)

    def _PauseJob(self, request: Any, context: grpc.ServicerContext) -> Any:
        job = self._find(request.name, context)
        if job.state == Job.STATE_PAUSED:
            self._abort(context, failure("FAILED_PRECONDITION", "JOB_PAUSED", f"{request.name} is paused already"))
        job.state, job.pause_reason = Job.STATE_PAUSED, request.reason
        return jobs.PauseJobResponse(job=job, revision=self.revision)

    def _ResumeJob(self, request: Any, context: grpc.ServicerContext) -> Any:
        job = self._find(request.name, context)
        job.state = Job.STATE_ACTIVE
        return jobs.ResumeJobResponse(job=job, revision=self.revision)

    def _RunJob(self, request: Any, context: grpc.ServicerContext) -> Any:
        job = self._find(request.name, context)
        self.revision += 1
        state = Execution.STATE_RUNNING if self.has_free_slot else Execution.STATE_QUEUED
        execution = self.add_execution(names.job_id(request.name), state, queue=job.queue)
        execution.trigger = Execution.TRIGGER_MANUAL
        if not self.has_free_slot:
            return jobs.RunJobResponse(execution=execution, revision=self.revision)
        attempt = execution.attempts.add(number=1, state=Attempt.STATE_RUNNING, worker="w1")
        attempt.start_time.CopyFrom(DUE)
        return jobs.RunJobResponse(execution=execution, revision=self.revision)

    def _PreviewSchedule(self, request: Any, context: grpc.ServicerContext) -> Any:
        ahead = [timestamp(moment) for moment in self.planned[: request.count]]
        return jobs.PreviewScheduleResponse(due_times=ahead, description="Every day")

    def _GetExecution(self, request: Any, context: grpc.ServicerContext) -> Any:
        execution = self._run(request.name, context)
        if self.ends_by_itself:
            execution.state = self.outcome
        return executions.GetExecutionResponse(execution=execution, revision=self.revision)

    def _ListExecutions(self, request: Any, context: grpc.ServicerContext) -> Any:
        found = [
            entry for entry in reversed(self.executions.values()) if entry.state in (request.states or [entry.state])
        ]
        page, token = self._page(found, request)
        return executions.ListExecutionsResponse(executions=page, next_page_token=token, revision=self.revision)

    def _CancelExecution(self, request: Any, context: grpc.ServicerContext) -> Any:
        execution = self._run(request.name, context)
        if execution.state in words.FINISHED_STATES:
            self._abort(context, failure("FAILED_PRECONDITION", "EXECUTION_FINISHED", "it has ended"))
        execution.state, execution.reason = Execution.STATE_CANCELLED, request.reason
        return executions.CancelExecutionResponse(execution=execution, revision=self.revision)

    def _WatchExecutions(self, request: Any, context: grpc.ServicerContext) -> Any:
        yield from self.changes

    def _WatchEvents(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Two events, and then the node is gone, as long as there are more."""
        begin = int(request.resume_token or 0)
        for position, event in enumerate(self.events[begin : begin + 2], begin + 1):
            yield watching.WatchEventsResponse(events=[event], resume_token=str(position), revision=self.revision)
        if begin + 2 < len(self.events):
            self._abort(context, failure("UNAVAILABLE", message="gone"))

    def _GetActivity(self, request: Any, context: grpc.ServicerContext) -> Any:
        del request, context
        return activities.GetActivityResponse(
            node="n1", samples=[activities.ActivitySample(start_time=DUE, started_count=3)]
        )

    def _ExplainDueTime(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._find(request.name, context)
        answer = stories.ExplainDueTimeResponse(finding=stories.ExplainDueTimeResponse.FINDING_NOT_DUE, time=DUE)
        answer.sentences.append("The job was not due.")
        answer.next_due_time.CopyFrom(DUE)
        if request.HasField("time"):
            answer.time.CopyFrom(request.time)
        return answer

    def _GetExecutionStory(self, request: Any, context: grpc.ServicerContext) -> Any:
        found = self.executions[names.execution_number(request.name)]
        entry = stories.StoryEntry(time=DUE, kind="due", text="due by its schedule")
        return stories.GetExecutionStoryResponse(execution=found, entries=[entry], revision=self.revision)

    def _ReadOutput(self, request: Any, context: grpc.ServicerContext) -> Any:
        execution = self._run(request.name, context)
        for position, (stream, data) in enumerate(self.output[request.after_position :], request.after_position + 1):
            yield outputs.ReadOutputResponse(stream=stream, data=data, position=position, attempt=1)  # type: ignore[arg-type]
            if self.output_breaks and position < len(self.output):
                self._abort(context, failure("UNAVAILABLE"))
        if request.follow:
            execution.state = self.outcome
            execution.end_time.CopyFrom(DUE)

    def _SearchOutput(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self.found[int(request.page_token or 0)]

    def _ListLedger(self, request: Any, context: grpc.ServicerContext) -> Any:
        rows = [row for row in self.ledger if not request.outcomes or row.outcome in request.outcomes]
        page, token = self._page(rows[::-1] if request.latest_first else rows, request)
        return executions.ListLedgerResponse(rows=page, next_page_token=token, revision=self.revision)

    def _ListWorkers(self, request: Any, context: grpc.ServicerContext) -> Any:
        page, token = self._page(self.workers, request)
        return workers.ListWorkersResponse(workers=page, next_page_token=token, revision=self.revision)

    def _DrainWorker(self, request: Any, context: grpc.ServicerContext) -> Any:
        found = [worker for worker in self.workers if worker.name == request.name]
        if not found:
            self._abort(context, failure("NOT_FOUND", "WORKER_NOT_FOUND", f"there is no worker {request.name}"))
        found[0].state = Worker.STATE_DRAINING
        return workers.DrainWorkerResponse(worker=found[0], revision=self.revision)

    def _GetClusterStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        return cluster.GetClusterStatusResponse(
            cluster_id="c1",
            node="n1",
            leader="n1",
            term=3,
            revision=self.revision,
            has_quorum=self.has_quorum,
            insecure=True,
            http_address=self.http_address,
        )

    def _ListMembers(self, request: Any, context: grpc.ServicerContext) -> Any:
        page, token = self._page(self.members, request)
        answer = cluster.ListMembersResponse(members=page, next_page_token=token, revision=self.revision)
        if not token:
            for change in self.member_changes[:1]:
                change()
            del self.member_changes[:1]
        return answer

    def _TransferLeader(self, request: Any, context: grpc.ServicerContext) -> Any:
        return cluster.TransferLeaderResponse(leader=request.target or "n2", term=4)

    def _AddMember(self, request: Any, context: grpc.ServicerContext) -> Any:
        if all(member.name != request.name for member in self.members):
            role = cluster.Member.ROLE_LEARNER
            self.members.append(
                cluster.Member(
                    name=request.name, peer_address=request.peer_address, role=role, promote=not request.learner
                )
            )
        return cluster.AddMemberResponse(members=self.members)

    def _PromoteMember(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._member(request.name, context).role = cluster.Member.ROLE_FOLLOWER
        return cluster.PromoteMemberResponse(members=self.members)

    def _RemoveMember(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.members.remove(self._member(request.name, context))
        return cluster.RemoveMemberResponse(members=self.members)

    def _member(self, name: str, context: grpc.ServicerContext) -> cluster.Member:
        found = [member for member in self.members if member.name == name]
        if not found:
            self._abort(context, failure("NOT_FOUND", "MEMBER_NOT_FOUND", f"{name} is not a member of the cluster"))
        return found[0]
