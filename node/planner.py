"""The leader's planner: what is due now, and who shall do it.

It reads the applied state and answers at most one plan at a time, so it never has to guess about its own plans in flight.
It decides, the state machine disposes: a record that no longer fits when it is applied does nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from horologe.log.v1 import log_pb2
from horologe.node.catalog import Catalog
from horologe.node.firing import Firing
from horologe.node.limit_lines import LimitLines
from horologe.node.operations_planner import OperationsPlanner
from horologe.node.pace import Pace
from horologe.node.retention import AUDIT_RETENTION_SECONDS, Retention
from horologe.node.room import Room
from horologe.node.slots import Slots
from horologe.raft import wheel
from horologe.raft.commands import ASSIGN, DEADLINE, EXECUTION_TIMEOUT, GIVE_UP, NO_RETRY, RETRY, SESSION, TIMEOUT
from horologe.raft.failures import TIMEOUT as TIMEOUT_KIND
from horologe.raft.failures import Failure, is_retried
from horologe.raft.model import Counters, Effects, TimerKind
from horologe.raft.priorities import in_order
from horologe.raft.recent import look_at_job
from horologe.raft.records import PAIR, READY_KEY, RUNNING_VALUE, U32, U64, Execution
from horologe.raft.retry import backoff_ms
from horologe.raft.tables import Tables

TIMERS_PER_PLAN = 2_000
ASSIGNS_PER_PLAN = 2_000
BLOCKED_PER_PLAN = 1_000
"""Executions without room under a limit that one plan sends to its line."""
SESSIONS_PER_PLAN = 50
"""Bounds of one plan, so that no entry takes long to apply."""
TIMEOUT_CHECK_SECONDS = 1.0
TIMEOUT_GRACE_MS = 15_000
"""The worker enforces a timeout itself and then has its grace; the cluster steps in only if nothing comes after that."""
TIMEOUT_ROWS_PER_CHECK = 5_000
SILENCE_SHARE = 0.5
"""Of a lease term: after so long without a heartbeat (two were missed) a worker gets nothing new."""
IDLE_MS = 250
"""Leases and timeouts are looked at this often when nothing is due."""


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    """Terms that the planner decides by; all in seconds."""

    lease_term_seconds: float
    clock_drift: float
    """Clock rates of two machines differ by at most this fraction."""
    history_retention_seconds: float
    audit_retention_seconds: float = AUDIT_RETENTION_SECONDS


class LeaderPlanner:
    """See raft/planning.py."""

    def __init__(self, settings: PlannerSettings, randomness: random.Random) -> None:
        """`randomness` throws the dice for backoffs."""
        self._settings = settings
        self._randomness = randomness
        self._catalog = Catalog()
        self._firing = Firing(self._catalog)
        self._slots = Slots(settings.lease_term_seconds * SILENCE_SHARE)
        self._waiting: set[int] = set()
        """Queues in which something may wait; and those in which something goes on waiting after the current plan."""
        self._crowded: set[int] = set()
        self._lines = LimitLines()
        self._pace = Pace()
        self._room = Room()
        self._turn = 0
        self._timeout_check_at = 0.0
        self._timeout_from = b""
        self._retention = Retention(settings.history_retention_seconds, settings.audit_retention_seconds)
        self._operations = OperationsPlanner(self._catalog)

    def lead(self, tables: Tables, now: float, wall_ms: int) -> None:
        idle_ms = wall_ms - Counters.load(tables).log_time_ms
        self._slots.rebuild(tables, now, is_old=idle_ms > self._settings.lease_term_seconds * 1000)
        self._waiting = {READY_KEY.unpack(key)[0] for key in _first_of_each_queue(tables)}
        self._lines.begin()
        self._timeout_check_at = now + TIMEOUT_CHECK_SECONDS
        self._retention.begin(now)
        self._operations.lead(tables)
        # What has changed while somebody else led was told to nobody here.
        self._catalog.clear()
        self._firing.lead(tables)

    def follow(self) -> None:
        self._slots = Slots(self._settings.lease_term_seconds * SILENCE_SHARE)
        self._waiting.clear()
        self._operations.follow()

    def observe(self, effects: Effects) -> None:
        self._slots.observe(effects)
        self._waiting.update(effects.queued)
        self._lines.observe(effects)
        self._operations.observe(effects)
        for job in effects.jobs_changed:
            self._catalog.forget(job)
        for calendar in effects.calendars_changed:
            self._firing.calendar_changed(calendar)

    def renew(self, sessions: Sequence[int], tables: Tables, now: float) -> tuple[list[int], list[int]]:
        return self._slots.hear(sessions, now, tables)

    def next_wakeup_ms(self, tables: Tables, wall_ms: int) -> int | None:
        wanted = (wheel.next_attention_ms(tables.timer), self._pace.next_ms, self._lines.next_ms, wall_ms + IDLE_MS)
        return min(at_ms for at_ms in wanted if at_ms is not None)

    def plan(self, tables: Tables, now: float, wall_ms: int) -> log_pb2.Plan | log_pb2.Prune | None:
        self._slots.begin_plan(tables, now)
        self._pace.begin_plan(tables, wall_ms)
        self._room.begin_plan(tables, now, wall_ms)
        self._firing.begin_plan(tables)
        plan = log_pb2.Plan(
            expired_sessions=self._expired_sessions(tables, now),
            timeouts=self._timeouts(tables, now, wall_ms),
            assigns=self._assigns(tables),
        )
        plan.operation_steps.extend(self._operations.steps(tables, wall_ms))
        if wheel.has_arrived(tables.timer, wall_ms):
            plan.advance_to_ms = wall_ms
        self._timers(tables, plan, wall_ms)
        self._firing.recompute(tables, wall_ms)
        plan.rearms = bytes(self._firing.rearms)
        plan.unparks = self._firing.unparks(tables, wall_ms)
        plan.calls = self._lines.calls(tables, now, wall_ms, self._has_free, self._room)
        plan.cancellations = next((bytes(job) for job, _ in tables.cancelling.scan()), b"")
        if plan.ByteSize():
            return plan
        return self._retention.plan(tables, now, wall_ms)

    def prune(self, tables: Tables, now: float, wall_ms: int) -> log_pb2.Prune | None:
        return self._retention.plan(tables, now, wall_ms) if self._retention.is_late(now) else None

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
            deadline_ms, token, attempt = RUNNING_VALUE.unpack(value)
            if deadline_ms + TIMEOUT_GRACE_MS < wall_ms:
                number = PAIR.unpack(key)[1]
                grace_ms, retry_delay_ms = self._after_timeout(tables, number, attempt)
                if deadline_ms + grace_ms + TIMEOUT_GRACE_MS < wall_ms:
                    records += TIMEOUT.pack(number, token, retry_delay_ms)
        else:
            self._timeout_from = b""
        return bytes(records)

    def _after_timeout(self, tables: Tables, number: int, attempt: int) -> tuple[int, int]:
        """How long the attempt may take to clean up, and the delay before the next one.

        The worker still has its lease: not before it has either heard of the end and cleaned up, or lost its lease, may the
        next attempt begin.
        """
        raw = tables.execution.get(U64.pack(number))
        execution = Execution.unpack(raw) if raw is not None else None
        record = self._catalog.record(tables, execution.job) if execution is not None else None
        if execution is None or record is None:
            return 0, NO_RETRY
        grace_ms = record.job.grace.ToMilliseconds()
        if not is_retried(record.job.retry, Failure(TIMEOUT_KIND)):
            return grace_ms, GIVE_UP
        attempts = max(1, attempt - execution.attempt_base)
        backed_off_ms = backoff_ms(record.job.retry, attempts, self._randomness.random())
        return grace_ms, max(backed_off_ms, int(self._settings.lease_term_seconds * 1000) + grace_ms)

    # Work

    def _assigns(self, tables: Tables) -> bytes:
        """Queued executions for free slots, by priority and age (see priorities.py).

        Whether anything still waits is read from the state, never concluded from a plan: its records may come to nothing.
        """
        records = bytearray()
        blocked = 0
        self._crowded = set(self._waiting)
        for queue in self._lanes_in_turn():
            is_empty = True
            for number in in_order(tables.ready, U32.pack(queue), self._pace.aging_ms(queue)):
                is_empty = False
                if len(records) >= ASSIGNS_PER_PLAN * ASSIGN.size or not self._pace.may_start(queue):
                    break
                limits = self._room.limits(number)
                if limits is None:
                    if blocked >= BLOCKED_PER_PLAN:
                        break
                    blocked += 1
                    records += ASSIGN.pack(number, 0)
                    continue
                session = self._slot(queue)
                if not session:
                    break
                self._room.take(limits)
                records += ASSIGN.pack(number, session)
            else:
                self._crowded.discard(queue)
            if is_empty:
                self._waiting.discard(queue)
        return bytes(records)

    def _lanes_in_turn(self) -> list[int]:
        """Lanes with a slot in which something may wait. Each is the first once: they share slots, and the pace of a queue."""
        lanes = [lane for lane in self._slots.queues() if lane in self._waiting]
        first = self._turn % len(lanes) if lanes else 0
        self._turn += 1
        return lanes[first:] + lanes[:first]

    def _take(self, queue: int) -> int:
        """A slot for something new, unless others in its queue did not all get one."""
        return 0 if queue in self._crowded else self._slot(queue)

    def _slot(self, queue: int) -> int:
        """A slot, if the queue's settings let something start; 0 if not."""
        session = self._slots.take(queue) if self._pace.may_start(queue) else 0
        if session:
            self._pace.starts(queue)
        return session

    def _has_free(self, queue: int) -> bool:
        return self._slots.has_free(queue) and self._pace.may_start(queue)

    def _timers(self, tables: Tables, plan: log_pb2.Plan, wall_ms: int) -> None:
        """What has run out of time."""
        retries, fires, execution_timeouts, deadlines = bytearray(), bytearray(), bytearray(), bytearray()
        count_max = TIMERS_PER_PLAN + self._firing.waiting_count
        for deadline_ms, kind, id_ in wheel.due(tables.timer, wall_ms, count_max):
            if kind == TimerKind.RETRY:
                raw = tables.execution.get(U64.pack(id_))
                session = self._take(Execution.unpack(raw).queue) if raw is not None else 0
                retries += RETRY.pack(id_, deadline_ms, session)
            elif kind == TimerKind.EXECUTION_TIMEOUT:
                execution_timeouts += EXECUTION_TIMEOUT.pack(id_, deadline_ms)
            elif kind == TimerKind.DEADLINE:
                deadlines += DEADLINE.pack(id_, deadline_ms)
            else:
                state = look_at_job(tables, id_)
                if state is not None:
                    fires += self._firing.record(tables, id_, state, wall_ms, self._take)
        plan.retries, plan.fires = bytes(retries), bytes(fires)
        plan.execution_timeouts, plan.deadlines = bytes(execution_timeouts), bytes(deadlines)


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
