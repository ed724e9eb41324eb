"""Calendars and who uses them. What a calendar excludes is computed by the proposers of due times; here it is only kept.

`calendar_use` says on which revision of each of its calendars a job's next due time rests. After a change the leader's planner
finds those that rest on an older one, and computes them anew, a few per entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from horologe.log.v1 import log_pb2
from horologe.raft.commands import REARM
from horologe.raft.model import Code, Result
from horologe.raft.records import PAIR, U64
from horologe.raft.state import State
from horologe.raft.tables import Tables


def set_calendar(state: State, command: log_pb2.SetCalendar) -> Result:
    """Creates or replaces it. Answers (calendar,)."""
    name = command.calendar.name
    record = find_calendar(state.tables, name)
    if command.expected_revision and (record is None or record.revision != command.expected_revision):
        return Result(Code.ETAG_MISMATCH, text=name)
    if record is None:
        state.counters.last_calendar += 1
        record = log_pb2.CalendarRecord(id=state.counters.last_calendar, create_time_ms=state.now_ms)
    elif record.calendar == command.calendar:
        return Result(Code.OK, (record.id,))
    record.calendar.CopyFrom(command.calendar)
    record.revision = state.index
    record.update_time_ms = state.now_ms
    state.tables.calendar.put(name.encode(), record.SerializeToString(deterministic=True))
    state.effects.calendars_changed.append(record.id)
    return Result(Code.OK, (record.id,))


def delete_calendar(state: State, command: log_pb2.DeleteCalendar) -> Result:
    """Refused while a job names it, because that job would be due at other times."""
    record = find_calendar(state.tables, command.name)
    if record is None:
        return Result(Code.CALENDAR_NOT_FOUND, text=command.name)
    if command.expected_revision and record.revision != command.expected_revision:
        return Result(Code.ETAG_MISMATCH, text=command.name)
    for job, _ in users_of(state.tables, record.id):
        raw = state.tables.job.get(U64.pack(job))
        user = log_pb2.JobRecord.FromString(bytes(raw or b"")).job.name
        return Result(Code.CALENDAR_IN_USE, (job,), user)
    state.tables.calendar.delete(command.name.encode())
    return Result(Code.OK)


def find_calendar(tables: Tables, name: str) -> log_pb2.CalendarRecord | None:
    raw = tables.calendar.get(name.encode())
    return None if raw is None else log_pb2.CalendarRecord.FromString(bytes(raw))


def calendar_names(job_name: str, ids: Sequence[str]) -> list[str]:
    """The full names of the calendars that a job names: those of its namespace."""
    namespace = job_name.rpartition("/jobs/")[0] or "namespaces/default"
    return [f"{namespace}/calendars/{each}" for each in ids]


def users_of(tables: Tables, calendar: int, from_job: int = 0) -> Iterator[tuple[int, int]]:
    """The jobs that name a calendar, by number, and the revision of it that each one's due time rests on."""
    for key, value in tables.calendar_use.scan(PAIR.pack(calendar, from_job)):
        owner, job = PAIR.unpack(key)
        if owner != calendar:
            return
        yield job, int(U64.unpack(value)[0])


def unknown_calendar(tables: Tables, job_name: str, ids: Sequence[str]) -> str:
    """The first name that there is no calendar of; empty if there is none."""
    return next((name for name in calendar_names(job_name, ids) if find_calendar(tables, name) is None), "")


def use_calendars(
    state: State, job: int, job_name: str, before: Sequence[str], after: Sequence[str], revisions: Sequence[int]
) -> None:
    """Notes which calendars a job names now, and the revisions that its proposer saw. All of them exist."""
    for name in calendar_names(job_name, before):
        record = find_calendar(state.tables, name)
        if record is not None:
            state.tables.calendar_use.delete(PAIR.pack(record.id, job))
    for position, name in enumerate(calendar_names(job_name, after)):
        record = find_calendar(state.tables, name)
        if record is not None:
            seen = revisions[position] if position < len(revisions) else 0
            state.tables.calendar_use.put(PAIR.pack(record.id, job), U64.pack(seen))
            if seen != record.revision:
                state.effects.calendars_changed.append(record.id)


def rearm(state: State, records: bytes) -> None:
    """Gives jobs other next due times. One that has moved on since keeps its own, which is computed as it moves on."""
    for job, revision, due_ms, next_ms, next_fire_ms, calendar, calendar_revision in REARM.iter_unpack(records):
        job_state = state.job_state(job)
        if job_state is None or job_state.revision != revision:
            continue
        key = PAIR.pack(calendar, job)
        if calendar and state.tables.calendar_use.get(key) is not None:
            state.tables.calendar_use.put(key, U64.pack(calendar_revision))
        if job_state.next_due_ms == due_ms and (next_ms, next_fire_ms) != (due_ms, job_state.next_fire_ms):
            state.arm_fire(job, job_state, next_ms, next_fire_ms)
            state.put_job_state(job, job_state)
