"""The node's commands: `horologe node ...`, `horologe cluster recover`, `horologe cron ...`, `horologe tls ...`,
`horologe service ...`, `horologe dev`, `horologe doctor`, and those of restore_commands.py.

Heavy modules are imported inside the commands, so that the command line answers quickly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from horologe.node import cron_commands, doctor_command, restore_commands, service_commands, tls_commands
from horologe.node.cron_commands import OutputFormat, print_data

node_app = typer.Typer(help="Run a node of the cluster.", no_args_is_help=True)
config_app = typer.Typer(name="config", help="A node's configuration.", no_args_is_help=True)
node_app.add_typer(config_app)

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="The node's TOML file.")]
NameOption = Annotated[str | None, typer.Option("--name", help="Overrides `name`.")]
DataDirOption = Annotated[Path | None, typer.Option("--data-dir", help="Overrides `data_dir`.")]
ListenOption = Annotated[str | None, typer.Option("--listen", help="Overrides `listen`.")]
WorkerListenOption = Annotated[str | None, typer.Option("--worker-listen", help="Overrides `worker_listen`.")]
PeerListenOption = Annotated[str | None, typer.Option("--peer-listen", help="Overrides `peer_listen`.")]
TlsDirOption = Annotated[Path | None, typer.Option("--tls-dir", help="Overrides `tls_dir`.")]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="No TLS and no authentication: whoever reaches a port may do everything.")
]
LogLevelOption = Annotated[str | None, typer.Option("--log-level", help="Overrides `log_level`.")]
PrintOption = Annotated[OutputFormat, typer.Option("--output", "-o", help="How to print.")]


def register(app: typer.Typer) -> None:
    """Adds this package's commands to the command line."""
    app.add_typer(node_app, name="node")
    cron_commands.register(app)
    app.add_typer(tls_commands.app)
    app.add_typer(service_commands.app)
    app.command("dev")(dev)
    app.command("doctor")(doctor_command.doctor)
    # The noun is the client's; it is there before the plug-ins.
    nouns = [group.typer_instance for group in app.registered_groups if group.typer_instance is not None]
    for noun in nouns:
        if noun.info.name == "cluster" and all(command.name != "recover" for command in noun.registered_commands):
            noun.command("recover")(recover)
            restore_commands.register(noun)


@node_app.command("run")
def run(
    config: ConfigOption = None,
    name: NameOption = None,
    data_dir: DataDirOption = None,
    listen: ListenOption = None,
    worker_listen: WorkerListenOption = None,
    peer_listen: PeerListenOption = None,
    tls_dir: TlsDirOption = None,
    insecure: InsecureOption = False,
    log_level: LogLevelOption = None,
) -> None:
    """Run a node until SIGTERM or SIGINT: it then hands over the leadership and exits 0."""
    from horologe.node.main import run_until_signal

    overrides = _overrides(name, data_dir, listen, worker_listen, peer_listen, tls_dir, insecure, log_level)
    raise typer.Exit(run_until_signal(config, overrides))


def _overrides(
    name: str | None,
    data_dir: Path | None,
    listen: str | None,
    worker_listen: str | None,
    peer_listen: str | None,
    tls_dir: Path | None,
    insecure: bool,
    log_level: str | None,
) -> dict[str, str | Path | bool]:
    """Those that were given."""
    given = {
        "name": name,
        "data_dir": data_dir,
        "listen": listen,
        "worker_listen": worker_listen,
        "peer_listen": peer_listen,
        "tls_dir": tls_dir,
        "insecure": insecure or None,
        "log_level": log_level,
    }
    return {key: value for key, value in given.items() if value is not None}


@config_app.command("show")
def config_show(
    config: ConfigOption = None,
    name: NameOption = None,
    data_dir: DataDirOption = None,
    listen: ListenOption = None,
    worker_listen: WorkerListenOption = None,
    peer_listen: PeerListenOption = None,
    tls_dir: TlsDirOption = None,
    insecure: InsecureOption = False,
    log_level: LogLevelOption = None,
    output: PrintOption = OutputFormat.TABLE,
) -> None:
    """Show each option's value as `node run` would take it, and where it is from. Exits 2 if the configuration is not valid.

    Takes the same file, environment and flags as `node run`, and starts nothing. Secrets are not shown.
    """
    from horologe.node.config import ConfigError
    from horologe.node.config_report import effective_options
    from horologe.node.config_sources import load_config

    overrides = _overrides(name, data_dir, listen, worker_listen, peer_listen, tls_dir, insecure, log_level)
    try:
        found = list(effective_options(load_config(config, overrides)))
    except ConfigError as error:
        typer.echo(f"horologe: {error}", err=True)
        raise typer.Exit(2) from error
    if output is not OutputFormat.TABLE:
        print_data([option._asdict() for option in found], output)
        return
    width = max(len(option.name) for option in found)
    for option in found:
        typer.echo(f"{option.name:<{width}}  {_shown(option.value)}  ({option.origin})")


