"""The leader's planner of operations: the next bounded piece of each one that goes on.

It says what to look at next and what of it to do; the state machine looks again (raft/operations.py). Nothing is remembered
between two plans but which operations go on, and that can be read from the state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice

from horologe.log.v1 import log_pb2
from horologe.node.backfills import due_times_of
from horologe.node.catalog import Catalog
from horologe.node.timetable import UNREADABLE
from horologe.raft.backfills import is_wanted
from horologe.raft.dead_letters import DEAD_KEY
from horologe.raft.model import Effects, JobFlag
from horologe.raft.records import U64, Execution, JobState
from horologe.raft.tables import Tables

ITEMS_PER_STEP = 200
"""Driving one again takes some 80 us, and an entry that holds the pieces of a plan shall hold up nobody."""
DEAD_LETTERS_LOOKED_AT_PER_STEP = 1_000
DUE_TIMES_LOOKED_AT_PER_PLAN = 100
"""Enumerating one takes some 100 us, and the plan is made inside the step. Going backwards needs more than 65 to get on."""
STEPS_PER_PLAN = 4
OPERATIONS_LOOKED_AT_PER_PLAN = 100
NEVER_MS = 1 << 63
FAILURE_LENGTH_MAX = 500
BURST_SECONDS = 1.0
"""What an operation with a rate may make up for at most, when it had to wait."""

Record = log_pb2.OperationRecord
Step = log_pb2.OperationStep


class OperationsPlanner:
    """Makes OperationStep messages; see log.proto."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._ready: dict[int, None] = {}
        """May have something to do, in the order in which they get their turn."""
        self._asleep: dict[int, int] = {}
        """Have nothing to do before that instant, if they do not change."""

    def lead(self, tables: Tables) -> None:
        self.follow()
        self._ready = {int(U64.unpack(key)[0]): None for key, _ in tables.operation.scan()}

    def follow(self) -> None:
        self._ready, self._asleep = {}, {}

    def observe(self, effects: Effects) -> None:
        """What has changed may have something to do; and what a job has become may concern any of them."""
        awake = [*effects.operations_changed, *(self._asleep if effects.jobs_changed else ())]
        for number in awake:
            self._asleep.pop(number, None)
            self._ready[number] = None

    def steps(self, tables: Tables, wall_ms: int) -> list[Step]:
        """The pieces of this plan, of a few operations at most; the others are first the next time."""
        found: list[Step] = []
        budget = _Budget(DUE_TIMES_LOOKED_AT_PER_PLAN)
        for number in [number for number, wake_ms in self._asleep.items() if wake_ms <= wall_ms]:
            del self._asleep[number]
            self._ready[number] = None
        for number in list(islice(self._ready, OPERATIONS_LOOKED_AT_PER_PLAN)):
            if len(found) >= STEPS_PER_PLAN or not budget.left:
                break
            del self._ready[number]
            record = _read(tables, number)
            if record is None or record.state != Record.STATE_RUNNING:
                continue
            try:
                step = self._step(tables, record, wall_ms, budget)
            except UNREADABLE as error:
                # It concerns this operation alone.
                failure = f"it cannot be planned: {error}"[:FAILURE_LENGTH_MAX]
                step = Step(operation=number, step=record.step, failure=failure)
            if step is not None:
                found.append(step)
                self._ready[number] = None
            else:
                self._asleep[number] = record.next_time_ms if record.next_time_ms > wall_ms else NEVER_MS
        return found

    def _step(self, tables: Tables, record: Record, wall_ms: int, budget: _Budget) -> Step | None:
        if record.exhausted or record.next_time_ms > wall_ms:
            return None
        match record.start.WhichOneof("kind"):
            case "redrive":
                return _dead_letters(tables, record, record.start.redrive, wall_ms)
            case "purge":
                return _dead_letters(tables, record, record.start.purge, wall_ms)
            case _:
                return self._backfill(tables, record, record.start.backfill, budget)

    def _backfill(self, tables: Tables, record: Record, backfill: log_pb2.Backfill, budget: _Budget) -> Step | None:
        step = Step(operation=record.id, step=record.step, cursor=record.cursor)
        job = self._catalog.record(tables, backfill.job)
        raw = tables.job_state.get(U64.pack(backfill.job))
        if job is None or raw is None or JobState.unpack(raw).flags & JobFlag.DELETED:
            step.failure = "the job was deleted"
            return step
        room = min(backfill.max_running - record.unfinished, ITEMS_PER_STEP)
        if room <= 0:
            return None
        wanted = bytearray()
        due_times = due_times_of(tables, job, backfill, record.cursor)
        for due_ms in due_times.take(budget.spend):
            step.looked_at += 1
            if is_wanted(tables, backfill.job, due_ms, backfill.only):
                wanted += U64.pack(due_ms)
                if len(wanted) >= room * U64.size:
                    break
        step.items, step.cursor, step.exhausted = bytes(wanted), due_times.cursor, due_times.exhausted
        return step


