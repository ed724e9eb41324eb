"""Job definitions from outside: is every field allowed, and what is stored for the fields that were left out.

`complete_job` is a pure function of the definition, its name, the time, and what is stored already, so that the same
definition applied twice is stored once. What an action's kind demands is in `actions`; schedules are judged in `schedule`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from math import isfinite

from google.protobuf.duration_pb2 import Duration

from horologe.node import schedule
from horologe.node.actions import action_violations
from horologe.node.bounds import complete_bounds
from horologe.node.dependencies import complete_dependencies
from horologe.node.names import ID_RULE, is_id, shorten
from horologe.node.schedule import Violation
from horologe.node.timetable import default_catchup_window_ms
from horologe.raft.failures import PATTERN_RULE, is_pattern
from horologe.raft.lanes import Lane
from horologe.v1 import job_pb2

OUTPUT_ONLY = (
    "uid",
    "etag",
    "state",
    "pause_reason",
    "paused_by",
    "run_as",
    "create_time",
    "update_time",
    "next_due_time",
    "unfinished_execution_count",
    "counters",
    "schedule_time",
)
"""Fields of a job that only the cluster sets; what a caller sends in them is ignored."""
SCHEDULES_MAX = 20
LABELS_MAX = 64
LABEL_VALUE_LENGTH_MAX = 256
WORKER_LABELS_MAX = 16
LANE_BYTES_MAX = 450
DESCRIPTION_BYTES_MAX = 4 << 10
OWNER_LENGTH_MAX = 256
QUEUE_RULE = "1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or a digit"
LABEL_RULE = "1 to 63 lower-case letters, digits, '.', '_', '/' and '-', beginning with a letter or a digit"
TIMEOUT_MS = (100, 30 * schedule.DAY_MS)
GRACE_MS = (0, 3_600_000)
CATCHUP_WINDOW_MS = (0, 10 * 366 * schedule.DAY_MS)
RETRY_DELAY_MS = (0, 7 * schedule.DAY_MS)
MAX_ATTEMPTS = (1, 100)
OUTPUT_BYTES_MAX = 10 << 20
RETRY_WINDOW_MS = (1_000, 366 * schedule.DAY_MS)
EXECUTION_TIMEOUT_MS = (100, 366 * schedule.DAY_MS)
FAILURES_MAX = 50
MAX_RUNNING_MAX = 1_000_000
LIMITS_MAX = 8
"""Each is asked at every start."""
FACTOR = (1.0, 100.0)
QUEUE_MAX = (1, 10_000)
"""Deleting a job may cancel all that wait in one entry of the log."""

TIMEOUT_DEFAULT_MS = 3_600_000
GRACE_DEFAULT_MS = 10_000
PRIORITY_DEFAULT = 5
QUEUE_MAX_DEFAULT = 1_000
QUEUE_DEFAULT = "default"
ATTEMPTS_DEFAULT = 3
RETRY_BASE_DEFAULT_MS = 5_000
RETRY_FACTOR_DEFAULT = 2.0
RETRY_CAP_DEFAULT_MS = 3_600_000

_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LABEL_KEY = re.compile(r"[a-z0-9][a-z0-9._/-]{0,62}")


def complete_job(
    job: job_pb2.Job, name: str, now_ms: int, path: str = "job", stored: Sequence[job_pb2.Schedule] = ()
) -> tuple[job_pb2.Job, list[Violation]]:
    """The definition as it is stored under `name`, with every default written out, and all that is wrong with it.

    `name` is a checked job name; `path` is where the job stands in the request; `stored` are the schedules that the job has
    already: those were judged when they were new, and may have passed since. With violations, the definition is of no use.
    """
    found: list[Violation] = []
    complete = job_pb2.Job()
    complete.CopyFrom(job)
    for field in OUTPUT_ONLY:
        complete.ClearField(field)  # type: ignore[arg-type]
    complete.name = name
    _complete_schedules(complete, name, now_ms, path, stored, found)
    found += complete_dependencies(complete, path)
    found += action_violations(complete.action, f"{path}.action")
    _complete_retry(complete.retry, f"{path}.retry", found)
    _complete_duration(complete, "timeout", TIMEOUT_DEFAULT_MS, TIMEOUT_MS, path, found)
    _complete_duration(complete, "grace", GRACE_DEFAULT_MS, GRACE_MS, path, found)
    _check_duration(complete, "execution_timeout", EXECUTION_TIMEOUT_MS, path, found)
    _complete_policies(complete, path, found)
    found += complete_bounds(complete, path)
    if not 0 <= complete.output_bytes_max <= OUTPUT_BYTES_MAX:
        found.append(
            Violation(
                f"{path}.output_bytes_max",
                f"{complete.output_bytes_max} is outside 0 to {OUTPUT_BYTES_MAX}, which is what a node keeps of an attempt",
            )
        )
    complaint = apply_set_complaint(complete.apply_set)
    if complaint:
        found.append(Violation(f"{path}.apply_set", complaint))
    if len(complete.owner) > OWNER_LENGTH_MAX:
        found.append(
            Violation(f"{path}.owner", f"{len(complete.owner)} characters are too many; at most {OWNER_LENGTH_MAX}")
        )
    _check_labels(complete.labels, f"{path}.labels", LABELS_MAX, found)
    _check_worker_labels(complete, path, found)
    size = len(complete.description.encode())
    if size > DESCRIPTION_BYTES_MAX:
        found.append(
            Violation(f"{path}.description", f"{size} bytes are too many; at most {DESCRIPTION_BYTES_MAX} are kept")
        )
    if not found:
        # Last, because it asks the schedules when they are due, which only valid ones can say.
        default_ms = default_catchup_window_ms(complete.schedules, name)
        _complete_duration(complete, "catchup_window", default_ms, CATCHUP_WINDOW_MS, path, found)
    return complete, found


def _complete_schedules(
    job: job_pb2.Job,
    name: str,
    now_ms: int,
    path: str,
    stored: Sequence[job_pb2.Schedule],
    found: list[Violation],
) -> None:
    if not 1 <= len(job.schedules) <= SCHEDULES_MAX:
        found.append(
            Violation(
                f"{path}.schedules",
                f"{len(job.schedules)} schedules are given; a job has 1 to {SCHEDULES_MAX} (use `manual` for none)",
            )
        )
        return
    kinds = [each.WhichOneof("kind") for each in job.schedules]
    if "manual" in kinds and len(kinds) > 1:
        found.append(
            Violation(
                f"{path}.schedules[{kinds.index('manual')}]",
                "`manual` stands beside other schedules; it must be alone, and every job can be run by hand anyway",
            )
        )
    for position, each in enumerate(job.schedules):
        known = _stored_once(each, stored)
        if known is not None:
            each.CopyFrom(known)
            continue
        violations = schedule.validate(each, f"{path}.schedules[{position}]", now_ms, name)
        found += violations
        if not violations:
            schedule.normalise_in_place(each, now_ms)
            _write_phase(each, name)


def _stored_once(wanted: job_pb2.Schedule, stored: Sequence[job_pb2.Schedule]) -> job_pb2.Schedule | None:
    """The same instant as one that the job has already: it may have passed, and that is no mistake of today's."""
    if wanted.WhichOneof("kind") != "once" or wanted.once.HasField("delay") or not wanted.once.HasField("time"):
        return None
    same = job_pb2.Schedule()
    same.CopyFrom(wanted)
    same.once.time.nanos -= same.once.time.nanos % 1_000_000
    return same if same in stored else None


