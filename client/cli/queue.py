"""`horologe queue`: what waits for workers, and how fast and in which order it starts."""

from __future__ import annotations

from typing import Annotated

import typer

from horologe.client.cli.limit import RequestIdOption
from horologe.client.cli.output import Column, Record
from horologe.client.cli.session import Session, connected
from horologe.client.errors import InvalidArgument

__all__ = ["app"]

app = typer.Typer(name="queue", help="What waits for workers.", no_args_is_help=True)


def _pause(record: Record) -> str | None:
    """Who paused it, and why."""
    said = (record["paused_by"], record["pause_reason"])
    return ": ".join(text for text in said if text) or None


COLUMNS = (
    Column("NAME", "name"),
    Column("STATE", lambda record: "paused" if record["paused"] else "active"),
    Column("WAITING", "waiting_count"),
    Column("RUNNING", "running_count"),
    Column("OLDEST DUE", "oldest_due_time"),
    Column("START RATE", "start_rate"),
    Column("BURST", lambda record: record["burst"] or None, is_wide=True),
    Column("AGING", "aging"),
    Column("PAUSED BY", _pause),
    Column("PAUSED SINCE", "pause_time", is_wide=True),
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The queue's name.")]


@app.command("list")
@connected
def list_(session: Session) -> None:
    """List queues, with what waits and runs in each."""
    from horologe.client import records

    found = session.client.list_queues()
    session.print_list((records.queue(entry) for entry in found), COLUMNS, "There are no queues.")


@app.command("get")
@connected
def get(session: Session, name: NameArgument) -> None:
    """Show a queue."""
    from horologe.client import records

    session.print_one(records.queue(session.client.get_queue(name)), COLUMNS)


@app.command("set")
@connected
def set_(
    session: Session,
    name: NameArgument,
    start_rate: Annotated[
        str | None,
        typer.Option("--start-rate", metavar="N/DURATION", help="Starts in each span: 10/s, 100/1h; or none."),
    ] = None,
    burst: Annotated[
        int | None, typer.Option("--burst", metavar="N", min=1, help="Starts at once after a quiet time.")
    ] = None,
    aging: Annotated[
        str | None,
        typer.Option("--aging", metavar="DURATION", help="Waiting so long counts like one priority more; 0s: never."),
    ] = None,
    request_id: RequestIdOption = "",
) -> None:
    """Change the settings of a queue; those that are not named stay.

    For example: horologe queue set reports --start-rate 100/1h --burst 5
    """
    from horologe.client import records

    if burst is not None and start_rate in (None, "none"):
        raise InvalidArgument("--burst goes with a --start-rate", reason="INVALID_FIELD")
    if start_rate is None and aging is None:
        raise InvalidArgument("name what to change: --start-rate or --aging", reason="INVALID_FIELD")
    found = session.client.update_queue(
        name, start_rate=start_rate, burst=burst or 0, aging=aging, request_id=request_id
    )
    session.print_one(records.queue(found), COLUMNS)


@app.command("pause")
@connected
def pause(
    session: Session,
    name: NameArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for people.")] = "",
    request_id: RequestIdOption = "",
) -> None:
    """Start nothing of it any more; due times fire and wait, what runs goes on."""
    from horologe.client import records

    session.print_one(records.queue(session.client.pause_queue(name, reason=reason, request_id=request_id)), COLUMNS)


@app.command("resume")
@connected
def resume(session: Session, name: NameArgument, request_id: RequestIdOption = "") -> None:
    """Start what waits."""
    from horologe.client import records

    session.print_one(records.queue(session.client.resume_queue(name, request_id=request_id)), COLUMNS)
