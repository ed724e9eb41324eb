"""`horologe explain` and `horologe execution story`: why, when, where, how late."""

from __future__ import annotations

from typing import Annotated

import typer

from horologe.client.cli import filters
from horologe.client.cli.execution import ExecutionArgument
from horologe.client.cli.output import Column, print_data, print_details, print_table
from horologe.client.cli.session import Session, connected

__all__ = ["explain", "story"]

_COLUMNS = (
    Column("TIME", "time"),
    Column("KIND", "kind"),
    Column("WHAT", "text"),
)


@connected
def explain(
    session: Session,
    job: Annotated[str, typer.Argument(metavar="JOB", help="Id in the namespace, or the full name.")],
    at: Annotated[
        str, typer.Option("--at", metavar="TIME", help="The instant; a whole second stands for all of it.")
    ] = "",
) -> None:
    """Say why a job ran at an instant, or did not; without --at, at its last due time.

    For example: horologe explain nightly --at 2026-11-01T02:00:00+01:00
    """
    from horologe.client import records, times, words
    from horologe.v1.story_service_pb2 import ExplainDueTimeResponse

    answer = session.client.explain_due_time(job, filters.instant(at, "--at"))
    finding = words.render(ExplainDueTimeResponse.Finding, answer.finding)
    previous = times.render(answer.previous_due_time) if answer.HasField("previous_due_time") else None
    following = times.render(answer.next_due_time) if answer.HasField("next_due_time") else None
    if session.is_data:
        record = {
            "time": times.render(answer.time),
            "finding": finding,
            "sentences": list(answer.sentences),
            "policy": answer.policy or None,
            "row": records.ledger_row(answer.row) if answer.HasField("row") else None,
            "execution": records.execution(answer.execution) if answer.HasField("execution") else None,
            "previous_due_time": previous,
            "next_due_time": following,
        }
        print_data(session.output, record)
        return
    print_details([("Time", times.render(answer.time)), ("Finding", finding.replace("_", " "))])
    for sentence in answer.sentences:
        typer.echo(f"  {sentence}")
    print_details([("Due before", previous), ("Due after", following)])


@connected
def story(
    session: Session,
    execution: ExecutionArgument,
) -> None:
    """Tell what happened to an execution, in the order of time."""
    from horologe.client import records, times

    answer = session.client.execution_story(execution)
    entries = [
        {"time": times.render(entry.time), "kind": entry.kind, "text": entry.text, "attempt": entry.attempt or None}
        for entry in answer.entries
    ]
    if session.is_data:
        print_data(session.output, {**records.execution(answer.execution), "story": entries})
        return
    print_table(session.output, entries, _COLUMNS, "")
