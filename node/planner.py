"""The leader's planner: what is due now, and who shall do it.

It reads the applied state and answers at most one plan at a time, so it never has to guess about its own plans in flight.
It decides, the state machine disposes: a record that no longer fits when it is applied does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from horologe.log.v1 import log_pb2
from horologe.node import schedule
from horologe.node.catalog import Catalog
from horologe.node.slots import Slots
from horologe.raft import wheel
from horologe.raft.commands import ASSIGN, FIRE, RETRY, SESSION, TIMEOUT, MissedFate
from horologe.raft.model import (
    PAIR,
    READY_KEY,
    RUNNING_VALUE,
    U64,
    Catchup,
    Effects,
    Execution,
    JobState,
    Tables,
    TimerKind,
)

TIMERS_PER_PLAN = 4_000
ASSIGNS_PER_PLAN = 4_000
SESSIONS_PER_PLAN = 50
"""Bounds of one plan, so that no entry takes long to apply."""
ON_TIME_MS = 5_000
"""A due time up to this old is merely late and fires by itself; with an older one the job has missed due times, and its
catch-up policy decides over all that have come up. 5 s is the start delay we promise."""
MISSED_PER_FIRE = 10_000
"""Missed due times that one record accounts for; with more, the next plan goes on."""
TIMEOUT_CHECK_SECONDS = 1.0
TIMEOUT_GRACE_MS = 15_000
"""The worker enforces a timeout itself and then has its grace; the cluster steps in only if nothing comes after that."""
TIMEOUT_ROWS_PER_CHECK = 5_000
PRUNE_CHECK_SECONDS = 10.0
PRUNE_PER_ENTRY = 500
PRUNE_PAUSE_SECONDS = 0.1
IDLE_MS = 250
"""Leases and timeouts are looked at this often when nothing is due."""


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    """Terms that the planner decides by; all in seconds."""

    lease_term_seconds: float
    clock_drift: float
    """Clock rates of two machines differ by at most this fraction."""
    history_retention_seconds: float


class LeaderPlanner:
    """See replica.Planner."""

    def __init__(self, settings: PlannerSettings) -> None:
        self._settings = settings
        self._catalog = Catalog()
        self._slots = Slots()
        self._waiting: set[int] = set()
        self._timeout_check_at = 0.0
        self._timeout_from = b""
        self._prune_check_at = 0.0

    def lead(self, tables: Tables, now: float) -> None:
        self._slots.rebuild(tables, now)
        self._waiting = {READY_KEY.unpack(key)[0] for key in _first_of_each_queue(tables)}
        self._timeout_check_at = now + TIMEOUT_CHECK_SECONDS
        self._prune_check_at = now + PRUNE_CHECK_SECONDS

    def follow(self) -> None:
        self._slots = Slots()
        self._waiting.clear()

    def observe(self, effects: Effects) -> None:
        self._slots.observe(effects)
        self._waiting.update(effects.queued)
        for job in effects.jobs_changed:
            self._catalog.forget(job)

    def renew(self, sessions: Sequence[int], tables: Tables, now: float) -> tuple[list[int], list[int]]:
        return self._slots.hear(sessions, now, tables)

    def next_wakeup_ms(self, tables: Tables, wall_ms: int) -> int | None:
        attention = wheel.next_attention_ms(tables.timer)
        return wall_ms + IDLE_MS if attention is None else min(attention, wall_ms + IDLE_MS)

    def plan(self, tables: Tables, now: float, wall_ms: int) -> log_pb2.Plan | log_pb2.Prune | None:
        self._slots.begin_plan(tables, now)
        plan = log_pb2.Plan(
            expired_sessions=self._expired_sessions(tables, now),
            timeouts=self._timeouts(tables, now, wall_ms),
            assigns=self._assigns(tables),
        )
        if wheel.has_arrived(tables.timer, wall_ms):
            plan.advance_to_ms = wall_ms
        timers = wheel.due(tables.timer, wall_ms, TIMERS_PER_PLAN)
        if timers:
            plan.retries, plan.fires = self._timers(tables, timers, wall_ms)
        if plan.ByteSize():
            return plan
        return self._prune(tables, now, wall_ms)

    # Leases and timeouts

    def _expired_sessions(self, tables: Tables, now: float) -> bytes:
        term_seconds = self._settings.lease_term_seconds * (1 + self._settings.clock_drift)
        records = bytearray()
        for session in self._slots.expired(now, term_seconds, SESSIONS_PER_PLAN):
            if tables.session.get(U64.pack(session)) is None:
                self._slots.forget(session)
            else:
                records += SESSION.pack(session)
        return bytes(records)

    def _timeouts(self, tables: Tables, now: float, wall_ms: int) -> bytes:
        """Walks over the running attempts, a slice per second."""
        if now < self._timeout_check_at:
            return b""
        self._timeout_check_at = now + TIMEOUT_CHECK_SECONDS
        records = bytearray()
        for count, (key, value) in enumerate(tables.running.scan(self._timeout_from)):
            if count >= TIMEOUT_ROWS_PER_CHECK:
                self._timeout_from = bytes(key)
                break
            deadline_ms, token, _ = RUNNING_VALUE.unpack(value)
            if deadline_ms + TIMEOUT_GRACE_MS < wall_ms:
                records += TIMEOUT.pack(PAIR.unpack(key)[1], token)
        else:
            self._timeout_from = b""
        return bytes(records)

    # Work

    def _assigns(self, tables: Tables) -> bytes:
        """Queued executions for free slots, in the order (priority, due time)."""
        records = bytearray()
        for queue in [queue for queue in self._slots.queues() if queue in self._waiting]:
            for key, _ in tables.ready.scan(READY_KEY.pack(queue, 0, 0, 0)):
                found, _, _, number = READY_KEY.unpack(key)
                if found != queue:
                    self._waiting.discard(queue)
                    break
                session = self._slots.take(queue) if len(records) < ASSIGNS_PER_PLAN * ASSIGN.size else 0
                if not session:
                    break
                records += ASSIGN.pack(number, session)
            else:
                self._waiting.discard(queue)
        return bytes(records)

    def _take(self, queue: int) -> int:
        """A slot for something new, unless others already wait in its queue."""
        return 0 if queue in self._waiting else self._slots.take(queue)

    def _timers(self, tables: Tables, timers: list[wheel.Timer], wall_ms: int) -> tuple[bytes, bytes]:
        retries, fires = bytearray(), bytearray()
        for deadline_ms, kind, id_ in timers:
            if kind == TimerKind.RETRY:
                raw = tables.execution.get(U64.pack(id_))
                session = self._take(Execution.unpack(raw).queue) if raw is not None else 0
                retries += RETRY.pack(id_, deadline_ms, session)
            else:
                raw = tables.job_state.get(U64.pack(id_))
                if raw is not None:
                    fires += self._fire(tables, id_, JobState.unpack(raw), wall_ms)
        return bytes(retries), bytes(fires)

    def _fire(self, tables: Tables, job: int, state: JobState, wall_ms: int) -> bytes:
        due_ms = state.next_due_ms
        if wall_ms - due_ms > ON_TIME_MS:
            return self._fire_late(tables, job, state, wall_ms)
        next_ms = due_ms + state.every_ms if state.every_ms else self._next(tables, job, state, due_ms)
        return FIRE.pack(job, state.revision, due_ms, next_ms, self._take(state.queue), 0, 0, 0, 0, 1)

    def _fire_late(self, tables: Tables, job: int, state: JobState, wall_ms: int) -> bytes:
        """Due times were missed: the cluster was down, or far behind. The job's policy decides."""
        due_ms = state.next_due_ms
        record = self._catalog.record(tables, job, state.revision)
        if record is None:
            return b""
        schedules, identity = record.job.schedules, record.job.name

        def settle(until_ms: int, fate: MissedFate) -> bytes:
            missed = schedule.missed(schedules, due_ms, until_ms, identity, MISSED_PER_FIRE)
            next_ms = self._next(tables, job, state, missed.last_ms)
            return FIRE.pack(job, state.revision, 0, next_ms, 0, missed.first_ms, missed.last_ms, missed.count, fate, 0)

        if state.catchup == Catchup.SKIP:
            return settle(wall_ms - ON_TIME_MS, MissedFate.MISSED_CATCHUP_SKIP)
        window_from_ms = wall_ms - state.catchup_window_ms
        if due_ms < window_from_ms:
            return settle(window_from_ms - 1, MissedFate.MISSED_CATCHUP_WINDOW)
        missed = schedule.missed(schedules, due_ms, wall_ms, identity, MISSED_PER_FIRE)
        if not missed.complete:
            return settle(wall_ms, MissedFate.COALESCED)
        latest_ms = missed.last_ms
        next_ms = self._next(tables, job, state, latest_ms)
        session = self._take(state.queue)
        if missed.count == 1:
            return FIRE.pack(job, state.revision, latest_ms, next_ms, session, 0, 0, 0, 0, 1)
        rest = schedule.missed(schedules, due_ms, latest_ms - 1, identity, MISSED_PER_FIRE)
        return FIRE.pack(
            job,
            state.revision,
            latest_ms,
            next_ms,
            session,
            rest.first_ms,
            rest.last_ms,
            rest.count,
            MissedFate.COALESCED,
            1,
        )

    def _next(self, tables: Tables, job: int, state: JobState, after_ms: int) -> int:
        """The first due time after `after_ms`; 0 if there is none."""
        if state.every_ms:
            return after_ms + state.every_ms
        record = self._catalog.record(tables, job, state.revision)
        if record is None:
            return 0
        # A one-time schedule may lie in the past on purpose; the job's other schedules owe nothing from before it existed.
        after_ms = max(after_ms, record.create_time_ms)
        return schedule.next_due_ms(record.job.schedules, after_ms, record.job.name) or 0

    # History

    def _prune(self, tables: Tables, now: float, wall_ms: int) -> log_pb2.Prune | None:
        if now < self._prune_check_at:
            return None
        before_ms = wall_ms - int(self._settings.history_retention_seconds * 1000)
        for _, value in tables.execution.scan():
            if Execution.unpack(value).create_ms < before_ms:
                self._prune_check_at = now + PRUNE_PAUSE_SECONDS
                return log_pb2.Prune(before_ms=before_ms, count_max=PRUNE_PER_ENTRY)
            break
        self._prune_check_at = now + PRUNE_CHECK_SECONDS
        return None


def _first_of_each_queue(tables: Tables) -> list[bytes]:
    firsts: list[bytes] = []
    start = b""
    while True:
        for key, _ in tables.ready.scan(start):
            firsts.append(bytes(key))
            start = READY_KEY.pack(READY_KEY.unpack(key)[0] + 1, 0, 0, 0)
            break
        else:
            return firsts
