"""Dead letters and operations as plain data, as `records.py` has the other messages of the API."""

from __future__ import annotations

from horologe.client import names, records, times, words
from horologe.client.jobfile_fields import plain_json
from horologe.client.records import Record
from horologe.v1.backfill_service_pb2 import BackfillJobResponse
from horologe.v1.dead_letter_service_pb2 import DeadLetter, DeadLetterGroup
from horologe.v1.operation_pb2 import Operation

__all__ = ["backfill_preview", "dead_letter", "group", "operation"]


def dead_letter(message: DeadLetter) -> Record:
    """An execution in the dead letter queue, with the error that put it there."""
    return {
        **records.execution(message.execution),
        "error": message.error,
        "fingerprint": message.fingerprint,
        "payload": plain_json(message.payload) if message.HasField("payload") else None,
    }


def group(message: DeadLetterGroup) -> Record:
    """Dead letters of one error."""
    return {
        "fingerprint": message.fingerprint,
        "count": message.count,
        "first_time": times.render(message.first_time),
        "last_time": times.render(message.last_time),
        "sample": dead_letter(message.sample),
    }


def operation(message: Operation) -> Record:
    """Something that goes on by itself. `total_count` is None while nobody has counted."""
    return {
        "name": message.name,
        "id": int(message.name.rpartition("/")[2] or 0),
        "namespace": names.namespace_id(message.name) if message.name else "",
        "kind": words.render(Operation.Kind, message.kind),
        "state": words.render(Operation.State, message.state),
        "job": names.job_id(message.job) if message.job else "",
        "description": message.description,
        "create_time": times.render(message.create_time) if message.HasField("create_time") else None,
        "end_time": times.render(message.end_time) if message.HasField("end_time") else None,
        "reason": message.reason,
        "total_count": message.total_count or None,
        "looked_at_count": message.looked_at_count,
        "done_count": message.done_count,
        "unfinished_count": message.unfinished_count,
        "completed_count": message.completed_count,
        "failed_count": message.failed_count,
    }


def backfill_preview(message: BackfillJobResponse) -> Record:
    """What a backfill would run."""
    return {
        "job": names.job_id(message.operation.job),
        "description": message.operation.description,
        "total_count": message.operation.total_count,
        "wanted_count": message.wanted_count,
        "first_due_times": [times.render(due) for due in message.first_due_times],
    }
