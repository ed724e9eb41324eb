"""The state as a command sees it: the tables of one transaction, the counters, the entry's time, and the effects so far.

Here belong the few moves that several commands share; each keeps the tables, the counters and the effects in step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from horologe.log.v1 import log_pb2
from horologe.raft import events, lines, wheel
from horologe.raft.events import EVENT, EventKind
from horologe.raft.keeping import Keeping
from horologe.raft.lanes import LaneUses, lane_key
from horologe.raft.model import (
    FINAL_STATES,
    LEGAL_MOVES,
    AttemptState,
    Counters,
    Effects,
    ExecutionFlag,
    ExecutionState,
    JobFlag,
    LedgerOutcome,
    Reason,
    TimerKind,
    Trigger,
)
from horologe.raft.namespace_records import NamespaceRecords
from horologe.raft.permits import Permits
from horologe.raft.rates import QueueRules
from horologe.raft.records import LEDGER_KEY, PAIR, RUNNING_VALUE, U32, U64, Execution, JobState, LedgerEntry
from horologe.raft.search import Index
from horologe.raft.tables import Tables

_LEGAL_MOVES = frozenset((before or 0, after) for before, after in LEGAL_MOVES)
_LATEST_MS = (1 << 63) - 1
"""Records for people have signed times."""


class InvariantError(Exception):
    """The state contradicts itself. The transaction is dropped and the process stops; an entry is never skipped."""


class State:
    """One transaction's view. Made per entry, used by the commands, finished by `save`."""

    __slots__ = (
        "_executions",
        "_job_states",
        "_lanes",
        "counters",
        "eased",
        "effects",
        "ended",
        "events",
        "index",
        "keeping",
        "lane_uses",
        "namespaces",
        "now_ms",
        "owners",
        "permits",
        "rules",
        "runs",
        "search",
        "tables",
    )

    def __init__(self, tables: Tables, index: int, time_ms: int) -> None:
        """`index` is the entry's Raft index; `time_ms` the proposer's clock. Replicated time never goes back."""
        self.tables = tables
        self._executions = tables.recent.executions
        self._job_states = tables.recent.job_states
        self.counters = Counters.load(tables)
        self.permits = Permits(tables)
        self.rules = QueueRules(tables)
        self.lane_uses = LaneUses(tables)
        self._lanes: dict[bytes, int] = {}
        """Numbers of lanes by their keys, as far as this entry has asked for them."""
        self.namespaces = NamespaceRecords(tables)
        self.keeping = Keeping(tables)
        if index <= self.counters.revision:
            raise InvariantError(f"entry {index} was applied already (revision {self.counters.revision})")
        self.index = index
        self.now_ms = max(time_ms, self.counters.log_time_ms)
        self.permits.now_ms = self.now_ms
        self.effects = Effects()
        self.ended: deque[int] = deque()
        """Executions that have reached their last state, and whose consequences are to be drawn: see settling.py."""
        self.eased: list[tuple[int, int]] = []
        """(limit, lane): there is room for somebody in this line: see lines.py."""
        self.runs: list[int] = []
        """Executions of workflows that have begun, or are to be cancelled: the same."""
        self.events = bytearray()
        """What happened in this entry, packed: see events.py."""
        self.owners: dict[tuple[int, int, int], bool] = {}
        """(principal, namespace, whether secrets are named): what has been found out in this entry: see owners.py."""
        self.search = Index(tables)
        self.counters.revision = index
        self.counters.log_time_ms = self.now_ms
        self.counters.entries += 1

    def pass_time(self, time_ms: int) -> None:
        """Time has come at least so far: a due time that is accounted for is over, whatever clock is asked next."""
        self.now_ms = max(self.now_ms, time_ms)
        self.permits.now_ms = self.now_ms
        self.counters.log_time_ms = self.now_ms

    def save(self) -> None:
        self.permits.save()
        self.rules.save()
        self.lane_uses.save()
        self.namespaces.save()
        self.keeping.save()
        self.search.save()
        events.keep(self.tables, self.counters, bytes(self.events))
        self.effects.time_ms = self.now_ms
        self.tables.meta.put(Counters.KEY, self.counters.pack())

    # Jobs

    def job_state(self, job: int) -> JobState | None:
        """To be changed and put back, or to be looked at once: see recent.py."""
        recent = self._job_states.take(job)
        if recent is not None:
            return recent
        raw = self.tables.job_state.get(U64.pack(job))
        return None if raw is None else JobState.unpack(raw)

    def put_job_state(self, job: int, state: JobState) -> None:
        """Stores it as it is now; who changes it afterwards puts it again."""
        self.tables.job_state.put(U64.pack(job), state.pack())
        self._job_states.put(job, state)

    def arm_fire(self, job: int, state: JobState, due_ms: int, fire_ms: int = 0) -> None:
        """Sets the next due time and its timer, which is later if `fire_ms` is; 0 sets none. The caller stores `state`.

        A job that has made all executions that it may make is not due any more, nor is one at an instant that no record can hold.
        """
        if (state.max_executions and state.scheduled >= state.max_executions) or due_ms > _LATEST_MS:
            due_ms = 0
        if state.next_due_ms:
            wheel.disarm(self.tables.timer, state.next_fire_ms, TimerKind.FIRE, job)
        state.next_due_ms = due_ms
        state.next_fire_ms = max(due_ms, fire_ms) if due_ms else 0
        if due_ms:
            self.arm(state.next_fire_ms, TimerKind.FIRE, job)

    def arm_after_end(self, job: int, state: JobState) -> None:
        """Sets the next due time of a job that is due so long after the end of its executions, unless one comes up sooner."""
        is_waiting = state.unfinished or state.flags & (JobFlag.PAUSED | JobFlag.PARKED | JobFlag.DELETED)
        if state.fixed_delay_ms and not is_waiting:
            due_ms = self.now_ms + state.fixed_delay_ms
            if not state.next_due_ms or due_ms < state.next_due_ms:
                self.arm_fire(job, state, due_ms)

    def arm(self, deadline_ms: int, kind: TimerKind, id_: int) -> None:
        wheel.arm(self.tables.timer, max(self.counters.cursor_ms, self.now_ms), deadline_ms, kind, id_)

    def namespace_number(self, name: str) -> int:
        return self.namespace(name).id

    def namespace(self, name: str) -> log_pb2.NamespaceRecord:
        """The record of a namespace, which is made if it is new. Who changes it puts it back."""
        record = self.namespaces.find(name)
        if record is None:
            self.counters.last_namespace += 1
            record = log_pb2.NamespaceRecord(id=self.counters.last_namespace)
            self.namespaces.put(name, record)
        return record

    def lane_number(self, queue: str, labels: Mapping[str, str] | None = None) -> int:
        """The lane of a queue for workers with these labels, which is made if it is new."""
        key = lane_key(queue, labels)
        number = self._lanes.get(key)
        if number is None:
            raw = self.tables.queue.get(key)
            number = self._lanes[key] = (
                int(U32.unpack(raw)[0]) if raw is not None else self._make_lane(key, queue, labels)
            )
        return number

    def _make_lane(self, key: bytes, queue: str, labels: Mapping[str, str] | None) -> int:
        base = self.lane_number(queue) if labels else 0
        self.counters.last_queue += 1
        number = self.counters.last_queue
        self.tables.queue.put(key, U32.pack(number))
        self.tables.lane.put(U32.pack(number), U32.pack(base or number) + key)
        self.effects.lanes_made.append(number)
        return number

    # Executions

    def execution(self, number: int) -> Execution | None:
        """To be changed and put back, or to be looked at once: see recent.py."""
        recent = self._executions.take(number)
        if recent is not None:
            return recent
        raw = self.tables.execution.get(U64.pack(number))
        return None if raw is None else Execution.unpack(raw)

    def known_execution(self, number: int) -> Execution:
        """One that a table or another record names."""
        execution = self.execution(number)
        if execution is None:
            raise self.contradiction(f"execution {number} is named, and is not there")
        return execution

    def contradiction(self, text: str) -> InvariantError:
        """To be raised by those whom the state itself calls."""
        return InvariantError(text)

    def put_execution(self, number: int, execution: Execution) -> None:
        """Stores it as it is now; who changes it afterwards puts it again."""
        self.tables.execution.put(U64.pack(number), execution.pack())
        self._executions.put(number, execution)

    def drop_execution(self, number: int) -> None:
        """It is history that is forgotten."""
        self.tables.execution.delete(U64.pack(number))
        self._executions.take(number)

    def move(self, number: int, execution: Execution, to: ExecutionState) -> None:
        """Changes the state, by a legal move only, and keeps the queue and the counters in step. The caller stores it."""
        if (execution.state, to) not in _LEGAL_MOVES:
            known = ExecutionState(execution.state).name if execution.state else "new"
            raise InvariantError(f"execution {number}: {known} -> {to.name} is not a legal move ({execution})")
        if execution.flags & ExecutionFlag.HELD:
            self._let_go(number, execution)
        before = execution.state
        if before == ExecutionState.QUEUED:
            lines.leave(self, number, execution, starts=to is ExecutionState.RUNNING)
            self.counters.queued -= 1
            self.lane_uses.count(execution.queue, -1, 0)
        if to is ExecutionState.QUEUED:
            lines.join(self, number, execution)
            self.counters.queued += 1
            self.lane_uses.count(execution.queue, 1, 0)
        elif to in FINAL_STATES:
            if execution.end_by_ms:
                wheel.disarm(self.tables.timer, execution.end_by_ms, TimerKind.EXECUTION_TIMEOUT, number)
                execution.end_by_ms = 0
            execution.end_ms = self.now_ms
            self.ended.append(number)
            self.effects.ended.append((number, execution.namespace, to))
            if to is not ExecutionState.DEAD:  # That is in the queue of dead letters.
                self.keeping.put_execution(number, execution)
            if to is ExecutionState.COMPLETED:
                self.counters.completed += 1
            elif to in (ExecutionState.FAILED, ExecutionState.DEAD):
                self.counters.failed += 1
        if execution.deadline_ms and to not in (ExecutionState.QUEUED, ExecutionState.SCHEDULED):
            wheel.disarm(self.tables.timer, execution.deadline_ms, TimerKind.DEADLINE, number)
            execution.deadline_ms = 0
        execution.state = to
        self.search.moved(number, execution, before, to)
        self.note(number, execution, EventKind.EXECUTION_MOVED, before)
        self.effects.changed.append(number)

    def note(self, number: int, execution: Execution, kind: EventKind, before: int) -> None:
        """Tells those who follow what happened to an execution."""
        self.events += EVENT.pack(
            number,
            execution.job,
            execution.due_ms,
            execution.namespace,
            execution.queue,
            execution.worker,
            execution.attempt,
            kind,
            before,
            execution.state,
            execution.attempt_state,
        )

    def note_job(self, job: int, namespace: int, kind: EventKind, due_ms: int = 0) -> None:
        """Tells those who follow what happened to a job."""
        self.events += EVENT.pack(0, job, due_ms, namespace, 0, 0, 0, kind, 0, 0, 0)

    def note_lost_worker(self, worker: int) -> None:
        """Tells those who follow that a worker was not heard from for too long."""
        self.events += EVENT.pack(0, 0, 0, 0, 0, worker, 0, EventKind.WORKER_LOST, 0, 0, 0)

    def hold(self, number: int, execution: Execution) -> None:
        """Makes a new execution wait behind others of its job (see overlap.py). The caller stores it, and counts it."""
        self.move(number, execution, ExecutionState.SCHEDULED)
        execution.flags |= ExecutionFlag.HELD
        self.tables.held.put(PAIR.pack(execution.job, number), b"")

    def _let_go(self, number: int, execution: Execution) -> None:
        """A held execution waits no longer, or will not run."""
        execution.flags &= ~ExecutionFlag.HELD
        job_state = self.job_state(execution.job)
        if job_state is None or not self.tables.held.delete(PAIR.pack(execution.job, number)):
            raise InvariantError(f"execution {number} is held, and not in the line of its job: {execution}")
        job_state.held -= 1
        self.put_job_state(execution.job, job_state)

    def skip(self, number: int, execution: Execution, reason: Reason) -> None:
        """An execution that has not started will not run; its row of the ledger says so. The caller stores it."""
        self.move(number, execution, ExecutionState.SKIPPED)
        detail = self.detail(number, execution)
        detail.reason = reason.text
        self.put_detail(number, execution, detail)
        row = LedgerEntry(LedgerOutcome.SKIPPED, reason, number, execution.due_ms, 1)
        self.tables.ledger.put(ledger_key(number, execution), row.pack())
        self.counters.not_run += 1

    def begin_run(self, number: int, execution: Execution) -> None:
        """The execution of a workflow needs no worker: it runs while others do. The caller stores it."""
        self.move(number, execution, ExecutionState.RUNNING)
        execution.start_ms = execution.start_ms or self.now_ms
        self.runs.append(number)

    def start_attempt(self, number: int, execution: Execution, session: int, worker: int, job_state: JobState) -> None:
        """Gives the execution to a session, under a lease whose token is this entry's index. The caller stores it.

        Whether it may start is asked before: see starting.py.
        """
        execution.attempt += 1
        execution.attempt_state = AttemptState.RUNNING
        execution.token = self.index
        execution.session = session
        execution.worker = worker
        execution.assign_ms = self.now_ms
        execution.flags &= ~ExecutionFlag.HAS_EXIT_CODE
        self.move(number, execution, ExecutionState.RUNNING)
        self.permits.take(execution, job_state)
        self.rules.take(execution.queue, self.now_ms)
        self.lane_uses.count(execution.queue, 0, 1)
        if execution.attempt > 1:
            job_state.retries += 1
            self.put_job_state(execution.job, job_state)
        self.tables.running.put(
            PAIR.pack(session, number),
            RUNNING_VALUE.pack(self.now_ms + job_state.timeout_ms, self.index, execution.attempt),
        )
        self.counters.running += 1
        if execution.attempt == 1:
            self.effects.begun.append((number, max(0, self.now_ms - (execution.planned_ms or execution.due_ms))))
        self.effects.assigned.append(
            (session, number, execution.job, execution.attempt, execution.due_ms, execution.token, execution.flags)
        )

    def end_attempt(self, number: int, execution: Execution, outcome: AttemptState) -> None:
        """Takes the execution from its session and frees the slot. The caller moves and stores it."""
        self.tables.running.delete(PAIR.pack(execution.session, number))
        self.counters.running -= 1
        self.effects.freed.append((execution.session, number))
        execution.attempt_state = outcome
        self.lane_uses.count(execution.queue, 0, -1)
        self.eased += ((limit, execution.queue) for limit in self.permits.give_back(execution))

    def detail(self, number: int, execution: Execution) -> log_pb2.ExecutionRecord:
        record = log_pb2.ExecutionRecord()
        if execution.flags & ExecutionFlag.HAS_DETAIL:
            raw = self.tables.detail.get(U64.pack(number))
            if raw is None:
                raise InvariantError(f"execution {number}: its detail is missing")
            record.ParseFromString(raw)
        return record

    def put_detail(self, number: int, execution: Execution, record: log_pb2.ExecutionRecord) -> None:
        execution.flags |= ExecutionFlag.HAS_DETAIL
        self.tables.detail.put(U64.pack(number), record.SerializeToString(deterministic=True))

    def worker_name(self, worker: int) -> str:
        raw = self.tables.worker_name.get(U32.pack(worker))
        return "" if raw is None else bytes(raw).decode()

    # Ledger

    def is_accounted(self, job: int, due_ms: int) -> bool:
        """Whether a row of the ledger ends at this due time of the schedule."""
        return self.tables.ledger.get(LEDGER_KEY.pack(job, due_ms, 0)) is not None

    def put_not_run(self, job: int, job_state: JobState, last_due_ms: int, entry: LedgerEntry) -> None:
        """Accounts for due times that do not run, up to `last_due_ms`, unless that one is accounted for already.

        The caller stores `job_state`, which counts them.
        """
        if not self.is_accounted(job, last_due_ms):
            self.put_ledger(job, last_due_ms, entry)
            self.keeping.put_idle(job_state.namespace, last_due_ms, job)
            self.counters.not_run += entry.count
            self.effects.not_run.append((job_state.namespace, entry.outcome, entry.count))
            match entry.outcome:
                case LedgerOutcome.SKIPPED:
                    job_state.skipped += entry.count
                case LedgerOutcome.MISSED:
                    job_state.missed += entry.count
                    self.note_job(job, job_state.namespace, EventKind.DUE_TIMES_MISSED, last_due_ms)
                case _:
                    job_state.coalesced += entry.count

    def put_ledger(self, job: int, due_ms: int, entry: LedgerEntry, number: int = 0) -> None:
        """Accounts for a due time. Accounting twice for one is a broken invariant, not an overwrite."""
        if not self.tables.ledger.put_new(LEDGER_KEY.pack(job, due_ms, number), entry.pack()):
            raise InvariantError(f"job {job}: due time {due_ms} is accounted for already")


def ledger_key(number: int, execution: Execution) -> bytes:
    """Where an execution is accounted for. A due time of the schedule has one row, whatever else ran at that instant."""
    return LEDGER_KEY.pack(execution.job, execution.due_ms, 0 if execution.trigger == Trigger.SCHEDULE else number)
