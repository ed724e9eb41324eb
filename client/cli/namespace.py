"""`horologe namespace`: what holds for all jobs in one."""

from __future__ import annotations

from typing import Annotated

import typer

from horologe.client.cli import pause
from horologe.client.cli.limit import RequestIdOption
from horologe.client.cli.output import Column
from horologe.client.cli.session import Session, connected

__all__ = ["COLUMNS", "NameArgument", "app"]

app = typer.Typer(name="namespace", help="What holds for all jobs of a namespace.", no_args_is_help=True)
pause.register_namespace(app)

COLUMNS = (
    Column("NAME", "name"),
    Column("RUNNING", "running_count"),
    Column("MAX RUNNING", lambda record: record["max_running"] or None),
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The namespace.")]


@app.command("list")
@connected
def list_(session: Session) -> None:
    """List namespaces."""
    from horologe.client import records

    found = session.client.list_namespaces()
    session.print_list((records.namespace(entry) for entry in found), COLUMNS, "There are no namespaces.")


@app.command("get")
@connected
def get(session: Session, name: NameArgument) -> None:
    """Show a namespace."""
    from horologe.client import records

    session.print_one(records.namespace(session.client.get_namespace(name)), COLUMNS)


@app.command("set")
@connected
def set_(
    session: Session,
    name: NameArgument,
    max_running: Annotated[
        int, typer.Option("--max-running", metavar="N", min=0, help="So many attempts run at a time; 0: no limit.")
    ],
    request_id: RequestIdOption = "",
) -> None:
    """Change what holds for a namespace."""
    from horologe.client import records

    found = session.client.update_namespace(name, max_running=max_running, request_id=request_id)
    session.print_one(records.namespace(found), COLUMNS)
