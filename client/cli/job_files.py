"""`horologe job apply`: jobs from files, all or none. With a look at the changes first, that is `horologe apply`."""

from __future__ import annotations

from typing import Annotated

import typer

from horologe.client.cli.job_sources import load_files, placed
from horologe.client.cli.output import Column
from horologe.client.cli.session import Session, connected

__all__ = ["apply"]

_OUTCOME_COLUMNS = (
    Column("NAMESPACE", "namespace", is_wide=True),
    Column("NAME", "name"),
    Column("OUTCOME", "outcome"),
    Column("NEXT DUE", "next_due_time"),
)


@connected
def apply(
    session: Session,
    file: Annotated[
        list[str],
        typer.Option("--file", "-f", metavar="FILE", help="YAML or JSON; a folder; - for standard input. Repeatable."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check only; store nothing.")] = False,
    request_id: Annotated[
        str, typer.Option("--request-id", metavar="UUID", help="Makes the call repeatable. Default: a new one.")
    ] = "",
) -> None:
    """Make the cluster hold the jobs of these files, creating or updating as needed, all or none.

    For example: horologe job apply -f jobs.yaml --dry-run
    """
    sourced = load_files(file, session.namespace)
    jobs = [entry.job for entry in sourced]
    applied = placed(sourced, lambda: session.client.apply_jobs(jobs, request_id=request_id, validate_only=dry_run))
    from horologe.client import times
    from horologe.client.names import job_id, namespace_id

    records = [
        {
            "name": job_id(entry.job.name),
            "namespace": namespace_id(entry.job.name),
            "outcome": entry.outcome,
            "next_due_time": times.render(entry.job.next_due_time) if entry.job.HasField("next_due_time") else None,
        }
        for entry in applied
    ]
    columns = _OUTCOME_COLUMNS[:-1] if dry_run else _OUTCOME_COLUMNS
    session.print_list(records, columns, "Nothing to do.")
    if dry_run:
        typer.echo("Dry run: nothing was stored.", err=True)
