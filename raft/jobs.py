"""Commands on jobs: put (create, update, apply), delete, pause and resume, run by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from horologe.log.v1 import log_pb2
from horologe.raft import facets, namespaces, owners, pending
from horologe.raft.apply_sets import drop_from_set, put_into_set
from horologe.raft.calendars import unknown_calendar, use_calendars
from horologe.raft.cancellation import cancel_unfinished
from horologe.raft.creation import new_execution
from horologe.raft.dependencies import Wanted, dependants_text, link, plan_edges, unlink
from horologe.raft.events import EventKind
from horologe.raft.hot_parts import flags_of, hot_part
from horologe.raft.limits import count_running, forget_limits, name_limits, unknown_limit
from horologe.raft.model import Code, Counters, JobFlag, LedgerOutcome, Reason, Result, Trigger
from horologe.raft.overlap import REFUSALS, Admission, admit
from horologe.raft.pauses import leave_parking
from horologe.raft.principals import count_job
from horologe.raft.records import U64, JobState, LedgerEntry
from horologe.raft.secrets import name_secrets, release_secrets, unknown_secret
from horologe.raft.state import InvariantError, State
from horologe.raft.tables import Tables
from horologe.raft.versions import drop_versions, put_first_version, put_version
from horologe.v1 import job_pb2, job_service_pb2

_CREATED = job_service_pb2.ApplyJobsResponse.OUTCOME_CREATED
_UPDATED = job_service_pb2.ApplyJobsResponse.OUTCOME_UPDATED
_UNCHANGED = job_service_pb2.ApplyJobsResponse.OUTCOME_UNCHANGED


@dataclass(slots=True)
class _Batch:
    """What a PutJobs command is about, as the state stands."""

    found: list[log_pb2.JobRecord | None] = field(default_factory=list)
    """For each draft, the job that has its name now."""
    created: list[str] = field(default_factory=list)
    """Names that no job has yet."""
    doomed: list[tuple[log_pb2.JobRecord, log_pb2.DeleteJob]] = field(default_factory=list)
    edges: dict[int, Wanted] = field(default_factory=dict)
    """What each job is to be after, by the number that it has or gets."""


@dataclass(frozen=True, slots=True)
class _Writer:
    """Who writes definitions, and in whose name they run from now on."""

    author: str
    owner: str
    run_as: int
    """The owner's number."""


def put_jobs(state: State, command: log_pb2.PutJobs, owner: str = "") -> Result:
    """All or none. Answers (job, ApplyJobsResponse.Outcome) for each draft, in their order.

    `owner`: the principal that asked, in whose name what it writes runs from now on. What stays as it is stays whose it is.
    """
    batch = _Batch()
    fault = _judge(state, command, batch)
    if fault is not None:
        return fault
    for doomed, deletion in batch.doomed:
        _delete(state, doomed, deletion)
    gaining = frozenset(
        record.id
        for draft, record in zip(command.jobs, batch.found, strict=True)
        if record is not None and _gets_limits(_state_of(state, record.id), draft.job)
    )
    outcomes = [_outcome(record, draft.job) for draft, record in zip(command.jobs, batch.found, strict=True)]
    written = len(outcomes) - outcomes.count(_UNCHANGED)
    writer = _Writer(command.author, owner, count_job(state, owner, written) if written else 0)
    numbers: list[int] = []
    for draft, record, outcome in zip(command.jobs, batch.found, outcomes, strict=True):
        if record is None:
            numbers += (_create(state, draft, writer), outcome)
            continue
        if outcome != _UNCHANGED:
            _update(state, record, draft, writer)
        numbers += (record.id, outcome)
    namespaces.count_jobs(state, batch.created, 1)
    if gaining:
        count_running(state, gaining)
    for job, wanted in batch.edges.items():
        if wanted.changes:
            link(state, job, wanted)
    return Result(Code.OK, tuple(numbers))


def _outcome(
    record: log_pb2.JobRecord | None, wanted: job_pb2.Job
) -> job_service_pb2.ApplyJobsResponse.Outcome.ValueType:
    if record is None:
        return _CREATED
    return _UNCHANGED if same_definition(record.job, wanted) else _UPDATED


