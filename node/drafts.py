"""From the definitions that callers send to the drafts that the log carries.

A draft is complete: defaults written out, the first due time computed by this node's clock, a fresh uid. Nothing here writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from google.protobuf.message import Message

from horologe.log.v1 import log_pb2
from horologe.node import errors, refusals, views
from horologe.node.calendars import exclusions_of, revisions_of
from horologe.node.context import NodeContext
from horologe.node.dependencies import upstream_ids
from horologe.node.ids import new_uuid
from horologe.node.names import is_id, read_job_name, read_namespace, shorten
from horologe.node.pending import Pending, read_pending
from horologe.node.schedule import Violation
from horologe.node.templates import secret_names, template_violations
from horologe.node.timetable import Timetable, default_catchup_window_ms, timetable_of
from horologe.node.validation import OUTPUT_ONLY, complete_job
from horologe.raft.jobs import refusal, same_definition, same_timetable
from horologe.raft.model import Code, Counters
from horologe.raft.records import LEDGER_KEY, JobState
from horologe.raft.tables import Tables
from horologe.v1 import job_pb2, job_service_pb2

JOBS_PER_BATCH_MAX = 1_000
INLINE_JOBS_MAX = 20
"""Larger batches are checked on another thread, and so is everything with cron expressions, whose search takes its time."""

_Applied = job_service_pb2.ApplyJobsResponse
_READ_ONLY_PATHS = frozenset({"name", *OUTPUT_ONLY})


class Drafts:
    """Makes drafts for one node."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context

    def now_ms(self) -> int:
        """This node's clock, but never before the time that the replicated state has reached."""
        with self._node.store.read() as tables:
            return self._now_ms(tables)

    async def of_create(self, request: job_service_pb2.CreateJobRequest) -> log_pb2.JobDraft:
        """The draft of one new job. Raises an ApiError for everything that is wrong with it."""
        namespace = read_namespace(request.parent, "parent")
        job_id = request.job_id
        if not job_id and request.job.name:
            job_id = read_job_name(request.job.name, "job.name").rpartition("/")[2]
        if not is_id(job_id):
            raise errors.invalid_field(
                "job_id",
                f"{shorten(job_id)} is no job id; use 1 to 63 lower-case letters, digits and hyphens, beginning with a "
                "letter and not ending with a hyphen",
            )
        name = f"namespaces/{namespace}/jobs/{job_id}"
        if request.job.name and request.job.name != name:
            raise errors.invalid_field(
                "job.name", f"{shorten(request.job.name)} is not {name}, as parent and job_id say; leave it empty"
            )
        drafts = await self._complete([(name, "job", request.job)])
        return drafts[0]

    async def of_batch(self, jobs: Sequence[job_pb2.Job], *, use_etags: bool = False) -> list[log_pb2.JobDraft]:
        """The drafts of many jobs with their names; `use_etags`: a job that carries one must not have changed since.

        Raises one ApiError for all that is wrong.
        """
        if not 1 <= len(jobs) <= JOBS_PER_BATCH_MAX:
            raise errors.invalid_field(
                "jobs", f"{len(jobs)} jobs are given; send 1 to {JOBS_PER_BATCH_MAX} in one request"
            )
        wanted: list[tuple[str, str, job_pb2.Job]] = []
        positions: dict[str, int] = {}
        for position, job in enumerate(jobs):
            path = f"jobs[{position}]"
            name = read_job_name(job.name, f"{path}.name")
            if positions.setdefault(name, position) != position:
                raise errors.invalid_field(
                    f"{path}.name",
                    f"{name} is also the name of jobs[{positions[name]}]; one request has a job only once",
                )
            wanted.append((name, path, job))
        revisions = [read_etag(job.etag, f"jobs[{position}].etag") for position, job in enumerate(jobs) if use_etags]
        drafts = await self._complete(wanted)
        for draft, revision in zip(drafts, revisions, strict=False):
            draft.expected_revision = revision
        return drafts

    async def of_update(
        self, request: job_service_pb2.UpdateJobRequest, name: str, expected_revision: int
    ) -> log_pb2.JobDraft:
        """The draft of a job with some fields changed: refused by the state machine if the job changes in between."""
        with self._node.store.read() as tables:
            record = views.find_job(tables, name)
        if record is None:
            raise errors.job_not_found(name)
        merged = merge_update(record.job, request)
        drafts = await self._complete([(name, "job", merged)])
        drafts[0].expected_revision = expected_revision or record.revision
        return drafts[0]

    async def count_pending(self, deletions: Sequence[log_pb2.DeleteJob]) -> None:
        """Writes into the commands which due times of the doomed jobs nobody has accounted for."""
        with self._node.store.read() as tables:
            now_ms = self._now_ms(tables)
            doomed = [(deletion, views.find_job(tables, deletion.name)) for deletion in deletions]
            found = [(deletion, read_pending(tables, record)) for deletion, record in doomed if record is not None]
        for deletion, pending in found:
            # Counting what a long pause swallowed may take a while.
            deletion.pending.CopyFrom(await asyncio.to_thread(pending.count, now_ms))

    def judge(self, command: log_pb2.PutJobs, jobs: Sequence[job_pb2.Job]) -> None:
        """Raises what a request with these jobs would be refused for in the state as it stands here. Proposes nothing."""
        with self._node.store.read() as tables:
            result = refusal(tables, command)
        # What came due meanwhile is counted anew when the command is proposed.
        if result.code not in (Code.OK, Code.MOVED_ON):
            raise refusals.of_batch(result, jobs)

    def outcomes(self, drafts: Sequence[log_pb2.JobDraft]) -> list[_Applied.Outcome.ValueType]:
        """What ApplyJobs would do with each draft as the state stands on this node."""
        found: list[_Applied.Outcome.ValueType] = []
        with self._node.store.read() as tables:
            for draft in drafts:
                record = views.find_job(tables, draft.job.name)
                if record is None:
                    found.append(_Applied.OUTCOME_CREATED)
                    continue
                same = same_definition(record.job, draft.job)
                found.append(_Applied.OUTCOME_UNCHANGED if same else _Applied.OUTCOME_UPDATED)
        return found

    async def _complete(self, wanted: list[tuple[str, str, job_pb2.Job]]) -> list[log_pb2.JobDraft]:
        slow = len(wanted) > INLINE_JOBS_MAX or any(
            each.WhichOneof("kind") == "cron" for _, _, job in wanted for each in job.schedules
        )
        return await asyncio.to_thread(self._complete_all, wanted) if slow else self._complete_all(wanted)

    def _complete_all(self, wanted: list[tuple[str, str, job_pb2.Job]]) -> list[log_pb2.JobDraft]:
        drafts: list[log_pb2.JobDraft] = []
        uncounted: list[tuple[log_pb2.JobDraft, Pending]] = []
        found: list[Violation] = []
        with self._node.store.read() as tables:
            now_ms = self._now_ms(tables)
            together = {name: job for name, _, job in wanted}
            for name, path, job in wanted:
                record = views.find_job(tables, name)
                stored = record.job.schedules if record is not None else ()
                complete, violations = complete_job(job, name, now_ms, path, stored)
                violations += template_violations(
                    complete.action, f"{path}.action", partial(upstream_ids, tables, complete, together)
                )
                found += violations
                if not violations:
                    draft = self._draft(tables, complete, record, now_ms)
                    if job.state == job_pb2.Job.STATE_PAUSED:
                        # Only a job that is created begins so; the state machine knows whether it is.
                        draft.paused, draft.pause_reason = True, job.pause_reason[: errors.MESSAGE_LENGTH_MAX]
                    drafts.append(draft)
                    if record is not None and not same_timetable(record.job, complete):
                        uncounted.append((draft, read_pending(tables, record)))
        if found:
            raise errors.invalid(found)
        for draft, pending in uncounted:
            draft.pending.CopyFrom(pending.count(now_ms))
        return drafts

    def _draft(
        self, tables: Tables, job: job_pb2.Job, record: log_pb2.JobRecord | None, now_ms: int
    ) -> log_pb2.JobDraft:
        timetable = timetable_of(job, exclusions_of(tables, job), now_ms)
        due_ms = first_due_ms(tables, timetable, record, now_ms)
        return log_pb2.JobDraft(
            job=job,
            next_due_ms=due_ms,
            next_fire_ms=timetable.fire_ms(due_ms) if due_ms else 0,
            calendar_revisions=revisions_of(tables, job),
            uid=str(new_uuid(self._node.randomness)),
            secrets=secret_names(job.action),
        )

    def _now_ms(self, tables: Tables) -> int:
        return max(self._node.clock.wall_ms(), Counters.load_time(tables)[1])


