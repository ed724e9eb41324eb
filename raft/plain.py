"""The plain case in one piece: a due time that fires by itself and starts, at once or after a wait in the ready queue, and an
attempt that just succeeds.

Nearly all that a busy cluster does is this, so it is written out here, without the questions whose answers are plain. It does
exactly what `executions.fire`, `executions.assign` and `executions.complete` do by way of overlap.py, creation.py, starting.py,
lines.py and state.py; a test replays whole histories with and without it, and compares every byte. Whatever is not plain is left
to those: then the answer is False, and nothing has changed.
"""

from __future__ import annotations

from typing import Final

from horologe.raft import owners
from horologe.raft.commands import Outcome, OutcomeFlag
from horologe.raft.events import EVENT, EventKind
from horologe.raft.keeping import AGE_KEY
from horologe.raft.lines import ready_key
from horologe.raft.model import (
    AttemptState,
    ExecutionFlag,
    ExecutionState,
    JobFlag,
    LedgerOutcome,
    Overlap,
    Reason,
    Trigger,
)
from horologe.raft.recent import look_at_job
from horologe.raft.records import LEDGER_KEY, PAIR, RUNNING_VALUE, Execution, LedgerEntry
from horologe.raft.state import State

# Members of enumerations cost a look-up each time; here that counts.
_QUEUED: Final = int(ExecutionState.QUEUED)
_RUNNING: Final = int(ExecutionState.RUNNING)
_COMPLETED: Final = ExecutionState.COMPLETED
_ATTEMPT_RUNS: Final = int(AttemptState.RUNNING)
_ATTEMPT_SUCCEEDED: Final = int(AttemptState.SUCCEEDED)
_BY_SCHEDULE: Final = int(Trigger.SCHEDULE)
_ALLOW: Final = int(Overlap.ALLOW)
_SUCCEEDED: Final = int(Outcome.SUCCEEDED)
_MOVED: Final = int(EventKind.EXECUTION_MOVED)
_RAN: Final = int(LedgerOutcome.RAN)
_NO_REASON: Final = int(Reason.NONE)
_ASKS_MORE_OF_JOB: Final = JobFlag.LIMITED | JobFlag.UPSTREAM | JobFlag.WORKFLOW
_ASKS_MORE: Final = ExecutionFlag.HAS_DETAIL | ExecutionFlag.LIMITED


