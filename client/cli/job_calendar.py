"""`horologe job calendar`: what became of a job's due times in the last weeks, hour by hour, and when it is due in the next days.

A picture of letters and figures, so that it needs no colour; with `--plain` sentences, for who listens to a screen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from horologe.client.cli.output import Record, print_data
from horologe.client.cli.session import Session, connected

if TYPE_CHECKING:
    from horologe.v1.execution_service_pb2 import LedgerRow

__all__ = ["calendar"]

ROWS_MAX = 20_000
"""Read of the ledger: some seconds, and as much as a job has that is due every two minutes for four weeks."""
PLANNED_MAX = 1_000
"""As much as one answer holds."""

MARKS = (
    ("failed", "x", "red"),
    ("missed", "!", "red"),
    ("cancelled", "c", "yellow"),
    ("skipped", "s", "yellow"),
    ("coalesced", "o", "yellow"),
    ("unfinished", "~", "cyan"),
)
"""The first that an hour has is shown for it."""
WENT_WELL, PLANNED = "completed", "planned"


@dataclass(slots=True)
class Day:
    """What was due on one day, by its hours."""

    day: date
    hours: dict[int, Counter[str]] = field(default_factory=dict)

    def add(self, hour: int, what: str, count: int) -> None:
        self.hours.setdefault(hour, Counter())[what] += count

    @property
    def total(self) -> Counter[str]:
        return sum(self.hours.values(), Counter())


@dataclass(slots=True)
class Picture:
    """All days, from the first to the last one."""

    days: dict[date, Day] = field(default_factory=dict)
    known_from: datetime | None = None
    """Of what is older not all was read."""
    planned_until: datetime | None = None
    """Of what is later not all was asked for."""

    def add(self, moment: datetime, what: str, count: int = 1) -> None:
        day = self.days.get(moment.date())
        if day is not None:
            day.add(moment.hour, what, count)


@connected
def calendar(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Id in the namespace, or the full name.")],
    weeks: Annotated[int, typer.Option("--weeks", metavar="N", min=0, max=52, help="How far back.")] = 2,
    days: Annotated[int, typer.Option("--days", metavar="N", min=0, max=366, help="How far ahead.")] = 7,
    time_zone: Annotated[
        str, typer.Option("--tz", metavar="ZONE", help="Whose days and hours, as Europe/Berlin.")
    ] = "UTC",
    plain: Annotated[bool, typer.Option("--plain", help="Sentences instead of a picture.")] = False,
) -> None:
    """Show when a job ran, failed or was left out in the last weeks, hour by hour, and when it is due in the next days.

    For example: horologe job calendar nightly-backup --weeks 4 --tz Europe/Berlin
    """
    zone = _zone(time_zone)
    now = _now().astimezone(zone)
    first = now.date() - timedelta(weeks=weeks)
    picture = Picture({day: Day(day) for day in _dates(first, now.date() + timedelta(days=days))})
    since = datetime(first.year, first.month, first.day, tzinfo=zone)
    job = session.client.get_job(name)
    _add_past(picture, session.client.list_ledger(job.name, latest_first=True, page_size=1_000), since, zone)
    preview = session.client.preview_job(job, start=now, count=PLANNED_MAX)
    for due in preview.due_times:
        picture.add(due.ToDatetime(UTC).astimezone(zone), PLANNED)
    if len(preview.due_times) == PLANNED_MAX:
        picture.planned_until = preview.due_times[-1].ToDatetime(UTC).astimezone(zone)
    if session.is_data:
        print_data(session.output, [_record(day) for day in picture.days.values()])
        return
    is_paused = job.state == job.STATE_PAUSED
    for line in _sentences(picture) if plain else _grid(picture, now):
        typer.echo(line)
    for note in _notes(picture, time_zone, is_paused=is_paused):
        typer.echo(note)


def _now() -> datetime:
    return datetime.now(UTC)


def _zone(name: str) -> ZoneInfo:
    from horologe.client import times

    try:
        return times.zone(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--tz") from error


def _dates(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first += timedelta(days=1)


def _add_past(picture: Picture, rows: Iterable[LedgerRow], since: datetime, zone: ZoneInfo) -> None:
    """From the latest row on, until they are too old or too many."""
    for number, row in enumerate(rows, 1):
        last = row.last_due_time if row.HasField("last_due_time") else row.due_time
        moment = last.ToDatetime(UTC).astimezone(zone)
        if moment < since:
            return
        picture.add(moment, _fate(row), row.count or 1)
        if number == ROWS_MAX:
            picture.known_from = moment
            return


def _fate(row: LedgerRow) -> str:
    from horologe.client import words
    from horologe.v1.execution_pb2 import Execution
    from horologe.v1.execution_service_pb2 import LedgerRow as Row

    if row.outcome != Row.OUTCOME_RAN:
        return words.render(Row.Outcome, row.outcome)
    ends = {
        # Long ago: the execution is not kept any more, and that it ran is all that is known.
        Execution.STATE_UNSPECIFIED: WENT_WELL,
        Execution.STATE_COMPLETED: WENT_WELL,
        Execution.STATE_FAILED: "failed",
        Execution.STATE_DEAD: "failed",
        Execution.STATE_CANCELLED: "cancelled",
        Execution.STATE_SKIPPED: "skipped",
    }
    return ends.get(row.state, "unfinished")


def _record(day: Day) -> Record:
    return {
        "day": day.day.isoformat(),
        "total": dict(day.total),
        "hours": {f"{hour:02}": dict(counts) for hour, counts in sorted(day.hours.items())},
    }


def _grid(picture: Picture, now: datetime) -> Iterator[str]:
    yield typer.style(f"{'':<15}" + " ".join(f"{hour:02}" for hour in range(24)), bold=True)
    for day in picture.days.values():
        cells = " ".join(_cell(day.hours.get(hour)) for hour in range(24))
        here = "today" if day.day == now.date() else ""
        yield f"{day.day:%a %Y-%m-%d} {cells} {here}".rstrip()
    yield ""
    marks = " · ".join(f"{typer.style(mark, fg=colour)} {word}" for word, mark, colour in MARKS)
    yield f"{typer.style('3', fg='green')} ran well · {marks} · > planned · . nothing due; figures say how often"


def _cell(counts: Counter[str] | None) -> str:
    """Two columns of an hour, the worst first."""
    if not counts:
        return " ."
    for word, mark, colour in MARKS:
        if counts[word]:
            return typer.style(_figure(counts[word]) + mark, fg=colour)
    if counts[WENT_WELL]:
        return typer.style(f"{_short(counts[WENT_WELL]):>2}", fg="green")
    return typer.style(f">{_figure(counts[PLANNED])}", dim=True)


def _figure(count: int) -> str:
    return str(count) if count < 10 else "+"


def _short(count: int) -> str:
    return str(count) if count < 100 else "++"


def _sentences(picture: Picture) -> Iterator[str]:
    for day in picture.days.values():
        if not day.hours:
            continue
        parts = [f"{count} {_words(what)}{_when(day, what)}" for what, count in sorted(day.total.items())]
        yield f"{day.day:%A %Y-%m-%d}: {', '.join(parts)}."
    if not any(day.hours for day in picture.days.values()):
        yield "Nothing was due, and nothing is planned."


def _words(what: str) -> str:
    return "ran well" if what == WENT_WELL else what


def _when(day: Day, what: str) -> str:
    """The hours, where they are few enough to be listened to."""
    hours = [f"{hour:02}" for hour, counts in sorted(day.hours.items()) if counts[what]]
    return f" (hour {' and '.join(hours)})" if len(hours) <= 3 else ""


def _notes(picture: Picture, time_zone: str, *, is_paused: bool) -> Iterator[str]:
    yield f"Days and hours of {time_zone}."
    if picture.known_from is not None:
        yield f"Only what was due since {picture.known_from:%Y-%m-%d %H:%M} is shown: {ROWS_MAX:,} rows of the ledger."
    if picture.planned_until is not None and picture.planned_until.date() in picture.days:
        yield f"Only what is planned until {picture.planned_until:%Y-%m-%d %H:%M} is shown: {PLANNED_MAX:,} due times."
    if is_paused:
        yield "The job is paused: what is planned does not run until it is resumed."
