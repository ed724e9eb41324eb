"""`horologe cluster log-level`: how much nodes write into their logs, changed for a time. It goes to all of them, or to some."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from horologe.client.cli.each_node import Told, each_node
from horologe.client.cli.output import Column, Record
from horologe.client.cli.session import Session, connected
from horologe.client.errors import InvalidArgument

if TYPE_CHECKING:
    from horologe.v1.diagnostics_service_pb2 import ListLogLevelsResponse, SetLogLevelResponse

__all__ = ["register"]

LEVELS = ("debug", "info", "warning", "error")
USUAL = "usual"

COLUMNS = (
    Column("NODE", "node"),
    Column("LOGGER", lambda record: record["logger"] or "(all)"),
    Column("LEVEL", "level"),
    Column("USUAL", "usual_level"),
    Column("UNTIL", "expire_time"),
    Column("ERROR", "error"),
)


def register(app: typer.Typer) -> None:
    """Adds the command to `horologe cluster`."""
    app.command("log-level")(log_level)


@connected
def log_level(
    session: Session,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[LOGGER] [LEVEL]",
            help="debug, info, warning, error, or usual. Without a logger: for all. Without both: show them.",
        ),
    ] = None,
    node: Annotated[
        list[str] | None, typer.Option("--node", metavar="NAME", help="Only on this node; repeat it.")
    ] = None,
    duration: Annotated[
        str, typer.Option("--for", metavar="DURATION", help="Then it is as usual again; at most a day.")
    ] = "10m",
) -> None:
    """Change for a time how important log lines must be to be written, or show it, on each node.

    Exits 1 if a node does not answer: the others have done it all the same.

    A logger is named like the module that writes the lines, which each line says: horologe.node.peers. Those below it go by it.
    """
    told: list[Told[ListLogLevelsResponse]] | list[Told[SetLogLevelResponse]]
    if not words:
        told = list(each_node(session, lambda client: client.list_log_levels(), node or ()))
    else:
        logger, level, seconds = _read(words), words[-1], _seconds(duration)
        if level not in (*LEVELS, USUAL):
            raise InvalidArgument(f"{level!r} is no level; these are {', '.join(LEVELS)}, and {USUAL}")
        wanted = "" if level == USUAL else level
        told = list(
            each_node(session, lambda client: client.set_log_level(wanted, logger=logger, seconds=seconds), node or ())
        )
    session.print_list([record for each in told for record in _records(each)], COLUMNS, "No members.")
    if any(each.error for each in told):
        raise typer.Exit(1)


def _read(words: list[str]) -> str:
    """The logger."""
    if len(words) > 2:
        raise InvalidArgument("give a logger and a level, or a level alone")
    return words[0] if len(words) == 2 else ""


def _seconds(text: str) -> float:
    from horologe.client import durations

    try:
        return durations.parse(text).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from error


def _records(told: Told[ListLogLevelsResponse] | Told[SetLogLevelResponse]) -> Iterator[Record]:
    from horologe.client import times

    if told.answer is None:
        yield {
            "node": told.node,
            "logger": "",
            "level": "",
            "usual_level": "",
            "expire_time": None,
            "error": told.error,
        }
        return
    for level in told.answer.levels:
        yield {
            "node": told.node,
            "logger": level.logger,
            "level": level.level,
            "usual_level": level.usual_level,
            "expire_time": times.render(level.expire_time) if level.HasField("expire_time") else None,
            "error": "",
        }
