"""The API's DefinitionService: plans of many jobs, and the versions of each.

A plan says what would be done, with the definitions as they would be stored; who applies it sends them back with the etags that
it was made from, and the state machine does all of it in one entry, or nothing. What a definition becomes is in `drafts`.
"""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

from collections.abc import Sequence

from horologe.log.v1 import log_pb2
from horologe.node import errors, paging, views
from horologe.node.callers import current_caller
from horologe.node.context import NodeContext
from horologe.node.drafts import JOBS_PER_BATCH_MAX, Drafts, read_etag
from horologe.node.errors import ApiError
from horologe.node.names import read_job_name, shorten
from horologe.node.validation import apply_set_complaint
from horologe.node.writes import Context, Writer, WriteRequest, author_of
from horologe.raft.access import Verb
from horologe.raft.apply_sets import jobs_of_set
from horologe.raft.jobs import same_definition
from horologe.raft.limits import namespace_of
from horologe.raft.model import Result
from horologe.raft.records import PAIR
from horologe.raft.tables import Tables
from horologe.v1 import definition_service_pb2, definition_service_pb2_grpc

_Change = definition_service_pb2.JobChange


class DefinitionService(definition_service_pb2_grpc.DefinitionServiceServicer):
    """See definition_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._writer = Writer(context)
        self._drafts = Drafts(context)

    async def PlanJobs(
        self, request: definition_service_pb2.PlanJobsRequest, context: Context
    ) -> definition_service_pb2.PlanJobsResponse:
        del context
        complaint = apply_set_complaint(request.prune_set)
        if complaint:
            raise errors.invalid_field("prune_set", complaint)
        drafts = await self._drafts.of_batch(request.jobs)
        with self._node.store.read() as tables:
            changes = [_change(tables, draft) for draft in drafts]
            if request.prune_set:
                changes += _deletions(tables, request.prune_set, {draft.job.name for draft in drafts})
            response = definition_service_pb2.PlanJobsResponse(changes=changes, revision=views.revision(tables))
        doomed = [change.before.name for change in changes if change.kind == _Change.KIND_DELETE]
        deletions = [log_pb2.DeleteJob(name=name) for name in doomed]
        put = log_pb2.PutJobs(mode=log_pb2.PutJobs.MODE_APPLY, jobs=drafts, deletions=deletions)
        self._drafts.judge(put, request.jobs)
        return response

    async def ApplyPlan(
        self, request: definition_service_pb2.ApplyPlanRequest, context: Context
    ) -> definition_service_pb2.ApplyPlanResponse:
        write = WriteRequest.of("ApplyPlan", request)

        async def propose(write: WriteRequest) -> Result:
            drafts = await self._drafts.of_batch(request.jobs, use_etags=True)
            for draft in drafts:
                draft.expected_absent = not draft.expected_revision
            deletions = _read_deletions(request.deletions)
            await self._drafts.count_pending(deletions)
            put = log_pb2.PutJobs(
                mode=log_pb2.PutJobs.MODE_APPLY, jobs=drafts, deletions=deletions, author=author_of(context)
            )
            return await self._writer.propose(log_pb2.Command(put_jobs=put), write, context, needs_space=True)

        result = await self._writer.race(write, propose, give_up_at_once=True, jobs=request.jobs)
        with self._node.store.read() as tables:
            records = [views.read_job(tables, number) for number in result.numbers[::2]]
            jobs = [views.job_view(tables, record) for record in records if record is not None]
            return definition_service_pb2.ApplyPlanResponse(jobs=jobs, revision=views.revision(tables))

    async def ListJobVersions(
        self, request: definition_service_pb2.ListJobVersionsRequest, context: Context
    ) -> definition_service_pb2.ListJobVersionsResponse:
        del context
        name = read_job_name(request.parent, "parent")
        size = paging.page_size(request)
        start = paging.start_key(request)
        response = definition_service_pb2.ListJobVersionsResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            job = _job_number(tables, name)
            for key, raw in tables.version.scan_down(start or PAIR.pack(job + 1, 0)):
                if PAIR.unpack(key)[0] != job:
                    break
                if len(response.versions) >= size:
                    # The page after this one begins below the last key of this one.
                    response.next_page_token = paging.next_token(
                        request, PAIR.pack(job, response.versions[-1].revision)
                    )
                    break
                response.versions.append(_version(log_pb2.JobRecord.FromString(bytes(raw))))
        return response

    async def GetJobVersion(
        self, request: definition_service_pb2.GetJobVersionRequest, context: Context
    ) -> definition_service_pb2.GetJobVersionResponse:
        del context
        name = read_job_name(request.name, "name")
        with self._node.store.read() as tables:
            number = _job_number(tables, name)
            wanted = max(0, request.job_revision)
            raw = tables.version.get(PAIR.pack(number, wanted))
            if raw is None:
                raise ApiError(
                    "VERSION_NOT_FOUND",
                    f"{name} has no version {request.job_revision}; it may be too old, ListJobVersions says which are kept",
                    metadata={"name": name, "revision": str(request.job_revision)},
                )
            version = _version(log_pb2.JobRecord.FromString(bytes(raw)))
            return definition_service_pb2.GetJobVersionResponse(version=version, revision=views.revision(tables))


def _change(tables: Tables, draft: log_pb2.JobDraft) -> _Change:
    record = views.find_job(tables, draft.job.name)
    if record is None:
        return _Change(kind=_Change.KIND_CREATE, after=draft.job)
    kind = _Change.KIND_KEEP if same_definition(record.job, draft.job) else _Change.KIND_UPDATE
    return _Change(kind=kind, before=views.job_view(tables, record), after=draft.job)


def _deletions(tables: Tables, name: str, kept: set[str]) -> list[_Change]:
    """The jobs of a set that nobody asks for any more, by name.

    Namespaces know nothing of each other's sets: what the caller may not read is in another set that happens to be called so.
    """
    doomed = []
    rights = current_caller().rights
    for number in jobs_of_set(tables, name):
        record = views.read_job(tables, number)
        if record is None or not rights.may(Verb.JOB_READ, namespace_of(record.job.name)):
            continue
        if record.job.name not in kept:
            doomed.append(views.job_view(tables, record))
        if len(doomed) > JOBS_PER_BATCH_MAX:
            raise errors.invalid_field(
                "prune_set",
                f"more than {JOBS_PER_BATCH_MAX} jobs of {shorten(name)} would be deleted; delete some of them by hand first",
            )
    doomed.sort(key=lambda job: job.name)
    return [_Change(kind=_Change.KIND_DELETE, before=job) for job in doomed]


def _read_deletions(deletions: Sequence[definition_service_pb2.JobDeletion]) -> list[log_pb2.DeleteJob]:
    if len(deletions) > JOBS_PER_BATCH_MAX:
        raise errors.invalid_field(
            "deletions", f"{len(deletions)} are given; send at most {JOBS_PER_BATCH_MAX} in one request"
        )
    found = []
    for position, deletion in enumerate(deletions):
        path = f"deletions[{position}]"
        revision = read_etag(deletion.etag, f"{path}.etag")
        if not revision:
            raise errors.invalid_field(f"{path}.etag", "it is missing; a plan says which etag the job has")
        found.append(log_pb2.DeleteJob(name=read_job_name(deletion.name, f"{path}.name"), expected_revision=revision))
    return found


def _job_number(tables: Tables, name: str) -> int:
    record = views.find_job(tables, name)
    if record is None:
        raise errors.job_not_found(name)
    return record.id


def _version(record: log_pb2.JobRecord) -> definition_service_pb2.JobVersion:
    version = definition_service_pb2.JobVersion(
        job=record.job,
        revision=record.revision,
        create_time=views.timestamp(record.update_time_ms),
        author=record.author,
    )
    version.job.etag = str(record.revision)
    return version
