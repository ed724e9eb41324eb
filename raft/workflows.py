"""Runs: what follows in other jobs when an execution begins or ends.

A run is named by its *root*, the execution of a workflow or of any job that others are after. Table `run` holds its head, at
(root, 0): how many of its nodes are not finished and how many ended badly; and for each node that is decided, at (root, job),
its latest execution, and how that ended. Whenever a node ends, those after it are decided: they start, or are skipped, or go on
waiting. So nothing waits when no node is unfinished, and then the run is over.

Called by settling.py, but for `rejoin`. Which jobs are after which is in dependencies.py, and how parts run again in reruns.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from horologe.log.v1 import log_pb2
from horologe.raft import beside, owners
from horologe.raft.cancellation import cancel_one
from horologe.raft.creation import new_execution, new_skipped
from horologe.raft.dependencies import NAMES_TOLD_MAX, downstream_of, short_name
from horologe.raft.model import ExecutionFlag, ExecutionState, JobFlag, LedgerOutcome, Reason, Trigger
from horologe.raft.overlap import REFUSALS, Admission, admit
from horologe.raft.records import PAIR, RUN_HEAD, RUN_NODE, U64, Execution, JobState, LedgerEntry
from horologe.raft.state import InvariantError, State
from horologe.raft.tallies import BAD_STATES, Fate, Tally, count_upstream


@dataclass(slots=True)
class Run:
    """One run, as a command changes it."""

    state: State
    root: int
    due_ms: int
    is_cancelled: bool
    unfinished: int = 0
    bad: int = 0
    tallies: int = 0
    latest: tuple[int, int] = (0, 0)
    """The job that has ended last, and how."""

    @classmethod
    def open(cls, state: State, root: int) -> Run:
        execution = state.execution(root)
        if execution is None:
            raise InvariantError(f"the run of execution {root} is not over, but its root is gone")
        is_cancelled = is_workflow(state, execution) and bool(execution.flags & ExecutionFlag.CANCEL_REQUESTED)
        run = cls(state, root, execution.due_ms, is_cancelled)
        raw = state.tables.run.get(PAIR.pack(root, 0))
        if raw is not None:
            run.unfinished, run.bad, run.tallies = RUN_HEAD.unpack(raw)
        return run

    def save(self) -> None:
        self.state.tables.run.put(PAIR.pack(self.root, 0), RUN_HEAD.pack(self.unfinished, self.bad, self.tallies))

    def node(self, job: int) -> tuple[int, int] | None:
        """The node's latest execution and how that ended (0: it has not); None while nothing is decided."""
        raw = self.state.tables.run.get(PAIR.pack(self.root, job))
        return None if raw is None else RUN_NODE.unpack(raw)

    def nodes(self) -> Iterator[tuple[int, int, int]]:
        """Job, execution and final state of each node that is decided."""
        for key, value in self.state.tables.run.scan(PAIR.pack(self.root, 1)):
            root, job = PAIR.unpack(key)
            if root != self.root:
                return
            yield job, *RUN_NODE.unpack(value)

    def put_node(self, job: int, number: int, final_state: int) -> None:
        self.state.tables.run.put(PAIR.pack(self.root, job), RUN_NODE.pack(number, final_state))

    def decide_all_after(self, job: int, ended: int) -> None:
        """A job has `ended` in this state."""
        self.latest = (job, ended)
        for below in list(downstream_of(self.state.tables, job)):
            self._upstream_ended(below, ended)

    def _upstream_ended(self, job: int, ended: int) -> None:
        job_state = self.state.job_state(job)
        if self.node(job) is not None or job_state is None:
            return
        if self.is_cancelled:
            self.drop_tally(job)
            self.decide(job)
            return
        key = PAIR.pack(self.root, job)
        raw = self.state.tables.tally.get(key)
        tally = Tally.unpack(raw) if raw is not None else None
        if tally is not None and tally.revision == job_state.revision:
            tally.add(ended)
        else:
            tally = count_upstream(self.state.tables, self.root, job, job_state.revision)
        if tally.fate() is Fate.WAIT:
            self.tallies += raw is None
            self.state.tables.tally.put(key, tally.pack())
        else:
            self.drop_tally(job)
            self.decide(job, tally.fate())

    def drop_tally(self, job: int) -> None:
        self.tallies -= self.state.tables.tally.delete(PAIR.pack(self.root, job))

    def decide(self, job: int, fate: Fate | None = None) -> None:
        """Starts or skips a node that nothing is decided about, if its upstream jobs (or `fate`) say so."""
        job_state = self.state.job_state(job)
        if self.node(job) is not None or job_state is None or job_state.flags & JobFlag.DELETED:
            return
        if self.is_cancelled:
            self._skip(job, job_state, Reason.RUN_CANCELLED)
            return
        match fate or count_upstream(self.state.tables, self.root, job, job_state.revision).fate():
            case Fate.START:
                self._start(job, job_state)
            case Fate.SKIP:
                self._skip(job, job_state, Reason.UPSTREAM)

    def _start(self, job: int, job_state: JobState) -> None:
        if job_state.flags & JobFlag.PAUSED:
            self._skip(job, job_state, Reason.PAUSED)
            return
        if not owners.may_run(self.state, job, job_state):
            self._skip(job, job_state, Reason.NOT_PERMITTED)
            return
        admission = admit(self.state, job, job_state)
        if admission in REFUSALS:
            self._skip(job, job_state, REFUSALS[admission][0])
            return
        held = admission is Admission.HOLD
        number, execution = new_execution(
            self.state, job, job_state, self.due_ms, Trigger.DEPENDENCY, None, planned_ms=self.state.now_ms, held=held
        )
        execution.flags |= ExecutionFlag.HAS_UPSTREAM
        row = LedgerEntry(LedgerOutcome.RAN, Reason.NONE, number, self.due_ms, 1)
        self.state.put_ledger(job, self.due_ms, row, number)
        self._add(job, job_state, number, execution)

    def _skip(self, job: int, job_state: JobState, reason: Reason) -> None:
        number, execution = new_skipped(self.state, job, job_state, self.due_ms, Trigger.DEPENDENCY, reason)
        upstream, ended = self.latest
        if reason is Reason.UPSTREAM and upstream:
            detail = self.state.detail(number, execution)
            detail.reason = f"{reason.text}: {_name(self.state, upstream)} {ExecutionState(ended).name}"
            self.state.put_detail(number, execution, detail)
        self._add(job, job_state, number, execution)

    def _add(self, job: int, job_state: JobState, number: int, execution: Execution) -> None:
        execution.root = self.root
        self.state.put_execution(number, execution)
        self.state.put_job_state(job, job_state)
        self.put_node(job, number, 0)
        self.unfinished += 1

    def finish(self) -> None:
        """Stores the head, and ends the execution of the workflow when nothing of it is left to wait for."""
        if not self.unfinished and self.tallies:
            self._drop_tallies()
        self.save()
        if self.unfinished:
            return
        execution = self.state.execution(self.root)
        if execution is None or not is_workflow(self.state, execution) or execution.state != ExecutionState.RUNNING:
            return
        to = ExecutionState.FAILED if self.bad else ExecutionState.COMPLETED
        if self.is_cancelled:
            to = ExecutionState.CANCELLED
        elif self.bad:
            detail = self.state.detail(self.root, execution)
            detail.reason = self._what_went_wrong()
            self.state.put_detail(self.root, execution, detail)
        self.state.move(self.root, execution, to)
        self.state.put_execution(self.root, execution)

    def _drop_tallies(self) -> None:
        """Of nodes that wait for what does not come any more: their definitions were changed on the way."""
        keys = []
        for key, _ in self.state.tables.tally.scan(PAIR.pack(self.root, 0)):
            if PAIR.unpack(key)[0] != self.root:
                break
            keys.append(PAIR.unpack(key)[1])
        for job in keys:
            self.drop_tally(job)

    def _what_went_wrong(self) -> str:
        bad = [(job, ended) for job, _, ended in self.nodes() if ended in BAD_STATES]
        told = [f"{_name(self.state, job)} {ExecutionState(ended).name}" for job, ended in bad[:NAMES_TOLD_MAX]]
        more = len(bad) - len(told)
        return f"did not end well: {', '.join(told)}" + (f" and {more} more" if more else "")


