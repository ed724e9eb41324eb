"""`horologe job`: reading, pausing, running and deleting jobs. Creating one is in `job_create.py`, files in `job_files.py`."""

from __future__ import annotations

import enum
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horologe.client import job_defaults
from horologe.client.cli import (
    filters,
    job_calendar,
    job_create,
    job_files,
    job_history,
    job_import,
    job_logs,
    job_next,
)
from horologe.client.cli.failures import warn
from horologe.client.cli.job_mistakes import CreateCommand
from horologe.client.cli.output import Column, print_data, print_details, print_table
from horologe.client.cli.session import UNREACHABLE_SECONDS, Session, YesOption, connected

if TYPE_CHECKING:
    from horologe.v1.execution_pb2 import Execution
    from horologe.v1.job_pb2 import Job

__all__ = ["COLUMNS", "app"]

app = typer.Typer(name="job", help="What to run, when, and under which policies.", no_args_is_help=True)
app.command("create", cls=CreateCommand)(job_create.create)
app.command("apply")(job_files.apply)
app.command("logs")(job_logs.logs)
app.command("next")(job_next.next_)
app.command("calendar")(job_calendar.calendar)
app.add_typer(job_import.import_app)
job_history.register(app)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Id in the namespace, or the full name.")]
RequestIdOption = Annotated[
    str, typer.Option("--request-id", metavar="UUID", help="Makes the call repeatable. Default: a new one.")
]


class StateChoice(enum.StrEnum):
    """States that a list can be cut down to."""

    active = "active"
    paused = "paused"
    finished = "finished"


class OutcomeChoice(enum.StrEnum):
    """What can become of a due time."""

    ran = "ran"
    skipped = "skipped"
    missed = "missed"
    coalesced = "coalesced"


def _schedules(record: Any) -> str:
    schedules = record["schedule"]
    return "; ".join(_schedule(entry) for entry in (schedules if isinstance(schedules, list) else [schedules]))


def _schedule(entry: Any) -> str:
    if "cron" in entry:
        return f"{entry['cron']} ({entry.get('time_zone', 'UTC')})"
    if "interval" in entry:
        return f"every {entry['interval']}"
    if "once" in entry:
        return f"at {entry['once']}"
    if "after" in entry:
        return f"after {', '.join(entry['after'])}"
    if "fixed_delay" in entry:
        return f"{entry['fixed_delay']} after each end"
    return "manual" if "manual" in entry else f"in {entry['delay']}" if "delay" in entry else ""


def _action(record: Any) -> str:
    nothing: tuple[str, dict[str, Any]] = ("", {})
    kind, details = next(iter(record["action"].items()), nothing)
    match kind:
        case "shell":
            text = " ".join(details.get("argv", [])) or details.get("script", "")
        case "http":
            text = f"{details.get('method', 'GET')} {details.get('url', '')}"
        case "sql":
            text = f"{details.get('connection', '')}: {details.get('statement', '')}"
        case "python":
            text = details.get("handler", "")
        case "workflow":
            return kind
        case _:
            return ""
    return f"{kind}: {text if len(text) <= 60 else text[:57] + '...'}"


COLUMNS = (
    Column("NAMESPACE", "namespace", is_wide=True),
    Column("NAME", "name"),
    Column("SCHEDULE", _schedules),
    Column("ACTION", _action),
    Column("STATE", "state"),
    Column("NEXT DUE", "next_due_time"),
    Column("QUEUE", lambda record: record.get("queue", job_defaults.QUEUE), is_wide=True),
    Column("PRIORITY", lambda record: record.get("priority", job_defaults.PRIORITY), is_wide=True),
    Column("UNFINISHED", "unfinished_execution_count", is_wide=True),
    Column("OWNER", "owner", is_wide=True),
    Column("LABELS", "labels", is_wide=True),
)

