"""`horologe job next`: when a job is due next, by everything that it says: schedules, bounds, calendars and jitter."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horologe.client.cli import filters
from horologe.client.cli.output import Column
from horologe.client.cli.session import Session, connected

if TYPE_CHECKING:
    from horologe.v1.job_pb2 import Job

__all__ = ["next_"]

COUNT_MAX = 1_000
"""More than one answer holds, nobody reads."""

_COLUMNS = (
    Column("DUE TIME", "due_time"),
    Column("LOCAL", "local_time"),
    Column("STARTS", "fire_time"),
)


@connected
def next_(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Id in the namespace, or the full name.")],
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="RFC 3339, or -1d; exclusive. Default: now.")
    ] = "",
    count: Annotated[int, typer.Option("--count", metavar="N", min=1, max=COUNT_MAX, help="How many to show.")] = 5,
) -> None:
    """Show when a job is due: by all its schedules, within its bounds, outside its calendars."""
    from horologe.client import times

    job = session.client.get_job(name)
    preview = session.client.preview_job(job, start=filters.instant(start, "--from"), count=count)
    local = _local_times(job)
    records: list[dict[str, Any]] = [
        {"due_time": times.render(due), "local_time": local(due.ToDatetime(UTC))} for due in preview.due_times
    ]
    for record, fire in zip(records, preview.fire_times, strict=False):
        record["fire_time"] = times.render(fire)
    columns = [column for column in _COLUMNS if column.value != "fire_time" or preview.fire_times]
    session.print_list(records, columns, "It is due no more.")


def _local_times(job: Job) -> Callable[[datetime], str]:
    """Writes an instant on the clocks of the job's first time zone, with the day of the week."""
    from horologe.client import times

    named = next((each.cron.time_zone for each in job.schedules if each.cron.time_zone), "UTC")
    zone = times.zone(named)
    return lambda instant: instant.astimezone(zone).strftime("%a %Y-%m-%d %H:%M:%S %z")
