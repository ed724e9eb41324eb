"""The API's JobService: creating, changing, reading and running jobs.

Each write checks what the caller sent, computes what two machines could compute differently (due times, defaults, ids), and
proposes one command; the state machine decides. What is written, and what a batch of definitions becomes, is in `drafts`.
"""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

import asyncio
from typing import Any

from horologe.log.v1 import log_pb2
from horologe.node import errors, paging, views
from horologe.node.actions import payload_violations
from horologe.node.catalog import Catalog
from horologe.node.context import NodeContext
from horologe.node.drafts import Drafts, read_etag
from horologe.node.job_filter import FOREVER, read_bound
from horologe.node.job_search import JobQuery, JobSearch
from horologe.node.ledger_rows import RESULTS_MAX, count_days, job_number, latest_results
from horologe.node.names import read_job_name
from horologe.node.pending import Pending, read_pending
from horologe.node.preview import exclusions_for, preview
from horologe.node.writes import Context, Writer, WriteRequest, accepted, author_of
from horologe.raft.model import Code, Result
from horologe.v1 import execution_pb2, job_pb2, job_service_pb2, job_service_pb2_grpc

PREVIEW_COUNT_DEFAULT = 10

_PutJobs = log_pb2.PutJobs
_Applied = job_service_pb2.ApplyJobsResponse