_LEDGER_COLUMNS = (
    Column("DUE TIME", "due_time"),
    Column("UNTIL", lambda record: record["last_due_time"] if record["count"] > 1 else None),
    Column("COUNT", "count"),
    Column("OUTCOME", "outcome"),
    Column("REASON", "reason"),
    Column("EXECUTION", lambda record: record["execution"].rpartition("/")[2]),
)


def _print_job(session: Session, job: Job) -> None:
    from horologe.client.jobfile import to_mapping

    session.print_one(to_mapping(job), COLUMNS)


@app.command("get")
@connected
def get(session: Session, name: NameArgument) -> None:
    """Show one job in a line; -o yaml shows it as a job file."""
    _print_job(session, session.client.get_job(name))


@app.command("list")
@connected
def list_(
    session: Session,
    state: Annotated[StateChoice | None, typer.Option("--state", help="Only jobs in this state.")] = None,
    prefix: filters.PrefixOption = "",
    contains: filters.ContainsOption = "",
    label: filters.LabelOption = None,
    owner: filters.OwnerOption = "",
    queue: filters.QueueOption = "",
    schedule: filters.ScheduleOption = "",
    created_from: filters.CreatedFromOption = "",
    created_before: filters.CreatedBeforeOption = "",
    due_from: filters.DueFromOption = "",
    due_before: filters.DueBeforeOption = "",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many; 0: all.")] = 0,
) -> None:
    """List jobs by name."""
    import itertools

    from horologe.client import words
    from horologe.client.jobfile import to_mapping
    from horologe.v1.job_pb2 import Job

    found = session.client.list_jobs(
        parent="-" if all_namespaces else "",
        state=words.parse(Job.State, state) if state else Job.STATE_UNSPECIFIED,
        name_prefix=prefix,
        name_contains=contains,
        labels=job_create.pairs(label, "--label"),
        owner=owner,
        queue=queue,
        schedule=schedule,
        created_from=filters.instant(created_from, "--created-from"),
        created_before=filters.instant(created_before, "--created-before"),
        due_from=filters.instant(due_from, "--due-from"),
        due_before=filters.instant(due_before, "--due-before"),
    )
    shown = itertools.islice(found, limit or None)
    session.print_list((to_mapping(job) for job in shown), COLUMNS, "No jobs.")


@app.command("describe")
@connected
def describe(session: Session, name: NameArgument) -> None:
    """Show everything about a job: definition, policies with their defaults, next due times, last executions."""
    from horologe.client.cli.job_describe import describe_job, policies
    from horologe.client.documents import dump
    from horologe.client.jobfile import to_mapping

    job = session.client.get_job(name)
    details = describe_job(session.client, job)
    if session.is_data:
        print_data(session.output, {**to_mapping(job), **details})
        return
    mapping = to_mapping(job)
    schedules = [f"{_schedule(entry)}" for entry in _as_list(mapping["schedule"])]
    pairs = [
        ("Name", job.name),
        ("Description", job.description),
        ("Owner", job.owner),
        ("State", mapping.get("state")),
    ]
    pairs += [("Paused by", job.paused_by)] if job.paused_by else []
    pairs += [("Runs as", job.run_as)] if job.run_as else []
    pairs += [("Pause reason", job.pause_reason)] if job.pause_reason else []
    pairs += [("Schedule", "; ".join(schedules)), ("Meaning", "; ".join(details["schedule_descriptions"]))]
    pairs += [("Labels", mapping.get("labels")), ("Counters", mapping.get("counters"))]
    print_details([*pairs, *policies(job)])
    typer.echo("\nAction:")
    typer.echo(textwrap.indent(dump(mapping["action"]), "  "), nl=False)
    if details["next_due_times"]:
        typer.echo("\nNext due times:")
        for due in details["next_due_times"]:
            typer.echo(f"  {due}")
    if details["recent_executions"]:
        from horologe.client.cli.execution import COLUMNS as EXECUTION_COLUMNS

        typer.echo("\nLast executions:")
        print_table(session.output, details["recent_executions"], EXECUTION_COLUMNS, "")


def _as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