def _write_phase(each: job_pb2.Schedule, name: str) -> None:
    """An interval's phase follows from the job's name; stored explicitly, because the state machine derives nothing."""
    if each.WhichOneof("kind") == "interval" and not each.interval.HasField("phase"):
        schedule.write_ms(each.interval.phase, schedule.next_due_ms(each, -1, name) or 0)


def _complete_retry(retry: job_pb2.RetryPolicy, path: str, found: list[Violation]) -> None:
    retry.max_attempts = retry.max_attempts or ATTEMPTS_DEFAULT
    retry.backoff = retry.backoff or job_pb2.RetryPolicy.BACKOFF_EXPONENTIAL
    retry.factor = retry.factor or RETRY_FACTOR_DEFAULT
    retry.jitter = retry.jitter or job_pb2.RetryPolicy.JITTER_FULL
    low, high = MAX_ATTEMPTS
    if not low <= retry.max_attempts <= high:
        found.append(Violation(f"{path}.max_attempts", f"{retry.max_attempts} is outside {low} to {high}"))
    if not isfinite(retry.factor) or not FACTOR[0] <= retry.factor <= FACTOR[1]:
        found.append(Violation(f"{path}.factor", f"{retry.factor:g} is outside {FACTOR[0]:g} to {FACTOR[1]:g}"))
    _complete_duration(retry, "base", RETRY_BASE_DEFAULT_MS, RETRY_DELAY_MS, path, found)
    before = len(found)
    # A long base raises the cap that nobody gave; with one that was given, they contradict each other.
    base_ms = min(retry.base.seconds * 1000, RETRY_DELAY_MS[1])
    _complete_duration(retry, "cap", max(RETRY_CAP_DEFAULT_MS, base_ms), RETRY_DELAY_MS, path, found)
    if len(found) == before and schedule.duration_ms(retry.cap) < base_ms:
        found.append(
            Violation(f"{path}.cap", f"{_seconds(retry.cap)} is less than base ({_seconds(retry.base)}); raise it")
        )
    _check_duration(retry, "retry_window", RETRY_WINDOW_MS, path, found)
    _check_failures(retry, "retry_on", path, found)
    _check_failures(retry, "do_not_retry_on", path, found)
    _check_enum(retry, "backoff", job_pb2.RetryPolicy.Backoff, path, found)
    _check_enum(retry, "jitter", job_pb2.RetryPolicy.Jitter, path, found)


