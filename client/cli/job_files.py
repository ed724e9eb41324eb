"""`horologe job apply` and `horologe job import`: jobs from files, all or none.

When the cluster refuses a job, the line of the file where it was written is named.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from horologe.client import errors
from horologe.client.cli.failures import warn
from horologe.client.cli.output import Column, print_data
from horologe.client.cli.session import Session, connected

if TYPE_CHECKING:
    from horologe.client.crontab import Crontab
    from horologe.client.jobfile import SourcedJob

__all__ = ["apply", "import_app"]

Result = TypeVar("Result")

import_app = typer.Typer(name="import", help="Take over jobs from another scheduler.", no_args_is_help=True)

_SUFFIXES = (".yaml", ".yml", ".json")

_OUTCOME_COLUMNS = (
    Column("NAMESPACE", "namespace", is_wide=True),
    Column("NAME", "name"),
    Column("OUTCOME", "outcome"),
)
_IMPORT_COLUMNS = (
    Column("LINE", "line"),
    Column("NAME", "name"),
    Column("SCHEDULE", "cron"),
    Column("TIME ZONE", "time_zone"),
    Column("COMMAND", "command"),
    Column("OUTCOME", "outcome"),
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
    """Make the cluster hold the jobs of these files, creating or updating as needed, all or none."""
    sourced = _load(file, session.namespace)
    places = [(entry.file, entry.line) for entry in sourced]
    jobs = [entry.job for entry in sourced]
    applied = _placed(places, lambda: session.client.apply_jobs(jobs, request_id=request_id, validate_only=dry_run))
    from horologe.client.names import job_id, namespace_id

    records = [
        {"name": job_id(entry.job.name), "namespace": namespace_id(entry.job.name), "outcome": entry.outcome}
        for entry in applied
    ]
    session.print_list(records, _OUTCOME_COLUMNS, "Nothing to do.")
    if dry_run:
        typer.echo("Dry run: nothing was stored.", err=True)


def _load(files: Sequence[str], namespace: str) -> list[SourcedJob]:
    from horologe.client import jobfile

    found: list[SourcedJob] = []
    problems: list[errors.Problem] = []
    for name in _expand(files):
        try:
            if name == "-":
                found += jobfile.loads(_standard_input(), "<stdin>", namespace)
            else:
                found += jobfile.load(name, namespace)
        except errors.InvalidFile as error:
            problems += error.problems
    seen: dict[str, SourcedJob] = {}
    for entry in found:
        first = seen.setdefault(entry.job.name, entry)
        if first is not entry:
            text = f"{entry.job.name} is also in {first.file}:{first.line}"
            problems.append(errors.Problem(entry.file, entry.line, 0, text))
    if problems:
        raise errors.InvalidFile(problems)
    return found


def _expand(files: Sequence[str]) -> list[str]:
    expanded: list[str] = []
    for name in files:
        if name != "-" and Path(name).is_dir():
            inside = sorted(str(path) for path in Path(name).iterdir() if path.suffix in _SUFFIXES)
            if not inside:
                raise errors.InvalidFile([errors.Problem(name, 1, 0, "holds no .yaml, .yml or .json file")])
            expanded += inside
        else:
            expanded.append(name)
    return expanded


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise errors.InvalidFile([errors.Problem("<stdin>", 1, 0, "is not UTF-8 text")]) from error


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
        applied = _placed(places, lambda: session.client.apply_jobs(table.jobs))
        return [entry.outcome for entry in applied]
    try:
        _placed(places, lambda: session.client.batch_create_jobs(table.jobs))
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


def _placed(places: Sequence[tuple[str, int]], send: Callable[[], Result]) -> Result:
    """`send()`, with violations of `jobs[3]...` pointing at the line where that job was written."""
    try:
        return send()
    except errors.InvalidArgument as error:
        problems = []
        for violation in error.violations:
            match = re.match(r"jobs\[(\d+)\]\.?(.*)", violation.field)
            if match is None or int(match[1]) >= len(places):
                raise
            file, line = places[int(match[1])]
            text = f"{match[2]}: {violation.description}" if match[2] else violation.description
            problems.append(errors.Problem(file, line, 0, text))
        if not problems:
            raise
        raise errors.InvalidFile(problems) from error


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
