"""What must hold after every entry of what makes jobs due and holds them back; see invariants.py."""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft.calendars import calendar_names, find_calendar
from horologe.raft.model import ExecutionState, JobFlag
from horologe.raft.pauses import Pauses
from horologe.raft.records import PAIR, U64, Execution, JobState
from horologe.raft.tables import Tables

_HELD_BACK = JobFlag.PAUSED | JobFlag.DELETED | JobFlag.PARKED


def check_schedules(tables: Tables, executions: dict[int, Execution], job_states: dict[int, JobState]) -> None:
    """Who is parked, who is due no more, and what still has a deadline."""
    parked = {PAIR.unpack(key): int(U64.unpack(value)[0]) for key, value in tables.parked.scan()}
    assert sorted(parked) == sorted(
        (state.namespace, job) for job, state in job_states.items() if state.flags & JobFlag.PARKED
    )
    assert all(parked.values()), "a job is parked at no due time"
    for job, state in job_states.items():
        story = f"job {job}: {state}"
        assert not state.flags & JobFlag.PARKED or not state.flags & (JobFlag.PAUSED | JobFlag.DELETED), story
        if state.flags & _HELD_BACK:
            assert state.next_due_ms == 0, story
            continue
        assert state.next_fire_ms >= state.next_due_ms, story
        is_over = 0 < state.max_executions <= state.scheduled
        if is_over:
            assert state.next_due_ms == 0 and state.scheduled >= state.max_executions, story
        elif state.fixed_delay_ms and not state.unfinished and not _may_be_closed(tables, job):
            assert state.next_due_ms, f"{story}: nothing will ever make it due"
    for number, execution in executions.items():
        if execution.deadline_ms:
            waits = execution.state in (ExecutionState.QUEUED, ExecutionState.SCHEDULED)
            assert waits and not execution.attempt, f"execution {number} has started, or ended: {execution}"


def _may_be_closed(tables: Tables, job: int) -> bool:
    """For ever, by an end or by calendars."""
    definition = log_pb2.JobRecord.FromString(tables.job.get(U64.pack(job)) or b"").job
    return definition.HasField("end_time") or bool(definition.calendars)


def check_pauses(tables: Tables) -> None:
    """A pause that is over is kept only while something is parked."""
    pauses = Pauses.load(tables)
    left = next(pauses.parked(tables), None)
    assert left is not None or not any(pause.resumed for pause in pauses.by_namespace.values()), pauses


def check_calendars(tables: Tables) -> None:
    """The uses are those of the definitions, and rest on no revision that is still to come."""
    uses = {PAIR.unpack(key): int(U64.unpack(value)[0]) for key, value in tables.calendar_use.scan()}
    wanted = {}
    for _, raw in tables.job.scan():
        record = log_pb2.JobRecord.FromString(bytes(raw))
        for name in () if record.deleted else calendar_names(record.job.name, record.job.calendars):
            calendar = find_calendar(tables, name)
            assert calendar is not None, f"{record.job.name} names {name}, which is not there"
            wanted[calendar.id, record.id] = calendar.revision
    assert uses.keys() == wanted.keys()
    assert all(uses[use] <= wanted[use] for use in uses), (uses, wanted)
