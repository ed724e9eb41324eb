"""Is every due time of a job accounted for, exactly once? A walk through the rows of its ledger; no clock and no network.

The rows come in the order of their last due times, so one walk along the timetable finds what is missing, what is there twice
and what no schedule names, without holding more than a few of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from horologe.chaos.timetable import Timetable

FINDINGS_KEPT = 20
"""Of each job; all are counted."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the ledger: one due time, or a run of them with one fate."""

    first_ms: int
    last_ms: int
    count: int
    outcome: str
    execution: str = ""
    is_on_request: bool = False

    @property
    def makes_execution(self) -> bool:
        """Whether its execution is its own: those that were coalesced name the one that runs for them."""
        return bool(self.execution) and self.outcome != "coalesced"


@dataclass(frozen=True, slots=True)
class Finding:
    """Due times of which the ledger does not tell exactly one thing."""

    kind: str
    """`missing`, `late` (due by now, and still to be fired), `double`, `not in schedule`, or `miscounted`."""
    first_ms: int
    last_ms: int
    count: int
    detail: str = ""


class Period(NamedTuple):
    """What is judged of a job: due times after `since_ms` and up to `until_ms`."""

    since_ms: int
    required_ms: int
    """Up to here a due time need not be accounted for: whether the job was there in time depends on whose clock one reads."""
    until_ms: int
    next_due_ms: int
    """What the cluster says is due next; 0 for nothing. What comes before has been fired, or is lost."""


class JobAudit:
    """The walk through one job's ledger: give it each row with `take`, then `finish`."""

    def __init__(self, name: str, timetable: Timetable, period: Period) -> None:
        self.name = name
        self.since_ms = period.since_ms
        self.outcomes: Counter[str] = Counter()
        """Due times that are accounted for, by outcome."""
        self.wrong: Counter[str] = Counter()
        """Due times that are not, by kind of finding."""
        self.findings: list[Finding] = []
        self._timetable = timetable
        self._period = period
        self._reached_ms = period.since_ms
        """All due times up to here have been looked at."""
        self._executions: set[str] = set()

    @property
    def is_sound(self) -> bool:
        return not self.wrong

    def take(self, row: Row) -> None:
        """The next row, in the order of the ledger."""
        if row.is_on_request or row.last_ms <= self._period.since_ms:
            return
        if row.makes_execution:
            if row.execution in self._executions:
                self._note("double", row.first_ms, row.last_ms, 1, f"{row.execution} stands for another one too")
            self._executions.add(row.execution)
        first_ms = max(row.first_ms, self._period.since_ms + 1)
        if first_ms <= self._reached_ms:
            last_ms = min(row.last_ms, self._reached_ms)
            self._note("double", first_ms, last_ms, max(1, self._timetable.count(first_ms, last_ms)), row.outcome)
            first_ms = self._reached_ms + 1
        self._note_missing(first_ms - 1)
        if row.last_ms >= first_ms:
            self._account(row, first_ms)
            self._reached_ms = row.last_ms

    def finish(self) -> None:
        """There are no more rows."""
        self._note_missing(self._period.until_ms)

    def _account(self, row: Row, first_ms: int) -> None:
        count = self._timetable.count(first_ms, row.last_ms)
        self.outcomes[row.outcome] += count
        if not self._timetable.count(row.last_ms, row.last_ms):
            self._note("not in schedule", first_ms, row.last_ms, max(1, row.count - count), row.outcome)
        elif first_ms == row.first_ms and count != row.count:
            text = f"the row says {row.count}, the schedule {count}"
            self._note("miscounted", first_ms, row.last_ms, abs(row.count - count), text)

    def _note_missing(self, to_ms: int) -> None:
        """Notes the due times from where the walk is up to `to_ms`, which no row names."""
        first_ms = max(self._reached_ms, self._period.required_ms) + 1
        to_ms = min(to_ms, self._period.until_ms)
        pending_ms = self._period.next_due_ms or to_ms + 1
        for kind, from_ms, until_ms in (
            ("missing", first_ms, min(to_ms, pending_ms - 1)),
            ("late", max(first_ms, pending_ms), to_ms),
        ):
            count = self._timetable.count(from_ms, until_ms) if from_ms <= until_ms else 0
            if count:
                shown_ms = self._timetable.next_after(from_ms - 1) or from_ms
                self._note(kind, shown_ms, until_ms, count)

    def _note(self, kind: str, first_ms: int, last_ms: int, count: int, detail: str = "") -> None:
        self.wrong[kind] += count
        if len(self.findings) < FINDINGS_KEPT:
            self.findings.append(Finding(kind, first_ms, last_ms, count, detail))