def refusal(tables: Tables, command: log_pb2.PutJobs) -> Result:
    """What the command would be refused for in the state as it stands, or OK. Writes nothing."""
    state = State(tables, Counters.load(tables).revision + 1, 0)
    return _judge(state, command, _Batch()) or Result(Code.OK)


def _judge(state: State, command: log_pb2.PutJobs, batch: _Batch) -> Result | None:
    """Fills in the batch, and answers what is wrong with the command. Writes nothing."""
    mode, names = command.mode, set[str]()
    for draft in command.jobs:
        name = draft.job.name
        if name in names:
            return Result(Code.JOB_EXISTS, text=name)
        names.add(name)
        record = find_job(state, name)
        code = _refusal_of_draft(mode, draft, record)
        if code is not Code.OK:
            return Result(code, text=name)
        if record is not None and pending.is_outdated(state, record, _state_of(state, record.id), draft.pending):
            return Result(Code.MOVED_ON, text=name)
        fault = _unknown(state, draft)
        if fault is not None:
            return fault
        batch.found.append(record)
        if record is None:
            batch.created.append(name)
    for deletion in command.deletions:
        record = find_job(state, deletion.name)
        if record is None or deletion.name in names or not _is_expected(record, deletion.expected_revision):
            # Both put and deleted, or gone or changed since it was looked at: the caller looks again.
            return Result(Code.ETAG_MISMATCH, text=deletion.name)
        if pending.is_outdated(state, record, _state_of(state, record.id), deletion.pending):
            return Result(Code.MOVED_ON, text=deletion.name)
        names.add(deletion.name)
        batch.doomed.append((record, deletion))
    beyond = namespaces.quota_fault(state, batch.created, [record.job.name for record, _ in batch.doomed])
    if beyond:
        return Result(Code.QUOTA_EXCEEDED, text=beyond)
    jobs = _numbers(state, batch.found)
    graph, fault = plan_edges(state, command.jobs, jobs, [record.id for record, _ in batch.doomed])
    batch.edges = graph.wanted
    return None if fault.code is Code.OK else fault


def _unknown(state: State, draft: log_pb2.JobDraft) -> Result | None:
    """The first thing that a draft names and that is not there. Most drafts name nothing."""
    job = draft.job
    if job.limits and (name := unknown_limit(state, job)):
        return Result(Code.LIMIT_NOT_FOUND, text=name)
    if job.calendars and (name := unknown_calendar(state.tables, job.name, job.calendars)):
        return Result(Code.CALENDAR_NOT_FOUND, text=name)
    if draft.secrets and (name := unknown_secret(state.tables, draft)):
        return Result(Code.SECRET_NOT_FOUND, text=name)
    return None


def _refusal_of_draft(
    mode: log_pb2.PutJobs.Mode.ValueType, draft: log_pb2.JobDraft, record: log_pb2.JobRecord | None
) -> Code:
    """OK if the draft may be written over what has its name now."""
    if record is None:
        if mode == log_pb2.PutJobs.MODE_UPDATE:
            return Code.JOB_NOT_FOUND
        return Code.ETAG_MISMATCH if draft.expected_revision else Code.OK
    if mode == log_pb2.PutJobs.MODE_CREATE:
        return Code.JOB_EXISTS
    if draft.expected_absent or not _is_expected(record, draft.expected_revision):
        return Code.ETAG_MISMATCH
    return Code.OK


def _is_expected(record: log_pb2.JobRecord, revision: int) -> bool:
    """Whether nobody has changed the job since; 0 for callers who do not care."""
    return not revision or record.revision == revision


def _numbers(state: State, found: Sequence[log_pb2.JobRecord | None]) -> list[int]:
    """The numbers that jobs have, or get because they are created in this order."""
    new = count(state.counters.last_job + 1)
    return [next(new) if record is None else record.id for record in found]


