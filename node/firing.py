"""What a due time becomes: the records of a plan that fire jobs, with the catch-up policy applied to what was missed.

Here belongs what needs the timetable of a job. When to look, and who runs the execution, is the planner's business.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import structlog

from horologe.log.v1 import log_pb2
from horologe.node.calendars import exclusions_of
from horologe.node.catalog import Catalog
from horologe.node.missed import Missed
from horologe.node.schedule import timestamp_ms
from horologe.node.timetable import UNREADABLE, PlainInterval, Timetable, timetable_of
from horologe.raft.calendars import users_of
from horologe.raft.commands import FIRE, PARK_ONLY, REARM, UNPARK, MissedFate
from horologe.raft.model import Catchup, Counters, JobFlag
from horologe.raft.pauses import Pauses
from horologe.raft.records import U64, JobState
from horologe.raft.tables import Tables
from horologe.v1.job_pb2 import Job

ON_TIME_MS = 5_000
"""A due time up to this old is merely late and fires by itself; with an older one the job has missed due times, and its
catch-up policy decides over all that have come up. 5 s is what users of schedulers call on time."""
LOOKS_PER_PLAN = 500
"""Due times that one plan enumerates, for all jobs together; the next plan goes on. Enumerating one takes some 40 us, and plans
are made inside the step."""
RUNS_PER_JOB = 200
"""Due times of one job that one plan fires when all that were missed are to run."""
WORKFLOWS_PER_PLAN = 10
"""Each may start a thousand executions in the entry that fires it; the next plan goes on."""
UNPARKS_PER_PLAN = 500
CALENDARS_PER_PLAN = 500
USERS_PER_PLAN = 500
"""Jobs whose calendars one plan looks at after one of them has changed."""
PUT_OFF_MS = 60_000
"""When a job is looked at again whose timetable this node cannot read."""

log = structlog.get_logger(__name__)

Take = Callable[[int], int]
"""Reserves a slot for a queue and answers its session, or 0."""


class Firing:
    """Makes FIRE, UNPARK and REARM records; see commands.py."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._budget = LOOKS_PER_PLAN
        self._workflows = WORKFLOWS_PER_PLAN
        self._counts: dict[int, Missed] = {}
        self._counted: dict[int, Missed] = {}
        """Jobs whose missed due times are being counted: as of the last plan, and in this one."""
        self._pauses = Pauses()
        self._calendars: dict[int, int] = {}
        """Calendars that have changed, and the job from which on their users are to be looked at."""
        self._revisions: dict[int, int] = {}
        """Of all calendars; empty when they are to be read again."""
        self.rearms = bytearray()

    @property
    def waiting_count(self) -> int:
        """Jobs whose timers have run out, and that must wait for later plans: they shall not stand in the way of others."""
        return len(self._counts)

    def lead(self, tables: Tables) -> None:
        """Whoever led before may not have got to the end: all calendars are looked at once."""
        self._revisions = _revisions(tables)
        self._calendars = dict.fromkeys(self._revisions, 0)

    def calendar_changed(self, calendar: int) -> None:
        self._calendars[calendar] = 0
        self._revisions = {}

    def begin_plan(self, tables: Tables) -> None:
        self._budget = LOOKS_PER_PLAN
        self._workflows = WORKFLOWS_PER_PLAN
        self._counts, self._counted = self._counted, {}
        self._pauses = Pauses.load(tables)
        self.rearms = bytearray()

    # Due times

    def record(self, tables: Tables, job: int, state: JobState, wall_ms: int, take: Take) -> bytes:
        """The records for a job whose due time has come; empty if it must wait for the next plan.

        A job that this node cannot read (its time zones are older than those of the node that took the job) holds up nobody: its
        due time stays as it is, and is looked at again later, by whoever leads then.
        """
        try:
            return self._record(tables, job, state, wall_ms, take)
        except UNREADABLE as error:
            # The other jobs have nothing to do with it.
            _complain(job, error)
            put_off_ms = wall_ms + PUT_OFF_MS
            self.rearms += REARM.pack(job, state.revision, state.next_due_ms, state.next_due_ms, put_off_ms, 0, 0)
            return b""

    def _record(self, tables: Tables, job: int, state: JobState, wall_ms: int, take: Take) -> bytes:
        due_ms = state.next_due_ms
        if self._pauses.in_force(state.namespace) is not None:
            return FIRE.pack(job, state.revision, due_ms, 0, 0, 0, 0, 0, 0, 0, PARK_ONLY)
        if state.flags & JobFlag.WORKFLOW:
            if self._workflows <= 0:
                return b""
            self._workflows -= 1
            take = _no_slot
        is_late = wall_ms - state.next_fire_ms > ON_TIME_MS
        if state.every_ms and not is_late:
            next_ms = due_ms + state.every_ms
            return FIRE.pack(job, state.revision, due_ms, next_ms, next_ms, take(state.queue), 0, 0, 0, 0, 1)
        if self._budget <= 0 and self._goes_on_waiting(job, state):
            return b""
        record = self._catalog.record(tables, job, state.revision)
        if record is None:
            return b""
        # A one-time schedule may lie in the past on purpose: it is not missed.
        is_missed = is_late and due_ms > record.schedule_time_ms
        if _is_the_only_one(record.job, due_ms) and not (is_missed and _fate_of_missed(state, wall_ms)[1]):
            return FIRE.pack(job, state.revision, due_ms, 0, 0, take(state.queue), 0, 0, 0, 0, 1)
        if is_missed and state.every_ms:
            return self._late(job, state, PlainInterval(due_ms, state.every_ms), wall_ms, take)
        timetable = _timetable(tables, record)
        if state.fixed_delay_ms:
            open_ms = timetable.opening(due_ms)
            if open_ms != due_ms:
                # What follows the end of an execution knows neither bounds nor calendars until it comes up.
                self.rearms += REARM.pack(job, state.revision, due_ms, open_ms or 0, open_ms or 0, 0, 0)
                return b""
        if is_missed:
            return self._late(job, state, timetable, wall_ms, take)
        next_ms, fire_ms = _next(timetable, due_ms)
        return FIRE.pack(job, state.revision, due_ms, next_ms, fire_ms, take(state.queue), 0, 0, 0, 0, 1)

    def _late(self, job: int, state: JobState, timetable: Timetable | PlainInterval, wall_ms: int, take: Take) -> bytes:
        """Due times were missed: the cluster was down, or far behind. The job's policy decides."""
        until_ms, fate = _fate_of_missed(state, wall_ms)
        missed = self._count(job, state, timetable, until_ms, fate)
        if missed is None:
            return b""
        next_ms, fire_ms = (missed.next_ms, timetable.fire_ms(missed.next_ms)) if missed.next_ms else (0, 0)
        first_ms, last_ms = missed.pending_ms, missed.last_ms
        head = job, state.revision
        if missed.fate:
            return FIRE.pack(*head, 0, next_ms, fire_ms, 0, first_ms, last_ms, missed.count, missed.fate, 0)
        if state.catchup == Catchup.ALL:
            return self._all(head, state, missed, (next_ms, fire_ms), take)
        session = take(state.queue)
        if missed.count == 1:
            return FIRE.pack(*head, last_ms, next_ms, fire_ms, session, 0, 0, 0, 0, 1)
        if state.catchup == Catchup.EARLIEST:
            rest = timetable.next_after(first_ms) or last_ms, last_ms, missed.count - 1, MissedFate.COALESCED_EARLIEST
            return FIRE.pack(*head, first_ms, next_ms, fire_ms, session, *rest, 1)
        rest = first_ms, missed.latest[-2], missed.count - 1, MissedFate.COALESCED
        return FIRE.pack(*head, last_ms, next_ms, fire_ms, session, *rest, 1)

    def _all(
        self, head: tuple[int, int], state: JobState, missed: Missed, following: tuple[int, int], take: Take
    ) -> bytes:
        """Each runs, the last `catchup_max` of them; the first of those takes the older ones along, which are over."""
        runs = list(missed.latest)[-_runs_at_most(state) :]
        older = missed.count - len(runs)
        rest = (0, 0, 0, MissedFate.NONE)
        if older:
            rest = missed.pending_ms, missed.latest[-len(runs) - 1], older, MissedFate.MISSED_CATCHUP_MAX
        records = bytearray()
        for position, due_ms in enumerate(runs[:RUNS_PER_JOB]):
            then = (runs[position + 1], runs[position + 1]) if position + 1 < len(runs) else following
            records += FIRE.pack(*head, due_ms, *then, take(state.queue), *rest, 1)
            rest = (0, 0, 0, MissedFate.NONE)
        return bytes(records)

    def _count(
        self,
        job: int,
        state: JobState,
        timetable: Timetable | PlainInterval,
        until_ms: int,
        fate: MissedFate = MissedFate.NONE,
    ) -> Missed | None:
        """All that was missed from the pending due time to `until_ms`, as of the plan that began to count; None: not yet."""
        missed = self._begun_count(job, state)
        if missed is None:
            kept = _runs_at_most(state) + 1 if state.catchup == Catchup.ALL else 0
            missed = Missed(state.revision, state.next_due_ms, until_ms, fate, kept)
        self._budget -= missed.go_on(timetable, self._budget)
        if not missed.is_complete:
            self._counted[job] = missed
            return None
        return missed

    def _begun_count(self, job: int, state: JobState) -> Missed | None:
        """What the plan before has counted of it, if that is still what is to be counted."""
        missed = self._counts.get(job)
        is_valid = missed is not None and (missed.revision, missed.pending_ms) == (state.revision, state.next_due_ms)
        return missed if is_valid else None

    def _goes_on_waiting(self, job: int, state: JobState) -> bool:
        """A job whose due times are being counted, in a plan that looks at no more of them: it is not even read."""
        missed = self._begun_count(job, state)
        if missed is not None:
            self._counted[job] = missed
        return missed is not None

    # Pauses and calendars

    def unparks(self, tables: Tables, wall_ms: int) -> bytes:
        """Jobs that were parked during a pause that is over."""
        records = bytearray()
        for count, (job, parked_ms) in enumerate(self._pauses.parked(tables)):
            if count >= UNPARKS_PER_PLAN or self._budget <= 0:
                break
            try:
                records += self._unpark(tables, job, parked_ms, wall_ms)
            except UNREADABLE as error:
                # It stays parked, and the others go on.
                _complain(job, error)
        return bytes(records)

    def _unpark(self, tables: Tables, job: int, parked_ms: int, wall_ms: int) -> bytes:
        """Empty while it cannot be said yet, or if the job is gone."""
        raw = tables.job_state.get(U64.pack(job))
        state = None if raw is None else JobState.unpack(raw)
        record = None if state is None else self._catalog.record(tables, job, state.revision)
        if state is None or record is None:
            return b""
        if self._pauses.catches_up(state.namespace):
            return UNPARK.pack(job, state.revision, parked_ms, parked_ms, 0, 0)
        timetable = _timetable(tables, record)
        state.next_due_ms = parked_ms
        missed = self._count(job, state, timetable, max(wall_ms, parked_ms))
        if missed is None:
            return b""
        next_ms, fire_ms = (missed.next_ms, timetable.fire_ms(missed.next_ms)) if missed.next_ms else (0, 0)
        return UNPARK.pack(job, state.revision, next_ms, fire_ms, missed.count, missed.last_ms)

    def recompute(self, tables: Tables, wall_ms: int) -> None:
        """Adds to `rearms` the jobs whose next due time rests on an older revision of a calendar."""
        if not self._calendars:
            return
        self._revisions = self._revisions or _revisions(tables)
        now_ms = max(wall_ms, Counters.load(tables).log_time_ms)
        looks = USERS_PER_PLAN
        for calendar, from_job in list(islice(self._calendars.items(), CALENDARS_PER_PLAN)):
            revision = self._revisions.get(calendar, 0)
            for job, seen in users_of(tables, calendar, from_job):
                if looks <= 0 or self._budget <= 0:
                    self._calendars[calendar] = job
                    return
                looks -= 1
                if seen != revision:
                    self.rearms += self._rearm(tables, job, now_ms, (calendar, revision))
            del self._calendars[calendar]

    def _rearm(self, tables: Tables, job: int, now_ms: int, calendar: tuple[int, int]) -> bytes:
        raw = tables.job_state.get(U64.pack(job))
        state = None if raw is None else JobState.unpack(raw)
        record = None if state is None else self._catalog.record(tables, job, state.revision)
        if state is None or record is None:
            return b""
        due_ms = state.next_due_ms
        follows_ends = state.fixed_delay_ms and len(record.job.schedules) == 1
        stays = follows_ends or 0 < due_ms <= now_ms or state.flags & (JobFlag.PAUSED | JobFlag.PARKED)
        if stays:
            # It has come up already, or is looked at when it does, or when the pause is over.
            return REARM.pack(job, state.revision, due_ms, due_ms, state.next_fire_ms, *calendar)
        self._budget -= 1
        try:
            next_ms, fire_ms = _next(_timetable(tables, record), now_ms)
        except UNREADABLE as error:
            # It is looked at when its due time comes.
            _complain(job, error)
            next_ms, fire_ms = due_ms, state.next_fire_ms
        return REARM.pack(job, state.revision, due_ms, next_ms, fire_ms, *calendar)