class _Budget:
    """Due times that may still be enumerated in this plan."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self) -> bool:
        if not self.left:
            return False
        self.left -= 1
        return True


def _dead_letters(tables: Tables, record: Record, selection: log_pb2.DeadLetterSelection, wall_ms: int) -> Step | None:
    count, next_time_ms = _allowance(selection.rate, record.next_time_ms, record.create_time_ms, wall_ms)
    step = Step(operation=record.id, step=record.step)
    chosen = _chosen if selection.executions else _matching
    items, step.cursor, step.exhausted, step.looked_at = chosen(tables, record, selection, count)
    step.items = b"".join(U64.pack(number) for number in items)
    step.next_time_ms = next_time_ms(len(items))
    return step


def _allowance(rate: float, next_time_ms: int, create_ms: int, wall_ms: int) -> tuple[int, Callable[[int], int]]:
    """How many may be done now, and from when on the next one may be if so many are done."""
    if not rate > 0:
        return ITEMS_PER_STEP, lambda done: 0
    from_ms = max(next_time_ms or create_ms, wall_ms - int(BURST_SECONDS * 1000))
    count = int(min(ITEMS_PER_STEP, 1 + max(0, wall_ms - from_ms) * rate / 1000))
    return count, lambda done: from_ms + math.ceil(done * 1000 / rate)


_Chosen = tuple[list[int], bytes, bool, int]
"""Executions, where to go on, whether that was all, and how many were looked at."""


def _chosen(tables: Tables, record: Record, selection: log_pb2.DeadLetterSelection, count: int) -> _Chosen:
    """Of those that were named, one by one."""
    del tables
    start = int.from_bytes(record.cursor, "big")
    items = list(selection.executions[start : start + count])
    end = start + len(items)
    return items, U64.pack(end), end >= len(selection.executions), len(items)


def _matching(tables: Tables, record: Record, selection: log_pb2.DeadLetterSelection, count: int) -> _Chosen:
    """In the order in which they died; those that died since the operation began are none of its business."""
    items: list[int] = []
    first = record.cursor or DEAD_KEY.pack(record.namespace, selection.from_ms, 0)
    last_ms = min(selection.to_ms - 1 if selection.to_ms else record.create_time_ms, record.create_time_ms)
    looked_at = 0
    for key, value in tables.dead.scan(first):
        namespace, died_ms, number = DEAD_KEY.unpack(key)
        if namespace != record.namespace or died_ms > last_ms:
            return items, bytes(key), True, looked_at
        if len(items) >= count or looked_at >= DEAD_LETTERS_LOOKED_AT_PER_STEP:
            return items, bytes(key), False, looked_at
        if _fits(tables, selection, number, U64.unpack(value)[0]):
            items.append(number)
        looked_at += 1
    return items, b"", True, looked_at


def _fits(tables: Tables, selection: log_pb2.DeadLetterSelection, number: int, fingerprint: int) -> bool:
    if selection.HasField("fingerprint") and selection.fingerprint != fingerprint:
        return False
    if not selection.job:
        return True
    raw = tables.execution.get(U64.pack(number))
    return raw is not None and Execution.unpack(raw).job == selection.job


def _read(tables: Tables, number: int) -> Record | None:
    raw = tables.operation.get(U64.pack(number))
    return None if raw is None else Record.FromString(bytes(raw))
