"""`horologe watch`: what happens, as it happens."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horologe.client.cli import filters, job_create
from horologe.client.cli.execution import StateChoice
from horologe.client.cli.output import Format, print_data, print_json_line
from horologe.client.cli.session import Session, connected

if TYPE_CHECKING:
    from horologe.v1.watch_service_pb2 import Event

__all__ = ["watch"]


@connected
def watch(
    session: Session,
    job: Annotated[str, typer.Option("--job", metavar="NAME", help="Only of this job.")] = "",
    state: Annotated[
        list[StateChoice] | None,
        typer.Option("--state", help="Only executions that come into this state; repeatable."),
    ] = None,
    prefix: filters.PrefixOption = "",
    label: filters.LabelOption = None,
    owner: filters.OwnerOption = "",
    queue: filters.QueueOption = "",
    schedule: filters.ScheduleOption = "",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")] = False,
    from_: Annotated[
        str, typer.Option("--from", metavar="TOKEN", help="Go on behind an event that was seen: its `resume_token`.")
    ] = "",
) -> None:
    """Show every move of executions and every change of jobs as it happens, until Ctrl-C. With -o json one object to a line.

    Goes on by itself on another node when one is gone, without losing anything.
    """
    from horologe.client import words
    from horologe.v1.execution_pb2 import Execution

    batches = session.client.watch_events(
        "namespaces/-/jobs/-" if all_namespaces and not job else job,
        states=[words.parse(Execution.State, entry) for entry in state or ()],
        name_prefix=prefix,
        labels=job_create.pairs(label, "--label"),
        owner=owner,
        queue=queue,
        schedule=schedule,
        resume_token=from_,
    )
    for batch in batches:
        for event in batch.events:
            _print(session.output, _record(event))


def _record(event: Event) -> dict[str, Any]:
    from horologe.client import names, times, words
    from horologe.v1.execution_pb2 import Attempt, Execution
    from horologe.v1.watch_service_pb2 import Event

    record: dict[str, Any] = {
        "kind": words.render(Event.Kind, event.kind),
        "time": times.render(event.time),
        "revision": event.revision,
        "namespace": names.namespace_id(event.job),
        "job": names.job_id(event.job),
    }
    if event.execution:
        record |= {
            "execution": names.execution_number(event.execution),
            "previous_state": words.render(Execution.State, event.previous_state) or None,
            "state": words.render(Execution.State, event.state),
            "due_time": times.render(event.due_time),
            "attempt": event.attempt,
            "attempt_state": words.render(Attempt.State, event.attempt_state) or None,
            "worker": event.worker or None,
        }
    return {**record, "resume_token": event.resume_token}


def _print(chosen: Format, record: dict[str, Any]) -> None:
    from horologe.client.cli.failures import printable

    if chosen is Format.json:
        print_json_line(record)
        return
    if chosen is Format.yaml:
        typer.echo("---")
        print_data(chosen, record)
        return
    if "execution" in record:
        attempt = f"  attempt {record['attempt']} {record['attempt_state'] or ''}".rstrip() if record["attempt"] else ""
        worker = f"  {record['worker']}" if record["worker"] else ""
        what = f"{record['previous_state'] or 'new'} -> {record['state']}"
        what = "cancel requested" if record["kind"] == "cancel_requested" else what
        line = f"{record['time']}  {record['job']}  {record['execution']}  {what}{attempt}{worker}"
    else:
        line = f"{record['time']}  {record['job']}  {record['kind'].replace('_', ' ')}"
    typer.echo(printable(line))
    sys.stdout.flush()