def delete_job(state: State, command: log_pb2.DeleteJob) -> Result:
    """The definition stays, marked, under the names in its history; the name is free again."""
    record = find_job(state, command.name)
    if record is None:
        return Result(Code.JOB_NOT_FOUND, text=command.name)
    if not _is_expected(record, command.expected_revision):
        return Result(Code.ETAG_MISMATCH, text=command.name)
    dependants = dependants_text(state, record.id)
    if dependants:
        return Result(Code.HAS_DEPENDANTS, text=f"{command.name}: {dependants}")
    if pending.is_outdated(state, record, _state_of(state, record.id), command.pending):
        return Result(Code.MOVED_ON, text=command.name)
    _delete(state, record, command)
    return Result(Code.OK, (record.id,))


def _delete(state: State, record: log_pb2.JobRecord, command: log_pb2.DeleteJob) -> None:
    """Deletes a job that is there, and that no others are after. What waits or runs ends by itself, or is cancelled."""
    job_state = _state_of(state, record.id)
    pending.account(state, record, job_state, command.pending, Reason.JOB_DELETED)
    remove_job(state, record, job_state)
    if command.cancel_running:
        cancel_unfinished(state, record.id, job_state.unfinished)


def remove_job(state: State, record: log_pb2.JobRecord, job_state: JobState) -> None:
    """Nothing of it is due any more; stores both."""
    unlink(state, record.id)
    state.arm_fire(record.id, job_state, 0)
    leave_parking(state, record.id, job_state)
    use_calendars(state, record.id, record.job.name, record.job.calendars, (), ())
    job_state.flags |= JobFlag.DELETED
    job_state.revision = state.index
    state.put_job_state(record.id, job_state)
    state.tables.job_name.delete(record.job.name.encode())
    forget_limits(state, record.job)
    release_secrets(state, record)
    count_job(state, record.run_as, -1)
    namespaces.count_jobs(state, [record.job.name], -1)
    record.deleted = True
    record.revision = state.index
    record.update_time_ms = state.now_ms
    _put_record(state, _stored(state, record.id), record, job_state.namespace)
    drop_versions(state, record.id)
    drop_from_set(state, record.job.apply_set, record.id)
    state.counters.jobs -= 1


def pause_job(state: State, command: log_pb2.PauseJob) -> Result:
    """While paused, due times do not collect; on resume they are accounted for as SKIPPED(paused), or caught up."""
    record = find_job(state, command.name)
    if record is None:
        return Result(Code.JOB_NOT_FOUND, text=command.name)
    if record.paused == command.paused:
        return Result(Code.JOB_PAUSED if command.paused else Code.JOB_NOT_PAUSED, text=command.name)
    if command.expected_revision and record.revision != command.expected_revision:
        return Result(Code.ETAG_MISMATCH, text=command.name)
    job_state = _state_of(state, record.id)
    if command.paused:
        # The first due time that the pause swallows, kept for the account on resume.
        record.pause_time_ms = pending.first_pending_ms(state.tables, record, job_state)
        state.arm_fire(record.id, job_state, 0)
        leave_parking(state, record.id, job_state)
        job_state.flags |= JobFlag.PAUSED
    else:
        _resume(state, record, job_state, command)
    job_state.revision = state.index
    state.put_job_state(record.id, job_state)
    record.paused = command.paused
    record.pause_reason = command.reason if command.paused else ""
    record.paused_by = command.by if command.paused else ""
    record.revision = state.index
    record.update_time_ms = state.now_ms
    _put_record(state, _stored(state, record.id), record, job_state.namespace)
    return Result(Code.OK, (record.id,))


def _resume(state: State, record: log_pb2.JobRecord, job_state: JobState, command: log_pb2.PauseJob) -> None:
    first_ms = record.pause_time_ms
    if command.skipped_count and first_ms:
        # The proposer's clock may be ahead of the leader's. The next caller's may be behind, and must not go back there.
        state.pass_time(command.skipped_last_ms)
        row = LedgerEntry(LedgerOutcome.SKIPPED, Reason.PAUSED, 0, first_ms, command.skipped_count)
        state.put_not_run(record.id, job_state, command.skipped_last_ms, row)
    job_state.flags &= ~JobFlag.PAUSED
    record.pause_time_ms = 0
    if command.catchup and 0 < first_ms <= state.now_ms:
        state.arm_fire(record.id, job_state, first_ms)
        return
    state.arm_fire(record.id, job_state, command.next_due_ms, command.next_fire_ms)
    if not command.next_due_ms:
        state.arm_after_end(record.id, job_state)


