"""From the state to what the API shows: jobs, executions, attempts, ledger rows, workers.

Reads tables, writes nothing, decides nothing. Every function works inside one read transaction of its caller.
"""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from horologe.log.v1 import log_pb2
from horologe.node.catalog import Catalog
from horologe.node.schedule import write_ms
from horologe.node.waiting import queue_name, waits_for
from horologe.raft.machine import first_cluster_id_of
from horologe.raft.model import (
    AttemptState,
    Counters,
    ExecutionFlag,
    ExecutionState,
    JobFlag,
    LedgerOutcome,
    Reason,
    Trigger,
)
from horologe.raft.pauses import Pauses
from horologe.raft.records import PAIR, U32, U64, Execution, JobState, LedgerEntry
from horologe.raft.tables import Tables
from horologe.v1 import execution_pb2, execution_service_pb2, job_pb2, worker_pb2


def revision(tables: Tables) -> int:
    """The last entry that is contained in what is read."""
    return Counters.load_time(tables)[0]


# Jobs


def find_job(tables: Tables, name: str) -> log_pb2.JobRecord | None:
    """The job that has the name now."""
    key = tables.job_name.get(name.encode())
    return None if key is None else read_job(tables, int(U64.unpack(key)[0]))


def read_job(tables: Tables, job: int) -> log_pb2.JobRecord | None:
    """A job by its number, deleted or not."""
    raw = tables.job.get(U64.pack(job))
    return None if raw is None else log_pb2.JobRecord.FromString(bytes(raw))


def read_job_state(tables: Tables, job: int) -> JobState | None:
    raw = tables.job_state.get(U64.pack(job))
    return None if raw is None else JobState.unpack(raw)


def job_view(tables: Tables, record: log_pb2.JobRecord) -> job_pb2.Job:
    """A job as the API shows it."""
    view = job_pb2.Job()
    view.CopyFrom(record.job)
    view.etag = str(record.revision)
    view.pause_reason, view.paused_by = record.pause_reason, record.paused_by
    view.run_as = record.run_as
    write_ms(view.create_time, record.create_time_ms)
    write_ms(view.update_time, record.update_time_ms)
    write_ms(view.schedule_time, record.schedule_time_ms)
    state = read_job_state(tables, record.id)
    held = "" if record.paused else scope_pause_text(tables, state)
    view.state = _job_view_state(record, state, is_held=bool(held))
    if not record.paused:
        view.pause_reason = held
    if state is not None:
        view.unfinished_execution_count = state.unfinished
        _write_counters(state, view.counters)
        if state.next_due_ms and not record.deleted:
            write_ms(view.next_due_time, state.next_due_ms)
    return view


def _write_counters(state: JobState, counters: job_pb2.JobCounters) -> None:
    counters.executions, counters.completed, counters.failed = state.executions, state.completed, state.failed
    counters.cancelled, counters.skipped, counters.missed = state.cancelled, state.skipped, state.missed
    counters.coalesced, counters.retries = state.coalesced, state.retries


def job_view_state(tables: Tables, record: log_pb2.JobRecord, state: JobState | None) -> job_pb2.Job.State.ValueType:
    """Paused (itself, its namespace or the cluster), finished (no due time is left), or active.

    A job without a schedule of its own is never finished.
    """
    return _job_view_state(record, state, is_held=bool(scope_pause_text(tables, state)))


def _job_view_state(record: log_pb2.JobRecord, state: JobState | None, *, is_held: bool) -> job_pb2.Job.State.ValueType:
    if record.deleted:
        return job_pb2.Job.STATE_FINISHED
    if record.paused or is_held:
        return job_pb2.Job.STATE_PAUSED
    is_asked_for = all(schedule.WhichOneof("kind") in ("manual", "after") for schedule in record.job.schedules)
    if is_asked_for or state is None or state.next_due_ms or state.flags & JobFlag.PARKED:
        return job_pb2.Job.STATE_ACTIVE
    follows_end = state.fixed_delay_ms and state.unfinished
    is_over = state.max_executions and state.scheduled >= state.max_executions
    return job_pb2.Job.STATE_ACTIVE if follows_end and not is_over else job_pb2.Job.STATE_FINISHED


