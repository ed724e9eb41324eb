"""`horologe backfill`: run a job for due times of the past."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from horologe.client import errors
from horologe.client.cli.operation import RequestIdOption, WaitOption, show
from horologe.client.cli.output import print_data, print_details
from horologe.client.cli.session import Session, connected

__all__ = ["register"]

_FLAGS = {"start_time": "--from", "end_time": "--to"}
"""What the fields of the request are called here."""


@connected
def backfill(
    session: Session,
    job: Annotated[str, typer.Argument(metavar="JOB", help="Id in the namespace, or the full name.")],
    from_: Annotated[
        str, typer.Option("--from", metavar="TIME", help="The first due time that counts: RFC 3339, or -1d.")
    ],
    to: Annotated[str, typer.Option("--to", metavar="TIME", help="The end, not part of the range: RFC 3339, or -1h.")],
    order: Annotated[
        str, typer.Option("--order", metavar="forwards|backwards", help="The earliest or the latest first.")
    ] = "forwards",
    only: Annotated[
        str,
        typer.Option("--only", metavar="missing|failed|all", help="Nothing ran; what ran failed; or every due time."),
    ] = "missing",
    max_running: Annotated[int, typer.Option("--max-running", min=1, max=1000, help="So many at a time.")] = 1,
    tz: Annotated[str, typer.Option("--tz", metavar="ZONE", help="Time zone of --from and --to.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count only; begin nothing.")] = False,
    wait: WaitOption = False,
    request_id: RequestIdOption = "",
) -> None:
    """Run a job for due times of the past, beside its schedule.

    For example: horologe backfill nightly --from 2026-10-01T00:00:00Z --to 2026-11-01T00:00:00Z --max-running 3
    """
    from horologe.client import operation_records

    try:
        answer = session.client.backfill_job(
            job,
            instant("--from", from_, tz),
            instant("--to", to, tz),
            order=order,
            only=only,
            max_running=max_running,
            validate_only=dry_run,
            request_id=request_id,
        )
    except errors.InvalidArgument as error:
        for violation in error.violations:
            if violation.field in _FLAGS:
                raise typer.BadParameter(violation.description, param_hint=_FLAGS[violation.field]) from error
        raise
    if not dry_run:
        show(session, answer.operation, wait=wait)
        return
    preview = operation_records.backfill_preview(answer)
    if session.is_data:
        print_data(session.output, preview)
        return
    more = answer.wanted_count - len(answer.first_due_times)
    print_details(
        [
            ("Would", preview["description"]),
            ("Due times", str(preview["total_count"])),
            ("To be run", str(preview["wanted_count"])),
            ("First", ", ".join(preview["first_due_times"]) + (f" and {more} more" if more else "")),
        ]
    )


def instant(flag: str, text: str, time_zone: str) -> datetime:
    """A time of the command line; wrong usage when it is none."""
    from horologe.client import times

    try:
        return times.moment(text, time_zone)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=flag) from error


def register(app: typer.Typer) -> None:
    """Adds the command, which belongs to no noun."""
    app.command("backfill")(backfill)
