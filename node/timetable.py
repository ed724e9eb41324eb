"""When a job is due: the union of its schedules, within its bounds, without what its calendars exclude, and its jitter.

Pure: no clock, no tables. What one schedule says is in `schedule`, what a calendar covers in `calendars`; how the answers are
acted on (ledger, catch-up) is decided in `firing`. All times are milliseconds since 1970.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

from horologe.node import schedule
from horologe.node.schedule import DAY_MS, LATEST_MS, SECOND_MS
from horologe.node.zones import ms_from_instant
from horologe.v1.job_pb2 import EXCLUSION_POLICY_NEXT_OPEN, Job, Schedule

CATCHUP_WINDOW_MIN_MS: Final = 60 * SECOND_MS
CATCHUP_WINDOW_MAX_MS: Final = DAY_MS
CATCHUP_WINDOW_ONCE_MS: Final = 365 * DAY_MS
EXCLUDED_SPANS_MAX: Final = 1_100
"""So many excluded spans in a row are passed over in the search for a due time: three years of days. Then there is none."""

UNREADABLE: Final = (ArithmeticError, AssertionError, LookupError, TypeError, ValueError, struct.error)
"""What a definition may raise that this program, or its time-zone data, cannot read. A damaged store and a broken invariant are
not among them: those stop the node."""

# Where the period of a schedule is measured when the caller has no better place: a Monday, so that working hours are usual ones.
_PERIOD_MEASURED_AT_MS: Final = ms_from_instant(datetime(2024, 1, 1, tzinfo=UTC))


class Span(NamedTuple):
    """From an instant to another one, which is not part of it any more."""

    start_ms: int
    end_ms: int


class Exclusion(Protocol):
    """What excludes due times."""

    def span_at(self, at_ms: int) -> Span | None:
        """An excluded span that contains the instant; None if it is not excluded."""


@dataclass(frozen=True, slots=True)
class MissedRun:
    """The due times in a range. When there are none, `first_ms` and `last_ms` are the range itself: go on after `last_ms`."""

    count: int
    first_ms: int
    last_ms: int
    complete: bool
    """False when the limit was reached: there are more after `last_ms`."""


@dataclass(frozen=True, slots=True)
class PlainInterval:
    """The due times of a job as far as its state tells them: a pending one, and the same period after each.

    What `Timetable` answers of such a job (records.JobState: `every_ms`), if the pending one came after the schedule.
    """

    pending_ms: int
    period_ms: int

    def next_after(self, after_ms: int) -> int:
        """As of a timetable."""
        return self.pending_ms + max(0, (after_ms - self.pending_ms) // self.period_ms + 1) * self.period_ms

    def owed(self, pending_ms: int, to_ms: int, limit: int) -> MissedRun:
        """As of a timetable."""
        del limit
        further = (to_ms - pending_ms) // self.period_ms
        return MissedRun(1 + further, pending_ms, pending_ms + further * self.period_ms, complete=True)

    def fire_ms(self, due_ms: int) -> int:
        """As of a timetable: it has no jitter."""
        return due_ms


@dataclass(frozen=True, slots=True)
class Timetable:
    """The due times of a job."""

    schedules: Sequence[Schedule]
    identity: str
    """Places intervals without a phase, and spreads jitter: what stays the same for the life of the job."""
    since_ms: int = -1
    """Nothing is owed from up to here, but instants: what a job is created with may lie in the past on purpose."""
    start_ms: int = -1
    """No due time before."""
    end_ms: int = LATEST_MS + 1
    """No due time at or after."""
    jitter_ms: int = 0
    exclusions: Sequence[Exclusion] = ()
    moves_excluded: bool = False
    """An excluded due time moves to the first instant that is not; otherwise it is none."""

    def next_after(self, after_ms: int) -> int | None:
        """The first due time strictly after an instant; None when there is none."""
        if not self.exclusions:
            return self._named_after(after_ms)
        return self._next_moved(after_ms) if self.moves_excluded else self._next_not_excluded(after_ms)

    @property
    def period_ms(self) -> int:
        """The distance of neighbours, if due times can be counted by arithmetic; 0 if they must be enumerated."""
        if len(self.schedules) != 1 or self.schedules[0].WhichOneof("kind") != "interval" or self.exclusions:
            return 0
        return schedule.duration_ms(self.schedules[0].interval.every)

    def opening(self, at_ms: int) -> int | None:
        """The first instant from this one on that bounds and exclusions allow; None when there is none."""
        at_ms = max(at_ms, self.start_ms)
        closed = self._closed_at(at_ms)
        return self._bounded(at_ms if closed is None else closed.end_ms)

    def fire_ms(self, due_ms: int) -> int:
        """When a due time fires: later by an amount that follows from the job and the due time, and before the next one."""
        return self.fire_before_ms(due_ms, self.next_after(due_ms)) if self.jitter_ms else due_ms

    def fire_before_ms(self, due_ms: int, next_ms: int | None) -> int:
        """The same for whoever knows the due time that follows."""
        span_ms = self.jitter_ms if next_ms is None else min(self.jitter_ms, next_ms - due_ms - 1)
        digest = hashlib.sha256(f"{self.identity} {due_ms}".encode()).digest()
        return due_ms + int.from_bytes(digest[:8], "big") % (span_ms + 1)

    def missed(self, from_ms: int, to_ms: int, limit: int) -> MissedRun:
        """The due times from `from_ms` to `to_ms`, both included.

        A single interval is counted by arithmetic, however many there are. All else is enumerated, at most `limit` (1 or more)
        due times: when the answer is not complete, ask again from `last_ms + 1`.
        """
        if self.period_ms:
            return self._missed_of_interval(from_ms, to_ms)
        first_ms = self.next_after(from_ms - 1)
        if first_ms is None or first_ms > to_ms:
            return MissedRun(0, from_ms, to_ms, complete=True)
        count, last_ms = 1, first_ms
        while (due_ms := self.next_after(last_ms)) is not None and due_ms <= to_ms:
            if count >= limit:
                return MissedRun(count, first_ms, last_ms, complete=False)
            count, last_ms = count + 1, due_ms
        return MissedRun(count, first_ms, last_ms, complete=True)

    def owed(self, pending_ms: int, to_ms: int, limit: int) -> MissedRun:
        """The due times from the pending one to `to_ms`, which is not before it.

        The pending one is owed because the state says so: this node's time-zone data, or a calendar since, may say otherwise.
        """
        run = self.missed(pending_ms, to_ms, limit)
        if not run.count:
            return MissedRun(1, pending_ms, pending_ms, run.complete)
        if run.first_ms != pending_ms:
            return MissedRun(run.count + 1, pending_ms, run.last_ms, run.complete)
        return run

    def _named_after(self, after_ms: int) -> int | None:
        """The first one that a schedule names and the bounds allow, excluded or not."""
        after_ms = max(after_ms, self.start_ms - 1)
        due_ms = min(self._each_after(after_ms), default=None)
        return due_ms if due_ms is not None and due_ms < self.end_ms else None

    def _each_after(self, after_ms: int) -> Iterator[int]:
        for each in self.schedules:
            from_ms = after_ms if each.WhichOneof("kind") == "once" else max(after_ms, self.since_ms)
            due_ms = schedule.next_due_ms(each, from_ms, self.identity)
            if due_ms is not None:
                yield due_ms

    def _next_not_excluded(self, after_ms: int) -> int | None:
        due_ms = self._named_after(after_ms)
        for _ in range(EXCLUDED_SPANS_MAX):
            if due_ms is None:
                return None
            span = self._span_at(due_ms)
            if span is None:
                return due_ms
            due_ms = self._named_after(span.end_ms - 1)
        return None

    def _next_moved(self, after_ms: int) -> int | None:
        closed = self._closed_at(after_ms)
        if closed is not None:
            # A due time from before `after_ms` may have moved to after it.
            named_ms = self._named_after(closed.start_ms - 1)
            if named_ms is not None and named_ms <= after_ms:
                return self._bounded(closed.end_ms)
        due_ms = self._named_after(after_ms)
        closed = None if due_ms is None else self._closed_at(due_ms)
        return due_ms if closed is None else self._bounded(closed.end_ms)

    def _bounded(self, due_ms: int) -> int | None:
        return due_ms if due_ms < self.end_ms else None

    def _span_at(self, at_ms: int) -> Span | None:
        return next((span for each in self.exclusions if (span := each.span_at(at_ms)) is not None), None)

    def _closed_at(self, at_ms: int) -> Span | None:
        """The whole time without an opening around an instant. One that does not end is taken to last for ever."""
        span = self._span_at(at_ms)
        if span is None:
            return None
        start_ms, end_ms = span
        for _ in range(EXCLUDED_SPANS_MAX):
            before = self._span_at(start_ms - 1)
            if before is None:
                break
            start_ms = before.start_ms
        for _ in range(EXCLUDED_SPANS_MAX):
            behind = self._span_at(end_ms)
            if behind is None:
                return Span(start_ms, end_ms)
            end_ms = behind.end_ms
        return Span(start_ms, LATEST_MS + 1)

    def _missed_of_interval(self, from_ms: int, to_ms: int) -> MissedRun:
        every_ms, phase_ms = schedule.period_and_phase_ms(self.schedules[0].interval, self.identity)
        lowest_ms = max(from_ms, self.start_ms, self.since_ms + 1)
        highest_ms = min(to_ms, self.end_ms - 1)
        first_ms = phase_ms + -((phase_ms - lowest_ms) // every_ms) * every_ms
        last_ms = phase_ms + ((highest_ms - phase_ms) // every_ms) * every_ms
        if last_ms < first_ms:
            return MissedRun(0, from_ms, to_ms, complete=True)
        return MissedRun((last_ms - first_ms) // every_ms + 1, first_ms, last_ms, complete=True)


def timetable_of(job: Job, exclusions: Sequence[Exclusion] = (), since_ms: int = -1) -> Timetable:
    """The timetable of a complete definition; `exclusions` are its calendars."""
    return Timetable(
        job.schedules,
        job.name,
        since_ms,
        schedule.timestamp_ms(job.start_time) if job.HasField("start_time") else -1,
        schedule.timestamp_ms(job.end_time) if job.HasField("end_time") else LATEST_MS + 1,
        job.jitter.ToMilliseconds() if job.HasField("jitter") else 0,
        exclusions,
        job.on_exclusion == EXCLUSION_POLICY_NEXT_OPEN,
    )


def default_catchup_window_ms(
    schedules: Sequence[Schedule], identity: str, after_ms: int = _PERIOD_MEASURED_AT_MS
) -> int:
    """How far back missed due times are caught up when the job does not say.

    1 year for `once`; otherwise the schedule's own period (the distance of its next two due times after `after_ms`), at least
    60 s and at most 1 day. With several schedules, the longest of these.
    """
    return max((_catchup_window_of_one(each, identity, after_ms) for each in schedules), default=CATCHUP_WINDOW_MIN_MS)


def _catchup_window_of_one(one: Schedule, identity: str, after_ms: int) -> int:
    kind = one.WhichOneof("kind")
    if kind == "once":
        return CATCHUP_WINDOW_ONCE_MS
    if kind == "interval":
        return min(max(schedule.duration_ms(one.interval.every), CATCHUP_WINDOW_MIN_MS), CATCHUP_WINDOW_MAX_MS)
    if kind == "fixed_delay":
        return min(max(schedule.duration_ms(one.fixed_delay.delay), CATCHUP_WINDOW_MIN_MS), CATCHUP_WINDOW_MAX_MS)
    if kind != "cron":
        return CATCHUP_WINDOW_MIN_MS
    one_ms = schedule.next_due_ms(one, after_ms, identity)
    other_ms = None if one_ms is None else schedule.next_due_ms(one, one_ms, identity)
    if one_ms is None or other_ms is None:
        return CATCHUP_WINDOW_MAX_MS
    return min(max(other_ms - one_ms, CATCHUP_WINDOW_MIN_MS), CATCHUP_WINDOW_MAX_MS)
