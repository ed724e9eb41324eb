"""`horologe dead-letter`: executions that ran out of attempts, to be looked at, driven again, or purged."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horologe.client.cli.backfill import instant
from horologe.client.cli.execution import ATTEMPT_COLUMNS
from horologe.client.cli.execution_argument import found_by
from horologe.client.cli.job_create import json_value
from horologe.client.cli.operation import RequestIdOption, WaitOption, show
from horologe.client.cli.output import Column, print_data, print_details, print_table
from horologe.client.cli.session import Session, YesOption, connected

if TYPE_CHECKING:
    from horologe.client.errors import NotFound

__all__ = ["app"]

app = typer.Typer(name="dead-letter", help="Executions that ran out of attempts.", no_args_is_help=True)

COLUMNS = (
    Column("NAMESPACE", "namespace", is_wide=True),
    Column("ID", "id"),
    Column("JOB", "job"),
    Column("DUE TIME", "due_time"),
    Column("DIED", "end_time"),
    Column("FINGERPRINT", "fingerprint"),
    Column("ERROR", "error"),
)
_GROUP_COLUMNS = (
    Column("COUNT", "count"),
    Column("FIRST", "first_time"),
    Column("LAST", "last_time"),
    Column("FINGERPRINT", "fingerprint"),
    Column("JOB", lambda record: record["sample"]["job"]),
    Column("SAMPLE", lambda record: record["sample"]["id"]),
    Column("ERROR", lambda record: record["sample"]["error"]),
)

LISTING = "horologe dead-letter list"
ExecutionsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[EXECUTION]...", help="Numbers, or full names.", callback=found_by(LISTING)),
]
JobOption = Annotated[str, typer.Option("--job", metavar="JOB", help="Only of this job.")]
FingerprintOption = Annotated[str, typer.Option("--fingerprint", metavar="HEX", help="Only with this error.")]
SinceOption = Annotated[str, typer.Option("--since", metavar="TIME", help="Only those that died from then on.")]
UntilOption = Annotated[str, typer.Option("--until", metavar="TIME", help="Only those that died before.")]
AllOption = Annotated[bool, typer.Option("--all", help="All that fit the other options.")]


@app.command("list")
@connected
def list_(
    session: Session,
    job: Annotated[str, typer.Argument(metavar="[JOB]", help="Only of this job.")] = "",
    fingerprint: FingerprintOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many; 0: all.")] = 50,
) -> None:
    """List dead letters, the one that died last first."""
    from horologe.client import operation_records

    start, end = _span(since, until)
    found = session.client.list_dead_letters(job, fingerprint=fingerprint, start=start, end=end)
    shown = itertools.islice(found, limit or None)
    session.print_list((operation_records.dead_letter(entry) for entry in shown), COLUMNS, "No dead letters.")


@app.command("groups")
@connected
def groups(
    session: Session,
    job: Annotated[str, typer.Argument(metavar="[JOB]", help="Only of this job.")] = "",
    since: SinceOption = "",
    until: UntilOption = "",
) -> None:
    """Count dead letters by their errors, the most frequent one first."""
    from horologe.client import operation_records

    start, end = _span(since, until)
    found = session.client.group_dead_letters(job, start=start, end=end)
    session.print_list(map(operation_records.group, found.groups), _GROUP_COLUMNS, "No dead letters.")
    if not found.is_complete:
        typer.echo("(there are more than could be counted: only the latest ones were)", err=True)


@app.command("show")
@connected
def show_(
    session: Session,
    execution: Annotated[
        str, typer.Argument(metavar="EXECUTION", help="Its number, or the full name.", callback=found_by(LISTING))
    ],
) -> None:
    """Show a dead letter with its error, its payload and its attempts."""
    from horologe.client import operation_records

    record = operation_records.dead_letter(session.client.get_dead_letter(execution))
    if session.is_data:
        print_data(session.output, record)
        return
    labels = ("name", "trigger", "due_time", "start_time", "end_time", "reason", "error", "fingerprint", "payload")
    print_details((label.replace("_", " ").capitalize(), record[label]) for label in labels)
    typer.echo("")
    print_table(session.output, record["attempts"], ATTEMPT_COLUMNS, "")


@app.command("redrive")
@connected
def redrive(
    session: Session,
    executions: ExecutionsArgument = None,
    all_: AllOption = False,
    job: JobOption = "",
    fingerprint: FingerprintOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    rate: Annotated[float, typer.Option("--rate", min=0.0, help="So many a second; 0: as fast as it goes.")] = 0.0,
    payload: Annotated[str | None, typer.Option("--payload", metavar="JSON", help="Replaces the payload.")] = None,
    wait: WaitOption = False,
    request_id: RequestIdOption = "",
) -> None:
    """Drive dead letters again: the same executions, with new attempts.

    One is driven at once; more, or --all that fit, by an operation.

    For example: horologe dead-letter redrive --all --job nightly --rate 5
    """
    from horologe.client import records
    from horologe.client.cli.execution import COLUMNS as EXECUTION_COLUMNS
    from horologe.client.errors import NotFound

    given = executions or []
    selection = _selection(given, all_, job, fingerprint, since, until)
    value = json_value(payload, "--payload")
    if len(given) == 1 and not rate:
        try:
            found = session.client.redrive_dead_letter(given[0], payload=value, request_id=request_id)
        except NotFound as error:
            raise _told_if_failed(session, given[0], error) from error
        if wait:
            found = session.client.wait_execution(found.name)
        session.print_one(records.execution(found), EXECUTION_COLUMNS)
        return
    operation = session.client.redrive_dead_letters(given, rate=rate, payload=value, request_id=request_id, **selection)
    show(session, operation, wait=wait)


def _told_if_failed(session: Session, name: str, error: NotFound) -> NotFound:
    """The same error; of an execution that FAILED, and so never was a dead letter, it says what runs its job again."""
    from horologe.client import names
    from horologe.client.errors import HorologeError, NotFound
    from horologe.v1.execution_pb2 import Execution

    if error.reason != "DEAD_LETTER_NOT_FOUND":
        return error
    try:
        execution = session.client.get_execution(name)
    except HorologeError:
        return error
    if execution.state != Execution.STATE_FAILED:
        return error
    number, job = names.execution_number(execution.name), names.job_id(execution.name)
    namespace = names.namespace_id(execution.name)
    if namespace != session.namespace:
        job = f"{namespace}/{job}"
    text = f"execution {number} is FAILED, which is no dead letter: `horologe job run {job}` runs it anew"
    return NotFound(text, reason=error.reason, metadata=error.metadata, status=error.status)


@app.command("purge")
@connected
def purge(
    session: Session,
    executions: ExecutionsArgument = None,
    all_: AllOption = False,
    job: JobOption = "",
    fingerprint: FingerprintOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    yes: YesOption = False,
    wait: WaitOption = False,
    request_id: RequestIdOption = "",
) -> None:
    """Take dead letters out of the queue for good. The executions stay in the history."""
    given = executions or []
    selection = _selection(given, all_, job, fingerprint, since, until)
    what = f"{len(given)} dead letters" if given else "all dead letters that fit"
    if not yes and session.is_interactive() and not typer.confirm(f"Purge {what}?", err=True):
        typer.echo("Nothing was purged.", err=True)
        raise typer.Exit(1)
    if len(given) == 1:
        session.client.purge_dead_letter(given[0], request_id=request_id)
        typer.echo(f"purged {given[0]}", err=session.is_data)
        return
    show(session, session.client.purge_dead_letters(given, request_id=request_id, **selection), wait=wait)


def _selection(given: list[str], all_: bool, job: str, fingerprint: str, since: str, until: str) -> dict[str, Any]:
    """What the options choose; wrong usage unless it is either named executions or --all that fit."""
    start, end = _span(since, until)
    filters = {"job": job, "fingerprint": fingerprint, "start": start, "end": end}
    if bool(given) == all_:
        raise typer.BadParameter("name executions, or give --all", param_hint="[EXECUTION]...")
    if given and any(filters.values()):
        raise typer.BadParameter("only goes with --all", param_hint="--job, --fingerprint, --since, --until")
    return filters


def _span(since: str, until: str) -> tuple[datetime | None, datetime | None]:
    start = instant("--since", since, "") if since else None
    return start, instant("--until", until, "") if until else None
