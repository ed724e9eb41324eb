"""`horologe job history`, `diff`, `revert` and `export`: what a job was defined as, before and now."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horologe.client import errors
from horologe.client.cli.definitions import print_differences
from horologe.client.cli.output import Column, print_data
from horologe.client.cli.session import Session, YesOption, connected

if TYPE_CHECKING:
    from horologe.client.differences import Difference
    from horologe.v1.definition_service_pb2 import JobVersion
    from horologe.v1.job_pb2 import Job

__all__ = ["register"]

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Id in the namespace, or the full name.")]

_COLUMNS = (
    Column("REVISION", "revision"),
    Column("WRITTEN", "create_time"),
    Column("BY", "author"),
    Column("CHANGED", lambda record: record["changed"] or ("created" if record["is_first"] else None)),
)


def register(app: typer.Typer) -> None:
    """Adds the commands to `horologe job`."""
    for name, command in (("history", history), ("diff", diff), ("revert", revert), ("export", export)):
        app.command(name)(command)


@connected
def history(session: Session, name: NameArgument) -> None:
    """List the versions of a job, newest first: when, by whom, and which fields changed."""
    from horologe.client import times
    from horologe.client.differences import differences
    from horologe.client.jobfile import to_definition

    versions = list(session.client.list_job_versions(name))
    created = session.client.get_job(name).create_time
    records: list[dict[str, Any]] = []
    for version, older in itertools.pairwise([*versions, None]):
        if version is not None:
            changed = [] if older is None else [each.field for each in differences(older.job, version.job)]
            records.append(
                {
                    "revision": version.revision,
                    "create_time": times.render(version.create_time),
                    "author": version.author,
                    "changed": changed,
                    "is_first": version.create_time == created,
                    "job": to_definition(version.job),
                }
            )
    session.print_list(records, _COLUMNS, "No versions.")


@connected
def diff(
    session: Session,
    name: NameArgument,
    from_: Annotated[
        int | None, typer.Option("--from", metavar="REVISION", help="Default: the one before the other.")
    ] = None,
    to: Annotated[int | None, typer.Option("--to", metavar="REVISION", help="Default: as it is now.")] = None,
) -> None:
    """Show what changed between two versions of a job."""
    from horologe.client.differences import differences

    before, after = _two_versions(session, name, from_, to)
    found = differences(before.job if before is not None else None, after.job)
    if session.is_data:
        print_data(session.output, [_plain(difference) for difference in found])
        return
    typer.echo(f"from revision {before.revision if before is not None else '-'} to {after.revision}")
    print_differences(found, indent="")


@connected
def revert(
    session: Session,
    name: NameArgument,
    to: Annotated[int | None, typer.Option("--to", metavar="REVISION", help="Default: the one before this.")] = None,
    yes: YesOption = False,
    request_id: Annotated[
        str, typer.Option("--request-id", metavar="UUID", help="Makes the call repeatable. Default: a new one.")
    ] = "",
) -> None:
    """Give a job a definition back that it has had. That is a new version; the others stay."""
    from horologe.client.differences import differences
    from horologe.client.jobfile import to_mapping
    from horologe.v1.job_pb2 import Job

    current = session.client.get_job(name)
    wanted = _two_versions(session, name, to, None)[0] if to is None else session.client.get_job_version(name, to)
    if wanted is None:
        raise errors.FailedPrecondition(f"{current.name} has no version before this one")
    found = differences(current, wanted.job)
    if not found:
        typer.echo("It is as it was then: nothing to do.", err=True)
        return
    if not session.is_data:
        print_differences(found, indent="")
    if not yes and session.is_interactive() and not typer.confirm(f"Revert {current.name}?", err=True):
        typer.echo("Nothing was changed.", err=True)
        raise typer.Exit(1)
    job = Job()
    job.CopyFrom(wanted.job)
    # Of what was shown, not of the version: nobody may have come in between.
    job.etag = current.etag
    stored = session.client.update_job(job, update_mask=["*"], request_id=request_id)
    from horologe.client.cli.job import COLUMNS

    session.print_one(to_mapping(stored), COLUMNS)


@connected
def export(
    session: Session,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Default: all jobs of the namespace.")
    ] = None,
    prefix: Annotated[str, typer.Option("--prefix", metavar="TEXT", help="Only names that start like this.")] = "",
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Only jobs with this label; repeatable.")
    ] = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")] = False,
    dir_: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Write a file for each job: DIR/NAMESPACE/NAME.yaml.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Write jobs as job files, for `horologe apply` and for version control."""
    from horologe.client.cli.job_create import pairs
    from horologe.client.cli.output import Format
    from horologe.client.jobfile import to_definition

    if names:
        found = [session.client.get_job(name) for name in names]
    else:
        labels = pairs(label, "--label")
        parent = "-" if all_namespaces else ""
        found = list(session.client.list_jobs(parent=parent, name_prefix=prefix, labels=labels))
    if dir_ is not None:
        _write_files(found, dir_, force)
        return
    chosen = session.output if session.is_data else Format.yaml
    print_data(chosen, {"jobs": [to_definition(job) for job in found]})


def _write_files(jobs: list[Job], folder: Path, force: bool) -> None:
    from horologe.client.documents import dump
    from horologe.client.jobfile import to_definition
    from horologe.client.names import job_id, namespace_id

    paths = [folder / namespace_id(job.name) / f"{job_id(job.name)}.yaml" for job in jobs]
    taken = [path for path in paths if path.exists()]
    if taken and not force:
        raise errors.InvalidFile([errors.Problem(str(path), 0, 0, "is there already; --force") for path in taken])
    for job, path in zip(jobs, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dump(to_definition(job)), encoding="utf-8")
    typer.echo(f"{len(paths)} file{'' if len(paths) == 1 else 's'} in {folder}", err=True)


def _two_versions(
    session: Session, name: str, from_: int | None, to: int | None
) -> tuple[JobVersion | None, JobVersion]:
    """Both versions; without `to` the newest, without `from_` the one before the other, if that is kept."""
    versions = list(session.client.list_job_versions(name))
    after = versions[0] if to is None else session.client.get_job_version(name, to)
    if from_ is not None:
        return session.client.get_job_version(name, from_), after
    older = [version for version in versions if version.revision < after.revision]
    return (older[0] if older else None), after


def _plain(difference: Difference) -> dict[str, object]:
    return {"field": difference.field, "before": difference.before, "after": difference.after}
