"""`horologe namespace`: what holds for all jobs in one."""

from __future__ import annotations

from typing import Annotated

import typer

from horologe.client.cli import pause
from horologe.client.cli.limit import RequestIdOption
from horologe.client.cli.output import Column
from horologe.client.cli.session import Session, connected
from horologe.client.errors import InvalidArgument

__all__ = ["COLUMNS", "NameArgument", "app"]

app = typer.Typer(name="namespace", help="What holds for all jobs of a namespace.", no_args_is_help=True)
pause.register_namespace(app)

COLUMNS = (
    Column("NAME", "name"),
    Column("JOBS", "job_count"),
    Column("MAX JOBS", lambda record: record["job_count_max"] or None),
    Column("RUNNING", "running_count"),
    Column("MAX RUNNING", lambda record: record["max_running"] or None),
    Column("START RATE", "start_rate"),
    Column("FINISHED", "finished_count"),
    Column("NOT RUN", "not_run_count"),
    Column("HISTORY", "history_retention"),
    Column("MAX COUNT", lambda record: record["history_count_max"] or None),
    Column("DEAD LETTERS", "dead_letter_retention"),
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
        int | None,
        typer.Option("--max-running", metavar="N", min=0, help="So many attempts run at a time; 0: no limit."),
    ] = None,
    history: Annotated[
        str | None,
        typer.Option("--history", metavar="DURATION", help="Executions and ledger are kept so long: 14d; or default."),
    ] = None,
    history_count: Annotated[
        int | None,
        typer.Option(
            "--history-count",
            metavar="N",
            min=0,
            help="So many finished executions are kept, and due times that made none; 0: no limit.",
        ),
    ] = None,
    dead_letters: Annotated[
        str | None,
        typer.Option("--dead-letters", metavar="DURATION", help="Dead letters are kept so long; or default (30d)."),
    ] = None,
    job_count_max: Annotated[
        int | None,
        typer.Option("--job-count-max", metavar="N", min=0, help="So many jobs it may have; 0: no limit."),
    ] = None,
    start_rate: Annotated[
        str | None,
        typer.Option("--start-rate", metavar="N/DURATION", help="Starts in each span: 10/s, 100/1h; or none."),
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option("--burst", metavar="N", min=1, help="So many starts at once after a quiet time."),
    ] = None,
    request_id: RequestIdOption = "",
) -> None:
    """Change what holds for a namespace; what is not named stays.

    For example: horologe namespace set shop --max-running 50 --history 14d
    """
    from horologe.client import records

    if burst is not None and start_rate in (None, "none"):
        raise InvalidArgument("--burst goes with a --start-rate", reason="INVALID_FIELD")
    if (max_running, history, history_count, dead_letters, job_count_max, start_rate) == (None,) * 6:
        options = "--max-running, --start-rate, --job-count-max, --history, --history-count or --dead-letters"
        raise InvalidArgument(f"name what to change: {options}", reason="INVALID_FIELD")
    found = session.client.update_namespace(
        name,
        max_running=max_running,
        history_retention=history,
        history_count_max=history_count,
        dead_letter_retention=dead_letters,
        job_count_max=job_count_max,
        start_rate=start_rate,
        burst=burst or 0,
        request_id=request_id,
    )
    session.print_one(records.namespace(found), COLUMNS)
