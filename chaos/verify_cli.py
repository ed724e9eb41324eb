"""`horologe verify`: what it takes and what it prints. The looking is done in verify.py."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horologe.client.cli.output import Column, Format, print_data, print_table
from horologe.client.cli.session import Session, connected

if TYPE_CHECKING:
    from horologe.chaos.verify import Verification

EXIT_UNSOUND = 1
EXIT_INCOMPLETE = 2
JOBS_SHOWN = 1_000
_MEMBER_COLUMNS = (
    Column("MEMBER", "name"),
    Column("RECORDS", "record_count"),
    Column("STATE", lambda member: member["digest"][:16] or "unknown"),
    Column("ERROR", "error"),
)
_FINDING_COLUMNS = (
    Column("JOB", "job"),
    Column("FINDING", "kind"),
    Column("COUNT", "count"),
    Column("FIRST DUE TIME", "first_due_time"),
    Column("LAST DUE TIME", "last_due_time"),
    Column("DETAIL", "detail"),
)


@connected
def verify(
    session: Session,
    grace: Annotated[
        str,
        typer.Option(metavar="DURATION", help="Due times of the last moments may still be on their way to be fired."),
    ] = "10s",
) -> None:
    """Prove that every due time is accounted for exactly once, and that all members hold the same state.

    Jobs of all namespaces are judged since the last change of their definition, as far back as history is kept. Exits 1 when
    something is wrong, 2 when not everything could be looked at.
    """
    from horologe.client import durations
    from horologe.client.async_client import AsyncClient

    try:
        grace_ms = int(durations.parse(grace).total_seconds() * 1000)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--grace") from error

    async def run() -> Verification:
        from horologe.chaos.verify import verify as look

        settings = session.settings
        async with AsyncClient(
            settings.address or None,
            settings.namespace,
            context_file=settings.context,
            insecure=settings.insecure,
            timeout_seconds=settings.call_timeout_seconds,
        ) as client:
            return await look(client, grace_ms, _progress)

    found = asyncio.run(run())
    if session.is_data:
        print_data(session.output, _record(found))
    else:
        _print(session.output, found)
    if not found.is_sound:
        raise typer.Exit(EXIT_UNSOUND)
    if not found.is_complete:
        raise typer.Exit(EXIT_INCOMPLETE)


def _progress(jobs: int) -> None:
    if jobs % 1_000 == 0 and sys.stderr.isatty():
        typer.echo(f"\r{jobs} jobs", nl=False, err=True)


def _record(found: Verification) -> dict[str, Any]:
    return {
        "sound": found.is_sound,
        "complete": found.is_complete,
        "revision": found.revision,
        "time": _time(found.time_ms),
        "members": [
            {
                "name": member.name,
                "digest": member.digest,
                "record_count": member.record_count,
                "error": member.error,
            }
            for member in found.members
        ],
        "job_count": found.jobs,
        "paused_job_count": found.paused,
        "due_count": found.due,
        "outcomes": dict(sorted(found.outcomes.items())),
        "wrong": dict(sorted(found.wrong.items())),
        "findings": [
            {
                "job": audit.name,
                "since": _time(audit.since_ms),
                "kind": finding.kind,
                "count": finding.count,
                "first_due_time": _time(finding.first_ms),
                "last_due_time": _time(finding.last_ms),
                "detail": finding.detail,
            }
            for audit in found.unsound[:JOBS_SHOWN]
            for finding in audit.findings
        ],
        "unjudged": [{"job": job, "reason": reason} for job, reason in found.unjudged[:JOBS_SHOWN]],
        "unread": [{"job": job, "error": error} for job, error in found.unread[:JOBS_SHOWN]],
    }


def _print(output: Format, found: Verification) -> None:
    record = _record(found)
    print_table(output, record["members"], _MEMBER_COLUMNS, "No members.")
    same = "one state" if len(found.digests) == 1 else f"{len(found.digests)} different states"
    members = "1 member" if len(found.members) == 1 else f"{len(found.members)} members"
    typer.echo(f"{members}, {same} at revision {found.revision}")
    typer.echo("")
    if record["findings"]:
        print_table(output, record["findings"], _FINDING_COLUMNS, "")
    for each in record["unjudged"]:
        typer.echo(f"{each['job']} is not judged: {each['reason']}")
    for each in record["unread"]:
        typer.echo(f"{each['job']} could not be read: {each['error']}")
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in record["outcomes"].items()) or "none"
    jobs = "1 job" if found.jobs == 1 else f"{found.jobs} jobs"
    typer.echo(f"{jobs} ({found.paused} paused), {found.due} due times: {outcomes}")
    wrong = ", ".join(f"{count} {kind}" for kind, count in record["wrong"].items())
    if wrong:
        typer.secho(f"Not accounted for exactly once: {wrong}", fg=typer.colors.RED)
    elif found.is_sound and found.is_complete:
        typer.secho("Every due time is accounted for exactly once, and all members agree.", fg=typer.colors.GREEN)
    if not found.is_complete:
        typer.secho("Not everything could be looked at.", fg=typer.colors.RED, err=True)


def _time(milliseconds: int) -> str:
    from google.protobuf.timestamp_pb2 import Timestamp

    from horologe.client import times

    moment = Timestamp()
    moment.FromMilliseconds(milliseconds)
    return times.render(moment)