class PlainStarts:
    """Of one plan. Limits do not change while it is applied, nor do the settings of queues."""

    __slots__ = ("_free", "_put_ledger", "_state")

    def __init__(self, state: State) -> None:
        self._state = state
        self._put_ledger = state.tables.ledger.put_new
        self._free: dict[tuple[int, int], bool] = {}

    def fire(
        self, job: int, revision: int, due_ms: int, next_ms: int, next_fire_ms: int, lease: tuple[int, int] | None
    ) -> bool:
        """Nobody may be paused. `lease`: a session that may get work, and its worker; None: the execution is queued."""
        state = self._state
        now_ms = state.now_ms
        job_state = state.job_state(job)
        if (
            job_state is None
            or job_state.revision != revision
            or job_state.next_due_ms != due_ms
            or job_state.flags & _ASKS_MORE_OF_JOB
            or (job_state.unfinished and job_state.overlap != _ALLOW)
            or job_state.execution_timeout_ms
            or (job_state.deadline_ms and (lease is None or job_state.deadline_ms < now_ms - due_ms))
            or (job_state.run_as and not owners.may_run(state, job, job_state))
        ):
            return False
        namespace, lane = job_state.namespace, job_state.queue
        counters = state.counters
        number = counters.last_execution + 1
        if (lease is not None and not self._is_free(namespace, lane)) or not self._put_ledger(
            LEDGER_KEY.pack(job, due_ms, 0), LedgerEntry.STRUCT.pack(_RAN, _NO_REASON, number, due_ms, 1)
        ):
            return False
        execution = Execution(
            job,
            due_ms,
            now_ms,
            job_state.next_fire_ms or due_ms,
            queue=lane,
            namespace=namespace,
            trigger=_BY_SCHEDULE,
            priority=job_state.priority,
        )
        counters.last_execution = number
        counters.fired += 1
        if lease is None:
            self._queue(number, execution)
        else:
            self._start(number, execution, 0, lease, job_state.timeout_ms)
        job_state.unfinished += 1
        job_state.executions += 1
        job_state.scheduled += 1
        state.arm_fire(job, job_state, next_ms, next_fire_ms)
        state.put_job_state(job, job_state)
        return True

    def assign(self, number: int, execution: Execution, lease: tuple[int, int]) -> bool:
        """The first attempt of one that is in the ready queue. `execution` is taken, and stays the caller's if this is False."""
        if (
            execution.state != _QUEUED
            or execution.line
            or execution.attempt
            or execution.flags
            or execution.deadline_ms
        ):
            return False
        state = self._state
        job_state = look_at_job(state.tables, execution.job)
        if (
            job_state is None
            or job_state.flags & _ASKS_MORE_OF_JOB
            or job_state.execution_timeout_ms
            or not self._is_free(execution.namespace, execution.queue)
            or not state.tables.ready.delete(ready_key(number, execution))
        ):
            return False
        state.counters.queued -= 1
        state.lane_uses.of(execution.queue)[0] -= 1
        state.effects.unqueued.append(execution.queue)
        self._start(number, execution, _QUEUED, lease, job_state.timeout_ms)
        return True

    def _queue(self, number: int, execution: Execution) -> None:
        """A new execution waits."""
        state, lane = self._state, execution.queue
        execution.state = _QUEUED
        state.tables.ready.put(ready_key(number, execution), b"")
        state.put_execution(number, execution)
        state.counters.queued += 1
        state.lane_uses.of(lane)[0] += 1
        state.search.moved(number, execution, 0, _QUEUED)
        state.events += EVENT.pack(
            number, execution.job, execution.due_ms, execution.namespace, lane, 0, 0, _MOVED, 0, _QUEUED, 0
        )
        state.effects.queued.append(lane)
        state.effects.changed.append(number)

    def _start(self, number: int, execution: Execution, before: int, lease: tuple[int, int], timeout_ms: int) -> None:
        """Its first attempt begins."""
        state = self._state
        index, now_ms = state.index, state.now_ms
        session, worker = lease
        execution.token = index
        execution.session = session
        execution.worker = worker
        execution.assign_ms = now_ms
        execution.attempt = 1
        execution.state = _RUNNING
        execution.attempt_state = _ATTEMPT_RUNS
        job, due_ms, namespace, lane = execution.job, execution.due_ms, execution.namespace, execution.queue
        state.tables.running.put(PAIR.pack(session, number), RUNNING_VALUE.pack(now_ms + timeout_ms, index, 1))
        state.put_execution(number, execution)
        state.permits.of_namespace(namespace)[1] += 1
        state.lane_uses.of(lane)[1] += 1
        state.counters.running += 1
        state.search.moved(number, execution, before, _RUNNING)
        state.events += EVENT.pack(
            number, job, due_ms, namespace, lane, worker, 1, _MOVED, before, _RUNNING, _ATTEMPT_RUNS
        )
        effects = state.effects
        effects.changed.append(number)
        effects.begun.append((number, max(0, now_ms - (execution.planned_ms or due_ms))))
        effects.assigned.append((session, number, job, 1, due_ms, index, 0))

    def _is_free(self, namespace: int, lane: int) -> bool:
        """Whether as many may start, and as fast, as there are."""
        known = self._free.get((namespace, lane))
        if known is None:
            known = not self._state.permits.is_limited(namespace) and self._state.rules.of_lane(lane) is None
            self._free[namespace, lane] = known
        return known


def complete(state: State, record: tuple[int, int, int, int, int, int, int, int, int]) -> bool:
    """An outcome without a detail."""
    number, token, attempt, outcome, flags, exit_code, start_delay_ms, _, _ = record
    execution = state.execution(number) if outcome == _SUCCEEDED else None
    if (
        execution is None
        or not execution.token == token > 0
        or execution.attempt != attempt
        or execution.state != _RUNNING
        or execution.flags & _ASKS_MORE
        or execution.end_by_ms
        or execution.deadline_ms
    ):
        return False
    namespace, lane, now_ms = execution.namespace, execution.queue, state.now_ms
    in_namespace = state.permits.of_namespace(namespace)
    if in_namespace[0]:
        return False
    in_namespace[1] -= 1
    state.lane_uses.of(lane)[1] -= 1
    execution.start_ms = execution.start_ms or min(execution.assign_ms + start_delay_ms, now_ms)
    if flags & OutcomeFlag.HAS_EXIT_CODE:
        execution.exit_code = exit_code
        execution.flags |= ExecutionFlag.HAS_EXIT_CODE
    execution.end_ms = now_ms
    execution.attempt_state = _ATTEMPT_SUCCEEDED
    execution.state = _COMPLETED
    tables, effects, counters = state.tables, state.effects, state.counters
    tables.running.delete(PAIR.pack(execution.session, number))
    tables.over.put(AGE_KEY.pack(namespace, now_ms, number), b"")
    state.put_execution(number, execution)
    state.keeping.of(namespace).executions += 1
    counters.running -= 1
    counters.completed += 1
    state.ended.append(number)
    state.search.moved(number, execution, _RUNNING, _COMPLETED)
    state.events += EVENT.pack(
        number,
        execution.job,
        execution.due_ms,
        namespace,
        lane,
        execution.worker,
        attempt,
        _MOVED,
        _RUNNING,
        _COMPLETED,
        _ATTEMPT_SUCCEEDED,
    )
    effects.freed.append((execution.session, number))
    effects.ended.append((number, namespace, _COMPLETED))
    effects.changed.append(number)
    return True