def begin_run(state: State, root: int) -> None:
    """Starts what is first in a workflow whose execution has just begun; or ends all of one that is to be cancelled."""
    execution = state.execution(root)
    if execution is None or execution.state != ExecutionState.RUNNING:
        return
    run = Run.open(state, root)
    if run.is_cancelled:
        _cancel_nodes(run)
        if run.node(execution.job) is not None:
            return
    run.put_node(execution.job, root, ExecutionState.COMPLETED)
    run.decide_all_after(execution.job, ExecutionState.COMPLETED)
    run.finish()


def node_ended(state: State, number: int, execution: Execution) -> None:
    """An execution that belongs to a run, or that others are after, has ended: decides those after it."""
    if is_workflow(state, execution):
        return
    if not execution.root:
        # Others have come after its job since it began.
        execution.root = number
        state.put_execution(number, execution)
    run = Run.open(state, execution.root)
    if number == execution.root and run.node(execution.job) is None:
        run.put_node(execution.job, number, 0)
        run.unfinished += 1
    known = run.node(execution.job)
    if known is None or known[0] != number:
        raise InvariantError(f"execution {number} is none of the run of execution {execution.root}: {execution}")
    run.put_node(execution.job, number, execution.state)
    run.unfinished -= 1
    run.bad += execution.state in BAD_STATES
    run.decide_all_after(execution.job, execution.state)
    run.finish()


