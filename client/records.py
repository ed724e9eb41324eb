"""Messages of the API as plain data for `-o json|yaml`: snake_case keys, short words, RFC 3339 times, `5s` durations.

Jobs are written as in job files; see `jobfile.to_mapping`.
"""

from __future__ import annotations

from typing import Any, Literal

from google.protobuf import timestamp_pb2

from horologe.client import durations, names, times, words
from horologe.client.jobfile_fields import plain_json
from horologe.v1.cluster_service_pb2 import GetClusterStatusResponse, Member
from horologe.v1.encryption_service_pb2 import GetEncryptionResponse
from horologe.v1.execution_pb2 import Attempt, Execution
from horologe.v1.execution_service_pb2 import LedgerRow
from horologe.v1.limit_service_pb2 import Limit
from horologe.v1.namespace_service_pb2 import Namespace
from horologe.v1.output_service_pb2 import OutputMatch, OutputStream
from horologe.v1.queue_service_pb2 import Queue, StartRate
from horologe.v1.worker_pb2 import Worker

__all__ = [
    "Record",
    "attempt",
    "execution",
    "ledger_row",
    "limit",
    "member",
    "namespace",
    "output_match",
    "queue",
    "status",
    "worker",
]

Record = dict[str, Any]


def execution(message: Execution) -> Record:
    """An execution with its attempts. `start_delay_ms` is from the due time to the first start; None before it."""
    return {
        "name": message.name,
        "id": names.execution_number(message.name),
        "job": names.job_id(message.name),
        "namespace": names.namespace_id(message.name),
        "state": words.render(Execution.State, message.state),
        "trigger": words.render(Execution.Trigger, message.trigger),
        "root": message.root or None,
        "due_time": _time(message, "due_time"),
        "create_time": _time(message, "create_time"),
        "start_time": _time(message, "start_time"),
        "end_time": _time(message, "end_time"),
        "start_delay_ms": _distance_ms(message, "due_time", "start_time"),
        "next_attempt_time": _time(message, "next_attempt_time"),
        "queue": message.queue,
        "priority": message.priority,
        "waits_for": message.waits_for,
        "cancel_requested": message.cancel_requested,
        "reason": message.reason,
        "idempotency_key": message.idempotency_key,
        "result": plain_json(message.result) if message.HasField("result") else None,
        "attempts": [attempt(entry) for entry in message.attempts],
    }


def attempt(message: Attempt) -> Record:
    """One attempt. `duration_ms` is None until both ends are known."""
    return {
        "number": message.number,
        "state": words.render(Attempt.State, message.state),
        "worker": message.worker,
        "fencing_token": message.fencing_token,
        "assign_time": _time(message, "assign_time"),
        "start_time": _time(message, "start_time"),
        "end_time": _time(message, "end_time"),
        "duration_ms": _distance_ms(message, "start_time", "end_time"),
        "exit_code": message.exit_code if message.HasField("exit_code") else None,
        "http_status": message.http_status if message.HasField("http_status") else None,
        "error": message.error,
        "error_kind": message.error_kind,
        "output_bytes": message.output_bytes,
        "output_truncated": message.output_truncated,
        "output_copies": message.output_copies,
    }


def ledger_row(message: LedgerRow) -> Record:
    """What became of a due time, or of several with the same fate."""
    return {
        "due_time": _time(message, "due_time"),
        "last_due_time": _time(message, "last_due_time"),
        "count": message.count,
        "outcome": words.render(LedgerRow.Outcome, message.outcome),
        "reason": message.reason,
        "execution": message.execution,
        "state": words.render(Execution.State, message.state),
        "on_request": message.on_request,
    }


def output_match(message: OutputMatch) -> Record:
    """Lines that were found in what an attempt printed."""
    return {
        "execution": message.execution,
        "id": names.execution_number(message.execution),
        "attempt": message.attempt,
        "omitted_line_count": message.omitted_line_count,
        "lines": [{"stream": words.render(OutputStream, line.stream), "text": line.text} for line in message.lines],
    }


def limit(message: Limit) -> Record:
    """A limit, `name` without its namespace."""
    return {
        "name": names.short_name(message.name),
        "namespace": names.namespace_id(message.name),
        "max_running": message.max_running,
        "running_count": message.running_count,
        "waiting_count": message.waiting_count,
        "job_count": message.job_count,
        "create_time": _time(message, "create_time"),
        "update_time": _time(message, "update_time"),
    }


