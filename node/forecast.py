"""The load of the hours ahead, from the schedules of all jobs: a survey of the state, in pieces so small that nobody waits.

A survey reads the jobs once, sorts them into groups whose starts fall alike, and lays out each group once, however many jobs are
in it. It is for whoever calls `work` to say how fast that goes. How starts fall is in `due_patterns`, what could be done about
spikes in `spread`, who asks and what is kept in `forecast_service`.

Not foreseen are manual runs, retries, backfills, catch-up, and what policies make of a due time (overlap, limits, deadlines).
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

from horologe.log.v1 import log_pb2
from horologe.node import cron_sentence, schedule, views
from horologe.node.calendars import exclusions_of
from horologe.node.cron import compile_rule
from horologe.node.cron_fields import uses_hash
from horologe.node.due_patterns import Listed, Pattern, Window, cron_pattern, periodic, timetable_pattern
from horologe.node.timetable import UNREADABLE, Timetable, timetable_of
from horologe.raft.model import JobFlag
from horologe.raft.pauses import Pauses
from horologe.raft.records import U64, JobState
from horologe.raft.store import Store
from horologe.raft.tables import Tables
from horologe.v1 import forecast_service_pb2
from horologe.v1.job_pb2 import Job, Schedule

JOBS_PER_PIECE: Final = 50
"""One read of the state; some 10 us each."""
LOOKS_PER_PIECE: Final = 200
"""Some 20 us each."""
LOOKS_MAX: Final = 1_000_000
"""Due times that are looked at one by one, for all jobs together: half a minute's work. What is shared or periodic needs none."""
LOOKS_PER_JOB_MAX: Final = 100_000
"""A day of one due time each second."""
MEMBERS_MAX: Final = 1_000
"""Jobs of one group that are remembered by number, to be named or changed; more are only counted."""
SPIKE_RATIO: Final = 2
"""A minute with so many times the average is a spike."""

Reason = forecast_service_pb2.LeftOut.Reason
LeftOut = forecast_service_pb2.LeftOut


@dataclass(slots=True)
class Group:
    """Jobs whose starts fall alike, and whose schedule reads alike."""

    text: str
    pattern: Pattern
    count: int = 0
    members: array[int] = field(default_factory=lambda: array("Q"))
    """Numbers of the first of them."""

    def add(self, job: int) -> None:
        self.count += 1
        if self.count <= MEMBERS_MAX:
            self.members.append(job)


class Cause(NamedTuple):
    """What a group brings to a span of minutes."""

    group: Group
    start_count: int


@dataclass(slots=True)
class Forecast:
    """What was found."""

    window: Window
    compute_ms: int
    revision: int = 0
    counts: array[int] = field(default_factory=lambda: array("q"))
    """Starts in each minute."""
    groups: list[Group] = field(default_factory=list)
    left_out: Counter[Reason.ValueType] = field(default_factory=Counter)
    job_count: int = 0

    def steps(self, minutes: int, step_count: int) -> list[int]:
        """Starts in each step of so many minutes."""
        return sums(self.counts, minutes, step_count)


def sums(counts: Sequence[int], minutes: int, step_count: int) -> list[int]:
    """Of each step of so many minutes."""
    return [sum(counts[step * minutes : (step + 1) * minutes]) for step in range(step_count)]


def spikes(counts: Sequence[int]) -> list[int]:
    """The steps that stand out, the largest first."""
    average = sum(counts) / max(1, len(counts))
    high = [step for step, count in enumerate(counts) if count >= 2 and count >= SPIKE_RATIO * average]
    return sorted(high, key=lambda step: (-counts[step], step))


def causes(forecast: Forecast, minutes: range, count: int) -> Iterator[list[Cause] | None]:
    """Who starts the most in these minutes. None while it is being found out, then the answer."""
    best: list[Cause] = []
    for position, group in enumerate(forecast.groups):
        starts = group.count * sum(group.pattern.count_in(minute) for minute in minutes)
        if starts and (len(best) < count or starts > best[-1].start_count):
            best.append(Cause(group, starts))
            best.sort(key=lambda cause: (-cause.start_count, cause.group.text))
            del best[count:]
        if position % 100 == 0:
            yield None
    yield best