def _check_failures(retry: job_pb2.RetryPolicy, field: str, path: str, found: list[Violation]) -> None:
    patterns: Sequence[str] = getattr(retry, field)
    if len(patterns) > FAILURES_MAX:
        found.append(Violation(f"{path}.{field}", f"{len(patterns)} failures are too many; at most {FAILURES_MAX}"))
    for position, pattern in enumerate(patterns[: FAILURES_MAX + 1]):
        if not is_pattern(pattern):
            what = f"{shorten(pattern)} is no failure; use {PATTERN_RULE}"
            found.append(Violation(f"{path}.{field}[{position}]", what))


def _complete_policies(job: job_pb2.Job, path: str, found: list[Violation]) -> None:
    job.overlap = job.overlap or job_pb2.OVERLAP_POLICY_SKIP
    job.catchup = job.catchup or job_pb2.CATCHUP_POLICY_LATEST
    job.on_lease_loss = job.on_lease_loss or job_pb2.LEASE_LOSS_POLICY_RETRY
    _check_enum(job, "overlap", job_pb2.OverlapPolicy, path, found)
    _check_enum(job, "catchup", job_pb2.CatchupPolicy, path, found)
    _check_enum(job, "on_lease_loss", job_pb2.LeaseLossPolicy, path, found)
    job.queue_max = job.queue_max or QUEUE_MAX_DEFAULT
    low, high = QUEUE_MAX
    if not low <= job.queue_max <= high:
        found.append(Violation(f"{path}.queue_max", f"{job.queue_max} is outside {low} to {high}"))
    _check_limits(job, path, found)
    job.queue = job.queue or QUEUE_DEFAULT
    if not _QUEUE.fullmatch(job.queue):
        found.append(Violation(f"{path}.queue", f"{shorten(job.queue)} is no queue name; use {QUEUE_RULE}"))
    if not job.HasField("priority"):
        job.priority = PRIORITY_DEFAULT
    if not 0 <= job.priority <= 9:
        found.append(Violation(f"{path}.priority", f"{job.priority} is outside 0 to 9"))


def _check_limits(job: job_pb2.Job, path: str, found: list[Violation]) -> None:
    if not 0 <= job.max_running <= MAX_RUNNING_MAX:
        found.append(
            Violation(f"{path}.max_running", f"{job.max_running} is outside 0 (no limit) to {MAX_RUNNING_MAX}")
        )
    if len(job.limits) > LIMITS_MAX:
        found.append(Violation(f"{path}.limits", f"{len(job.limits)} limits are too many; at most {LIMITS_MAX}"))
    for position, limit in enumerate(job.limits[: LIMITS_MAX + 1]):
        where = f"{path}.limits[{position}]"
        if not is_id(limit):
            found.append(Violation(where, f"{shorten(limit)} is no limit's id; use {ID_RULE}"))
        elif limit in job.limits[:position]:
            found.append(Violation(where, f"{limit} is named twice; once is enough"))