def queue(message: Queue) -> Record:
    """A queue, `name` without `queues/`."""
    return {
        "name": names.short_name(message.name),
        "paused": message.paused,
        "pause_reason": message.pause_reason,
        "paused_by": message.paused_by,
        "pause_time": _time(message, "pause_time"),
        "start_rate": _start_rate(message.start_rate),
        "burst": message.start_rate.burst,
        "aging": durations.render(durations.from_proto(message.aging)),
        "waiting_count": message.waiting_count,
        "running_count": message.running_count,
        "oldest_due_time": _time(message, "oldest_due_time"),
    }


def namespace(message: Namespace) -> Record:
    """A namespace, `name` without `namespaces/`."""
    return {
        "name": names.short_name(message.name),
        "max_running": message.max_running,
        "running_count": message.running_count,
        "history_retention": _retention(message, "history_retention"),
        "history_count_max": message.history_count_max,
        "dead_letter_retention": _retention(message, "dead_letter_retention"),
        "finished_count": message.finished_count,
        "not_run_count": message.not_run_count,
        "job_count": message.job_count,
        "job_count_max": message.job_count_max,
        "start_rate": _start_rate(message.start_rate),
        "burst": message.start_rate.burst,
    }


def _start_rate(rate: StartRate) -> str:
    return f"{rate.count}/{durations.render(durations.from_proto(rate.per))}" if rate.count else ""


def _retention(message: Namespace, field: Literal["history_retention", "dead_letter_retention"]) -> str:
    """`default`: as the nodes' settings say, or 30 days for dead letters."""
    return durations.render(durations.from_proto(getattr(message, field))) if message.HasField(field) else "default"


def worker(message: Worker) -> Record:
    """A worker, `name` without `workers/`."""
    return {
        "name": names.short_name(message.name),
        "state": words.render(Worker.State, message.state),
        "session": message.session,
        "queues": list(message.queues),
        "slot_count": message.slot_count,
        "running_count": message.running_count,
        "gateway": message.gateway,
        "labels": dict(sorted(message.labels.items())),
        "connect_time": _time(message, "connect_time"),
        "version": message.version,
    }


def member(message: Member) -> Record:
    """A node, with what it says of itself if it was asked."""
    record: Record = {
        "name": message.name,
        "address": message.address,
        "worker_address": message.worker_address,
        "peer_address": message.peer_address,
        "role": words.render(Member.Role, message.role),
        "reachable": message.reachable,
        "match_index": message.match_index,
        "id": message.id,
        "promote": message.promote,
        "version": message.version or None,
        "cluster_versions": _versions(message),
    }
    if message.HasField("condition"):
        condition = message.condition
        record |= {
            "version": condition.version,
            "revision": condition.revision,
            "first_index": condition.first_index,
            "clock_offset": durations.render(condition.clock_offset.ToTimedelta()),
            "clock_uncertainty": durations.render(condition.clock_uncertainty.ToTimedelta()),
            "disk_free_bytes": condition.disk_free_bytes,
            "disk_total_bytes": condition.disk_total_bytes,
            "state_bytes": condition.state_bytes,
            "start_time": _time(condition, "start_time"),
        }
    return record


def _versions(message: Member) -> str | None:
    """The cluster versions that a node's program can apply."""
    if not message.newest_cluster_version:
        return None
    oldest, newest = message.oldest_cluster_version, message.newest_cluster_version
    return str(newest) if oldest == newest else f"{oldest}-{newest}"


def encryption(message: GetEncryptionResponse) -> Record:
    """The data keys of a node."""
    return {
        "node": message.node,
        "source": message.source,
        "keys": [
            {
                "number": key.number,
                "create_time": _time(key, "create_time"),
                "wrapped_with": key.wrapped_with,
                "current": key.current,
            }
            for key in message.keys
        ],
        "rotating": message.rotating,
        "done_count": message.done_count,
        "total_count": message.total_count,
    }


def status(message: GetClusterStatusResponse) -> Record:
    """How the cluster stands."""
    record: Record = {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
    record["log_time"] = _time(message, "log_time")
    record["next_version_waits_for"] = list(message.next_version_waits_for)
    return record


def _time(message: Any, field: str) -> str | None:
    return times.render(getattr(message, field)) if message.HasField(field) else None


def _distance_ms(message: Any, first: str, last: str) -> int | None:
    if not (message.HasField(first) and message.HasField(last)):
        return None
    return _milliseconds(getattr(message, last)) - _milliseconds(getattr(message, first))


def _milliseconds(message: timestamp_pb2.Timestamp) -> int:
    return message.seconds * 1000 + message.nanos // 1_000_000
