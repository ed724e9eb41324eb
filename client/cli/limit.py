"""`horologe limit`: how many attempts run at a time of all jobs that share a limit."""

from __future__ import annotations

from typing import Annotated

import typer

from horologe.client.cli.output import Column, print_data
from horologe.client.cli.session import Session, connected

__all__ = ["app"]

app = typer.Typer(name="limit", help="Limits that jobs share.", no_args_is_help=True)

COLUMNS = (
    Column("NAMESPACE", "namespace", is_wide=True),
    Column("NAME", "name"),
    Column("RUNNING", lambda record: f"{record['running_count']}/{record['max_running']}"),
    Column("WAITING", "waiting_count"),
    Column("JOBS", "job_count"),
    Column("CHANGED", "update_time", is_wide=True),
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The limit's id, or its full name.")]
RequestIdOption = Annotated[
    str, typer.Option("--request-id", metavar="UUID", help="Makes the call repeatable. Default: a new one.")
]


@app.command("set")
@connected
def set_(
    session: Session,
    name: NameArgument,
    max_running: Annotated[int, typer.Argument(metavar="N", min=1, help="So many attempts run at a time.")],
    request_id: RequestIdOption = "",
) -> None:
    """Make a limit, or change it. What runs already goes on.

    For example: horologe limit set database 5
    """
    from horologe.client import records

    session.print_one(records.limit(session.client.set_limit(name, max_running, request_id=request_id)), COLUMNS)


@app.command("list")
@connected
def list_(session: Session) -> None:
    """List the limits of a namespace."""
    from horologe.client import records

    found = session.client.list_limits()
    session.print_list((records.limit(entry) for entry in found), COLUMNS, "There are no limits.")


@app.command("delete")
@connected
def delete(session: Session, name: NameArgument, request_id: RequestIdOption = "") -> None:
    """Delete a limit that no job names."""
    from horologe.client.names import limit_name

    session.client.delete_limit(name, request_id=request_id)
    full = limit_name(name, session.namespace)
    if session.is_data:
        print_data(session.output, {"name": full, "outcome": "deleted"})
    else:
        typer.echo(f"deleted {full}")