def rejoin(state: State, number: int, execution: Execution) -> None:
    """A dead letter is driven again: its run goes on, and what was skipped after it is open once more. The caller stores it."""
    root = state.execution(execution.root) if execution.root else None
    if root is None:
        # What is left of its run is history that is being dropped.
        if execution.root:
            state.tables.run.delete(PAIR.pack(execution.root, execution.job))
        execution.root = 0
        execution.flags &= ~ExecutionFlag.HAS_UPSTREAM
        return
    run = Run.open(state, execution.root)
    run.put_node(execution.job, number, 0)
    run.unfinished += 1
    run.bad -= 1
    line = [execution.job]
    for job in line:
        for below in list(downstream_of(state.tables, job)):
            node = run.node(below)
            run.drop_tally(below)
            if node is not None and node[1] == ExecutionState.SKIPPED:
                state.tables.run.delete(PAIR.pack(run.root, below))
                line.append(below)
    if is_workflow(state, root) and root.state != ExecutionState.RUNNING:
        revive(state, run.root, root)
    run.save()


def revive(state: State, number: int, execution: Execution) -> None:
    """The workflow's execution is not finished any more, and was never counted as ended."""
    job_state = state.job_state(execution.job)
    if job_state is None:
        raise InvariantError(f"job {execution.job} is gone although it has executions")
    job_state.unfinished += 1
    match execution.state:
        case ExecutionState.COMPLETED:
            job_state.completed -= 1
            state.counters.completed -= 1
        case ExecutionState.FAILED:
            job_state.failed -= 1
            state.counters.failed -= 1
        case _:
            job_state.cancelled -= 1
    state.put_job_state(execution.job, job_state)
    state.keeping.take_execution(number, execution)
    state.move(number, execution, ExecutionState.RUNNING)
    execution.end_ms = 0
    # A backfill has counted it already.
    execution.operation = 0
    beside.note(state, number, execution)
    execution.flags &= ~ExecutionFlag.CANCEL_REQUESTED
    if execution.flags & ExecutionFlag.HAS_DETAIL:
        detail = state.detail(number, execution)
        detail.reason = ""
        state.put_detail(number, execution, detail)
    state.put_execution(number, execution)


def is_workflow(state: State, execution: Execution) -> bool:
    job_state = state.job_state(execution.job)
    return job_state is not None and bool(job_state.flags & JobFlag.WORKFLOW)


def _cancel_nodes(run: Run) -> None:
    """Their ends decide over the rest: in a run that is to be cancelled, nothing starts any more."""
    for number in [number for _, number, ended in run.nodes() if not ended]:
        execution = run.state.execution(number)
        if execution is not None:
            cancel_one(run.state, number, execution, f"the run of execution {run.root} was cancelled")


def _name(state: State, job: int) -> str:
    raw = state.tables.job.get(U64.pack(job))
    return "" if raw is None else short_name(log_pb2.JobRecord.FromString(bytes(raw)).job.name)
