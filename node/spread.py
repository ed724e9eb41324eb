"""Other schedules for jobs that start together with many others: a hashed minute, a phase of their own, or jitter.

Each job gets a place that follows from its name, so that it stays there, and so that the places of many are even. What a job
means to its readers stays: the same hour, the same number of runs. Nothing here changes anything.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from horologe.log.v1 import log_pb2
from horologe.node import schedule, views
from horologe.node.cron import compile_rule
from horologe.node.cron_fields import uses_hash
from horologe.node.due_patterns import MINUTE_MS, Pattern, Window, cron_pattern, periodic, timetable_pattern
from horologe.node.forecast import Forecast, Group, schedules_text, spikes
from horologe.node.timetable import UNREADABLE, timetable_of
from horologe.raft.store import Store
from horologe.v1 import forecast_service_pb2, job_pb2
from horologe.v1.job_pb2 import CronSchedule, Job

CHANGES_DEFAULT: Final = 500
"""More than that nobody looks through; what is left is there to be proposed next time."""
CHANGES_MAX: Final = 10_000
SPIKES_MAX: Final = 50
"""Minutes that decide which schedules are looked at."""
JITTER_MS: Final = 10 * 60_000
"""What is late by so much is rarely missed, and ten minutes of starts make a spike a tenth as high."""
_MINUTES: Final = 60
_SECONDS_FIRST: Final = (CronSchedule.DIALECT_UNIX_SECONDS_FIRST, CronSchedule.DIALECT_QUARTZ)
_MACROS: Final = {
    "@hourly": "H * * * *",
    "@daily": "H 0 * * *",
    "@midnight": "H 0 * * *",
    "@weekly": "H 0 * * 0",
    "@monthly": "H 0 1 * *",
    "@yearly": "H 0 1 1 *",
    "@annually": "H 0 1 1 *",
}

ProposedChange = forecast_service_pb2.ProposedChange


@dataclass(slots=True)
class Proposal:
    """What could be changed, and what would come of it."""

    changes: list[ProposedChange] = field(default_factory=list)
    more_count: int = 0
    counts_after: array[int] = field(default_factory=lambda: array("q"))
    """Starts in each minute."""


def spread_of(job: Job) -> ProposedChange | None:
    """How a job could be moved away from the others; None if it stays. Its etag is the caller's business."""
    if len(job.schedules) != 1 or job.jitter.ToMilliseconds():
        return None
    moved = Job()
    moved.CopyFrom(job)
    one = moved.schedules[0]
    if one.HasField("interval"):
        every_ms, phase_ms = schedule.period_and_phase_ms(one.interval, job.name)
        one.interval.ClearField("phase")
        if every_ms <= MINUTE_MS or (every_ms, phase_ms) == schedule.period_and_phase_ms(one.interval, job.name):
            return None
        after = f"{schedule.describe(one)}, at a phase of its own"
    elif one.HasField("cron"):
        expression = hashed(one.cron)
        if expression:
            one.cron.expression = expression
        elif uses_hash(one.cron.expression) or _is_dense(one.cron):
            return None
        else:
            moved.jitter.FromMilliseconds(JITTER_MS)
        after = schedules_text(moved)
    else:
        return None
    change = ProposedChange(job=job.name, before=schedules_text(job), after=after)
    if moved.HasField("jitter"):
        change.jitter.CopyFrom(moved.jitter)
    else:
        change.schedules.extend(moved.schedules)
    return change


def hashed(cron: CronSchedule) -> str:
    """The expression with `H` in place of the minute; empty if that would change more than the minute."""
    text = cron.expression.strip().lower()
    if text in _MACROS:
        return _MACROS[text]
    fields = cron.expression.split()
    place = 1 if cron.dialect in _SECONDS_FIRST else 0
    if uses_hash(cron.expression) or len(fields) <= place:
        return ""
    fields[place] = _hashed_minute(fields[place])
    return " ".join(fields) if fields[place] else ""


