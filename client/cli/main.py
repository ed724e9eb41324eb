"""The program `horologe`: its options, its nouns, and the commands that other packages bring.

Each noun has a file of its own. Everything heavy (gRPC, YAML, tables) is imported by the command that needs it, so that
`horologe --help` and shell completion answer at once. Other packages join through entry points of the group
`horologe.commands`: functions `register(app)`.
"""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from horologe.client.cli import (
    access,
    audit,
    backfill,
    calendar,
    cluster,
    contexts,
    dashboard,
    dead_letter,
    debug,
    definitions,
    execution,
    forecast,
    job,
    limit,
    namespace,
    notification,
    operation,
    queue,
    secret,
    story,
    top,
    worker,
    workflow,
)
from horologe.client.cli.failures import report, warn
from horologe.client.cli.output import Format
from horologe.client.cli.session import (
    AddressOption,
    ContextOption,
    InsecureOption,
    NamespaceOption,
    OutputOption,
    Settings,
)
from horologe.client.cli.watch import watch
from horologe.client.errors import HorologeError, InvalidArgument

__all__ = ["app", "build", "main"]

ENTRY_POINTS = "horologe.commands"


class _Root(TyperGroup):
    """The top of the command tree, where known errors become a line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except HorologeError as error:
            raise typer.Exit(report(error)) from error
        except UnicodeEncodeError as error:
            # An argument with bytes that are no text: the API carries UTF-8 only.
            wrong = InvalidArgument(f"{error.object!r} is not UTF-8 text")
            raise typer.Exit(report(wrong)) from error


def build() -> typer.Typer:
    """The whole command line, plug-ins included."""
    app = typer.Typer(
        name="horologe",
        cls=_Root,
        help="Horologe: a distributed job scheduler that is its own cluster.",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
        rich_markup_mode=None if not sys.stdout.isatty() else "rich",
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_options)
    nouns = (job, calendar, workflow, execution, dead_letter, operation, queue, limit, namespace, secret, notification)
    for noun in (*nouns, worker):
        app.add_typer(noun.app)
    for group in (access.tokens, access.grants, access.principals, contexts.app, audit.app, cluster.app, debug.app):
        app.add_typer(group)
    app.add_typer(dead_letter.app, name="dlq", hidden=True)
    backfill.register(app)
    definitions.register(app)
    app.command("watch")(watch)
    app.command("top")(top.top)
    app.command("dashboard")(dashboard.dashboard)
    app.command("forecast")(forecast.forecast)
    app.command("login")(contexts.login)
    app.command("logout")(contexts.logout)
    app.command("whoami")(access.whoami)
    app.command("explain")(story.explain)
    execution.app.command("story")(story.story)
    _add_plugins(app)
    return app


def _options(
    context: typer.Context,
    address: AddressOption = None,
    context_file: ContextOption = None,
    insecure: InsecureOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = None,
    call_timeout: Annotated[
        str, typer.Option("--call-timeout", metavar="DURATION", help="How long a call may take, with its retries.")
    ] = "30s",
    linearizable: Annotated[
        bool,
        typer.Option("--linearizable", help="Read nothing older than any write acknowledged before, whoever wrote."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=lambda on: _version(on)),
    ] = False,
) -> None:
    from horologe.client import durations

    del version  # Handled by its callback.
    try:
        seconds = durations.parse(call_timeout).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--call-timeout") from error
    context.obj = Settings(
        tuple(address or ()), context_file, insecure, namespace, output or Format.table, seconds, linearizable
    )


def _version(wanted: bool) -> None:
    if wanted:
        from horologe.client import own_program

        typer.echo(f"horologe {importlib.metadata.version('horologe')}")
        if (build := own_program.build()) is not None:
            typer.echo(
                f"commit {build.commit} of {build.commit_time}; Python {build.python}, glibc {build.glibc} or newer"
            )
        raise typer.Exit


def _add_plugins(app: typer.Typer) -> None:
    """Lets other packages add their commands. One that fails is named, and the rest of the program works without it."""
    for point in sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        try:
            point.load()(app)
        except Exception as error:  # noqa: BLE001 - a plug-in may fail in any way; it is reported, not hidden
            warn(f"Warning: the commands of {point.value} are missing: {type(error).__name__}: {error}")


app = build()


def main() -> None:
    """Entry point of the program."""
    app(prog_name="horologe")
