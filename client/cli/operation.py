"""`horologe operation`: what was begun by a command and goes on by itself, such as a backfill."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horologe.client.cli.output import Column, print_data, print_details
from horologe.client.cli.session import Session, connected

if TYPE_CHECKING:
    from horologe.v1.operation_pb2 import Operation

__all__ = ["COLUMNS", "app", "show"]

app = typer.Typer(name="operation", help="What goes on by itself: backfills, dead letters.", no_args_is_help=True)

POLL_SECONDS = 0.5

OperationArgument = Annotated[str, typer.Argument(metavar="OPERATION", help="Its number, or the full name.")]
WaitOption = Annotated[bool, typer.Option("--wait", "-w", help="Wait until it is over.")]
RequestIdOption = Annotated[
    str, typer.Option("--request-id", metavar="UUID", help="Makes the call repeatable. Default: a new one.")
]


def _progress(record: Any) -> str:
    total = f"/{record['total_count']}" if record["total_count"] is not None else ""
    return f"{record['looked_at_count']}{total}"


def _executions(record: Any) -> str | None:
    """Of a backfill."""
    if record["kind"] != "backfill":
        return None
    return ", ".join(f"{record[f'{word}_count']} {word}" for word in ("unfinished", "completed", "failed"))


COLUMNS = (
    Column("NAMESPACE", "namespace", is_wide=True),
    Column("ID", "id"),
    Column("KIND", "kind"),
    Column("JOB", "job"),
    Column("STATE", "state"),
    Column("LOOKED AT", _progress),
    Column("DONE", "done_count"),
    Column("EXECUTIONS", _executions),
    Column("CREATED", "create_time"),
    Column("END TIME", "end_time", is_wide=True),
    Column("DESCRIPTION", "description", is_wide=True),
    Column("REASON", "reason"),
)


@app.command("list")
@connected
def list_(
    session: Session,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many; 0: all.")] = 50,
) -> None:
    """List operations, newest first."""
    from horologe.client import operation_records

    found = session.client.list_operations(parent="-" if all_namespaces else "")
    shown = itertools.islice(found, limit or None)
    session.print_list((operation_records.operation(entry) for entry in shown), COLUMNS, "No operations.")


@app.command("get")
@connected
def get(session: Session, operation: OperationArgument, wait: WaitOption = False) -> None:
    """Show an operation and how far it is. With --wait it exits with 0 when all is done, else 1."""
    show(session, session.client.get_operation(operation), wait=wait)


@app.command("cancel")
@connected
def cancel(
    session: Session,
    operation: OperationArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="For people.")] = "",
    request_id: RequestIdOption = "",
) -> None:
    """Let an operation begin nothing new. What it has begun goes on."""
    show(session, session.client.cancel_operation(operation, reason=reason, request_id=request_id))


def show(session: Session, operation: Operation, *, wait: bool = False) -> None:
    """Prints an operation; with `wait` when it is over, and then exits with 0 if all was done, else 1."""
    from horologe.client import operation_records
    from horologe.client.operation_calls import OVER_STATES
    from horologe.v1.operation_pb2 import Operation

    said = ""
    while wait and operation.state not in OVER_STATES:
        record = operation_records.operation(operation)
        line = f"{record['description']}: {_progress(record)} looked at, {record['done_count']} done"
        if line != said and not session.is_data:
            typer.echo(line, err=True)
            said = line
        session.pause(POLL_SECONDS)
        operation = session.client.get_operation(operation.name)
    record = operation_records.operation(operation)
    if session.is_data:
        print_data(session.output, record)
    else:
        labels = ("name", "kind", "state", "job", "description", "create_time", "end_time", "reason")
        pairs = [(label.replace("_", " ").capitalize(), record[label]) for label in labels]
        print_details(
            [
                *pairs,
                ("Looked at", _progress(record)),
                ("Done", str(record["done_count"])),
                ("Executions", _executions(record)),
            ]
        )
    if wait:
        raise typer.Exit(0 if operation.state == Operation.STATE_DONE and not operation.failed_count else 1)