class JobService(job_service_pb2_grpc.JobServiceServicer):
    """See job_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._writer = Writer(context)
        self._drafts = Drafts(context)
        self._catalog = Catalog()

    # Definitions

    async def CreateJob(
        self, request: job_service_pb2.CreateJobRequest, context: Context
    ) -> job_service_pb2.CreateJobResponse:
        write = WriteRequest.of("CreateJob", request)
        result = self._writer.first_answer(write)
        if result is None:
            draft = await self._drafts.of_create(request)
            if request.validate_only:
                self._drafts.judge(log_pb2.PutJobs(mode=_PutJobs.MODE_CREATE, jobs=[draft]), ())
                return job_service_pb2.CreateJobResponse(job=draft.job, revision=self._node.status().revision)
            result = await self._put(_PutJobs.MODE_CREATE, [draft], write, context)
        jobs, revision = self._jobs_of(accepted(result))
        return job_service_pb2.CreateJobResponse(job=jobs[0], revision=revision)

    async def BatchCreateJobs(
        self, request: job_service_pb2.BatchCreateJobsRequest, context: Context
    ) -> job_service_pb2.BatchCreateJobsResponse:
        write = WriteRequest.of("BatchCreateJobs", request)
        result = self._writer.first_answer(write)
        if result is None:
            drafts = await self._drafts.of_batch(request.jobs)
            if request.validate_only:
                self._drafts.judge(log_pb2.PutJobs(mode=_PutJobs.MODE_CREATE, jobs=drafts), request.jobs)
                return job_service_pb2.BatchCreateJobsResponse(
                    jobs=[draft.job for draft in drafts], revision=self._node.status().revision
                )
            result = await self._put(_PutJobs.MODE_CREATE, drafts, write, context)
        jobs, revision = self._jobs_of(accepted(result, request.jobs))
        return job_service_pb2.BatchCreateJobsResponse(jobs=jobs, revision=revision)

    async def ApplyJobs(
        self, request: job_service_pb2.ApplyJobsRequest, context: Context
    ) -> job_service_pb2.ApplyJobsResponse:
        write = WriteRequest.of("ApplyJobs", request)
        if request.validate_only and self._writer.first_answer(write) is None:
            drafts = await self._drafts.of_batch(request.jobs, use_etags=True)
            self._drafts.judge(log_pb2.PutJobs(mode=_PutJobs.MODE_APPLY, jobs=drafts), request.jobs)
            return job_service_pb2.ApplyJobsResponse(
                jobs=[draft.job for draft in drafts],
                outcomes=self._drafts.outcomes(drafts),
                revision=self._node.status().revision,
            )

        async def propose(write: WriteRequest) -> Result:
            drafts = await self._drafts.of_batch(request.jobs, use_etags=True)
            return await self._put(_PutJobs.MODE_APPLY, drafts, write, context)

        result = await self._writer.race(write, propose, give_up_at_once=True, jobs=request.jobs)
        jobs, revision = self._jobs_of(result)
        outcomes: Any = result.numbers[1::2]
        return job_service_pb2.ApplyJobsResponse(jobs=jobs, outcomes=outcomes, revision=revision)

    async def UpdateJob(
        self, request: job_service_pb2.UpdateJobRequest, context: Context
    ) -> job_service_pb2.UpdateJobResponse:
        name = read_job_name(request.job.name, "job.name")
        expected = read_etag(request.job.etag, "job.etag")

        async def propose(write: WriteRequest) -> Result:
            draft = await self._drafts.of_update(request, name, expected)
            return await self._put(_PutJobs.MODE_UPDATE, [draft], write, context)

        result = await self._writer.race(WriteRequest.of("UpdateJob", request), propose, give_up_at_once=bool(expected))
        jobs, revision = self._jobs_of(result)
        return job_service_pb2.UpdateJobResponse(job=jobs[0], revision=revision)

    async def DeleteJob(
        self, request: job_service_pb2.DeleteJobRequest, context: Context
    ) -> job_service_pb2.DeleteJobResponse:
        name = read_job_name(request.name, "name")
        delete = log_pb2.DeleteJob(
            name=name, expected_revision=read_etag(request.etag, "etag"), cancel_running=request.cancel_running
        )

        async def propose(write: WriteRequest) -> Result:
            await self._drafts.count_pending([delete])
            return await self._writer.propose(log_pb2.Command(delete_job=delete), write, context)

        await self._writer.race(WriteRequest.of("DeleteJob", request), propose, give_up_at_once=True)
        return job_service_pb2.DeleteJobResponse(revision=self._node.status().revision)

    # Pause, resume, run

    async def PauseJob(
        self, request: job_service_pb2.PauseJobRequest, context: Context
    ) -> job_service_pb2.PauseJobResponse:
        name = read_job_name(request.name, "name")
        _check_reason(request.reason)
        pause = log_pb2.PauseJob(name=name, paused=True, reason=request.reason, by=author_of(context))
        command = log_pb2.Command(pause_job=pause)
        result = await self._writer.settle(command, WriteRequest.of("PauseJob", request), context)
        job, revision = self._job_of(result.numbers[0])
        return job_service_pb2.PauseJobResponse(job=job, revision=revision)

    async def ResumeJob(
        self, request: job_service_pb2.ResumeJobRequest, context: Context
    ) -> job_service_pb2.ResumeJobResponse:
        name = read_job_name(request.name, "name")

        async def propose(write: WriteRequest) -> Result:
            pending = self._pending(name)
            if pending is None:
                return Result(Code.JOB_NOT_FOUND, text=name)
            if not pending.record.paused:
                return Result(Code.JOB_NOT_PAUSED, text=name)
            # Counting what a long pause swallowed may take a while.
            now_ms = self._drafts.now_ms()
            resume = await asyncio.to_thread(pending.resume, now_ms, catchup=request.catchup)
            return await self._writer.propose(log_pb2.Command(pause_job=resume), write, context)

        result = await self._writer.race(WriteRequest.of("ResumeJob", request), propose)
        job, revision = self._job_of(result.numbers[0])
        return job_service_pb2.ResumeJobResponse(job=job, revision=revision)

    async def RunJob(self, request: job_service_pb2.RunJobRequest, context: Context) -> job_service_pb2.RunJobResponse:
        run = log_pb2.RunJob(name=read_job_name(request.name, "name"), force=request.force)
        if request.HasField("payload"):
            found = payload_violations(request.payload, "payload")
            if found:
                raise errors.invalid(found)
            run.payload.CopyFrom(request.payload)
        write = WriteRequest.of("RunJob", request)
        result = await self._writer.settle(log_pb2.Command(run_job=run), write, context, needs_space=True)
        number = result.numbers[0]
        with self._node.store.read() as tables:
            execution = views.read_execution(tables, number)
            view = execution_pb2.Execution(name=views.execution_name(run.name, number))
            if execution is not None:
                view = views.execution_view(tables, self._catalog, number, execution, full=True)
        return job_service_pb2.RunJobResponse(execution=view, revision=self._node.status().revision)

    # Reading

    async def GetJob(self, request: job_service_pb2.GetJobRequest, context: Context) -> job_service_pb2.GetJobResponse:
        del context
        name = read_job_name(request.name, "name")
        with self._node.store.read() as tables:
            record = views.find_job(tables, name)
            if record is None:
                raise errors.job_not_found(name)
            return job_service_pb2.GetJobResponse(job=views.job_view(tables, record), revision=views.revision(tables))

    async def ListJobs(
        self, request: job_service_pb2.ListJobsRequest, context: Context
    ) -> job_service_pb2.ListJobsResponse:
        del context
        wanted = JobQuery.of(request)
        size, start = paging.page_size(request), paging.start_key(request)
        if request.result_count < 0:
            raise errors.invalid_field(
                "result_count", f"{request.result_count} is negative; use 0 for none, or up to 20"
            )
        response = job_service_pb2.ListJobsResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            found, next_key = JobSearch(tables, wanted).page(size, start)
            response.jobs.extend(found)
            if next_key is not None:
                response.next_page_token = paging.next_token(request, next_key)
            if request.result_count:
                numbers = [job_number(tables, job.name) for job in found]
                count = min(request.result_count, RESULTS_MAX)
                response.results.extend(latest_results(tables, self._catalog, number, count) for number in numbers)
        return response

    async def GetJobStatistics(
        self, request: job_service_pb2.GetJobStatisticsRequest, context: Context
    ) -> job_service_pb2.GetJobStatisticsResponse:
        del context
        name = read_job_name(request.name, "name")
        start_ms, end_ms = (
            read_bound(request, field, default)
            for field, default in zip(("start_time", "end_time"), FOREVER, strict=True)
        )
        with self._node.store.read() as tables:
            return count_days(tables, job_number(tables, name), start_ms, end_ms)

    async def PreviewSchedule(
        self, request: job_service_pb2.PreviewScheduleRequest, context: Context
    ) -> job_service_pb2.PreviewScheduleResponse:
        del context
        count = paging.clamp_count(request.count, "count", PREVIEW_COUNT_DEFAULT)
        now_ms = self._node.clock.wall_ms()
        from_ms = read_bound(request, "from", now_ms)
        identity = read_job_name(request.job, "job") if request.job else ""
        if request.HasField("definition"):
            identity = read_job_name(request.definition.name, "definition.name")
        with self._node.store.read() as tables:
            exclusions = exclusions_for(tables, request.definition)
        return await asyncio.to_thread(preview, request, identity, exclusions, (now_ms, from_ms), count)

    # Inside

    async def _put(
        self,
        mode: log_pb2.PutJobs.Mode.ValueType,
        drafts: list[log_pb2.JobDraft],
        write: WriteRequest,
        context: Context,
    ) -> Result:
        command = log_pb2.Command()
        # In its place: built outside, it would be copied, and it may be large.
        command.put_jobs.mode, command.put_jobs.author = mode, author_of(context)
        command.put_jobs.jobs.extend(drafts)
        return await self._writer.propose(command, write, context, needs_space=True)

    def _pending(self, name: str) -> Pending | None:
        """What the job has not accounted for; None if there is no such job."""
        with self._node.store.read() as tables:
            record = views.find_job(tables, name)
            return None if record is None else read_pending(tables, record)

    def _jobs_of(self, result: Result) -> tuple[list[job_pb2.Job], int]:
        """The jobs that a PutJobs command wrote, as they stand now."""
        with self._node.store.read() as tables:
            records = [views.read_job(tables, number) for number in result.numbers[::2]]
            jobs = [views.job_view(tables, record) for record in records if record is not None]
            return jobs, views.revision(tables)

    def _job_of(self, number: int) -> tuple[job_pb2.Job, int]:
        jobs, revision = self._jobs_of(Result(Code.OK, (number, 0)))
        return jobs[0], revision


def _check_reason(reason: str) -> None:
    if len(reason) > errors.MESSAGE_LENGTH_MAX:
        raise errors.invalid_field(
            "reason", f"{len(reason)} characters are too many; at most {errors.MESSAGE_LENGTH_MAX}"
        )