class Survey:
    """One forecast in the making."""

    def __init__(self, store: Store, namespace: str, window: Window, now_ms: int) -> None:
        """`namespace`: its id; empty: all. `now_ms` is not after the window's beginning."""
        self._store = store
        self._namespace = namespace
        self._now_ms = now_ms
        self._groups: dict[Hashable, Group] = {}
        self._looks_left = LOOKS_MAX
        self._pauses = Pauses()
        self.forecast = Forecast(window, now_ms, counts=array("q", [0]) * window.minutes)

    def work(self) -> Iterator[None]:
        """All of it, in small pieces; `forecast` is complete afterwards."""
        start: bytes | None = b""
        wanted = self._begin()
        while start is not None:
            start = self._survey_some(start, wanted)
            yield
        for group in self._groups.values():
            group.pattern.add_to(self.forecast.counts, group.count)
            yield
        self.forecast.groups = list(self._groups.values())

    def _begin(self) -> int | None:
        """The number of the namespace; None: all of them."""
        with self._store.read() as tables:
            self.forecast.revision = views.revision(tables)
            self._pauses = Pauses.load(tables)
            if not self._namespace:
                return None
            raw = tables.namespace.get(self._namespace.encode())
            return 0 if raw is None else log_pb2.NamespaceRecord.FromString(bytes(raw)).id

    def _survey_some(self, start: bytes, wanted: int | None) -> bytes | None:
        """Reads some jobs, and answers where the next ones begin; None at the end."""
        enough = self._looks_left - LOOKS_PER_PIECE
        with self._store.read() as tables:
            rows = tables.job_state.scan(start)
            for key, raw in islice(rows, JOBS_PER_PIECE):
                if self._looks_left < enough:
                    return bytes(key)
                state = JobState.unpack(raw)
                if (wanted is None or state.namespace == wanted) and not state.flags & JobFlag.DELETED:
                    self._take(tables, int(U64.unpack(key)[0]), state)
            after = next(rows, None)
            return None if after is None else bytes(after[0])

    def _take(self, tables: Tables, job: int, state: JobState) -> None:
        if state.flags & JobFlag.PAUSED or self._pauses.in_force(state.namespace) is not None:
            self._leave_out(LeftOut.REASON_PAUSED)
            return
        if state.every_ms and state.next_due_ms and not state.max_executions:
            pattern = periodic(state.every_ms, state.next_due_ms, self.forecast.window)
            self._add(pattern, f"every {cron_sentence.duration_text(state.every_ms)}", pattern, job)
            return
        record = views.read_job(tables, job)
        if record is None or record.deleted:
            return
        try:
            self._take_definition(tables, job, state, record)
        except UNREADABLE:
            self._leave_out(LeftOut.REASON_UNREADABLE)

    def _take_definition(self, tables: Tables, job: int, state: JobState, record: log_pb2.JobRecord) -> None:
        kinds = {each.WhichOneof("kind") for each in record.job.schedules}
        if kinds <= {"manual", "after"}:
            depends = "after" in kinds or record.job.workflow
            self._leave_out(LeftOut.REASON_AFTER_OTHERS if depends else LeftOut.REASON_ON_REQUEST)
            return
        if state.fixed_delay_ms:
            # Only the next one is known, and the others follow from ends that nobody can foresee.
            self._leave_out(LeftOut.REASON_AFTER_THEIR_END)
            window = self.forecast.window
            if window.start_ms <= state.next_fire_ms < window.end_ms:
                self._add_listed([window.minute_of(state.next_fire_ms)], schedules_text(record.job), job)
            return
        if not state.next_due_ms and not state.flags & JobFlag.PARKED:
            return  # It is over.
        if state.max_executions:
            self._take_counted(tables, job, state, record)
        elif _is_plain_cron(record.job, self.forecast.window):
            rule = schedule.cron_rule(record.job.schedules[0].cron, record.job.name)
            clock, text = compile_rule(rule), schedules_text(record.job)
            key = ("cron", text, clock)
            pattern = None if key in self._groups else cron_pattern(clock, self.forecast.window)
            self._add(key, text, pattern, job)
        else:
            self._take_timetable(tables, job, record)

    def _take_timetable(self, tables: Tables, job: int, record: log_pb2.JobRecord) -> None:
        """Whatever has jitter, bounds, calendars or several schedules."""
        timetable = timetable_of(record.job, exclusions_of(tables, record.job), record.schedule_time_ms)
        key = _shared_key(record.job)
        if key is None or key not in self._groups:
            pattern = self._look(timetable)
            if pattern is None and timetable.jitter_ms:
                self._take_without_jitter(tables, job, record)
                return
            if pattern is None:
                self._leave_out(LeftOut.REASON_TOO_MANY_DUE_TIMES)
                return
            self._add(("job", job) if key is None else key, schedules_text(record.job), pattern, job)
            return
        self._add(key, schedules_text(record.job), None, job)

    def _take_without_jitter(self, tables: Tables, job: int, record: log_pb2.JobRecord) -> None:
        """Too many jobs have jitter to work out each: their due times may still be those of others."""
        plain = log_pb2.JobRecord()
        plain.CopyFrom(record)
        plain.job.ClearField("jitter")
        self._leave_out(LeftOut.REASON_JITTER)
        if _is_plain_cron(plain.job, self.forecast.window):
            rule = schedule.cron_rule(plain.job.schedules[0].cron, plain.job.name)
            clock, text = compile_rule(rule), schedules_text(record.job)
            key = ("cron", text, clock)
            self._add(key, text, None if key in self._groups else cron_pattern(clock, self.forecast.window), job)
        elif len(plain.job.schedules) == 1 and plain.job.schedules[0].HasField("interval"):
            every_ms, phase_ms = schedule.period_and_phase_ms(plain.job.schedules[0].interval, plain.job.name)
            pattern = periodic(every_ms, phase_ms, self.forecast.window)
            self._add(("jitter", pattern), schedules_text(record.job), pattern, job)

    def _take_counted(self, tables: Tables, job: int, state: JobState, record: log_pb2.JobRecord) -> None:
        """A job that ends after so many executions: those that are left, from its next due time on."""
        window = self.forecast.window
        timetable = timetable_of(record.job, exclusions_of(tables, record.job), record.schedule_time_ms)
        left = max(0, state.max_executions - state.scheduled)
        due_ms: int | None = state.next_due_ms or timetable.next_after(self._now_ms)
        minutes: list[int] = []
        while due_ms is not None and due_ms < window.end_ms and left:
            if len(minutes) >= min(LOOKS_PER_JOB_MAX, self._looks_left):
                self._leave_out(LeftOut.REASON_TOO_MANY_DUE_TIMES)
                return
            minutes.append(window.minute_of(timetable.fire_ms(due_ms)))
            due_ms, left = timetable.next_after(due_ms), left - 1
        self._looks_left -= len(minutes)
        inside = sorted(minute for minute in minutes if 0 <= minute < window.minutes)
        self._add_listed(inside, schedules_text(record.job), job)

    def _look(self, timetable: Timetable) -> Listed | None:
        """Enumerates, as long as there is patience left."""
        looks = min(LOOKS_PER_JOB_MAX, self._looks_left)
        pattern = timetable_pattern(timetable, self.forecast.window, looks)
        self._looks_left -= looks if pattern is None else len(pattern.minutes)
        return pattern

    def _add_listed(self, minutes: list[int], text: str, job: int) -> None:
        self._add(("job", job), text, Listed(array("H", minutes)), job)

    def _add(self, key: Hashable, text: str, pattern: Pattern | None, job: int) -> None:
        """Into its group; `pattern` may be left out if there is one."""
        group = self._groups.get(key)
        if group is None:
            assert pattern is not None, "a new group has a pattern"
            group = self._groups[key] = Group(text, pattern)
        group.add(job)
        self.forecast.job_count += 1

    def _leave_out(self, reason: Reason.ValueType) -> None:
        self.forecast.left_out[reason] += 1