def scope_pause_text(tables: Tables, state: JobState | None) -> str:
    """Which pause of its namespace or of the cluster holds a job back, by whom and why; empty if none does."""
    pause = None if state is None else Pauses.load(tables).in_force(state.namespace)
    if pause is None:
        return ""
    text = "the namespace is paused" if pause.namespace else "the cluster is paused"
    text += f" by {pause.by}" if pause.by else ""
    return f"{text}: {pause.reason}" if pause.reason else text


# Executions


def read_execution(tables: Tables, number: int) -> Execution | None:
    raw = tables.execution.get(U64.pack(number))
    return None if raw is None else Execution.unpack(raw)


def job_name_of(tables: Tables, catalog: Catalog, execution: Execution) -> str:
    """The name of an execution's job; a deleted job keeps its name here."""
    record = catalog.record(tables, execution.job)
    return "" if record is None else record.job.name


def execution_name(job_name: str, number: int) -> str:
    return f"{job_name}/executions/{number}"


def execution_view(
    tables: Tables, catalog: Catalog, number: int, execution: Execution, *, full: bool
) -> execution_pb2.Execution:
    """An execution as the API shows it: with all attempts and its result, or (not `full`) with the running attempt only.

    The catalog is asked for what never changes in a job, its name.
    """
    record = catalog.record(tables, execution.job)
    job_name = "" if record is None else record.job.name
    view = execution_pb2.Execution(
        name=execution_name(job_name, number),
        state=ExecutionState(execution.state).value,  # type: ignore[arg-type]
        trigger=Trigger(execution.trigger).value,  # type: ignore[arg-type]
        due_time=timestamp(execution.due_ms),
        create_time=timestamp(execution.create_ms),
        idempotency_key=f"{first_cluster_id_of(tables)}-{number}",
        cancel_requested=execution.state == ExecutionState.RUNNING
        and bool(execution.flags & ExecutionFlag.CANCEL_REQUESTED),
    )
    for field, time_ms in (
        ("start_time", execution.start_ms),
        ("end_time", execution.end_ms),
        ("next_attempt_time", execution.next_attempt_ms),
        ("planned_time", execution.planned_ms),
    ):
        if time_ms:
            getattr(view, field).CopyFrom(timestamp(time_ms))
    root = read_execution(tables, execution.root) if execution.root else None
    if root is not None:
        view.root = execution_name(job_name_of(tables, catalog, root), execution.root)
    view.queue, view.priority = queue_name(tables, execution.queue), execution.priority
    view.waits_for = waits_for(tables, execution)
    detail = read_detail(tables, number, execution)
    view.reason = detail.reason
    if full:
        view.attempts.extend(_past_attempt(past) for past in detail.attempts)
        if detail.HasField("result"):
            view.result.CopyFrom(detail.result)
    current = _current_attempt(tables, execution, detail)
    if current is not None and (full or current.state == execution_pb2.Attempt.STATE_RUNNING):
        view.attempts.append(current)
    return view


def read_detail(tables: Tables, number: int, execution: Execution) -> log_pb2.ExecutionRecord:
    """What an execution carries beyond its fixed-size record; empty for most."""
    if not execution.flags & ExecutionFlag.HAS_DETAIL:
        return log_pb2.ExecutionRecord()
    return log_pb2.ExecutionRecord.FromString(bytes(tables.detail.get(U64.pack(number)) or b""))


def _past_attempt(past: log_pb2.AttemptRecord) -> execution_pb2.Attempt:
    view = execution_pb2.Attempt(
        number=past.number,
        state=AttemptState(past.state).value,  # type: ignore[arg-type]
        worker=past.worker,
        fencing_token=past.token,
        assign_time=timestamp(past.assign_time_ms),
        end_time=timestamp(past.end_time_ms),
        error=past.detail.error,
        error_kind=past.detail.error_kind,
        output_truncated=past.detail.output_truncated,
        output_bytes=past.detail.output_bytes,
        output_copies=len(past.detail.output_nodes),
    )
    if past.start_time_ms:
        view.start_time.CopyFrom(timestamp(past.start_time_ms))
    if past.detail.HasField("exit_code"):
        view.exit_code = past.detail.exit_code
    if past.detail.HasField("http_status"):
        view.http_status = past.detail.http_status
    return view


