"""`horologe cluster restore` and `horologe cluster backup verify`: what is done with a backup where no cluster is.

Heavy modules are imported inside the commands, so that the command line answers quickly.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from horologe.client.backup_keys import BackupSecret

FromArgument = Annotated[
    str, typer.Argument(metavar="FROM", help="A file, or a folder or s3://BUCKET/FOLDER/ with several of them.")
]
RevisionOption = Annotated[
    int,
    typer.Option(
        "--revision", min=0, help="The newest one of this revision or before. Default: the newest.", show_default=False
    ),
]
ClusterIdOption = Annotated[
    str, typer.Option("--cluster-id", metavar="ID", help="Of this cluster, where there are backups of several.")
]
KeyFileOption = Annotated[
    Path | None, typer.Option("--key-file", metavar="FILE", help="A file that has the key it was made with.")
]
PassphraseFileOption = Annotated[
    Path | None, typer.Option("--passphrase-file", metavar="FILE", help="A file with the passphrase it was made with.")
]


def register(cluster: typer.Typer) -> None:
    """Adds these commands to `horologe cluster` and to its group `backup`, which is the client's."""
    cluster.command("restore")(restore)
    for group in cluster.registered_groups:
        if group.typer_instance is not None and group.typer_instance.info.name == "backup":
            group.typer_instance.command("verify")(verify)


def restore(
    place: FromArgument,
    config: Annotated[Path, typer.Option("--config", "-c", help="The TOML file of the node that is to be the first.")],
    revision: RevisionOption = 0,
    cluster_id: ClusterIdOption = "",
    key_file: KeyFileOption = None,
    passphrase_file: PassphraseFileOption = None,
    no_pause: Annotated[
        bool,
        typer.Option("--no-pause", help="Let what is due fire as soon as the node runs, by its catch-up policies."),
    ] = False,
) -> None:
    """Make a new cluster of a backup: its first node, in an empty data folder, which others then join. It begins paused.

    Whoever restores must know that the old cluster does not run any more, or that this one must not do its work.
    """
    from horologe.client import backups
    from horologe.client.backup_keys import keys_of
    from horologe.client.backup_targets import place_of
    from horologe.node.config import ConfigError
    from horologe.node.config_sources import load_config
    from horologe.node.restore import CannotRestoreError
    from horologe.node.restore import restore as restore_backup
    from horologe.raft.store import StoreError

    try:
        loaded = load_config(config, {})
        target, name = place_of(place)
        name = backups.choose(target, name, revision, cluster_id)
        secret = keys_of(key_file, passphrase_file, is_to_open=True)
        with closing(target.open(name)) as source:
            done = restore_backup(loaded, source, target.text(name), secret, is_paused=not no_pause)
    except ConfigError as error:
        typer.echo(f"horologe: {error}", err=True)
        raise typer.Exit(2) from error
    except (StoreError, CannotRestoreError, OSError) as error:
        typer.echo(f"horologe: {error}", err=True)
        raise typer.Exit(1) from error
    made = done.backup.create_time.ToDatetime().isoformat(timespec="seconds")
    typer.echo(
        f"{loaded.name} is the only member of the new cluster {done.cluster_id}, from entry {done.index} on, with "
        f"{done.record_count} records of revision {done.backup.revision} of {done.backup.cluster_id}, made at {made}Z.\n"
        "Start it, and add others with `horologe cluster add`: with empty data folders and `join = true`."
    )
    if no_pause:
        return
    typer.echo(
        "It is paused: no due time fires. `horologe cluster resume --catchup` lets each job decide by its catch-up policy over "
        "the due times since then, `horologe cluster resume` skips them. What waited or ran when the backup was made starts "
        "again as soon as a worker connects."
    )


def verify(
    place: FromArgument,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A node's TOML file, which says where the nodes' key is.")
    ] = None,
    revision: RevisionOption = 0,
    cluster_id: ClusterIdOption = "",
    key_file: KeyFileOption = None,
    passphrase_file: PassphraseFileOption = None,
) -> None:
    """Read all of a backup, without a cluster, and prove that nothing in it is missing or changed."""
    from horologe.client import backups
    from horologe.client.backup_keys import keys_of
    from horologe.client.backup_targets import place_of
    from horologe.client.errors import InvalidArgument
    from horologe.node.config import ConfigError

    try:
        secret = keys_of(key_file, passphrase_file, is_to_open=True) or _keys_of_node(config)
    except ConfigError as error:
        typer.echo(f"horologe: {error}", err=True)
        raise typer.Exit(2) from error
    if secret is None:
        raise InvalidArgument(
            "without its key nobody can read a backup: give --key-file, --passphrase-file, or --config of a node whose key it is"
        )
    target, name = place_of(place)
    name = backups.choose(target, name, revision, cluster_id)
    reader = backups.verify(target, name, secret)
    backup, content = reader.backup, reader.content
    assert content is not None
    made = backup.create_time.ToDatetime().isoformat(timespec="seconds")
    typer.echo(
        f"{target.text(name)} is whole: revision {backup.revision} of cluster {backup.cluster_id}, made at {made}Z by "
        f"{backup.node}, {content.record_count} records, state {content.state_digest.hex()}"
    )


def _keys_of_node(config: Path | None) -> BackupSecret | None:
    from horologe.node.config_sources import load_config
    from horologe.node.key_sources import key_source_of
    from horologe.node.restore import NodeKeys

    return NodeKeys(key_source_of(load_config(config, {}))) if config is not None else None