def run_job(state: State, command: log_pb2.RunJob) -> Result:
    """A manual execution, due now. It obeys the overlap policy unless forced. Answers (execution,)."""
    record = find_job(state, command.name)
    if record is None:
        return Result(Code.JOB_NOT_FOUND, text=command.name)
    job_state = _state_of(state, record.id)
    if not owners.may_run(state, record.id, job_state):
        return Result(Code.PERMISSION_DENIED, text=owners.missing_right(state, record.id, job_state))
    admission = Admission.RUN if command.force else admit(state, record.id, job_state)
    if admission in REFUSALS:
        return Result(REFUSALS[admission][1], text=command.name)
    held = admission is Admission.HOLD
    number, execution = new_execution(state, record.id, job_state, state.now_ms, Trigger.MANUAL, None, held=held)
    if command.HasField("payload"):
        detail = log_pb2.ExecutionRecord(payload=command.payload)
        state.put_detail(number, execution, detail)
    state.put_execution(number, execution)
    state.put_job_state(record.id, job_state)
    state.put_ledger(
        record.id, state.now_ms, LedgerEntry(LedgerOutcome.RAN, Reason.NONE, number, state.now_ms, 1), number
    )
    return Result(Code.OK, (number,))


def find_job(state: State, name: str) -> log_pb2.JobRecord | None:
    key = state.tables.job_name.get(name.encode())
    if key is None:
        return None
    raw = state.tables.job.get(key)
    if raw is None:
        raise InvariantError(f"the name {name} points to a job that is not there")
    return log_pb2.JobRecord.FromString(bytes(raw))


def _create(state: State, draft: log_pb2.JobDraft, writer: _Writer) -> int:
    state.counters.last_job += 1
    state.counters.jobs += 1
    number, job, now_ms = state.counters.last_job, draft.job, state.now_ms
    record = log_pb2.JobRecord(
        id=number,
        revision=state.index,
        create_time_ms=now_ms,
        update_time_ms=now_ms,
        author=writer.author,
        run_as=writer.owner,
    )
    record.job.CopyFrom(job)
    record.job.uid = draft.uid
    if draft.secrets:
        name_secrets(state, record, draft.secrets)
    put_first_version(state, record)
    record.schedule_time_ms = now_ms
    job_state = hot_part(state, draft)
    job_state.run_as = writer.run_as
    if draft.paused:
        record.paused, record.pause_reason, record.pause_time_ms = True, draft.pause_reason, draft.next_due_ms
        record.paused_by = writer.author
        job_state.flags |= JobFlag.PAUSED
    else:
        state.arm_fire(number, job_state, draft.next_due_ms, draft.next_fire_ms)
    state.put_job_state(number, job_state)
    if job_state.flags & JobFlag.LIMITED:
        name_limits(state, number, job)
    if job.calendars:
        use_calendars(state, number, job.name, (), job.calendars, draft.calendar_revisions)
    state.tables.job_name.put(job.name.encode(), U64.pack(number))
    put_into_set(state, job.apply_set, number)
    _put_record(state, None, record, job_state.namespace)
    return number


