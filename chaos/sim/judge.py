"""The end of a run: what the cluster says happened, read from one node's tables, and the verdict of the one checker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from horologe.chaos.checker import Rule, Verdict, check
from horologe.chaos.checker_bounds import Bound, check_bounds
from horologe.chaos.checker_operations import check_operations, check_pauses
from horologe.chaos.checker_runs import Node, Run, check_runs
from horologe.chaos.history import Due, JobView, LedgerLine, Outcome, Skew
from horologe.chaos.recording_worker import job_number
from horologe.chaos.sim.definitions import SHARED_LIMIT, SHARED_MAX
from horologe.chaos.sim.observer import InvariantBrokenError
from horologe.chaos.sim.workload import Recurring, Workload
from horologe.chaos.sim.world import World
from horologe.log.v1 import log_pb2
from horologe.node.timetable import timetable_of
from horologe.raft.model import (
    FINAL_STATES,
    AttemptState,
    ExecutionFlag,
    ExecutionState,
    LedgerOutcome,
    Reason,
    Trigger,
)
from horologe.raft.records import LEDGER_KEY, PAIR, RUN_HEAD, RUN_NODE, U64, Execution, LedgerEntry
from horologe.raft.tables import Tables
from horologe.v1.job_pb2 import AfterSchedule


def unfinished(tables: Tables) -> list[int]:
    """Executions without a final state."""
    return [
        U64.unpack(key)[0]
        for key, value in tables.execution.scan()
        if Execution.unpack(value).state not in FINAL_STATES
    ]


def has_operations(tables: Tables) -> bool:
    """Whether an operation goes on."""
    record = log_pb2.OperationRecord
    return any(record.FromString(value).state == record.STATE_RUNNING for _, value in tables.operation.scan())


def judge(world: World, workload: Workload, until_ms: int) -> Verdict:
    """Judges what happened, with due times up to `until_ms`. Raises InvariantBrokenError if anything must not have."""
    node = next(node for node in world.nodes.values() if node.is_up and node.store is not None)
    assert node.store is not None
    with node.store.read() as tables:
        records = {U64.unpack(key)[0]: log_pb2.JobRecord.FromString(value) for key, value in tables.job.scan()}
        found = list(_outcomes(tables, records))
        lines = list(_ledger(tables))
        runs = list(_runs(tables, records))
        all_executions = {U64.unpack(key)[0]: Execution.unpack(value) for key, value in tables.execution.scan()}
    states: Any = {number: execution.state for number, execution in all_executions.items()}
    backfilled = frozenset(number for number, one in all_executions.items() if one.trigger == Trigger.BACKFILL)
    twice = list(_filled_although_it_ran(all_executions))
    skew_ms = float(2 * _wall_error_ms(world) + 1)
    names = {record.id: _job_id(record) for record in records.values() if not record.deleted}
    known = {one.number: one for one in workload.recurring if one.stored is not None}
    expected = [due for one in known.values() for due in _expected(one, until_ms, skew_ms)]
    by_number = {record.id: job_number(_job_id(record)) for record in records.values()}
    expanded = [line for row in lines for line in _expanded(row, by_number, known)]
    judged = {line.execution for line in expanded if Due(line.job, line.due_ms) in set(expected)}
    outcomes = [one if one.execution in judged else one._replace(succeeded_token=0) for one in found]
    # What fills gaps is beside the schedule: it answers for due times that the ledger has settled otherwise.
    scheduled = [mark for mark in world.marks if mark.execution not in backfilled]
    verdict = check(
        scheduled,
        expected,
        expanded,
        outcomes,
        skews=[Skew(0, int(world.timeline.now * 1e9), skew_ms)],
        frozen=frozenset(world.frozen),
        policies={number: one.definition.policy for number, one in known.items()},
    )
    bounds = [bound for number, one in known.items() for bound in one.definition.bounds(number)]
    shared = frozenset(number for number, one in known.items() if SHARED_LIMIT in one.definition.job.limits)
    bounds.append(Bound("the shared limit", shared, SHARED_MAX, Rule.LIMIT_EXCEEDED))
    overlaps = [bound for bound in bounds if bound.rule is Rule.RAN_BESIDE]
    check_bounds(verdict, scheduled, overlaps, frozenset(world.frozen))
    check_bounds(verdict, world.marks, [one for one in bounds if one not in overlaps], frozenset(world.frozen))
    for text in [*workload.watcher.gaps, *(workload.watcher.missing(states) if workload.watcher.revision else [])]:
        verdict.note(Rule.EVENT_LOST, text)
    for text in twice:
        verdict.note(Rule.BACKFILLED_AGAIN, text)
    check_runs(verdict, runs, world.marks)
    jobs = [
        JobView(_job_id(record), record.paused, record.job.description)
        for record in records.values()
        if not record.deleted
    ]
    recurring = {one.job for one in workload.recurring}
    operations = [one for one in world.operations if one.kind != "read" and one.job not in recurring]
    check_operations(verdict, operations, jobs, outcomes, world.marks)
    pauses = [one for one in operations if one.kind in ("pause", "resume")]
    numbers = {name: number for number, name in names.items()}
    check_pauses(
        verdict,
        [one for one in pauses if one.job in numbers],
        [LedgerLine(row[0], row[2], row[3], row[5], row[4]) for row in lines],
        numbers,
        skew_ms,
    )
    if verdict.violations:
        rule = min(verdict.violations, key=lambda rule: (rule.criterion, rule.name))
        raise InvariantBrokenError(f"{rule.criterion} {rule.name}", verdict.summary())
    return verdict


def _filled_although_it_ran(executions: dict[int, Execution]) -> Iterable[str]:
    """Backfills of what is missing, for due times for which an execution had ended well before."""
    ran: dict[tuple[int, int], list[tuple[int, Execution]]] = defaultdict(list)
    for number, execution in executions.items():
        if execution.trigger in (Trigger.SCHEDULE, Trigger.BACKFILL):
            ran[execution.job, execution.due_ms].append((number, execution))
    for those in ran.values():
        for number, execution in those:
            if execution.trigger != Trigger.BACKFILL:
                continue
            for other, before in those:
                is_done = before.state == ExecutionState.COMPLETED and before.end_ms <= execution.create_ms
                if other != number and is_done:
                    yield f"execution {number} of job {execution.job}, due {execution.due_ms}, after execution {other}"


def _wall_error_ms(world: World) -> int:
    return world.wall_error_ms_max


def _expected(recurring: Recurring, until_ms: int, skew_ms: float) -> Iterable[Due]:
    """The due times of a job that was never changed, from a moment after its creation on."""
    assert recurring.stored is not None
    stored = recurring.stored
    due_ms: int | None = stored.create_time.ToMilliseconds() + int(skew_ms) + 1_000
    while due_ms is not None:
        due_ms = timetable_of(stored).next_after(due_ms)
        if due_ms is None or due_ms > until_ms:
            return
        yield Due(recurring.number, due_ms)


_Row = tuple[int, int, int, str, str, int]
"""job, first due time, last due time, outcome, reason, execution"""


def _ledger(tables: Tables) -> Iterable[_Row]:
    for key, value in tables.ledger.scan():
        job, due_ms, manual = LEDGER_KEY.unpack(key)
        entry = LedgerEntry.unpack(value)
        if not manual:
            outcome, reason = LedgerOutcome(entry.outcome).name, Reason(entry.reason).name
            yield job, entry.first_due_ms, due_ms, outcome, reason, entry.execution


def _expanded(row: _Row, by_number: dict[int, int], known: dict[int, Recurring]) -> Iterable[LedgerLine]:
    """One line for each due time of a row that stands for several."""
    job, first_ms, last_ms, outcome, reason, execution = row
    number = by_number[job]
    recurring = known.get(number)
    if recurring is None or recurring.stored is None:
        return
    due_ms: int | None = first_ms
    while due_ms is not None and due_ms <= last_ms:
        yield LedgerLine(number, due_ms, outcome, execution if outcome == "RAN" else 0, reason)
        due_ms = timetable_of(recurring.stored).next_after(due_ms)


def _outcomes(tables: Tables, records: dict[int, log_pb2.JobRecord]) -> Iterable[Outcome]:
    for key, value in tables.execution.scan():
        number, execution = U64.unpack(key)[0], Execution.unpack(value)
        succeeded = int(execution.attempt_state == AttemptState.SUCCEEDED)
        if execution.flags & ExecutionFlag.HAS_DETAIL:
            detail = log_pb2.ExecutionRecord.FromString(bytes(tables.detail.get(U64.pack(number)) or b""))
            earlier = [attempt for attempt in detail.attempts if attempt.token != execution.token]
            succeeded += sum(attempt.state == AttemptState.SUCCEEDED for attempt in earlier)
        record = records.get(execution.job)
        yield Outcome(
            number,
            ExecutionState(execution.state).name,
            succeeded,
            _job_id(record) if record is not None else "",
            execution.token if execution.state == ExecutionState.COMPLETED else 0,
        )


def _runs(tables: Tables, records: dict[int, log_pb2.JobRecord]) -> Iterable[Run]:
    for key, value in tables.run.scan():
        root, job = PAIR.unpack(key)
        execution = Execution.unpack(tables.execution.get(U64.pack(root)) or b"")
        if not job and records[execution.job].job.action.HasField("workflow"):
            unfinished, *_ = RUN_HEAD.unpack(value)
            nodes = dict(_nodes(tables, records, root, execution.job))
            yield Run(root, ExecutionState(execution.state).name, unfinished, nodes)


def _nodes(
    tables: Tables, records: dict[int, log_pb2.JobRecord], root: int, workflow: int
) -> Iterable[tuple[str, Node]]:
    for key, value in tables.run.scan(PAIR.pack(root, 1)):
        found, job = PAIR.unpack(key)
        if found != root:
            return
        if job == workflow:
            continue
        number, _ = RUN_NODE.unpack(value)
        execution = Execution.unpack(tables.execution.get(U64.pack(number)) or b"")
        after = records[job].job.schedules[0].after
        condition = AfterSchedule.Condition.Name(after.condition or AfterSchedule.CONDITION_ALL_SUCCEEDED)
        state, short = ExecutionState(execution.state).name, condition.removeprefix("CONDITION_")
        raw = tables.detail.get(U64.pack(number)) if execution.flags & ExecutionFlag.HAS_DETAIL else None
        reason = "" if raw is None else log_pb2.ExecutionRecord.FromString(bytes(raw)).reason
        yield _job_id(records[job]), Node(number, state, short, tuple(after.jobs), reason, bool(execution.attempt_base))


def _job_id(record: log_pb2.JobRecord) -> str:
    return record.job.name.rpartition("/")[2]
