"""`horologe job import`: jobs from other schedulers' files, all or none; what cannot be carried over is listed by line.

Each form has a reader of its own in `client/`; here is what they have in common: options, the question to the cluster, the table.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
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
    from horologe.client.imports import Found, Imported, Options

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


TzOption = Annotated[
    str | None, typer.Option("--tz", metavar="ZONE", help="Of schedules that name none. Default: this machine's.")
]
PrefixOption = Annotated[str, typer.Option("--prefix", metavar="TEXT", help="Goes before each name.")]
UpdateOption = Annotated[
    bool, typer.Option("--update", help="Change jobs that are there already, instead of refusing.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be created, checked by the cluster; store nothing.")
]
FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="- for standard input.")]


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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be created, checked by the cluster; store nothing.")
    ] = False,
) -> None:
    """Create a job for each entry of a crontab, all or none. What cannot be carried over is listed by line."""
    from horologe.client import crontab, times
    from horologe.client.imports import Found

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
    found = [Found(label, entry.line, job) for entry, job in zip(table.entries, table.jobs, strict=True)]
    outcomes = _check(session, found, update) if dry_run else _store(session, found, update)
    _print_import(session, table, outcomes)


@import_app.command("kubernetes")
@connected
def import_kubernetes(
    session: Session,
    file: FileArgument,
    tz: Annotated[str, typer.Option("--tz", metavar="ZONE", help="Of schedules without timeZone.")] = "UTC",
    prefix: PrefixOption = "",
    update: UpdateOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Create a job for each CronJob of a manifest (YAML or JSON): the command of its first container."""
    from horologe.client import kubernetes

    _import(session, kubernetes.loads, file, tz, prefix, update, dry_run)


@import_app.command("quartz")
@connected
def import_quartz(
    session: Session,
    file: FileArgument,
    tz: TzOption = None,
    prefix: PrefixOption = "",
    update: UpdateOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Create a job for each trigger of a job_scheduling_data file (XML). Java classes become Python handlers of that name."""
    from horologe.client import quartz

    _import(session, quartz.loads, file, tz, prefix, update, dry_run)


@import_app.command("dkron")
@connected
def import_dkron(
    session: Session,
    file: FileArgument,
    tz: TzOption = None,
    prefix: PrefixOption = "",
    update: UpdateOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Create a job for each job of a Dkron export: curl http://HOST:8080/v1/jobs > FILE."""
    from horologe.client import dkron

    _import(session, dkron.loads, file, tz, prefix, update, dry_run)


@import_app.command("systemd")
@connected
def import_systemd(
    session: Session,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Timers, or folders of them; services are found beside them.")
    ],
    tz: TzOption = None,
    prefix: PrefixOption = "",
    update: UpdateOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Create a job for each systemd timer: what it starts, when it would."""
    from horologe.client import systemd

    options = _options(session, tz, prefix)
    _finish(session, systemd.load(files, options), update, dry_run)


def _import(
    session: Session,
    read: Callable[[bytes, str, Options], Imported],
    file: str,
    tz: str | None,
    prefix: str,
    update: bool,
    dry_run: bool,
) -> None:
    options = _options(session, tz, prefix)
    label = "<stdin>" if file == "-" else file
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise errors.InvalidFile([errors.Problem(label, 0, 0, f"cannot be read: {error.strerror or error}")]) from error
    _finish(session, read(content, label, options), update, dry_run)


def _options(session: Session, tz: str | None, prefix: str) -> Options:
    from horologe.client import times
    from horologe.client.imports import Options

    zone = _local_zone() if tz is None else tz
    try:
        times.zone(zone)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--tz") from error
    return Options(namespace=session.namespace, time_zone=zone, prefix=prefix)


def _finish(session: Session, imported: Imported, update: bool, dry_run: bool) -> None:
    from horologe.client import words
    from horologe.client.cli.job import COLUMNS
    from horologe.client.jobfile import to_mapping
    from horologe.v1.job_pb2 import Job

    for notice in imported.notices:
        warn(str(notice))
    outcomes = (_check if dry_run else _store)(session, imported.found, update)
    records = [
        {
            **to_mapping(found.job),
            "state": words.render(Job.State, found.job.state) or "active",
            "file": found.file,
            "line": found.line,
            "outcome": outcome,
        }
        for found, outcome in zip(imported.found, outcomes, strict=True)
    ]
    shown = [column for column in COLUMNS if column.header in ("NAME", "SCHEDULE", "ACTION", "STATE")]
    columns = [Column("FILE", "file", is_wide=True), Column("LINE", "line"), *shown, Column("OUTCOME", "outcome")]
    session.print_list(records, columns, "")


def _check(session: Session, found: Sequence[Found], update: bool) -> list[str]:
    """What would happen, after the cluster has judged the jobs; files can be looked at without a cluster, too."""
    jobs = [each.job for each in found]
    said = {"created": "would be created"}
    if update:
        said["updated"] = "would be updated"
    try:
        applied = placed(found, lambda: session.client.apply_jobs(jobs, validate_only=True))
    except errors.Unavailable as error:
        warn(f"Not checked by a cluster: {error.message}")
        return ["would be created"] * len(jobs)
    return [said.get(entry.outcome, entry.outcome if update else "is there already") for entry in applied]


def _store(session: Session, found: Sequence[Found], update: bool) -> list[str]:
    jobs = [each.job for each in found]
    if update:
        applied = placed(found, lambda: session.client.apply_jobs(jobs))
        return [entry.outcome for entry in applied]
    try:
        placed(found, lambda: session.client.batch_create_jobs(jobs))
    except errors.AlreadyExists as error:
        warn("Nothing was imported. --update changes jobs that are there already; --prefix gives other names.")
        raise error from None
    return ["created"] * len(jobs)


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
