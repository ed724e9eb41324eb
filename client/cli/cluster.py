"""`horologe cluster`: the nodes, and who leads them. How members come and go is in `membership.py`."""

from __future__ import annotations

from typing import Annotated

import typer

from horologe.client.cli import backup, encryption, health, log_level, membership, pause, portable
from horologe.client.cli.membership import RequestIdOption
from horologe.client.cli.output import print_data, print_details
from horologe.client.cli.session import Session, connected

__all__ = ["app"]

app = typer.Typer(name="cluster", help="The nodes, and who leads them.", no_args_is_help=True)
membership.register(app)
pause.register_cluster(app)
encryption.register(app)
log_level.register(app)
health.register(app)
app.add_typer(backup.app)
portable.register(app)


@app.command("status")
@connected
def status(session: Session) -> None:
    """Show how the cluster stands, seen from the node that answers. Exits 1 when it has no leader or no quorum."""
    from horologe.client import records

    answer = session.client.cluster_status()
    record = records.status(answer)
    if session.is_data:
        print_data(session.output, record)
    else:
        details = {**record, "members": _reachable_text(session)}
        print_details((label.replace("_", " ").capitalize(), value) for label, value in details.items())
    if answer.insecure:
        typer.secho(
            f"{answer.node} is INSECURE: no TLS, no authentication. Whoever reaches it runs code on every worker.",
            fg=typer.colors.RED,
            err=True,
        )
    if not (answer.has_quorum and answer.leader):
        typer.secho("The cluster has no leader that a majority follows.", fg=typer.colors.RED, err=True)
        raise typer.Exit(1)


def _reachable_text(session: Session) -> str:
    """How many of the members the node that answers is connected to; empty if it does not say."""
    from horologe.client.errors import HorologeError

    try:
        members = list(session.client.list_members())
    except HorologeError:
        return ""
    return f"{sum(each.reachable for each in members)} of {len(members)} reachable" if members else ""


@app.command("members")
@connected
def members(
    session: Session,
    condition: Annotated[
        bool, typer.Option("--condition", help="Ask each how it stands: version, log, clock, disk.")
    ] = False,
) -> None:
    """List the nodes and their roles."""
    from horologe.client import records

    found = session.client.list_members(with_condition=condition)
    columns = (*membership.COLUMNS, *membership.CONDITION_COLUMNS) if condition else membership.COLUMNS
    session.print_list((records.member(entry) for entry in found), columns, "No members.")


@app.command("transfer-leader")
@connected
def transfer_leader(
    session: Session,
    target: Annotated[str, typer.Argument(metavar="[MEMBER]", help="Who shall lead. Default: the furthest one.")] = "",
) -> None:
    """Hand leadership to another member."""
    answer = session.client.transfer_leader(target)
    if session.is_data:
        print_data(session.output, {"leader": answer.leader, "term": answer.term})
    else:
        typer.echo(f"{answer.leader} leads in term {answer.term}")


@app.command("upgrade")
@connected
def upgrade(
    session: Session,
    hold: Annotated[bool, typer.Option("--hold", help="Hold the version: the older program can come back.")] = False,
    release: Annotated[bool, typer.Option("--release", help="Let it go up by itself again.")] = False,
    finalize: Annotated[bool, typer.Option("--finalize", help="Raise it now. There is no way back.")] = False,
    request_id: RequestIdOption = "",
) -> None:
    """Show the cluster's version and what the next one waits for; or hold it, release it, or raise it now."""
    if hold + release + finalize > 1:
        raise typer.BadParameter("give one of --hold, --release and --finalize")
    if hold or release or finalize:
        session.client.upgrade_cluster("hold" if hold else "release" if release else "finalize", request_id=request_id)
    answer = session.client.cluster_status()
    record = {
        "cluster_version": answer.cluster_version,
        "version_held": answer.version_held,
        "next_version": answer.next_version,
        "next_version_waits_for": list(answer.next_version_waits_for),
    }
    if session.is_data:
        print_data(session.output, record)
        return
    typer.echo(
        f"The cluster is at version {answer.cluster_version}{', and held there' if answer.version_held else ''}."
    )
    if answer.next_version_waits_for:
        names = ", ".join(answer.next_version_waits_for)
        typer.echo(f"Version {answer.next_version} waits for {names}: not connected, or its program cannot apply it.")
    elif answer.next_version:
        typer.echo(f"All members can apply version {answer.next_version}.")
