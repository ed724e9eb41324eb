"""Pausing what is larger than a job: `horologe namespace pause`, `horologe cluster pause` and their like."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from horologe.client.cli.output import Column, print_data
from horologe.client.cli.session import Session, connected

__all__ = ["register_cluster", "register_namespace"]

ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="For people.")]
CatchupOption = Annotated[
    bool,
    typer.Option("--catchup", help="Due times of the pause are caught up, as each job's policy says, and not skipped."),
]
RequestIdOption = Annotated[
    str, typer.Option("--request-id", metavar="UUID", help="Makes the call repeatable. Default: a new one.")
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The namespace.")]

_COLUMNS = (
    Column("SCOPE", "scope"),
    Column("REASON", "reason"),
    Column("BY", "by"),
    Column("SINCE", "since"),
)


def register_namespace(app: typer.Typer) -> None:
    """Adds the commands of a namespace."""
    app.command("pause")(pause_namespace)
    app.command("resume")(resume_namespace)


def register_cluster(app: typer.Typer) -> None:
    """Adds the commands of the cluster."""
    app.command("pause")(pause_cluster)
    app.command("resume")(resume_cluster)
    app.command("pauses")(pauses)


@connected
def pause_namespace(
    session: Session, name: NameArgument, reason: ReasonOption = "", request_id: RequestIdOption = ""
) -> None:
    """Stop following the schedules of a namespace's jobs. Due times are recorded as skipped when it is resumed."""
    session.client.pause_scope(name, reason=reason, request_id=request_id)
    _say(session, name, "paused")


@connected
def resume_namespace(
    session: Session, name: NameArgument, catchup: CatchupOption = False, request_id: RequestIdOption = ""
) -> None:
    """Follow the schedules of a namespace's jobs again."""
    session.client.resume_scope(name, catchup=catchup, request_id=request_id)
    _say(session, name, "resumed")


@connected
def pause_cluster(session: Session, reason: ReasonOption = "", request_id: RequestIdOption = "") -> None:
    """Stop following all schedules. Due times are recorded as skipped when the cluster is resumed."""
    session.client.pause_scope("", reason=reason, request_id=request_id)
    _say(session, "", "paused")


@connected
def resume_cluster(session: Session, catchup: CatchupOption = False, request_id: RequestIdOption = "") -> None:
    """Follow all schedules again."""
    session.client.resume_scope("", catchup=catchup, request_id=request_id)
    _say(session, "", "resumed")


@connected
def pauses(session: Session) -> None:
    """List the pauses of namespaces and of the cluster: by whom, why, and since when."""
    from horologe.client import times

    found = session.client.list_pauses()
    rows: list[dict[str, Any]] = [
        {
            "scope": pause.scope or "cluster",
            "reason": pause.reason,
            "by": pause.author,
            "since": times.render(pause.time),
        }
        for pause in found
    ]
    session.print_list(rows, _COLUMNS, "Nothing is paused.")


def _say(session: Session, namespace: str, outcome: str) -> None:
    from horologe.client.names import namespace_name

    scope = namespace_name(namespace) if namespace else "cluster"
    if session.is_data:
        print_data(session.output, {"scope": scope, "outcome": outcome})
    else:
        typer.echo(f"{outcome} {scope}")