def _is_plain_cron(job: Job, window: Window) -> bool:
    """Whether one cron expression is all that decides over the job's starts in the window."""
    if len(job.schedules) != 1 or not job.schedules[0].HasField("cron") or job.calendars or job.jitter.ToMilliseconds():
        return False
    return not (
        (job.HasField("start_time") and job.start_time.ToMilliseconds() > window.start_ms)
        or (job.HasField("end_time") and job.end_time.ToMilliseconds() < window.end_ms)
    )


def _shared_key(job: Job) -> Hashable | None:
    """The same for all jobs whose starts fall alike; None if they follow from the job's name."""
    if job.jitter.ToMilliseconds() or any(_follows_name(each) for each in job.schedules):
        return None
    decides = Job(
        schedules=job.schedules,
        calendars=job.calendars,
        on_exclusion=job.on_exclusion,
        name=job.name.rpartition("/")[0] if job.calendars else "",
    )
    for bound in ("start_time", "end_time"):
        if job.HasField(bound):
            getattr(decides, bound).CopyFrom(getattr(job, bound))
    return decides.SerializeToString(deterministic=True)


def _follows_name(one: Schedule) -> bool:
    if one.HasField("interval"):
        return not one.interval.HasField("phase")
    return one.HasField("cron") and uses_hash(one.cron.expression)


def schedules_text(job: Job) -> str:
    """All schedules of a job as people write them, and its jitter."""
    text = " | ".join(schedule_text(each) for each in job.schedules)
    jitter_ms = job.jitter.ToMilliseconds()
    return f"{text}, within {cron_sentence.duration_text(jitter_ms)}" if jitter_ms else text


def schedule_text(one: Schedule) -> str:
    """For example `0 2 * * * Europe/Berlin`, or `every 5 minutes`."""
    if one.HasField("cron"):
        zone = "" if one.cron.time_zone in ("", "UTC") else f" {one.cron.time_zone}"
        return f"{one.cron.expression}{zone}"
    return schedule.describe(one)