def _hashed_minute(text: str) -> str:
    """`5` is `H`; what comes every quarter of an hour is `H/15`, however it is written."""
    if text.isdecimal():
        return "H"
    base, slash, step_text = text.partition("/")
    if slash and step_text.isdecimal() and (base in ("*", "") or base.isdecimal()):
        step, start = int(step_text), int(base) if base.isdecimal() else 0
        fits = step > 1 and _MINUTES % step == 0 and start < step
        return f"H/{step}" if fits else ""
    numbers = [int(each) for each in text.split(",") if each.isdecimal()]
    if len(numbers) != len(text.split(",")) or _MINUTES % len(numbers):
        return ""
    step = _MINUTES // len(numbers)
    is_even = sorted(numbers) == list(range(min(numbers), _MINUTES, step)) and step > 1
    return f"H/{step}" if is_even else ""


def _is_dense(cron: CronSchedule) -> bool:
    """Due in every minute of an hour, or several times in one: there is no quieter minute to go to."""
    clock = compile_rule(schedule.cron_rule(cron, ""))
    return len(clock.minutes) == _MINUTES or len(clock.seconds) > 1


class Spreading:
    """One proposal in the making, on top of a forecast."""

    def __init__(self, store: Store, forecast: Forecast, changes_max: int = CHANGES_DEFAULT) -> None:
        self._store = store
        self._changes_max = changes_max
        self._forecast = forecast
        self.proposal = Proposal(counts_after=array("q", forecast.counts))

    def work(self) -> Iterator[None]:
        """All of it, in small pieces; `proposal` is complete afterwards. If nothing is won it has no changes."""
        hot = spikes(self._forecast.counts)[:SPIKES_MAX]
        weighed: list[tuple[int, int]] = []
        for position, group in enumerate(self._forecast.groups):
            starts = group.count * sum(group.pattern.count_in(minute) for minute in hot)
            if starts:
                weighed.append((-starts, position))
            yield
        for _, position in sorted(weighed):
            yield from self._spread(self._forecast.groups[position])
        if _unevenness(self.proposal.counts_after) >= _unevenness(self._forecast.counts):
            self.proposal = Proposal(counts_after=array("q", self._forecast.counts))

    def _spread(self, group: Group) -> Iterator[None]:
        moved = 0
        for job in group.members:
            if len(self.proposal.changes) >= self._changes_max:
                break
            with self._store.read() as tables:
                record = views.read_job(tables, job)
            change = None if record is None or record.deleted else _change(record)
            if record is not None and change is not None:
                pattern = _pattern_after(record, change, self._forecast.window)
                if pattern is not None:
                    group.pattern.add_to(self.proposal.counts_after, -1)
                    pattern.add_to(self.proposal.counts_after, 1)
                    self.proposal.changes.append(change)
                    moved += 1
            elif not moved:
                return  # The others are scheduled alike.
            yield
        if moved or (group.members and self._could_move(group.members[0])):
            self.proposal.more_count += group.count - moved

    def _could_move(self, job: int) -> bool:
        with self._store.read() as tables:
            record = views.read_job(tables, job)
        return record is not None and not record.deleted and _change(record) is not None


def _change(record: log_pb2.JobRecord) -> ProposedChange | None:
    try:
        change = spread_of(record.job)
    except UNREADABLE:
        return None
    if change is not None:
        change.etag = str(record.revision)
    return change


def _pattern_after(record: log_pb2.JobRecord, change: ProposedChange, window: Window) -> Pattern | None:
    """How the job's starts would fall; calendars and bounds of such a job stay what they are, and count for little here."""
    moved = job_pb2.Job()
    moved.CopyFrom(record.job)
    if change.schedules:
        del moved.schedules[:]
        moved.schedules.extend(change.schedules)
        one = moved.schedules[0]
        if one.HasField("cron"):
            return cron_pattern(compile_rule(schedule.cron_rule(one.cron, moved.name)), window)
        every_ms, phase_ms = schedule.period_and_phase_ms(one.interval, moved.name)
        return periodic(every_ms, phase_ms, window)
    moved.jitter.CopyFrom(change.jitter)
    return timetable_pattern(timetable_of(moved, (), record.schedule_time_ms), window, 2_000)


def _unevenness(counts: array[int]) -> int:
    """The sum of squares: smaller for the same starts, the more even they are."""
    return sum(count * count for count in counts)
