"""What `horologe job describe` shows beside the definition: policies with their defaults, due times, executions."""

from __future__ import annotations

import heapq
import itertools
from typing import Any

from horologe.client import job_defaults as defaults
from horologe.client import records, times, words
from horologe.client.client import Client
from horologe.client.durations import from_proto, render
from horologe.v1 import job_pb2
from horologe.v1.job_pb2 import AfterSchedule, CronSchedule, Job, RetryPolicy, Schedule

__all__ = ["describe_job", "policies"]

DUE_TIMES = 5
EXECUTIONS = 5


def describe_job(client: Client, job: Job) -> dict[str, Any]:
    """Next due times over all schedules, a sentence for each schedule, and the last executions."""
    sentences = [_sentence(client, job, schedule) for schedule in job.schedules]
    due = {times.render(moment) for moment in client.preview_job(job, count=DUE_TIMES).due_times}
    if job.HasField("next_due_time"):
        due.add(times.render(job.next_due_time))
    is_followed = job.state == Job.STATE_ACTIVE
    latest = itertools.islice(client.list_executions(job.name, page_size=EXECUTIONS), EXECUTIONS)
    return {
        "schedule_descriptions": sentences,
        "next_due_times": heapq.nsmallest(DUE_TIMES, due) if is_followed else [],
        "recent_executions": [records.execution(execution) for execution in latest],
    }


def _sentence(client: Client, job: Job, schedule: Schedule) -> str:
    """What a schedule means."""
    match schedule.WhichOneof("kind"):
        case "interval" if not schedule.interval.HasField("phase"):
            # Its phase follows from the job's identity, which a preview does not know.
            return f"every {render(from_proto(schedule.interval.every))}"
        case "fixed_delay":
            return f"{render(from_proto(schedule.fixed_delay.delay))} after the end of the previous execution"
        case "after":
            condition = words.render(AfterSchedule.Condition, schedule.after.condition) or defaults.CONDITION
            return f"after {', '.join(schedule.after.jobs)}: {condition}"
        case "manual":
            return "only on request"
        case "cron":
            return client.preview_schedule(schedule, count=1, job=job.name).description + _rules(schedule.cron)
        case _:
            return client.preview_schedule(schedule, count=1, job=job.name).description


def _rules(cron: CronSchedule) -> str:
    """How a cron expression is read, and what daylight saving does to it: the defaults too."""
    rules = {
        "dialect": words.render(CronSchedule.Dialect, cron.dialect) or defaults.DIALECT,
        "dst_gap": words.render(CronSchedule.GapPolicy, cron.dst_gap) or defaults.DST_GAP,
        "dst_overlap": words.render(CronSchedule.OverlapPolicy, cron.dst_overlap) or defaults.DST_OVERLAP,
        "day_match": words.render(CronSchedule.DayMatch, cron.day_match) or defaults.DAY_MATCH,
    }
    return f" [{', '.join(f'{name}={value}' for name, value in rules.items())}]"


def policies(job: Job) -> list[tuple[str, object]]:
    """Each policy with its value, or its default; those that a job need not have, only if it has them."""
    return [
        ("From", _time(job, "start_time")),
        ("Until", _time(job, "end_time")),
        ("Executions at most", job.max_executions or None),
        ("Jitter", _span(job, "jitter")),
        ("Calendars", list(job.calendars)),
        (
            "On exclusion",
            (words.render(job_pb2.ExclusionPolicy, job.on_exclusion) or defaults.ON_EXCLUSION)
            if job.calendars
            else None,
        ),
        ("When finished", "deleted" if job.delete_when_finished else None),
        *_retry(job.retry),
        ("Timeout", _span(job, "timeout", defaults.TIMEOUT)),
        ("Execution timeout", _span(job, "execution_timeout")),
        ("Deadline", _span(job, "deadline")),
        ("Grace", _span(job, "grace", defaults.GRACE)),
        ("Overlap", words.render(job_pb2.OverlapPolicy, job.overlap) or defaults.OVERLAP),
        (
            "Waiting at most",
            (job.queue_max or defaults.QUEUE_MAX) if job.overlap == job_pb2.OVERLAP_POLICY_QUEUE_ALL else None,
        ),
        ("Running at most", job.max_running or None),
        ("Limits", list(job.limits)),
        ("Catch-up", words.render(job_pb2.CatchupPolicy, job.catchup) or defaults.CATCHUP),
        (
            "Catch-up at most",
            (job.catchup_max or defaults.CATCHUP_MAX) if job.catchup == job_pb2.CATCHUP_POLICY_ALL else None,
        ),
        ("Catch-up window", _span(job, "catchup_window", "by schedule")),
        ("On lease loss", words.render(job_pb2.LeaseLossPolicy, job.on_lease_loss) or defaults.ON_LEASE_LOSS),
        ("Queue", job.queue or defaults.QUEUE),
        ("Priority", job.priority if job.HasField("priority") else defaults.PRIORITY),
        ("Worker labels", dict(sorted(job.worker_labels.items()))),
        ("Workflow", job.workflow),
        ("Apply set", job.apply_set),
        ("Unfinished executions", job.unfinished_execution_count or None),
        ("Etag", job.etag),
        ("Created", _time(job, "create_time")),
        ("Updated", _time(job, "update_time")),
    ]


def _retry(retry: RetryPolicy) -> list[tuple[str, object]]:
    attempts = retry.max_attempts or defaults.MAX_ATTEMPTS
    backoff = words.render(RetryPolicy.Backoff, retry.backoff) or defaults.RETRY_BACKOFF
    growth = f"{backoff} backoff from {_span(retry, 'base', defaults.RETRY_BASE)} to {_span(retry, 'cap', defaults.RETRY_CAP)}"
    if backoff == "exponential":
        growth += f", factor {retry.factor or defaults.RETRY_FACTOR:g}"
    growth += f", jitter {words.render(RetryPolicy.Jitter, retry.jitter) or defaults.RETRY_JITTER}"
    return [
        ("Retry", "none" if attempts == 1 else f"{attempts} attempts, {growth}"),
        ("Retry on", list(retry.retry_on)),
        ("Do not retry on", list(retry.do_not_retry_on)),
        ("Retry window", _span(retry, "retry_window")),
    ]


def _span(message: Job | RetryPolicy, field: str, default: str | None = None) -> str | None:
    return render(from_proto(getattr(message, field))) if message.HasField(field) else default  # type: ignore[arg-type]


def _time(job: Job, field: str) -> str | None:
    return times.render(getattr(job, field)) if job.HasField(field) else None  # type: ignore[arg-type]
