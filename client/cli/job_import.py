"""`horologe job import`: jobs from other schedulers' files, all or none; what cannot be carried over is listed by line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from horologe.client import errors
from horologe.client.cli.failures import warn
from horologe.client.cli.job_sources import placed
from horologe.client.cli.output import Column, print_data
from horologe.client.cli.session import Session, connected

if TYPE_CHECKING:
    from horologe.client.crontab import Crontab

__all__ = ["import_app"]

import_app = typer.Typer(name="import", help="Take over jobs from another scheduler.", no_args_is_help=True)

_IMPORT_COLUMNS = (
    Column("LINE", "line"),
    Column("NAME", "name"),
    Column("SCHEDULE", "cron"),
    Column("TIME ZONE", "time_zone"),
    Column("COMMAND", "command"),
    Column("OUTCOME", "outcome"),
)


@import_app.command("crontab")
@connected
def import_crontab(
    session: Session,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A crontab; - for standard input.")],
    system: Annotated[
        bool | None, typer.Option("--system/--user", help="With or without a user column. Default: found out.")
    ] = None,
    tz: Annotated[
        str | None, typer.Option("--tz", metavar="ZONE", help="Without CRON_TZ. Default: this machine's.")
    ] = None,
    prefix: Annotated[str, typer.Option("--prefix", metavar="TEXT", help="Goes before each name.")] = "",
    update: Annotated[
        bool, typer.Option("--update", help="Change jobs that are there already, instead of refusing.")
    ] = False,
    skip_unsupported: Annotated[
        bool, typer.Option("--skip-unsupported", help="Leave out entries that cannot run here (@reboot).")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be created; store nothing.")] = False,
) -> None:
    """Create a job for each entry of a crontab, all or none. What cannot be carried over is listed by line."""
    from horologe.client import crontab, times

    zone = _local_zone() if tz is None else tz
    try:
        times.zone(zone)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--tz") from error
    content = sys.stdin.buffer.read() if file == "-" else None
    label = "<stdin>" if file == "-" else file
    options = {"system": system, "time_zone": zone, "namespace": session.namespace, "prefix": prefix}
    if content is None:
        table = crontab.load(file, skip_unsupported=skip_unsupported, **options)  # type: ignore[arg-type]
    else:
        table = crontab.loads(content, label, skip_unsupported=skip_unsupported, **options)  # type: ignore[arg-type]
    for notice in table.notices:
        warn(str(notice))
    outcomes = ["would be created"] * len(table.jobs) if dry_run else _store(session, table, label, update)
    _print_import(session, table, outcomes)


def _store(session: Session, table: Crontab, label: str, update: bool) -> list[str]:
    places = [(label, entry.line) for entry in table.entries]
    if update:
        applied = placed(places, lambda: session.client.apply_jobs(table.jobs))
        return [entry.outcome for entry in applied]
    try:
        placed(places, lambda: session.client.batch_create_jobs(table.jobs))
    except errors.AlreadyExists as error:
        warn("Nothing was imported. --update changes jobs that are there already; --prefix gives other names.")
        raise error from None
    return ["created"] * len(table.jobs)


def _print_import(session: Session, table: Crontab, outcomes: Sequence[str]) -> None:
    from horologe.client.jobfile import to_mapping
    from horologe.client.names import job_id

    if session.is_data:
        outcome_of = zip(table.entries, table.jobs, outcomes, strict=True)
        print_data(
            session.output,
            [{**to_mapping(job), "line": entry.line, "outcome": outcome} for entry, job, outcome in outcome_of],
        )
        return
    rows = [
        {
            "line": entry.line,
            "name": job_id(job.name),
            "cron": entry.expression,
            "time_zone": entry.time_zone or "UTC",
            "command": entry.command,
            "outcome": outcome,
        }
        for entry, job, outcome in zip(table.entries, table.jobs, outcomes, strict=True)
    ]
    session.print_list(rows, _IMPORT_COLUMNS, "")


def _local_zone() -> str:
    """The time zone that cron on this machine would use: an IANA name, or UTC where there is none."""
    candidates = [os.environ.get("TZ", "").removeprefix(":")]
    link = Path("/etc/localtime")
    if link.is_symlink():
        candidates.append(str(link.resolve()).partition("zoneinfo/")[2])
    from horologe.client import times

    for candidate in candidates:
        if candidate:
            try:
                times.zone(candidate)
            except ValueError:
                continue
            return candidate
    return "UTC"
