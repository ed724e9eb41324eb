"""`horologe execution`: what ran, what runs, and what it printed."""

from __future__ import annotations

import enum
import itertools
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horologe.client.cli import filters, job_create
from horologe.client.cli.execution_argument import found_by
from horologe.client.cli.output import Column, Format, print_data, print_details, print_json_line, print_table
from horologe.client.cli.session import Session, connected

if TYPE_CHECKING:
    from horologe.v1.execution_pb2 import Execution
    from horologe.v1.output_service_pb2 import ReadOutputResponse

__all__ = ["ATTEMPT_COLUMNS", "COLUMNS", "ExecutionArgument", "app", "follow"]

app = typer.Typer(name="execution", help="Runs of jobs, and their attempts.", no_args_is_help=True)

ExecutionArgument = Annotated[
    str,
    typer.Argument(
        metavar="EXECUTION", help="Its number, or the full name.", callback=found_by("horologe execution list")
    ),
]

POLL_SECONDS = 0.2


class StateChoice(enum.StrEnum):
    """States that a list can be cut down to."""

    scheduled = "scheduled"
    queued = "queued"
    running = "running"
    completed = "completed"
    failed = "failed"
    cancelled = "cancelled"
    dead = "dead"
    skipped = "skipped"


def _delay(record: Any) -> str | None:
    """Of one that was to start when it was due."""
    return (
        None if record["trigger"] == "backfill" or record["start_delay_ms"] is None else f"{record['start_delay_ms']}ms"
    )


def _worker(record: Any) -> str | None:
    return record["attempts"][-1]["worker"] if record["attempts"] else None


def _output(record: Any) -> str | None:
    cut = ", cut" if record["output_truncated"] else ""
    return (
        f"{record['output_bytes']} bytes in {record['output_copies']} copies{cut}" if record["output_bytes"] else None
    )


COLUMNS = (
    Column("NAMESPACE", "namespace", is_wide=True),
    Column("ID", "id"),
    Column("JOB", "job"),
    Column("STATE", "state"),
    Column("TRIGGER", "trigger"),
    Column("DUE TIME", "due_time"),
    Column("DELAY", _delay),
    Column("END TIME", "end_time"),
    Column("START TIME", "start_time", is_wide=True),
    Column("WORKER", _worker, is_wide=True),
    Column("REASON", "reason"),
)

ATTEMPT_COLUMNS = (
    Column("ATTEMPT", "number"),
    Column("STATE", "state"),
    Column("WORKER", "worker"),
    Column("START TIME", "start_time"),
    Column("DURATION", lambda record: None if record["duration_ms"] is None else f"{record['duration_ms']}ms"),
    Column("EXIT", lambda record: record["exit_code"] if record["exit_code"] is not None else record["http_status"]),
    Column("TOKEN", "fencing_token", is_wide=True),
    Column("OUTPUT", _output, is_wide=True),
    Column("ERROR", "error"),
)


@app.command("list")
@connected
def list_(
    session: Session,
    job: Annotated[str, typer.Argument(metavar="[JOB]", help="Only of this job.")] = "",
    state: Annotated[list[StateChoice] | None, typer.Option("--state", help="Only in this state; repeatable.")] = None,
    prefix: filters.PrefixOption = "",
    label: filters.LabelOption = None,
    owner: filters.OwnerOption = "",
    queue: filters.QueueOption = "",
    schedule: filters.ScheduleOption = "",
    worker: Annotated[str, typer.Option("--worker", metavar="NAME", help="Only of this worker's attempts.")] = "",
    created_from: filters.CreatedFromOption = "",
    created_before: filters.CreatedBeforeOption = "",
    due_from: filters.DueFromOption = "",
    due_before: filters.DueBeforeOption = "",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many; 0: all.")] = 50,
) -> None:
    """List executions, newest first.

    For example: horologe execution list --state dead --label team=data --created-from -1h
    """
    from horologe.client import calls, records, words
    from horologe.v1.execution_pb2 import Execution

    found = session.client.list_executions(
        "namespaces/-/jobs/-" if all_namespaces and not job else job,
        states=[words.parse(Execution.State, entry) for entry in state or ()],
        name_prefix=prefix,
        labels=job_create.pairs(label, "--label"),
        owner=owner,
        queue=queue,
        schedule=schedule,
        worker=worker,
        created_from=filters.instant(created_from, "--created-from"),
        created_before=filters.instant(created_before, "--created-before"),
        due_from=filters.instant(due_from, "--due-from"),
        due_before=filters.instant(due_before, "--due-before"),
        page_size=min(limit, calls.PAGE_SIZE) or calls.PAGE_SIZE,
    )
    shown = itertools.islice(found, limit or None)
    session.print_list((records.execution(entry) for entry in shown), COLUMNS, "No executions.")