def _current_attempt(
    tables: Tables, execution: Execution, detail: log_pb2.ExecutionRecord
) -> execution_pb2.Attempt | None:
    """The attempt that runs, or the last one if it ended with nothing to say: then only the fixed-size record tells of it."""
    if execution.attempt_state == AttemptState.NONE:
        return None
    if any(past.number == execution.attempt and past.token == execution.token for past in detail.attempts):
        return None
    view = execution_pb2.Attempt(
        number=execution.attempt,
        state=AttemptState(execution.attempt_state).value,  # type: ignore[arg-type]
        worker=worker_name(tables, execution.worker),
        fencing_token=execution.token,
        assign_time=timestamp(execution.assign_ms),
    )
    # The record keeps the start of the first attempt only.
    if execution.start_ms >= execution.assign_ms and execution.start_ms:
        view.start_time.CopyFrom(timestamp(execution.start_ms))
    if execution.attempt_state != AttemptState.RUNNING:
        if execution.end_ms:
            view.end_time.CopyFrom(timestamp(execution.end_ms))
        if execution.flags & ExecutionFlag.HAS_EXIT_CODE:
            view.exit_code = execution.exit_code
    return view


# Ledger


def ledger_row(
    tables: Tables, catalog: Catalog, job: int, due_ms: int, entry: LedgerEntry, number: int
) -> execution_service_pb2.LedgerRow:
    """What became of a due time, or of a run of them. `number` is the last part of the row's key: not 0 beside the schedule."""
    row = execution_service_pb2.LedgerRow(
        due_time=timestamp(entry.first_due_ms),
        last_due_time=timestamp(due_ms),
        count=entry.count,
        outcome=LedgerOutcome(entry.outcome).value,  # type: ignore[arg-type]
        reason=Reason(entry.reason).text,
        on_request=number != 0,
    )
    record = catalog.record(tables, job) if entry.execution else None
    if record is not None:
        row.execution = execution_name(record.job.name, entry.execution)
        execution = read_execution(tables, entry.execution)
        if execution is not None:
            row.state = ExecutionState(execution.state).value  # type: ignore[assignment]
    return row


# Workers


def worker_name(tables: Tables, worker: int) -> str:
    raw = tables.worker_name.get(U32.pack(worker))
    return "" if raw is None else bytes(raw).decode()


def read_session(tables: Tables, session: int) -> log_pb2.SessionRecord | None:
    raw = tables.session.get(U64.pack(session))
    return None if raw is None else log_pb2.SessionRecord.FromString(bytes(raw))


def worker_view(tables: Tables, record: log_pb2.SessionRecord) -> worker_pb2.Worker:
    """A worker's session as the API shows it."""
    if record.closed:
        state = worker_pb2.Worker.STATE_LOST
    elif record.draining:
        state = worker_pb2.Worker.STATE_DRAINING
    else:
        state = worker_pb2.Worker.STATE_READY
    return worker_pb2.Worker(
        name=f"workers/{record.open.worker}",
        state=state,
        session=record.id,
        queues=record.open.queues,
        slot_count=record.open.slot_count,
        running_count=running_count(tables, record.id),
        gateway=record.open.gateway,
        labels=record.open.labels,
        connect_time=timestamp(record.open_time_ms),
        version=record.open.version,
    )


def running_count(tables: Tables, session: int) -> int:
    """How many attempts a session has."""
    count = 0
    for key, _ in tables.running.scan(PAIR.pack(session, 0)):
        if PAIR.unpack(key)[0] != session:
            break
        count += 1
    return count


def timestamp(time_ms: int) -> Timestamp:
    """Milliseconds since the epoch as the API writes them."""
    return Timestamp(seconds=time_ms // 1000, nanos=time_ms % 1000 * 1_000_000)
