"""One frame of `horologe top`: what was read at one moment, as a screen, as lines of text, and as data.

All that colours and figures of blocks say is in words too. What people wrote (names, reasons) is shown with what could steer a
terminal made visible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from horologe.client import durations, names, records, words
from horologe.client.cli.failures import printable
from horologe.v1.activity_service_pb2 import ActivitySample, GetActivityResponse
from horologe.v1.cluster_service_pb2 import GetClusterStatusResponse, Member
from horologe.v1.execution_pb2 import Execution
from horologe.v1.queue_service_pb2 import Queue
from horologe.v1.worker_pb2 import Worker

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["Frame", "lines", "record", "screen", "sparkline"]

BLOCKS = "▁▂▃▄▅▆▇█"
ROWS_MIN = 3
FIXED_LINES = 20
"""Of a screen: what is there beside the rows of four tables."""
NOT_ALLOWED = "you may not see this"


@dataclass(frozen=True, slots=True)
class Frame:
    """What was read. A list that is None may not be seen by whoever asks."""

    time: datetime
    status: GetClusterStatusResponse
    activity: GetActivityResponse | None
    members: list[Member] | None
    queues: list[Queue] | None
    running: list[Execution] | None
    failed: list[Execution] | None
    workers: list[Worker] | None
    trouble: str = ""
    """Why this is an old frame: the cluster did not answer."""


@dataclass(frozen=True, slots=True)
class _Table:
    """One list of a frame."""

    title: str
    headers: tuple[str, ...]
    rows: list[tuple[str, ...]] | None
    nothing: str


# Figures


def sparkline(values: Sequence[int]) -> str:
    """One block for each value, the highest for the largest; nothing is the lowest."""
    highest = max(values, default=0)
    if not highest:
        return BLOCKS[0] * len(values)
    return "".join(BLOCKS[-(-value * (len(BLOCKS) - 1) // highest)] for value in values)


def _starts(activity: GetActivityResponse) -> list[int]:
    return [sample.started_count for sample in activity.samples]


def _rate(activity: GetActivityResponse) -> str:
    starts = _starts(activity)
    if not starts:
        return "nothing was seen yet"
    mean = sum(starts) / len(starts)
    return f"{starts[-1]} now, {mean:.1f} on average, {max(starts)} at most in the last {len(starts)} s"


def _delay(total: ActivitySample) -> str:
    if not total.HasField("start_delay_p50"):
        return "nothing started"
    return f"half within {_span(total.start_delay_p50)}, 99 of 100 within {_span(total.start_delay_p99)}"


def _span(duration: Duration) -> str:
    return durations.render(durations.from_proto(duration))


def _age(message: Any, field: str, now: datetime) -> str:
    """How long ago, in whole seconds; the clock here may be a little behind that of the cluster."""
    if not message.HasField(field):
        return "-"
    moment: Timestamp = getattr(message, field)
    seconds = max(0, round((now - moment.ToDatetime(UTC)).total_seconds()))
    return durations.render(durations.parse(f"{seconds}s")) if seconds else "0s"


# Sentences


def _leadership(frame: Frame) -> str:
    status = frame.status
    leader = f"{printable(status.leader)} leads in term {status.term}" if status.leader else "NOBODY LEADS"
    quorum = "a majority answers" if status.has_quorum else "NO MAJORITY ANSWERS"
    return f"{leader}, {quorum}"


def _membership(frame: Frame) -> str:
    if frame.members is None:
        return NOT_ALLOWED
    return ", ".join(
        f"{printable(member.name)} {words.render(Member.Role, member.role)}{'' if member.reachable else ' UNREACHABLE'}"
        for member in frame.members
    )


def _facts(frame: Frame) -> Iterator[tuple[str, str]]:
    """Labels, and what is to be said about them."""
    yield "Leader", _leadership(frame)
    yield "Members", _membership(frame)
    activity = frame.activity
    if activity is None:
        yield "Executions per second", NOT_ALLOWED
        return
    yield "Executions per second", _rate(activity)
    yield "Start delay", _delay(activity.total)
    total = activity.total
    counts = f"{total.succeeded_count} ended well, {total.failed_count} failed, {total.late_count} started late"
    yield "In that time", counts
    now = f"{activity.running_count} running, {activity.queued_count} queued, {activity.dead_letter_count} dead letters"
    yield "Now", now


def _tables(frame: Frame) -> list[_Table]:
    return [
        _Table("Queues", ("QUEUE", "STATE", "WAITING", "RUNNING", "OLDEST"), _queue_rows(frame), "there are no queues"),
        _Table("Running", ("EXECUTION", "SINCE", "ATTEMPT", "WORKER"), _running_rows(frame), "nothing runs"),
        _Table("Latest failures", ("EXECUTION", "STATE", "AGO", "REASON"), _failed_rows(frame), "nothing has failed"),
        _Table("Workers", ("WORKER", "STATE", "SLOTS", "QUEUES", "NODE"), _worker_rows(frame), "no worker is there"),
    ]


def _name(execution: Execution) -> str:
    name = execution.name
    return printable(f"{names.namespace_id(name)}/{names.job_id(name)} #{names.execution_number(name)}")


def _queue_rows(frame: Frame) -> list[tuple[str, ...]] | None:
    if frame.queues is None:
        return None
    busy_first = sorted(frame.queues, key=lambda queue: (-queue.waiting_count, -queue.running_count, queue.name))
    return [
        (
            printable(names.short_name(queue.name)),
            "paused" if queue.paused else "active",
            str(queue.waiting_count),
            str(queue.running_count),
            _age(queue, "oldest_due_time", frame.time),
        )
        for queue in busy_first
    ]


def _running_rows(frame: Frame) -> list[tuple[str, ...]] | None:
    if frame.running is None:
        return None
    rows: list[tuple[str, ...]] = []
    for execution in frame.running:
        last = execution.attempts[-1] if execution.attempts else None
        worker = printable(last.worker) if last is not None else ""
        attempt = str(last.number) if last is not None else "-"
        rows.append((_name(execution), _age(execution, "start_time", frame.time), attempt, worker or "-"))
    return rows


def _failed_rows(frame: Frame) -> list[tuple[str, ...]] | None:
    if frame.failed is None:
        return None
    return [
        (
            _name(execution),
            words.render(Execution.State, execution.state),
            _age(execution, "end_time", frame.time),
            printable(execution.reason) or "-",
        )
        for execution in frame.failed
    ]


def _worker_rows(frame: Frame) -> list[tuple[str, ...]] | None:
    if frame.workers is None:
        return None
    return [
        (
            printable(names.short_name(worker.name)),
            words.render(Worker.State, worker.state),
            f"{worker.running_count} of {worker.slot_count}",
            printable(", ".join(worker.queues)),
            printable(worker.gateway),
        )
        for worker in frame.workers
    ]


# Forms


def lines(frame: Frame) -> Iterator[str]:
    """Sentences only, each with its subject first."""
    yield f"{frame.time:%Y-%m-%d %H:%M:%S} UTC, as {printable(frame.status.node)} sees it."
    if frame.trouble:
        yield f"OLD FIGURES: the cluster does not answer: {printable(frame.trouble)}"
    for label, text in _facts(frame):
        yield f"{label}: {text}."
    for table in _tables(frame):
        if not table.rows:
            yield f"{table.title}: {NOT_ALLOWED if table.rows is None else table.nothing}."
            continue
        yield f"{table.title}, {len(table.rows)}:"
        labels = [header.lower() for header in table.headers]
        for first, *others in table.rows:
            yield f"  {first}: " + ", ".join(f"{label} {cell}" for label, cell in zip(labels[1:], others, strict=True))


def screen(frame: Frame, height: int) -> Group:
    """For a terminal of so many lines; long lists are cut, and say so."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = [
        Text(f"Horologe  {frame.time:%H:%M:%S} UTC  as {printable(frame.status.node)} sees it", style="bold")
    ]
    if frame.trouble:
        parts.append(Text(f"OLD FIGURES: the cluster does not answer: {printable(frame.trouble)}", style="bold red"))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True, style="bold")
    facts.add_column(overflow="ellipsis", no_wrap=True)
    for label, text in _facts(frame):
        facts.add_row(label, Text(text, style=_style(text)))
    parts.append(facts)
    if frame.activity is not None and frame.activity.samples:
        parts.append(Text(sparkline(_starts(frame.activity)), style="cyan", no_wrap=True, overflow="crop"))
    rows_max = max(ROWS_MIN, (height - FIXED_LINES) // 4)
    for table in _tables(frame):
        parts += [Text(""), *_drawn(table, rows_max)]
    return Group(*parts)


def _drawn(table: _Table, rows_max: int) -> Iterator[Any]:
    from rich.table import Table
    from rich.text import Text

    if not table.rows:
        yield Text(f"{table.title}: {NOT_ALLOWED if table.rows is None else table.nothing}", style="dim")
        return
    left = len(table.rows) - rows_max
    more = f", {left} of them not shown" if left > 0 else ""
    yield Text(f"{table.title}: {len(table.rows)}{more}", style="bold")
    drawn = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    for header in table.headers:
        drawn.add_column(header, no_wrap=True, overflow="ellipsis")
    for row in table.rows[:rows_max]:
        drawn.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    yield drawn


def _style(text: str) -> str:
    """Colour for what is bad already in words."""
    if any(word in text for word in ("NOBODY", "NO MAJORITY", "UNREACHABLE")) or text in ("failed", "dead", "lost"):
        return "red"
    return "yellow" if text in ("paused", "draining") else ""


def record(frame: Frame) -> dict[str, Any]:
    """For programs."""

    def each(render: Any, found: list[Any] | None) -> list[Any] | None:
        return None if found is None else [render(one) for one in found]

    return {
        "time": frame.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "trouble": frame.trouble or None,
        "status": records.status(frame.status),
        "activity": None if frame.activity is None else _activity(frame.activity),
        "members": each(records.member, frame.members),
        "queues": each(records.queue, frame.queues),
        "running": each(records.execution, frame.running),
        "failed": each(records.execution, frame.failed),
        "workers": each(records.worker, frame.workers),
    }


def _activity(activity: GetActivityResponse) -> dict[str, Any]:
    total = activity.total
    has_delays = total.HasField("start_delay_p50")
    return {
        "node": activity.node,
        "started_counts": _starts(activity),
        "succeeded_count": total.succeeded_count,
        "failed_count": total.failed_count,
        "late_count": total.late_count,
        "start_delay_p50": _span(total.start_delay_p50) if has_delays else None,
        "start_delay_p99": _span(total.start_delay_p99) if has_delays else None,
        "queued_count": activity.queued_count,
        "running_count": activity.running_count,
        "dead_letter_count": activity.dead_letter_count,
    }