@app.command("pause")
@connected
def pause(
    session: Session,
    name: NameArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="For people.")] = "",
    request_id: RequestIdOption = "",
) -> None:
    """Stop following a job's schedule. Due times are recorded as skipped until it is resumed."""
    _print_job(session, session.client.pause_job(name, reason=reason, request_id=request_id))


@app.command("resume")
@connected
def resume(
    session: Session,
    name: NameArgument,
    catchup: Annotated[
        bool, typer.Option("--catchup", help="Due times of the pause are caught up, as its policy says, not skipped.")
    ] = False,
    request_id: RequestIdOption = "",
) -> None:
    """Follow a paused job's schedule again, from now on."""
    _print_job(session, session.client.resume_job(name, catchup=catchup, request_id=request_id))


@app.command("run")
@connected
def run(
    session: Session,
    name: NameArgument,
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="JSON", help="Replaces the payload of a Python action.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run although the overlap policy says no.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Show the output and exit 0 or 1 as the execution ends.")
    ] = False,
    request_id: RequestIdOption = "",
) -> None:
    """Run a job now, beside its schedule."""
    from horologe.client import records
    from horologe.client.cli import execution

    value = job_create.json_value(payload, "--payload")
    started = session.client.run_job(name, payload=value, force=force, request_id=request_id)
    if not session.is_data:
        _warn_without_worker(session, started)
    if not wait:
        session.print_one(records.execution(started), execution.COLUMNS)
        return
    execution.follow(session, started.name)


def _warn_without_worker(session: Session, started: Execution) -> None:
    """Says that nobody is there to take it. Nothing if that cannot be told: it is a courtesy, and the run has begun."""
    from horologe.client.errors import HorologeError
    from horologe.v1.execution_pb2 import Execution
    from horologe.v1.worker_pb2 import Worker

    if started.state != Execution.STATE_QUEUED or started.waits_for:
        return
    try:
        workers = session.client.with_timeout(UNREACHABLE_SECONDS).list_workers()
        is_served = any(each.state == Worker.STATE_READY and started.queue in each.queues for each in workers)
    except HorologeError:
        return
    if not is_served:
        warn(f"No connected worker takes from queue {started.queue}: it waits until one does.")


@app.command("delete")
@connected
def delete(
    session: Session,
    name: NameArgument,
    cancel_running: Annotated[
        bool, typer.Option("--cancel-running", help="Cancel its unfinished executions too.")
    ] = False,
    etag: Annotated[str, typer.Option("--etag", help="Only if the job has not changed since.")] = "",
    yes: YesOption = False,
    request_id: RequestIdOption = "",
) -> None:
    """Delete a job. Its history stays until it is too old."""
    from horologe.client.names import job_name

    full = job_name(name, session.namespace)
    if not yes and session.is_interactive() and not typer.confirm(f"Delete {full}?", err=True):
        typer.echo("Nothing was deleted.", err=True)
        raise typer.Exit(1)
    session.client.delete_job(name, etag=etag, cancel_running=cancel_running, request_id=request_id)
    if session.is_data:
        print_data(session.output, {"name": full, "outcome": "deleted"})
    else:
        typer.echo(f"deleted {full}")


@app.command("ledger")
@connected
def ledger(
    session: Session,
    name: NameArgument,
    outcome: Annotated[
        list[OutcomeChoice] | None, typer.Option("--outcome", help="Only what came to this; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Only the last so many rows; 0: all.")] = 0,
) -> None:
    """Show what became of each due time: ran, skipped, missed or coalesced, and why."""
    import itertools

    from horologe.client import records, words
    from horologe.v1.execution_service_pb2 import LedgerRow

    outcomes = [words.parse(LedgerRow.Outcome, each) for each in outcome or ()]
    rows = session.client.list_ledger(name, outcomes=outcomes, latest_first=bool(limit))
    if limit:
        rows = reversed(list(itertools.islice(rows, limit)))
    session.print_list((records.ledger_row(row) for row in rows), _LEDGER_COLUMNS, "No due times yet.")
