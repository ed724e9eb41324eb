"""`horologe cluster encryption|rotate-keys`: the keys that the data of each node is encrypted with. They go to all nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from horologe.client.cli.each_node import each_node
from horologe.client.cli.output import Column, Record, print_data
from horologe.client.cli.session import Session, connected

if TYPE_CHECKING:
    from horologe.client.client import Client
    from horologe.v1.encryption_service_pb2 import GetEncryptionResponse

__all__ = ["register"]

COLUMNS = (
    Column("NODE", "node"),
    Column("SOURCE", "source"),
    Column("KEYS", "key_count"),
    Column("WRAPPED WITH", "wrapped_with"),
    Column("ROTATING", "progress"),
    Column("ERROR", "error"),
)


def register(app: typer.Typer) -> None:
    """Adds these commands to `horologe cluster`."""
    app.command("encryption")(encryption)
    app.command("rotate-keys")(rotate_keys)


@connected
def encryption(session: Session) -> None:
    """Show which keys the data of each node is encrypted with, and how far a rotation is. Exits 1 if a node does not answer."""
    _print(session, [*_each_node(session, lambda client: client.get_encryption())])


@connected
def rotate_keys(
    session: Session,
    wrap_only: Annotated[
        bool, typer.Option("--wrap-only", help="Keep the data keys; wrap them with the current key-encryption key.")
    ] = False,
) -> None:
    """Give every node a new data key, and encrypt again what lies under the older ones, while the cluster goes on.

    `horologe cluster encryption` shows the progress. Exits 1 if a node does not answer: the others have begun all the same.
    """
    _print(session, [*_each_node(session, lambda client: client.rotate_keys(wrap_only=wrap_only))])


def _each_node(session: Session, ask: Callable[[Client], GetEncryptionResponse]) -> Iterator[Record]:
    from horologe.client import records

    for told in each_node(session, ask):
        if told.answer is not None:
            yield {**records.encryption(told.answer), "error": ""}
        else:
            yield {"node": told.node, "keys": [], "error": told.error}


def _print(session: Session, found: list[Record]) -> None:
    if session.is_data:
        print_data(session.output, found)
    else:
        session.print_list(({**record, **_summary(record)} for record in found), COLUMNS, "No members.")
    if any(record["error"] for record in found):
        raise typer.Exit(1)


def _summary(record: Record) -> Record:
    """What fits into a line."""
    if record["error"]:
        return {}
    wrapped = sorted({key["wrapped_with"] for key in record["keys"]})
    done, total = record["done_count"], record["total_count"]
    progress = f"{100 * done // total if total else 0} %" if record["rotating"] else ""
    return {"key_count": len(record["keys"]), "wrapped_with": ", ".join(wrapped), "progress": progress}