@app.command("get")
@connected
def get(session: Session, execution: ExecutionArgument) -> None:
    """Show an execution with its attempts."""
    from horologe.client import records

    record = records.execution(session.client.get_execution(execution))
    if session.is_data:
        print_data(session.output, record)
        return
    labels = [
        "name",
        "state",
        "waits_for",
        "trigger",
        "root",
        "due_time",
        "start_time",
        "end_time",
        "next_attempt_time",
    ]
    pairs = [(label.replace("_", " ").capitalize(), record[label]) for label in [*labels, "reason", "result", "queue"]]
    print_details([*pairs, ("Start delay", _delay(record)), ("Cancel requested", record["cancel_requested"] or None)])
    if record["attempts"]:
        typer.echo("")
        print_table(session.output, record["attempts"], ATTEMPT_COLUMNS, "")


@app.command("logs")
@connected
def logs(
    session: Session,
    execution: ExecutionArgument,
    follow_: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the attempt ends.")] = False,
    attempt: Annotated[int, typer.Option("--attempt", min=0, help="From 1; 0: the last.")] = 0,
) -> None:
    """Print what an execution printed: its standard output and standard error to ours."""
    for piece in session.client.read_output(execution, attempt=attempt, follow=follow_):
        _write(piece)


@app.command("cancel")
@connected
def cancel(
    session: Session,
    execution: ExecutionArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="For people.")] = "",
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until it has ended.")] = False,
    request_id: Annotated[
        str, typer.Option("--request-id", metavar="UUID", help="Makes the call repeatable. Default: a new one.")
    ] = "",
) -> None:
    """Ask that an execution end. One that runs gets SIGTERM, and SIGKILL after its grace."""
    from horologe.client import records

    found = session.client.cancel_execution(execution, reason=reason, request_id=request_id)
    if wait:
        found = session.client.wait_execution(found.name)
    session.print_one(records.execution(found), COLUMNS)


@app.command("watch")
@connected
def watch(
    session: Session,
    job: Annotated[str, typer.Argument(metavar="[JOB]", help="Only of this job.")] = "",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")] = False,
) -> None:
    """Show changes of executions as they happen, until Ctrl-C. With -o json one object to a line."""
    from horologe.client import records

    parent = "namespaces/-/jobs/-" if all_namespaces and not job else job
    for batch in session.client.watch_executions(parent):
        for changed in batch.executions:
            _print_change(session.output, records.execution(changed))
        if batch.dropped_count:
            typer.echo(f"({batch.dropped_count} changes were left out: this reader is slow)", err=True)


def _print_change(chosen: Format, record: dict[str, Any]) -> None:
    if chosen is Format.json:
        print_json_line(record)
    elif chosen is Format.yaml:
        typer.echo("---")
        print_data(chosen, record)
    else:
        when = record["end_time"] or record["start_time"] or record["due_time"] or ""
        delay = f"  +{record['start_delay_ms']}ms" if record["start_delay_ms"] is not None else ""
        reason = f"  {record['reason']}" if record["reason"] else ""
        from horologe.client.cli.failures import printable

        typer.echo(printable(f"{when}  {record['state']:<9}  {record['job']}  {record['id']}{delay}{reason}"))
        sys.stdout.flush()


def follow(session: Session, name: str) -> None:
    """Shows the output of all attempts as they run; exits 0 when the execution completes, else 1."""
    from horologe.client import records
    from horologe.v1.execution_pb2 import Execution

    client = session.client
    shown = 0
    while True:
        execution = _next_attempt(session, name, shown)
        if len(execution.attempts) <= shown:
            break
        shown = execution.attempts[shown].number
        if not session.is_data:
            for piece in client.read_output(name, attempt=shown, follow=True):
                _write(piece)
    execution = client.wait_execution(name, timeout=_FOREVER_SECONDS)
    record = records.execution(execution)
    if session.is_data:
        print_data(session.output, record)
    is_good = execution.state == Execution.STATE_COMPLETED
    error = next((entry["error"] for entry in reversed(record["attempts"]) if entry["error"]), "")
    reason = record["reason"] or ("" if is_good else error)
    note = f"execution {record['id']}: {record['state']}" + (f": {reason}" if reason else "")
    from horologe.client.cli.failures import printable

    typer.secho(printable(note), fg=typer.colors.GREEN if is_good else typer.colors.RED, err=True)
    raise typer.Exit(0 if is_good else 1)


_FOREVER_SECONDS = 366 * 86_400.0


def _next_attempt(session: Session, name: str, seen: int) -> Execution:
    """Waits for an attempt beyond the first `seen`, or for the end of the execution."""
    import threading

    from horologe.client.words import FINISHED_STATES

    pause = threading.Event()
    while True:
        execution = session.client.get_execution(name)
        if len(execution.attempts) > seen or execution.state in FINISHED_STATES:
            return execution
        pause.wait(POLL_SECONDS)


def _write(piece: ReadOutputResponse) -> None:
    from horologe.v1.output_service_pb2 import OUTPUT_STREAM_STDERR

    target = sys.stderr if piece.stream == OUTPUT_STREAM_STDERR else sys.stdout
    target.buffer.write(piece.data)
    target.flush()
