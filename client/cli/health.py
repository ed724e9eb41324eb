"""`horologe cluster health`: one look at the whole cluster for people, and one exit code for whatever monitors it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from horologe.client.cli.session import Session, connected
from horologe.client.errors import HorologeError, Unauthenticated, Unavailable

if TYPE_CHECKING:
    from horologe.client.client import Client
    from horologe.client.findings import Finding

__all__ = ["examine", "register"]


def register(app: typer.Typer) -> None:
    """Adds the command to `horologe cluster`."""
    app.command("health")(health)


@connected
def health(session: Session) -> None:
    """Judge how well the cluster is: leader, quorum, each member, what is overdue, queues that are stuck, certificates.

    Exits 0 if all is well, 1 with warnings, 2 with failures, also when no node can be reached.
    """
    from horologe.client.cli.findings import report
    from horologe.client.health import unreachable

    try:
        found = examine(session.client)
    except (Unavailable, Unauthenticated) as error:
        found = [unreachable(str(error).splitlines()[0])]
    except HorologeError as error:
        # Not allowed, or too slow: nothing can be said of the cluster, which is no good news for a monitor either.
        found = [unreachable(f"the cluster could not be examined: {str(error).splitlines()[0]}")]
    report(found, session.output)


def examine(client: Client, now: datetime | None = None) -> list[Finding]:
    """Asks a node for everything that is judged. Raises HorologeError."""
    from horologe.client.health import Picture, judge

    return judge(
        Picture(
            status=client.cluster_status(),
            members=list(client.list_members(with_condition=True)),
            queues=list(client.list_queues()),
            pauses=list(client.list_pauses()),
            activity=client.activity(),
            now=now or datetime.now(UTC),
        )
    )