def read_etag(etag: str, field: str) -> int:
    """The revision in an etag; 0 for none."""
    if not etag:
        return 0
    if not (etag.isascii() and etag.isdigit()) or len(etag) > 18:
        raise errors.invalid_field(
            field, f"{shorten(etag)} is no etag that a call has answered; leave it out, or read the job"
        )
    return int(etag)


def merge_update(stored: job_pb2.Job, request: job_service_pb2.UpdateJobRequest) -> job_pb2.Job:
    """The stored definition with the fields of the mask taken from the request. Raises an ApiError for a wrong mask."""
    wanted = request.job
    paths = list(request.update_mask.paths)
    if paths == ["*"]:
        return wanted
    if not request.HasField("update_mask"):
        paths = [field.name for field, _ in wanted.ListFields() if field.name not in _READ_ONLY_PATHS]
    merged = job_pb2.Job()
    merged.CopyFrom(stored)
    for position, path in enumerate(paths):
        complaint = _path_complaint(path)
        if complaint:
            raise errors.invalid_field(f"update_mask.paths[{position}]", complaint)
        _take_field(wanted, merged, path)
    if any(path.startswith("schedules") for path in paths) and "catchup_window" not in paths:
        # The window that nobody chose follows the schedule.
        default_ms = default_catchup_window_ms(stored.schedules, stored.name)
        if merged.catchup_window.ToMilliseconds() == default_ms:
            merged.ClearField("catchup_window")
    return merged