def _update(state: State, record: log_pb2.JobRecord, draft: log_pb2.JobDraft, writer: _Writer) -> None:
    before = _state_of(state, record.id)
    after = hot_part(state, draft)
    count_job(state, record.run_as, -1)
    after.run_as = writer.run_as
    for name in _KEPT_FIELDS:
        setattr(after, name, getattr(before, name))
    after.flags |= before.flags & _KEPT_FLAGS
    if not same_timetable(record.job, draft.job):
        # Both schedules may name a due time that has just come: then it is not lost.
        pending.account(state, record, after, draft.pending, Reason.SCHEDULE_CHANGED, kept_ms=draft.next_due_ms)
        leave_parking(state, record.id, after)
        use_calendars(
            state, record.id, record.job.name, record.job.calendars, draft.job.calendars, draft.calendar_revisions
        )
        record.schedule_time_ms = state.now_ms
        if after.flags & JobFlag.PAUSED:
            record.pause_time_ms = draft.next_due_ms
        else:
            state.arm_fire(record.id, after, draft.next_due_ms, draft.next_fire_ms)
            if not draft.next_due_ms:
                state.arm_after_end(record.id, after)
    state.put_job_state(record.id, after)
    if (before.flags | after.flags) & JobFlag.LIMITED:
        forget_limits(state, record.job)
        name_limits(state, record.id, draft.job)
    if record.job.apply_set != draft.job.apply_set:
        drop_from_set(state, record.job.apply_set, record.id)
        put_into_set(state, draft.job.apply_set, record.id)
    name_secrets(state, record, draft.secrets)
    uid = record.job.uid
    record.job.CopyFrom(draft.job)
    record.job.uid = uid
    record.revision = state.index
    record.update_time_ms = state.now_ms
    record.author = writer.author
    record.run_as = writer.owner
    _put_record(state, _stored(state, record.id), record, after.namespace)
    put_version(state, record)


def same_definition(stored: job_pb2.Job, wanted: job_pb2.Job) -> bool:
    """Whether a stored job says what is wanted already."""
    bare = job_pb2.Job()
    bare.CopyFrom(stored)
    bare.ClearField("uid")
    return bare == wanted


_TIMETABLE_FIELDS = (
    "schedules",
    "start_time",
    "end_time",
    "max_executions",
    "jitter",
    "calendars",
    "on_exclusion",
)


def same_timetable(one: job_pb2.Job, other: job_pb2.Job) -> bool:
    """Whether two definitions are due at the same times, as far as their texts tell."""
    return all(getattr(one, field) == getattr(other, field) for field in _TIMETABLE_FIELDS)


def _gets_limits(job_state: JobState, wanted: job_pb2.Job) -> bool:
    """Whether a job that may have something running had no limits so far."""
    return bool(job_state.unfinished and not job_state.flags & JobFlag.LIMITED and flags_of(wanted) & JobFlag.LIMITED)


_KEPT_FLAGS = JobFlag.PAUSED | JobFlag.DELETED | JobFlag.PARKED | JobFlag.UPSTREAM | JobFlag.FAILING
_KEPT_FIELDS = (
    "next_due_ms",
    "next_fire_ms",
    "scheduled",
    "unfinished",
    "held",
    "executions",
    "completed",
    "failed",
    "cancelled",
    "skipped",
    "missed",
    "coalesced",
    "retries",
)
"""What a job keeps when its definition changes."""


def _state_of(state: State, job: int) -> JobState:
    job_state = state.job_state(job)
    if job_state is None:
        raise InvariantError(f"job {job} has a record but no state")
    return job_state


def _stored(state: State, job: int) -> log_pb2.JobRecord | None:
    raw = state.tables.job.get(U64.pack(job))
    return None if raw is None else log_pb2.JobRecord.FromString(raw)


def _put_record(state: State, before: log_pb2.JobRecord | None, record: log_pb2.JobRecord, namespace: int) -> None:
    """`before`: as it is stored until now; None for a new job."""
    facets.update(state.tables, before, record)
    state.note_job(record.id, namespace, _change(before, record))
    state.tables.job.put(U64.pack(record.id), record.SerializeToString(deterministic=True))
    state.effects.jobs_changed.append(record.id)


def _change(before: log_pb2.JobRecord | None, after: log_pb2.JobRecord) -> EventKind:
    """What has happened to a job."""
    if before is None:
        return EventKind.JOB_CREATED
    if after.deleted:
        return EventKind.JOB_DELETED
    if before.paused != after.paused:
        return EventKind.JOB_PAUSED if after.paused else EventKind.JOB_RESUMED
    return EventKind.JOB_UPDATED
