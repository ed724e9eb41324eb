"""`horologe worker`: the processes that run attempts. `worker run`, which is one, is in `worker_run.py`."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Annotated

import typer

from horologe.client.cli import worker_doctor
from horologe.client.cli.output import Column
from horologe.client.cli.session import Session, connected

__all__ = ["COLUMNS", "app"]

app = typer.Typer(name="worker", help="Processes that run attempts.", no_args_is_help=True)

COLUMNS = (
    Column("NAME", "name"),
    Column("STATE", "state"),
    Column("QUEUES", "queues"),
    Column("RUNNING", lambda record: f"{record['running_count']}/{record['slot_count']}"),
    Column("GATEWAY", "gateway"),
    Column("CONNECTED", "connect_time"),
    Column("SESSION", "session", is_wide=True),
    Column("LABELS", "labels", is_wide=True),
    Column("VERSION", "version", is_wide=True),
)


@app.command("list")
@connected
def list_(session: Session) -> None:
    """List workers that have a session."""
    from horologe.client import records

    found = session.client.list_workers()
    session.print_list((records.worker(entry) for entry in found), COLUMNS, "No workers are connected.")


@app.command("drain")
@connected
def drain(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The worker's name.")],
    request_id: Annotated[
        str, typer.Option("--request-id", metavar="UUID", help="Makes the call repeatable. Default: a new one.")
    ] = "",
) -> None:
    """Tell a worker to end what it has and take nothing new."""
    from horologe.client import records

    session.print_one(records.worker(session.client.drain_worker(name, request_id=request_id)), COLUMNS)


worker_doctor.register(app)


def _add_run() -> None:
    # Its own file: it starts a program, and knows nothing of tables and connections.
    module = "horologe.client.cli.worker_run"
    if importlib.util.find_spec(module) is not None:
        importlib.import_module(module).register(app)


_add_run()
