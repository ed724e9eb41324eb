"""`horologe cluster backup`: the whole state into a file or a bucket, now or on a schedule. `verify` and `restore` are the node's
(node/restore_commands.py): they need no cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from horologe.client.cli.output import Column, Record, print_data
from horologe.client.cli.session import Session, connected
from horologe.client.errors import InvalidArgument, Unavailable

if TYPE_CHECKING:
    from horologe.client.backup_targets import Target
    from horologe.client.backups import Saved
    from horologe.client.client import Client

__all__ = ["app"]

app = typer.Typer(
    name="backup",
    help="Copy the whole state into a file or a bucket, encrypted and at one revision, while the cluster goes on.",
    invoke_without_command=True,
)
COLUMNS = (
    Column("NAME", "name"),
    Column("CLUSTER", "cluster"),
    Column("TIME", "time"),
    Column("REVISION", "revision"),
)
SCHEDULED_NAME = "cluster-backup"
ToOption = Annotated[
    str,
    typer.Option(
        "--to", metavar="PLACE", help="A folder, s3://BUCKET/FOLDER/, or a name in one of them that ends with .backup."
    ),
]


@app.callback()
@connected
def backup(
    session: Session,
    to: ToOption = "",
    key_file: Annotated[
        Path | None, typer.Option("--key-file", metavar="FILE", help="Encrypt for the first key in this file.")
    ] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", metavar="FILE", help="Encrypt for the passphrase in this file.")
    ] = None,
    keep: Annotated[
        int,
        typer.Option("--keep", min=0, help="Then delete this cluster's older backups there, but for so many; 0: none."),
    ] = 0,
    node: Annotated[
        str, typer.Option("--node", metavar="NAME", help="Which node makes it. Default: one that does not lead.")
    ] = "",
    schedule: Annotated[
        str,
        typer.Option("--schedule", metavar="CRON", help="Make a job of it that does this on a worker, on a schedule."),
    ] = "",
    name: Annotated[str, typer.Option("--name", help="Of that job.")] = SCHEDULED_NAME,
    queue: Annotated[str, typer.Option("--queue", help="Of that job.")] = "default",
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME=VALUE", help="For that job, also '{{ secrets[\"NAME\"] }}'. Repeatable."),
    ] = None,
) -> None:
    """Copy the whole state into a file or a bucket, encrypted and at one revision, while the cluster goes on.

    Without --key-file, --passphrase-file or HOROLOGE_BACKUP_PASSPHRASE it is encrypted for the key of the node that makes it.
    """
    from horologe.client import backups
    from horologe.client.backup_keys import keys_of
    from horologe.client.backup_targets import place_of

    if not to:
        raise InvalidArgument("say where the backup goes: --to FOLDER, or --to s3://BUCKET/FOLDER/")
    if schedule:
        argv = _argv(to, key_file, passphrase_file, keep, node)
        _schedule(session, name, schedule, queue, argv, env or [])
        return
    if env:
        raise InvalidArgument("--env is for the job that --schedule makes; a command has its own environment")
    target, file_name = place_of(to)
    if keep and file_name:
        raise InvalidArgument("--keep deletes by the names that backups get: give a folder, not a name in it")
    secret = keys_of(key_file, passphrase_file)
    saved = backups.save(_node(session, node), target, file_name, secret)
    removed = backups.prune(target, saved.backup.cluster_id, keep) if keep else []
    _print(session, saved, target, removed)


@app.command("list")
@connected
def list_(session: Session, to: ToOption) -> None:
    """List the backups in a place, oldest first."""
    from horologe.client import backups
    from horologe.client.backup_targets import place_of

    target, _ = place_of(to)
    found = [
        {"name": each.name, "cluster": each.cluster, "time": each.time, "revision": each.revision}
        for each in backups.names_of(target)
    ]
    session.print_list(found, COLUMNS, "No backups.")


def _node(session: Session, name: str) -> Client:
    """The node that makes it: the named one, or one that does not lead and answers, or any."""
    from horologe.client.errors import HorologeError
    from horologe.v1.cluster_service_pb2 import Member

    members = [member for member in session.client.list_members() if member.address]
    if name:
        address = next((member.address for member in members if member.name == name), "")
        if not address:
            raise Unavailable(f"{name} is no member, or not connected: nobody knows its address")
        return session.client.at(address, unreachable_seconds=session.unreachable_seconds)
    for member in members:
        if member.role == Member.ROLE_FOLLOWER and member.reachable:
            client = session.client.at(member.address, unreachable_seconds=session.unreachable_seconds)
            try:
                client.cluster_status()
            except HorologeError:
                continue
            return client
    return session.client


def _argv(to: str, key_file: Path | None, passphrase_file: Path | None, keep: int, node: str) -> list[str]:
    """What the job runs. Raises InvalidArgument for what can do well only once, or only here."""
    from horologe.client.backup_targets import S3_PREFIX, SUFFIX

    if to.endswith(SUFFIX):
        raise InvalidArgument("--schedule makes many backups: give a folder in --to, not a name in it")
    folder = None if to.startswith(S3_PREFIX) else Path(to)
    for option, path in (("--to", folder), ("--key-file", key_file), ("--passphrase-file", passphrase_file)):
        if path is not None and not path.is_absolute():
            raise InvalidArgument(
                f"{option} {path}: a job works in a folder of its own, which is deleted after it; give the whole path, as the "
                "worker's machine has it"
            )
    argv = ["horologe", "cluster", "backup", "--to", to]
    argv += ["--key-file", str(key_file)] if key_file is not None else []
    argv += ["--passphrase-file", str(passphrase_file)] if passphrase_file is not None else []
    argv += ["--keep", str(keep)] if keep else []
    return [*argv, "--node", node] if node else argv


def _schedule(session: Session, name: str, schedule: str, queue: str, argv: list[str], env: list[str]) -> None:
    """An ordinary job: one at a time, and after an outage one backup, not one for each that was missed."""
    from horologe.client import jobs

    pairs = [each.partition("=") for each in env]
    for variable, sign, _ in pairs:
        if not variable or not sign:
            raise InvalidArgument(f"--env {variable}: give NAME=VALUE")
    job = jobs.job(
        name,
        jobs.cron(schedule),
        jobs.shell(argv, env={variable: value for variable, _, value in pairs}),
        queue=queue,
        description=f"Backup of the cluster to {argv[4]}",
        retry=jobs.retry(max_attempts=3, base="1m"),
    )
    (applied,) = session.client.apply_jobs([job])
    if session.is_data:
        print_data(session.output, {"job": applied.job.name, "outcome": applied.outcome})
    else:
        typer.echo(f"{applied.job.name} {applied.outcome}: {' '.join(argv)}")


def _print(session: Session, saved: Saved, target: Target, removed: list[str]) -> None:
    key = saved.backup.key
    record: Record = {
        "place": saved.place,
        "revision": saved.backup.revision,
        "cluster_id": saved.backup.cluster_id,
        "node": saved.backup.node,
        "file_bytes": saved.file_bytes,
        "record_count": saved.record_count,
        "state_digest": saved.state_digest.hex(),
        "key": {"kind": key.kind, "name": key.name},
        "removed": [target.text(name) for name in removed],
    }
    if session.is_data:
        print_data(session.output, record)
        return
    typer.echo(
        f"{saved.place}: revision {saved.backup.revision}, {saved.record_count} records, {saved.file_bytes} bytes, "
        "written and read back"
    )
    for name in removed:
        typer.echo(f"deleted {target.text(name)}")
    if key.kind == "node":
        typer.echo(
            f"It opens with the key-encryption key {key.name} of {saved.backup.node}, and with nothing else: keep that key in "
            "another place than the backup, and than that node's disk.",
            err=True,
        )
