"""What every command that talks to the cluster shares: where it is, how to print, and a client made when it is needed.

`@connected` gives a command the options --address, --context, --namespace and --output, and a `Session` as its first
argument, and --insecure. The same options stand before the command's name as well; the nearer ones win.
"""

from __future__ import annotations

import functools
import getpass
import inspect
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horologe.client.cli.output import Column, Format, Record, print_data, print_table

if TYPE_CHECKING:
    from horologe.client.client import Client

__all__ = ["Session", "Settings", "YesOption", "connected", "settings_of"]

UNREACHABLE_SECONDS = 3.0
"""A person at a terminal is told soon when nothing listens; a program that retries uses the SDK."""

AddressOption = Annotated[
    list[str] | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="A node; repeat it, or give several with commas.",
        rich_help_panel="Cluster",
    ),
]
ContextOption = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="NAME|FILE",
        help="A context's name or file: where the cluster is, and how to speak with it (default: what HOROLOGE_CONTEXT "
        "names, or the current one).",
        rich_help_panel="Cluster",
    ),
]
InsecureOption = Annotated[
    bool | None,
    typer.Option(
        "--insecure",
        help="Speak clear text, without proof of who speaks: only with a cluster that runs so.",
        rich_help_panel="Cluster",
    ),
]
NamespaceOption = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="NAME", help="Namespace of bare names.", rich_help_panel="Cluster"),
]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask. Where there is no terminal, nobody is asked anyway.")
]
"""Of commands that a person is asked about once more."""
OutputOption = Annotated[
    Format | None, typer.Option("--output", "-o", help="How to print. Default: table.", rich_help_panel="Output")
]


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for before and after the command's name."""

    address: tuple[str, ...] = ()
    context: str | None = None
    insecure: bool | None = None
    namespace: str | None = None
    output: Format = Format.table
    call_timeout_seconds: float = 30.0
    is_linearizable: bool = False


class Session:
    """One run of a command."""

    def __init__(self, settings: Settings, output: Format = Format.table) -> None:
        self.settings = settings
        self.output = output
        self._client: Client | None = None
        self._pauses = threading.Event()
        self.unreachable_seconds = UNREACHABLE_SECONDS

    @property
    def client(self) -> Client:
        """The connection, made when it is first used."""
        if self._client is None:
            from horologe.client.client import Client

            client = Client(
                self.settings.address or None,
                self.settings.namespace,
                context_file=self.settings.context,
                insecure=self.settings.insecure,
                timeout_seconds=self.settings.call_timeout_seconds,
                unreachable_seconds=UNREACHABLE_SECONDS,
                author=_user(),
            )
            self._client = client.linearizable() if self.settings.is_linearizable else client
        return self._client

    @property
    def namespace(self) -> str:
        """Where bare names are looked up."""
        return self.client.namespace

    @property
    def is_data(self) -> bool:
        """Whether the output is for a program."""
        return self.output in (Format.json, Format.yaml)

    def print_list(self, records: Iterable[Record], columns: Sequence[Column], nothing: str) -> None:
        """A list: an array, or a table."""
        if self.is_data:
            print_data(self.output, list(records))
        else:
            print_table(self.output, records, columns, nothing)

    def print_one(self, record: Record, columns: Sequence[Column]) -> None:
        """One object, or a table of one row."""
        if self.is_data:
            print_data(self.output, record)
        else:
            print_table(self.output, [record], columns, "")

    def pause(self, seconds: float) -> None:
        """Between two looks at something that only the cluster knows."""
        self._pauses.wait(seconds)

    def close(self) -> None:
        """Ends the connection, if there is one."""
        if self._client is not None:
            self._client.close()

    def is_interactive(self) -> bool:
        """Whether a person is there to be asked."""
        return sys.stdin.isatty() and sys.stderr.isatty()


def _user() -> str:
    """Who sits here, for people who ask later who changed a job."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        # A user that the system has no name for.
        return ""


def settings_of(context: typer.Context) -> Settings:
    """What the options before the command's name said."""
    found = context.find_object(Settings)
    return found or Settings()


def connected(function: Callable[..., None]) -> Callable[..., None]:
    """Makes a function of (session, arguments and options) a command of the CLI. See the module."""
    signature = inspect.signature(function, eval_str=True)
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in signature.parameters.values()][1:]
    shared = [
        ("typer_context", typer.Context, inspect.Parameter.empty),
        ("address", AddressOption, None),
        ("context", ContextOption, None),
        ("insecure", InsecureOption, None),
        ("namespace", NamespaceOption, None),
        ("output", OutputOption, None),
    ]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, annotation, default in shared
    ]

    @functools.wraps(function)
    def command(**values: Any) -> None:
        typer_context = values.pop("typer_context")
        if typer_context.invoked_subcommand is not None:
            # It is a group that does something of its own, and this time one of its commands was meant.
            return
        settings = settings_of(typer_context)
        given = {name: values.pop(name) for name in ("address", "context", "insecure", "namespace")}
        given["address"] = tuple(given["address"] or ())
        nearer = {name: value for name, value in given.items() if value}
        session = Session(replace(settings, **nearer), values.pop("output") or settings.output)
        try:
            function(session, **values)
        finally:
            session.close()

    parameters = [*own, *added]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del command.__wrapped__
    return command