def apply_set_complaint(name: str) -> str:
    """What is wrong with the name of an apply set; empty if nothing is, as with none."""
    return f"{shorten(name)} is no name of a set; use {QUEUE_RULE}" if name and not _QUEUE.fullmatch(name) else ""


def is_queue(name: str) -> bool:
    """Whether a queue may have this name."""
    return _QUEUE.fullmatch(name) is not None


def _check_worker_labels(job: job_pb2.Job, path: str, found: list[Violation]) -> None:
    """They are part of the name of a lane (see raft/lanes.py), which is a key of a table."""
    if not job.worker_labels and is_queue(job.queue):
        return
    _check_labels(job.worker_labels, f"{path}.worker_labels", WORKER_LABELS_MAX, found)
    size = len(Lane(job.queue, job.worker_labels).key)
    if size > LANE_BYTES_MAX:
        found.append(
            Violation(f"{path}.worker_labels", f"{size} bytes with the queue are too many; at most {LANE_BYTES_MAX}")
        )
    for key, value in sorted(job.worker_labels.items()):
        if not value.isprintable():
            found.append(Violation(f"{path}.worker_labels[{shorten(key)}]", f"{shorten(value)} is not printable"))


def _check_labels(labels: Mapping[str, str], path: str, count_max: int, found: list[Violation]) -> None:
    if len(labels) > count_max:
        found.append(Violation(path, f"{len(labels)} labels are too many; at most {count_max}"))
    for key in sorted(labels)[: count_max + 1] if labels else ():
        where = f"{path}[{shorten(key)}]"
        if not _LABEL_KEY.fullmatch(key):
            found.append(Violation(where, f"{shorten(key)} is no label; use {LABEL_RULE}"))
        length = len(labels[key])
        if length > LABEL_VALUE_LENGTH_MAX:
            found.append(
                Violation(where, f"a value of {length} characters is too long; at most {LABEL_VALUE_LENGTH_MAX}")
            )


def _complete_duration(
    message: job_pb2.Job | job_pb2.RetryPolicy,
    field: str,
    default_ms: int,
    limits_ms: tuple[int, int],
    path: str,
    found: list[Violation],
) -> None:
    """Fills in the default, or checks what is there and rounds it to whole milliseconds."""
    duration: Duration = getattr(message, field)
    if not message.HasField(field):  # type: ignore[arg-type]
        schedule.write_ms(duration, default_ms)
        return
    low, high = limits_ms
    # By seconds first: a duration from outside may be too large for everything else.
    total_ms = duration.seconds * 1000 + duration.nanos / 1_000_000
    if not low <= total_ms <= high or abs(duration.nanos) >= 1_000_000_000:
        found.append(
            Violation(f"{path}.{field}", f"{_seconds(duration)} is outside {low / 1000:g} s to {high / 1000:g} s")
        )
        return
    schedule.write_ms(duration, round(total_ms))


def _check_duration(
    message: job_pb2.Job | job_pb2.RetryPolicy,
    field: str,
    limits_ms: tuple[int, int],
    path: str,
    found: list[Violation],
) -> None:
    """As above, for what is absent unless somebody wants it."""
    if message.HasField(field):  # type: ignore[arg-type]
        _complete_duration(message, field, 0, limits_ms, path, found)


def _seconds(duration: Duration) -> str:
    return f"{duration.seconds + duration.nanos / 1e9:g} s"


def _check_enum(
    message: job_pb2.Job | job_pb2.RetryPolicy,
    field: str,
    enum: object,
    path: str,
    found: list[Violation],
) -> None:
    """Enums are open on the wire; a number without a name means that the caller knows more than we do."""
    value: int = getattr(message, field)
    if value not in _numbers_of(enum):
        names = ", ".join(name for name, number in enum.items() if number)  # type: ignore[attr-defined]
        found.append(Violation(f"{path}.{field}", f"{value} is not a known value; use one of {names}"))


@cache
def _numbers_of(enum: object) -> frozenset[int]:
    return frozenset(enum.values())  # type: ignore[attr-defined]
