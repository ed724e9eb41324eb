"""What became of due times, as pages show it: dots, and the calendar of the last weeks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from horologe.node.web import words
from horologe.v1 import execution_service_pb2, job_service_pb2

WEEKS = 6
"""What the calendar shows: more than history is kept for by default."""
DAY_PIXELS = 18
LEVELS = 4
COUNTS = ("completed", "failed", "cancelled", "unfinished", "skipped", "missed", "coalesced")


class Dot(NamedTuple):
    """A result as the macro `dots` takes it."""

    state: str
    target: str
    title: str


def dots_of(job_name: str, rows: Iterable[execution_service_pb2.LedgerRow]) -> list[Dot]:
    """Results, latest first, as dots, oldest first."""
    # The same for all of them: there are hundreds in a page.
    executions = words.url(f"{job_name}/executions/").removesuffix("/")
    return [_dot(job_name, executions, row) for row in reversed(list(rows))]


def _dot(job_name: str, executions: str, row: execution_service_pb2.LedgerRow) -> Dot:
    due = words.rfc3339(row.last_due_time)
    times = f"{row.count} due times until {due}" if row.count > 1 else f"due {due}"
    title = f"{times}, {row.reason}" if row.reason else times
    state = word_of_row(row)
    has_own = row.execution and row.outcome != row.OUTCOME_COALESCED
    return Dot(state, f"{executions}/{words.id_of(row.execution)}" if has_own else why_url(job_name, due), title)


def word_of_row(row: execution_service_pb2.LedgerRow) -> str:
    """The state of its execution, or what became of the due time instead."""
    if row.outcome == row.OUTCOME_RAN:
        return words.word(row, "state") or "ran"
    return words.word(row, "outcome")


def why_url(job_name: str, at: str) -> str:
    """Where the page of a job says what became of an instant."""
    return f"{words.with_query(words.url(job_name), at=at)}#why"


# The calendar


@dataclass(slots=True)
class Day:
    """One day of the calendar, UTC."""

    day: date
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    level: int = 0
    """0: nothing; to 4: about as much as the busiest day."""

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def kind(self) -> str:
        """What stands out."""
        if self.counts["failed"]:
            return "failed"
        return "missed" if self.counts["missed"] else "calm"

    @property
    def title(self) -> str:
        said = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
        return f"{self.day:%a %Y-%m-%d}: {said or 'nothing was due'}"


@dataclass(frozen=True, slots=True)
class Square:
    """Where a day stands in the picture: a column for each week, Monday on top."""

    day: Day
    x: int
    y: int


def first_day(now: datetime) -> date:
    """The Monday that the calendar begins with."""
    today = now.astimezone(UTC).date()
    return today - timedelta(days=today.weekday(), weeks=WEEKS - 1)


def calendar(days: Sequence[job_service_pb2.JobDay], now: datetime) -> list[Square]:
    """All days from the first one to today, with what was counted."""
    start = first_day(now)
    length = (now.astimezone(UTC).date() - start).days + 1
    found = {start + timedelta(days=position): Day(start + timedelta(days=position)) for position in range(length)}
    for counted in days:
        day = found.get(datetime.fromtimestamp(counted.start_time.seconds, UTC).date())
        if day is not None:
            for name in COUNTS:
                day.counts[name] += getattr(counted, name)
    busiest = max(day.total for day in found.values())
    for day in found.values():
        day.level = -(-day.total * LEVELS // busiest) if busiest else 0
    return [
        Square(day, position // 7 * DAY_PIXELS, position % 7 * DAY_PIXELS)
        for position, day in enumerate(found.values())
    ]