def _path_complaint(path: str) -> str:
    """What is wrong with a path of the mask; empty if nothing is."""
    if path in _READ_ONLY_PATHS:
        return f"{path!r} cannot be updated; leave it out"
    descriptor = job_pb2.Job.DESCRIPTOR
    parts = path.split(".")
    for position, part in enumerate(parts):
        field = descriptor.fields_by_name.get(part)
        if field is None:
            return f"{shorten(path)} is no field of a job"
        if position + 1 < len(parts):
            if field.message_type is None or field.is_repeated:
                return f"{shorten(path)} goes into {part!r}, which can only be replaced as a whole"
            descriptor = field.message_type
    return ""


def _take_field(source: Message, target: Message, path: str) -> None:
    """Makes one field of `target` as it is in `source`, absent if it is absent there."""
    head, _, rest = path.partition(".")
    field = source.DESCRIPTOR.fields_by_name[head]
    if rest:
        _take_field(getattr(source, head), getattr(target, head), rest)
        return
    target.ClearField(head)
    if field.is_repeated:
        getattr(target, head).MergeFrom(getattr(source, head))
    elif field.message_type is not None:
        if source.HasField(head):
            getattr(target, head).CopyFrom(getattr(source, head))
            getattr(target, head).SetInParent()
    elif not field.has_presence or source.HasField(head):
        setattr(target, head, getattr(source, head))


def first_due_ms(tables: Tables, timetable: Timetable, record: log_pb2.JobRecord | None, now_ms: int) -> int:
    """When the job is due first; 0 for never, or not before an execution of it has ended.

    An instant of `once` that has passed is due too, unless this job has accounted for it already: no due time fires twice.
    """
    state = None if record is None else views.read_job_state(tables, record.id)
    first_ms = _owed_once(tables, timetable, record, state, now_ms).next_after(-1)
    follows_ends = any(each.HasField("fixed_delay") for each in timetable.schedules)
    if follows_ends and not (state is not None and state.unfinished):
        opening_ms = timetable.opening(now_ms)
        first_ms = min((due_ms for due_ms in (first_ms, opening_ms) if due_ms is not None), default=None)
    return first_ms or 0


def _owed_once(
    tables: Tables, timetable: Timetable, record: log_pb2.JobRecord | None, state: JobState | None, now_ms: int
) -> Timetable:
    """The timetable without the instants that have passed and are accounted for."""
    if record is None:
        return timetable
    pending_ms = state.next_due_ms if state is not None else 0
    schedules = [
        each
        for each in timetable.schedules
        if each.WhichOneof("kind") != "once"
        or (time_ms := each.once.time.ToMilliseconds()) > now_ms
        or not (
            each in record.job.schedules
            or time_ms == pending_ms
            or tables.ledger.get(LEDGER_KEY.pack(record.id, max(time_ms, 0), 0)) is not None
        )
    ]
    return replace(timetable, schedules=schedules)
