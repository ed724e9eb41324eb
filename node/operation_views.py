"""From the state to what the API shows of operations. Every function works inside one read transaction of its caller."""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.node import views
from horologe.raft.records import U64
from horologe.raft.tables import Tables
from horologe.v1 import operation_pb2

Record = log_pb2.OperationRecord
Kind = operation_pb2.Operation
_STATES = {
    Record.STATE_RUNNING: Kind.STATE_RUNNING,
    Record.STATE_DONE: Kind.STATE_DONE,
    Record.STATE_CANCELLED: Kind.STATE_CANCELLED,
    Record.STATE_FAILED: Kind.STATE_FAILED,
}
_KINDS = {"redrive": Kind.KIND_REDRIVE, "purge": Kind.KIND_PURGE, "backfill": Kind.KIND_BACKFILL}


def read_operation(tables: Tables, number: int) -> Record | None:
    raw = tables.operation.get(U64.pack(number))
    return None if raw is None else Record.FromString(bytes(raw))


def operation_name(record: Record) -> str:
    return f"namespaces/{record.start.namespace}/operations/{record.id}"


def operation_view(tables: Tables, record: Record) -> operation_pb2.Operation:
    """An operation as the API shows it."""
    kind = record.start.WhichOneof("kind") or ""
    view = operation_pb2.Operation(
        name=operation_name(record),
        kind=_KINDS[kind],
        state=_STATES[record.state],
        job=_job_of(tables, record.start),
        description=describe(record.start),
        create_time=views.timestamp(record.create_time_ms),
        reason=record.reason,
        total_count=record.start.total,
        looked_at_count=record.looked_at,
        done_count=record.done,
        unfinished_count=record.unfinished,
        completed_count=record.completed,
        failed_count=record.failed,
    )
    if record.end_time_ms:
        view.end_time.CopyFrom(views.timestamp(record.end_time_ms))
    return view


def describe(start: log_pb2.StartOperation) -> str:
    """What was asked for, in one line."""
    if start.HasField("backfill"):
        backfill = start.backfill
        only = log_pb2.Backfill.Only.Name(backfill.only).removeprefix("ONLY_").lower()
        order = "backwards" if backfill.backwards else "forwards"
        span = f"from {_instant(backfill.from_ms)} to {_instant(backfill.to_ms)}"
        return f"run {only} due times {span}, {order}, {backfill.max_running} at a time"
    is_redrive = start.HasField("redrive")
    selection = start.redrive if is_redrive else start.purge
    return f"{'drive again' if is_redrive else 'purge'} {_selected(selection)}"


def _selected(selection: log_pb2.DeadLetterSelection) -> str:
    words = [f"{len(selection.executions)} chosen dead letters" if selection.executions else "all dead letters"]
    words += ["of one job"] if selection.job else []
    words += (
        [f"with fingerprint {fingerprint_text(selection.fingerprint)}"] if selection.HasField("fingerprint") else []
    )
    words += [f"from {_instant(selection.from_ms)}"] if selection.from_ms else []
    words += [f"to {_instant(selection.to_ms)}"] if selection.to_ms else []
    words += [f"at {selection.rate:g} a second"] if selection.rate else []
    words += ["with another payload"] if selection.HasField("payload") else []
    return " ".join(words)


def fingerprint_text(fingerprint: int) -> str:
    return f"{fingerprint:016x}"


def _instant(time_ms: int) -> str:
    return views.timestamp(time_ms).ToJsonString()


def _job_of(tables: Tables, start: log_pb2.StartOperation) -> str:
    job = start.backfill.job or start.redrive.job or start.purge.job
    record = views.read_job(tables, job) if job else None
    return "" if record is None else record.job.name