def _shown(value: object) -> str:
    """As in a configuration file; what is not set is a dash."""
    import json

    return "-" if value in (None, "", []) else json.dumps(value, ensure_ascii=False)


@node_app.command("options")
def options(
    output: PrintOption = OutputFormat.TABLE,
) -> None:
    """List every option of a node with its default, its environment variable and its meaning."""
    from rich.console import Console
    from rich.table import Table

    from horologe.node.config import describe_options

    if output is not OutputFormat.TABLE:
        print_data([option._asdict() for option in describe_options()], output)
        return
    table = Table("Option", "Environment", "Default", "Meaning")
    for option in describe_options():
        table.add_row(option.name, option.environment, option.default, option.description)
    Console().print(table)


@node_app.command("probe")
def probe(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The node's TOML file.")] = None,
    ready: Annotated[bool, typer.Option("--ready", help="Whether it should get work, and not only lives.")] = False,
) -> None:
    """Ask the node that runs here with these options whether it is well; exits 1 if not. For health checks."""
    from horologe.node.config import ConfigError
    from horologe.node.config_sources import load_config
    from horologe.node.probe import probe as ask

    try:
        verdict = ask(load_config(config, {}), ready=ready)
    except ConfigError as error:
        typer.echo(f"horologe: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(verdict.text, err=not verdict.is_well)
    raise typer.Exit(0 if verdict.is_well else 1)


@node_app.command("new-key")
def new_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The `key_file` of a node; made if it is not there.")],
) -> None:
    """Put a fresh key-encryption key in front of those in a file. The older ones stay, to unwrap what they have wrapped."""
    from horologe.node.key_sources import KeyringError, put_new_key

    try:
        name = put_new_key(file)
    except KeyringError as error:
        typer.echo(f"horologe: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(
        f"{file} begins with the new key {name}.\n"
        "`horologe cluster rotate-keys --wrap-only`, or a restart of the node, wraps its data keys with it; then the older "
        "lines can go."
    )


def recover(
    config: Annotated[Path, typer.Option("--config", "-c", help="The stopped node's TOML file.")],
    yes_i_lose: Annotated[
        str, typer.Option("--yes-i-lose", metavar="NAME", help="Do not ask: the node's name, as it would be typed.")
    ] = "",
) -> None:
    """Make a stopped node a cluster of its own when the majority is lost for good. Something is lost by that."""
    from horologe.node import recover as recover_module
    from horologe.node.config import ConfigError
    from horologe.node.config_sources import load_config
    from horologe.raft.journal import CorruptLogError
    from horologe.raft.recovery import CannotRecoverError
    from horologe.raft.state import InvariantError
    from horologe.raft.store import StoreError

    try:
        loaded = load_config(config, {})
        with recover_module.Recovery(loaded) as recovery:
            others = recovery.others()
            for label, value in recover_module.details(loaded, recovery.findings):
                typer.echo(f"{label + ':':<32}{value}")
            for warning in recover_module.warnings(loaded.name, others, recovery.findings):
                typer.secho(f"! {warning}", fg=typer.colors.RED, err=True)
            typed = yes_i_lose or typer.prompt(
                "Type the node's name to go on", default="", show_default=False, err=True
            )
            if typed != loaded.name:
                typer.echo(f"{typed!r} is not {loaded.name!r}: nothing was changed", err=True)
                raise typer.Exit(1)
            done = recovery.commit()
    except ConfigError as error:
        typer.echo(f"horologe: {error}", err=True)
        raise typer.Exit(2) from error
    except (StoreError, CorruptLogError, InvariantError, CannotRecoverError) as error:
        typer.echo(f"horologe: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(
        f"{loaded.name} is now the only member of cluster {done.cluster_id}, from entry {done.index} on.\n"
        "Start it, and add others with `horologe cluster add`: with empty data folders and `join = true`, under new names or "
        "those that were given up."
    )


def dev(
    nodes: Annotated[
        int | None,
        typer.Option(min=1, max=9, help="How many nodes; by default those that the folder of --dir has, or 1."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="Where everything is kept; by default a folder that is removed at the end."),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--for", min=0, help="End after so many seconds, with a summary; 0: run until Ctrl-C.")
    ] = 0,
    examples: Annotated[
        Path | None, typer.Option(help="A folder with a crontab, job files (*.yaml) and handlers.py to begin with.")
    ] = None,
) -> None:
    """Run a cluster and a worker on this machine and watch executions as they happen. Not for production."""
    import uvloop

    from horologe.node import dev as dev_module

    try:
        code = uvloop.run(dev_module.run(nodes, folder, seconds, examples))
    except dev_module.FAILURES as error:
        typer.echo(f"horologe: {error}", err=True)
        code = 1
    raise typer.Exit(code)
