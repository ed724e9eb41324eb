"""`horologe workflow`: jobs that are after one another, their runs, and running parts of those again."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import typer

from horologe.client.cli.execution_argument import found_by
from horologe.client.cli.output import Column, Record, print_data, print_details, print_table
from horologe.client.cli.session import Session, connected
from horologe.client.errors import InvalidArgument

__all__ = ["app"]

app = typer.Typer(name="workflow", help="Jobs that are after one another, and their runs.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The workflow's job, or one that others are after.")]

WaitOption = Annotated[bool, typer.Option("--wait", "-w", help="Exit 0 or 1 as the run ends.")]
RequestIdOption = Annotated[str, typer.Option("--request-id", help="A UUID that makes the call repeatable.")]


def _latest(key: str) -> Any:
    return lambda record: record["latest_run"] and record["latest_run"][key]


COLUMNS = (
    Column("NAMESPACE", "namespace", is_wide=True),
    Column("NAME", "name"),
    Column("JOBS", "node_count"),
    Column("LATEST RUN", _latest("id")),
    Column("STATE", _latest("state")),
    Column("DUE TIME", _latest("due_time")),
    Column("NEXT DUE", "next_due_time"),
    Column("REASON", _latest("reason"), is_wide=True),
)
_RUN_COLUMNS = (
    Column("RUN", "id"),
    Column("STATE", "state"),
    Column("TRIGGER", "trigger"),
    Column("DUE TIME", "due_time"),
    Column("END TIME", "end_time"),
    Column("UNFINISHED", "unfinished_count"),
    Column("FAILED", "failed_count"),
    Column("REASON", "reason"),
)


def _of_execution(key: str) -> Any:
    return lambda record: record["execution"] and record["execution"][key]


def _after(record: Record) -> str | None:
    condition = record["condition"]
    said = f" ({condition})" if condition not in (None, "all_succeeded") else ""
    return f"{', '.join(record['after'])}{said}" if record["after"] else None


_NODE_COLUMNS = (
    Column("LAYER", "layer"),
    Column("JOB", "job"),
    Column("STATE", "state"),
    Column("EXECUTION", _of_execution("id")),
    Column("AFTER", _after),
    Column("START TIME", _of_execution("start_time"), is_wide=True),
    Column("END TIME", _of_execution("end_time"), is_wide=True),
    Column("REASON", _of_execution("reason")),
)


@app.command("list")
@connected
def list_(
    session: Session,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")] = False,
) -> None:
    """List workflows, with their latest runs."""
    from horologe.client import workflow_records

    found = session.client.list_workflows(all_namespaces=all_namespaces)
    session.print_list((workflow_records.summary(entry) for entry in found), COLUMNS, "There are no workflows.")


@app.command("get")
@connected
def get(
    session: Session,
    name: NameArgument,
    run: Annotated[int, typer.Option("--run", metavar="N", min=0, help="Of this run; 0: of the latest.")] = 0,
    graph: Annotated[bool, typer.Option("--graph", "-g", help="Draw it, layer by layer.")] = False,
) -> None:
    """Show the jobs of a workflow, and how they stand in a run."""
    from horologe.client import workflow_records

    record = workflow_records.workflow(session.client.get_workflow(name, run=run))
    if not record["edges"] and [node["job"] for node in record["nodes"]] == [record["name"]]:
        raise InvalidArgument(f"{name} is no workflow, and no job is after it; `horologe job get {name}` shows it")
    if session.is_data:
        print_data(session.output, record)
        return
    _print_run(record)
    if graph:
        from horologe.client.cli import workflow_graph

        workflow_graph.draw(record)
    else:
        print_table(session.output, record["nodes"], _NODE_COLUMNS, "It has no jobs yet.")


@app.command("runs")
@connected
def runs(
    session: Session,
    name: NameArgument,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many; 0: all.")] = 50,
) -> None:
    """List the runs of a workflow, newest first."""
    from horologe.client import workflow_records

    found = itertools.islice(session.client.list_runs(name), limit or None)
    session.print_list((workflow_records.run(entry) for entry in found), _RUN_COLUMNS, "No runs.")


@app.command("run")
@connected
def run_(
    session: Session,
    name: NameArgument,
    force: Annotated[bool, typer.Option("--force", help="Run although the overlap policy says no.")] = False,
    wait: WaitOption = False,
    request_id: RequestIdOption = "",
) -> None:
    """Begin a run now."""
    from horologe.client import records
    from horologe.client.cli import execution

    started = session.client.run_job(name, force=force, request_id=request_id)
    if wait:
        execution.follow(session, started.name)
        return
    session.print_one(records.execution(started), execution.COLUMNS)


@app.command("rerun")
@connected
def rerun(
    session: Session,
    execution: Annotated[
        str,
        typer.Argument(
            metavar="EXECUTION",
            help="The run, or one execution of it: that and all after it.",
            callback=found_by("horologe workflow runs"),
        ),
    ],
    wait: WaitOption = False,
    request_id: RequestIdOption = "",
) -> None:
    """Run again what of a run did not end well; the rest keeps its results.

    For example: horologe workflow rerun 417 --wait
    """
    from horologe.client import workflow_records
    from horologe.client.cli.execution import follow

    found = session.client.rerun_execution(execution, request_id=request_id)
    if wait:
        follow(session, found.name)
        return
    session.print_one(workflow_records.run(found), _RUN_COLUMNS)


def _print_run(record: Record) -> None:
    run = record["run"] or {}
    labels = ("state", "trigger", "due_time", "end_time", "reason")
    pairs = [("Workflow", record["name"]), ("Run", run.get("id"))]
    print_details([*pairs, *((label.replace("_", " ").capitalize(), run.get(label)) for label in labels)])
    typer.echo("")
