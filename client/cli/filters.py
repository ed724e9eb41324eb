"""Options by which lists and watches are cut down: the same names and words wherever they make sense."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

__all__ = [
    "ContainsOption",
    "CreatedBeforeOption",
    "CreatedFromOption",
    "DueBeforeOption",
    "DueFromOption",
    "LabelOption",
    "OwnerOption",
    "PrefixOption",
    "QueueOption",
    "ScheduleOption",
    "instant",
]

PrefixOption = Annotated[str, typer.Option("--prefix", metavar="TEXT", help="Only jobs whose name starts like this.")]
ContainsOption = Annotated[str, typer.Option("--contains", metavar="TEXT", help="Only jobs whose name contains this.")]
LabelOption = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Only jobs with this label; repeatable.")
]
OwnerOption = Annotated[str, typer.Option("--owner", metavar="NAME", help="Only jobs with this owner.")]
QueueOption = Annotated[str, typer.Option("--queue", metavar="NAME", help="Only what goes through this queue.")]
ScheduleOption = Annotated[
    str,
    typer.Option(
        "--schedule", metavar="TEXT", help='Only jobs whose schedule contains this: "0 2 * * *", "5 minutes".'
    ),
]
CreatedFromOption = Annotated[
    str, typer.Option("--created-from", metavar="TIME", help="Made at this instant or later: RFC 3339, or -1h.")
]
CreatedBeforeOption = Annotated[str, typer.Option("--created-before", metavar="TIME", help="Made before this instant.")]
DueFromOption = Annotated[
    str, typer.Option("--due-from", metavar="TIME", help="Due at this instant or later: RFC 3339, or -1h.")
]
DueBeforeOption = Annotated[str, typer.Option("--due-before", metavar="TIME", help="Due before this instant.")]


def instant(text: str, option: str) -> datetime | None:
    """The instant that an option names; None if it was not given."""
    from horologe.client import times

    if not text:
        return None
    try:
        return times.moment(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
