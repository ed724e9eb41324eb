"""`horologe dashboard`: where the pages of the cluster are."""

from __future__ import annotations

import itertools
import webbrowser
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from horologe.client.cli.output import Record, print_data
from horologe.client.cli.session import UNREACHABLE_SECONDS, Session, connected
from horologe.client.errors import FailedPrecondition, HorologeError, Unavailable

if TYPE_CHECKING:
    from horologe.v1.cluster_service_pb2 import GetClusterStatusResponse

__all__ = ["dashboard"]

EVERYWHERE = ("0.0.0.0", "[::]")
"""Hosts of a node that listens at every address of its machine."""


@connected
def dashboard(
    session: Session,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser of this desktop.")] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="Print those of all nodes that answer; any of them will do.")
    ] = False,
) -> None:
    """Print the address of the dashboard: that of the first node that answers and shows pages."""
    found = list(itertools.islice(_pages(session), None if all_ else 1))
    if not found:
        raise _nothing(session)
    if session.is_data:
        print_data(session.output, found)
    else:
        for record in found:
            typer.echo(record["url"])
    if open_ and not webbrowser.open(found[0]["url"]):
        raise FailedPrecondition(f"there is no browser here that could be told to open {found[0]['url']}")


def _pages(session: Session) -> Iterator[Record]:
    for address in session.client.addresses:
        with suppress(Unavailable):
            answer = session.client.at(address, UNREACHABLE_SECONDS).cluster_status()
            if answer.http_address:
                yield {"url": _url(address, answer), "node": answer.node}


def _nothing(session: Session) -> HorologeError:
    try:
        answer = session.client.cluster_status()
    except HorologeError as error:
        return error
    return FailedPrecondition(f"{answer.node} answers and shows no pages: its http_listen is empty")


def _url(address: str, answer: GetClusterStatusResponse) -> str:
    host, _, port = answer.http_address.rpartition(":")
    if host in EVERYWHERE:
        # Then also where it was just found.
        host = address.rpartition(":")[0]
    return f"{'http' if answer.insecure else 'https'}://{host}:{port}/"
