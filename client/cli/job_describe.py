"""What `horologe job describe` shows beside the definition: policies with their defaults, due times, executions."""

from __future__ import annotations

import heapq
import itertools
from typing import Any

from horologe.client import records, times, words
from horologe.client.client import Client
from horologe.client.durations import from_proto, render
from horologe.v1 import job_pb2
from horologe.v1.job_pb2 import Job, RetryPolicy

__all__ = ["describe_job", "policies"]

DUE_TIMES = 5
EXECUTIONS = 5


def describe_job(client: Client, job: Job) -> dict[str, Any]:
    """Next due times over all schedules, a sentence for each schedule, and the last executions."""
    due: list[str] = []
    sentences: list[str] = []
    for schedule in job.schedules:
        if schedule.WhichOneof("kind") == "interval" and not schedule.interval.HasField("phase"):
            # Its phase follows from the job's identity, which a preview does not know.
            sentences.append(f"every {render(from_proto(schedule.interval.every))}")
            continue
        if schedule.WhichOneof("kind") == "manual":
            sentences.append("only on request")
            continue
        preview = client.preview_schedule(schedule, count=DUE_TIMES)
        due.extend(times.render(moment) for moment in preview.due_times)
        sentences.append(preview.description)
    if job.HasField("next_due_time"):
        due.append(times.render(job.next_due_time))
    is_followed = job.state == Job.STATE_ACTIVE
    latest = itertools.islice(client.list_executions(job.name, page_size=EXECUTIONS), EXECUTIONS)
    return {
        "schedule_descriptions": [sentence for sentence in sentences if sentence],
        "next_due_times": heapq.nsmallest(DUE_TIMES, set(due)) if is_followed else [],
        "recent_executions": [records.execution(execution) for execution in latest],
    }


def policies(job: Job) -> list[tuple[str, object]]:
    """Each policy with its value, or its default."""
    retry = job.retry
    backoff = words.render(RetryPolicy.Backoff, retry.backoff) or "exponential"
    base = render(from_proto(retry.base)) if retry.HasField("base") else "5s"
    cap = render(from_proto(retry.cap)) if retry.HasField("cap") else "1h"
    attempts = retry.max_attempts or 3
    retries = "none" if attempts == 1 else f"{attempts} attempts, {backoff} backoff from {base} to {cap}"
    return [
        ("Retry", retries),
        ("Timeout", render(from_proto(job.timeout)) if job.HasField("timeout") else "1h"),
        ("Grace", render(from_proto(job.grace)) if job.HasField("grace") else "10s"),
        ("Overlap", words.render(job_pb2.OverlapPolicy, job.overlap) or "skip"),
        ("Catch-up", words.render(job_pb2.CatchupPolicy, job.catchup) or "latest"),
        (
            "Catch-up window",
            render(from_proto(job.catchup_window)) if job.HasField("catchup_window") else "by schedule",
        ),
        ("On lease loss", words.render(job_pb2.LeaseLossPolicy, job.on_lease_loss) or "retry"),
        ("Queue", job.queue or "default"),
        ("Priority", job.priority if job.HasField("priority") else 5),
        ("Unfinished executions", job.unfinished_execution_count or None),
        ("Etag", job.etag),
        ("Created", times.render(job.create_time) if job.HasField("create_time") else None),
        ("Updated", times.render(job.update_time) if job.HasField("update_time") else None),
    ]