def _fate_of_missed(state: JobState, wall_ms: int) -> tuple[int, MissedFate]:
    """Until when due times were missed, and what becomes of all of them, if that is known before they are counted."""
    window_from_ms = wall_ms - state.catchup_window_ms
    if state.catchup == Catchup.SKIP:
        return wall_ms - ON_TIME_MS, MissedFate.MISSED_CATCHUP_SKIP
    if state.next_due_ms < window_from_ms:
        return window_from_ms - 1, MissedFate.MISSED_CATCHUP_WINDOW
    return wall_ms, MissedFate.NONE


def _is_the_only_one(job: Job, due_ms: int) -> bool:
    """Whether the schedule names one instant, which has come: then nothing has to be looked up in a timetable.

    That is what a burst of jobs looks like, so it must not cost much, nor wait for anybody's due times to be counted.
    """
    if len(job.schedules) != 1 or job.calendars:
        return False
    one = job.schedules[0]
    return one.WhichOneof("kind") == "once" and timestamp_ms(one.once.time) <= due_ms


def _complain(job: int, error: Exception) -> None:
    log.error("cannot tell when a job is due", job=job, error=str(error))


def _runs_at_most(state: JobState) -> int:
    """Of what was missed; services write the default out, and a log may hold what no service wrote."""
    return max(state.catchup_max, 1)


def _no_slot(queue: int) -> int:
    """No worker runs a workflow."""
    del queue
    return 0


def _timetable(tables: Tables, record: log_pb2.JobRecord) -> Timetable:
    return timetable_of(record.job, exclusions_of(tables, record.job), record.schedule_time_ms)


def _revisions(tables: Tables) -> dict[int, int]:
    """The revision of each calendar, by its number."""
    records = (log_pb2.CalendarRecord.FromString(bytes(raw)) for _, raw in tables.calendar.scan())
    return {record.id: record.revision for record in records}


def _next(timetable: Timetable, after_ms: int) -> tuple[int, int]:
    """The first due time after an instant, and when it fires; zeros if there is none."""
    due_ms = timetable.next_after(after_ms)
    return (0, 0) if due_ms is None else (due_ms, timetable.fire_ms(due_ms))
