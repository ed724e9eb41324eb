"""The words of scenario files about when jobs are due: schedules, bounds, calendars, pauses; see world.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from horologe.log.v1 import log_pb2
from horologe.node.calendars import exclusions_of, revisions_of
from horologe.node.drafts import first_due_ms
from horologe.node.pending import read_pending
from horologe.node.timetable import timetable_of
from horologe.raft.jobs import same_timetable
from horologe.raft.model import JobFlag, Result
from horologe.v1 import job_pb2
from horologe.v1.calendar_pb2 import Calendar
from support import commands
from support.driver import START_MS, Driver
from support.spans import ms_of, time_of

if TYPE_CHECKING:

    class Base:
        """What World brings."""

        _driver: Driver

        def _apply(self, command: log_pb2.Command) -> Result: ...
        def _do(self, command: log_pb2.Command) -> str: ...
        def _job(self, name: str) -> int: ...

else:
    Base = object

_SPANS = ("jitter", "deadline")
_INSTANTS = ("start_time", "end_time")
_NUMBERS = ("max_executions", "catchup_max", "delete_when_finished")
TIMETABLE_FIELDS = (*_SPANS, *_INSTANTS, *_NUMBERS, "fixed_delay", "once", "calendars", "on_exclusion")


class TimetableWords(Base):
    """Command words, as in World. Instants count from the start of the story."""

    def calendar(self, name: str, *hours: str) -> str:
        """Covers these hours of every day, such as `01:00-02:30`, in UTC; the story begins at midnight."""
        calendar = Calendar(name=f"namespaces/default/calendars/{name}", time_zone="UTC")
        for span in hours:
            start, _, end = span.partition("-")
            setattr(calendar.hours.add(to=end), "from", start)
        return self._do(log_pb2.Command(set_calendar=log_pb2.SetCalendar(calendar=calendar)))

    def delete_calendar(self, name: str) -> str:
        command = log_pb2.DeleteCalendar(name=f"namespaces/default/calendars/{name}")
        return self._do(log_pb2.Command(delete_calendar=command))

    def delete(self, name: str, what: str = "") -> str:
        command = commands.delete(name, cancel_running=what == "cancel")
        if self._driver.tables.job_name.get(name.encode()) is None:
            return self._do(command)
        pending = read_pending(self._driver.tables, self._driver.job(self._job(name)))
        command.delete_job.pending.CopyFrom(pending.count(self._driver.now_ms))
        return self._do(command)

    def due(self, name: str) -> str:
        """When a job is due next, and since when it is parked."""
        job = self._job(name)
        record, state = self._driver.job(job), self._driver.job_state(job)
        first_ms = read_pending(self._driver.tables, record).first_ms
        if state.flags & (JobFlag.PARKED | JobFlag.PAUSED):
            return f"held back since {time_of(first_ms - START_MS)}" if first_ms else "paused"
        if not state.next_due_ms:
            return "not due any more"
        text = f"due at {time_of(state.next_due_ms - START_MS)}"
        delay_ms = state.next_fire_ms - state.next_due_ms
        return f"{text}, fires {time_of(delay_ms)} later" if delay_ms else text

    def pause(self, name: str) -> str:
        return self._do(commands.pause(name))

    def resume(self, name: str, how: str = "") -> str:
        pending = read_pending(self._driver.tables, self._driver.job(self._job(name)))
        command = pending.resume(self._driver.now_ms, catchup=how == "catchup")
        command.expected_revision = 0
        return self._do(log_pb2.Command(pause_job=command))

    def pause_namespace(self, name: str, reason: str = "") -> str:
        return self._do(commands.pause_scope(name, reason=reason))

    def resume_namespace(self, name: str, how: str = "") -> str:
        return self._do(commands.resume_scope(name, catchup=how == "catchup"))

    def pause_cluster(self, reason: str = "") -> str:
        return self._do(commands.pause_scope(reason=reason))

    def resume_cluster(self, how: str = "") -> str:
        return self._do(commands.resume_scope(catchup=how == "catchup"))

    # Below the words

    def _draft(self, job: job_pb2.Job) -> log_pb2.JobDraft:
        return draft_of(self._driver, job, self._driver.now_ms)


def draft_of(driver: Driver, job: job_pb2.Job, now_ms: int) -> log_pb2.JobDraft:
    """A definition as a service proposes it at a time of its clock."""
    tables = driver.tables
    key = tables.job_name.get(job.name.encode())
    record = None if key is None else driver.job(int.from_bytes(key, "big"))
    timetable = timetable_of(job, exclusions_of(tables, job), now_ms)
    draft = commands.draft(job, first_due_ms(tables, timetable, record, now_ms))
    draft.next_fire_ms = timetable.fire_ms(draft.next_due_ms) if draft.next_due_ms else 0
    draft.calendar_revisions.extend(revisions_of(tables, job))
    if record is not None and not same_timetable(record.job, job):
        draft.pending.CopyFrom(read_pending(tables, record).count(now_ms))
    return draft


def set_times(job: job_pb2.Job, fields: dict[str, str]) -> None:
    """Writes the fields of TIMETABLE_FIELDS into a definition."""
    if ("once" in fields or "fixed_delay" in fields) and job.schedules[0].HasField("manual"):
        del job.schedules[:]
    for field, value in fields.items():
        if field in _SPANS:
            getattr(job, field).FromMilliseconds(ms_of(value))
        elif field in _INSTANTS:
            getattr(job, field).FromMilliseconds(START_MS + ms_of(value))
        elif field in _NUMBERS:
            setattr(job, field, int(value))
        elif field == "once":
            for each in value.split(","):
                job.schedules.add().once.time.FromMilliseconds(START_MS + ms_of(each))
        elif field == "fixed_delay":
            job.schedules.add().fixed_delay.delay.FromMilliseconds(ms_of(value))
        elif field == "calendars":
            job.calendars.extend(value.split(","))
        else:
            job.on_exclusion = job_pb2.ExclusionPolicy.Value(f"EXCLUSION_POLICY_{value.upper()}")
