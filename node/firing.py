"""What a due time becomes: the records of a plan that fire jobs, with the catch-up policy applied to what was missed.

Here belongs what needs the definition of a schedule. When to look, and who runs the execution, is the planner's business.
"""

from __future__ import annotations

from collections.abc import Callable

from horologe.log.v1 import log_pb2
from horologe.node.catalog import Catalog
from horologe.node.timetable import MissedRun, timetable_of
from horologe.raft.commands import FIRE, MissedFate
from horologe.raft.model import Catchup, JobFlag
from horologe.raft.records import JobState
from horologe.raft.tables import Tables

ON_TIME_MS = 5_000
"""A due time up to this old is merely late and fires by itself; with an older one the job has missed due times, and its
catch-up policy decides over all that have come up. 5 s is what users of schedulers call on time."""
COUNTED_PER_FIRE = 10_000
"""Missed due times of a plain interval that one record accounts for; they are counted by arithmetic."""
ENUMERATED_PER_PLAN = 500
"""Missed due times of other schedules that one plan looks at, for all jobs together; the next plan goes on. Enumerating one
takes some 40 us, and the plan is made inside the step."""

WORKFLOWS_PER_PLAN = 10
"""Each may start a thousand executions in the entry that fires it; the next plan goes on."""


class Firing:
    """Makes FIRE records; see commands.py."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._budget = ENUMERATED_PER_PLAN
        self._workflows = WORKFLOWS_PER_PLAN

    def begin_plan(self) -> None:
        self._budget = ENUMERATED_PER_PLAN
        self._workflows = WORKFLOWS_PER_PLAN

    def record(self, tables: Tables, job: int, state: JobState, wall_ms: int, take: Callable[[int], int]) -> bytes:
        """The record for a job whose due time has come; empty if it must wait for the next plan.

        `take` reserves a slot for a queue and answers its session, or 0.
        """
        if state.flags & JobFlag.WORKFLOW:
            if self._workflows <= 0:
                return b""
            self._workflows -= 1
            take = _no_slot
        due_ms = state.next_due_ms
        if wall_ms - due_ms > ON_TIME_MS:
            return self._late(tables, job, state, wall_ms, take)
        next_ms = due_ms + state.every_ms if state.every_ms else self._next(tables, job, state, due_ms)
        return FIRE.pack(job, state.revision, due_ms, next_ms, next_ms, take(state.queue), 0, 0, 0, 0, 1)

    def _late(self, tables: Tables, job: int, state: JobState, wall_ms: int, take: Callable[[int], int]) -> bytes:
        """Due times were missed: the cluster was down, or far behind. The job's policy decides."""
        record = self._catalog.record(tables, job, state.revision)
        if record is None or self._budget <= 0:
            return b""
        due_ms = state.next_due_ms
        if due_ms < record.create_time_ms:
            # A one-time schedule that lay in the past on purpose. Nothing else is owed from before the job existed.
            next_ms = self._next(tables, job, state, due_ms)
            return FIRE.pack(job, state.revision, due_ms, next_ms, next_ms, take(state.queue), 0, 0, 0, 0, 1)
        if state.catchup == Catchup.SKIP:
            return self._settle(tables, job, state, record, wall_ms - ON_TIME_MS, MissedFate.MISSED_CATCHUP_SKIP)
        window_from_ms = wall_ms - state.catchup_window_ms
        if due_ms < window_from_ms:
            return self._settle(tables, job, state, record, window_from_ms - 1, MissedFate.MISSED_CATCHUP_WINDOW)
        missed = self._missed(record, state, due_ms, wall_ms)
        if not missed.complete:
            return self._settle(tables, job, state, record, missed.last_ms, MissedFate.COALESCED)
        latest_ms = missed.last_ms
        next_ms = self._next(tables, job, state, latest_ms)
        session = take(state.queue)
        if missed.count == 1:
            return FIRE.pack(job, state.revision, latest_ms, next_ms, next_ms, session, 0, 0, 0, 0, 1)
        rest = self._missed(record, state, due_ms, latest_ms - 1)
        covered = rest.first_ms, rest.last_ms, missed.count - 1
        return FIRE.pack(job, state.revision, latest_ms, next_ms, next_ms, session, *covered, MissedFate.COALESCED, 1)

    def _settle(
        self, tables: Tables, job: int, state: JobState, record: log_pb2.JobRecord, until_ms: int, fate: MissedFate
    ) -> bytes:
        """Accounts for due times that will not run, from the pending one to `until_ms`, or as many as fit."""
        missed = self._missed(record, state, state.next_due_ms, until_ms)
        next_ms = self._next(tables, job, state, missed.last_ms)
        return FIRE.pack(
            job, state.revision, 0, next_ms, next_ms, 0, missed.first_ms, missed.last_ms, missed.count, fate, 0
        )

    def _missed(self, record: log_pb2.JobRecord, state: JobState, from_ms: int, to_ms: int) -> MissedRun:
        """The due times from the pending one, `from_ms`, to `to_ms`."""
        # The last bit of a budget still finds the two due times that tell the latest from the rest.
        limit = COUNTED_PER_FIRE if state.every_ms else max(2, self._budget)
        missed = timetable_of(record.job).owed(from_ms, to_ms, limit)
        if not state.every_ms:
            self._budget -= missed.count
        return missed

    def _next(self, tables: Tables, job: int, state: JobState, after_ms: int) -> int:
        """The first due time after `after_ms`; 0 if there is none."""
        if state.every_ms:
            return after_ms + state.every_ms
        record = self._catalog.record(tables, job, state.revision)
        if record is None:
            return 0
        return timetable_of(record.job, since_ms=record.create_time_ms).next_after(after_ms) or 0


def _no_slot(queue: int) -> int:
    """No worker runs a workflow."""
    del queue
    return 0
