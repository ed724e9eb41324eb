"""`horologe calendar`: times at which jobs that name a calendar are not due."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from horologe.client.cli.output import Column, print_data
from horologe.client.cli.session import Session, connected

if TYPE_CHECKING:
    from horologe.v1.calendar_pb2 import Calendar

__all__ = ["app"]

app = typer.Typer(name="calendar", help="Times at which jobs are not due: holidays, nights.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Id in the namespace, or the full name.")]
RequestIdOption = Annotated[
    str, typer.Option("--request-id", metavar="UUID", help="Makes the call repeatable. Default: a new one.")
]


def _hours(record: Any) -> str:
    return "; ".join(
        f"{','.join(entry.get('days', ['every day']))} {entry.get('from', '00:00')}-{entry.get('to', '24:00')}"
        for entry in record.get("hours", ())
    )


def _spans(record: Any) -> str:
    return "; ".join(f"{entry['cron']} for {entry['duration']}" for entry in record.get("spans", ()))


_COLUMNS = (
    Column("NAMESPACE", "namespace", is_wide=True),
    Column("NAME", "name"),
    Column("TIME ZONE", lambda record: record.get("time_zone", "UTC")),
    Column("DATES", lambda record: ", ".join(record.get("dates", ()))),
    Column("HOURS", _hours),
    Column("SPANS", _spans),
    Column("JOBS", "job_count"),
    Column("DESCRIPTION", "description", is_wide=True),
)


@app.command("set")
@connected
def set_(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Id in the namespace, or the full name.")] = "",
    file: Annotated[
        str, typer.Option("--file", "-f", metavar="FILE", help="YAML or JSON with one calendar or more.")
    ] = "",
    date: Annotated[
        list[str] | None,
        typer.Option("--date", metavar="DATE", help="2026-12-25, *-12-25, or FIRST/LAST; repeatable."),
    ] = None,
    hours: Annotated[
        list[str] | None,
        typer.Option("--hours", metavar="HOURS", help="sat,sun or mon-fri@22:00-06:00 or @22:00-06:00; repeatable."),
    ] = None,
    time_zone: Annotated[str, typer.Option("--tz", "--time-zone", metavar="ZONE", help="Of dates and hours.")] = "",
    description: Annotated[str, typer.Option("--description", metavar="TEXT", help="For people.")] = "",
    request_id: RequestIdOption = "",
) -> None:
    """Create a calendar or replace it, from flags or a file. The jobs that name it are due anew.

    For example: horologe calendar set holidays --date '*-12-25' --hours sat,sun --tz Europe/Berlin
    """
    from horologe.client.calendarfile import load
    from horologe.client.calendarfile import to_mapping as mapping_of
    from horologe.v1.calendar_pb2 import Calendar

    if bool(name) == bool(file):
        raise typer.BadParameter("give either a name with flags, or --file", param_hint="NAME")
    if file:
        calendars = load(file, session.namespace)
        if request_id and len(calendars) > 1:
            raise typer.BadParameter("the file has several calendars", param_hint="--request-id")
    else:
        calendars = [Calendar(name=name, description=description, time_zone=time_zone, dates=date or ())]
        for text in hours or ():
            _add_hours(calendars[0], text)
    stored = [session.client.set_calendar(calendar, request_id=request_id) for calendar in calendars]
    session.print_list((mapping_of(calendar) for calendar in stored), _COLUMNS, "No calendars.")


def _add_hours(calendar: Calendar, text: str) -> None:
    """`DAYS@FROM-TO`, of which either part may be missing."""
    days, at, span = text.partition("@")
    start, dash, end = span.partition("-")
    if at and not (start and dash and end):
        raise typer.BadParameter(f"{text!r}: write DAYS@FROM-TO, such as mon-fri@22:00-06:00", param_hint="--hours")
    added = calendar.hours.add(days=days.split(",") if days else (), to=end)
    setattr(added, "from", start)


@app.command("get")
@connected
def get(session: Session, name: NameArgument) -> None:
    """Show one calendar; -o yaml shows it as a calendar file."""
    from horologe.client.calendarfile import to_mapping

    session.print_one(to_mapping(session.client.get_calendar(name)), _COLUMNS)


@app.command("list")
@connected
def list_(
    session: Session,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")] = False,
) -> None:
    """List calendars by name."""
    from horologe.client.calendarfile import to_mapping

    found = session.client.list_calendars(parent="-" if all_namespaces else "")
    session.print_list((to_mapping(calendar) for calendar in found), _COLUMNS, "No calendars.")


@app.command("delete")
@connected
def delete(
    session: Session,
    name: NameArgument,
    etag: Annotated[str, typer.Option("--etag", help="Only if it has not changed since.")] = "",
    request_id: RequestIdOption = "",
) -> None:
    """Delete a calendar that no job names."""
    from horologe.client.names import calendar_name

    session.client.delete_calendar(name, etag=etag, request_id=request_id)
    full = calendar_name(name, session.namespace)
    if session.is_data:
        print_data(session.output, {"name": full, "outcome": "deleted"})
    else:
        typer.echo(f"deleted {full}")
