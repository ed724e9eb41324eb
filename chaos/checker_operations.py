"""Judges what callers were promised: acknowledged operations are there, unknown ones happened wholly or not at all. Pure.

Each job is changed by one caller, who makes one call at a time and asks again, under the same request id, until the answer
is known or the caller gives up. So the operations of a job are a sequence, and the model of a job is what the last of them
left; only what was given up leaves two possibilities.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from horologe.chaos.checker import Rule, Verdict
from horologe.chaos.evidence import Kind, Mark
from horologe.chaos.history import Answer, JobView, Leadership, LedgerLine, Operation, Outcome


def count_answers(operations: Iterable[Operation]) -> dict[str, int]:
    """Calls by what became of them."""
    found = Counter(operation.answer.value for operation in operations)
    return {answer.value: found[answer.value] for answer in Answer}


def check_operations(
    verdict: Verdict,
    operations: Sequence[Operation],
    jobs: Iterable[JobView],
    outcomes: Iterable[Outcome],
    marks: Iterable[Mark],
) -> None:
    """Compares what was answered with the final read."""
    found = {view.job: view for view in jobs}
    states = {outcome.execution: outcome for outcome in outcomes}
    _check_answers(verdict, operations)
    _check_created(verdict, operations, found)
    _check_last_change(verdict, operations, found)
    _check_runs(verdict, operations, states.values())
    _check_cancels(verdict, operations, states, marks)


def _check_answers(verdict: Verdict, operations: Iterable[Operation]) -> None:
    """The same request never gets two different answers."""
    answers: dict[str, set[str]] = defaultdict(set)
    for operation in operations:
        if operation.answer is Answer.OK and operation.kind == "run":
            answers[operation.request_id].add(operation.detail)
    for request_id, details in answers.items():
        if len(details) > 1:
            verdict.note(Rule.DONE_TWICE, f"request {request_id} was answered {sorted(details)}")


def _check_created(verdict: Verdict, operations: Sequence[Operation], found: Mapping[str, JobView]) -> None:
    deleted = {operation.job: operation.answer for operation in operations if operation.kind == "delete"}
    for job, answer in deleted.items():
        if answer is Answer.OK and job in found:
            verdict.note(Rule.ACKNOWLEDGED_LOST, f"deleted, and still there: {job}")
    for operation in operations:
        if operation.kind != "create" or operation.job in deleted:
            continue
        wanted = operation.job.split(",")
        there = [job for job in wanted if job in found]
        if operation.answer is Answer.OK and len(there) < len(wanted):
            verdict.note(Rule.ACKNOWLEDGED_LOST, f"created, and not there: {sorted(set(wanted) - set(there))}")
        elif 0 < len(there) < len(wanted):
            verdict.note(Rule.HALF_DONE, f"of {wanted} only {there} are there")


def _check_last_change(verdict: Verdict, operations: Iterable[Operation], found: Mapping[str, JobView]) -> None:
    """Pauses and updates: the job is as the last acknowledged change left it, or as one that was given up since."""
    paused: dict[str, set[bool]] = {}
    described: dict[str, set[str]] = {}
    for operation in _settled(operations):
        job, is_known = operation.job, operation.answer is Answer.OK
        if operation.kind in ("pause", "resume"):
            value = operation.kind == "pause"
            paused[job] = {value} if is_known else paused.get(job, {False}) | {value}
        elif operation.kind == "update":
            described[job] = {operation.argument} if is_known else described.get(job, {""}) | {operation.argument}
    for job, view in found.items():
        if job in paused and view.paused not in paused[job]:
            verdict.note(
                Rule.ACKNOWLEDGED_LOST, f"{job} is {'' if view.paused else 'not '}paused, its caller knows better"
            )
        if job in described and view.description not in described[job]:
            verdict.note(Rule.ACKNOWLEDGED_LOST, f"{job} says {view.description!r}, not {sorted(described[job])}")


def _settled(operations: Iterable[Operation]) -> list[Operation]:
    """One operation per request: its answer if one came, else the last try. Refused ones changed nothing and are left out."""
    last: dict[str, Operation] = {}
    for operation in operations:
        before = last.get(operation.request_id)
        if before is None or before.answer is Answer.UNKNOWN:
            last[operation.request_id] = operation
    return [operation for operation in last.values() if operation.answer is not Answer.FAILED]


def _check_runs(verdict: Verdict, operations: Iterable[Operation], outcomes: Iterable[Outcome]) -> None:
    """Each acknowledged run is one execution, and there are no more executions than runs that were asked for."""
    asked: dict[str, list[Operation]] = defaultdict(list)
    for operation in _settled(operations):
        if operation.kind == "run":
            asked[operation.job].append(operation)
    executions: dict[str, set[int]] = defaultdict(set)
    for outcome in outcomes:
        executions[outcome.job].add(outcome.execution)
    for job, runs in asked.items():
        known = {int(run.detail) for run in runs if run.answer is Answer.OK}
        for execution in sorted(known - executions[job]):
            verdict.note(Rule.ACKNOWLEDGED_LOST, f"execution {execution} of {job} was acknowledged, and is not there")
        if len(executions[job]) > len(runs):
            verdict.note(Rule.DONE_TWICE, f"{job} was run {len(runs)} times and has {len(executions[job])} executions")


def _check_cancels(
    verdict: Verdict, operations: Iterable[Operation], states: Mapping[int, Outcome], marks: Iterable[Mark]
) -> None:
    cancelled: dict[int, Operation] = {}
    for operation in operations:
        if operation.kind == "cancel" and operation.answer is Answer.OK:
            cancelled.setdefault(int(operation.argument), operation)
    for execution in cancelled:
        state = states[execution].state if execution in states else "not there"
        if state != "CANCELLED":
            verdict.note(Rule.ACKNOWLEDGED_LOST, f"execution {execution} is {state} after its cancellation")
    for mark in marks:
        cancel = cancelled.get(mark.execution)
        if cancel is None or mark.kind != Kind.STARTED or mark.monotonic_ns <= cancel.answered_ns:
            continue
        # An attempt that had been granted by then may be on its way to the worker, with its cancellation behind it.
        _, _, token = cancel.detail.partition(":")
        if mark.token > int(token or 0):
            verdict.note(Rule.STARTED_AFTER_CANCEL, f"{mark}, cancelled under token {token}")


def check_pauses(
    verdict: Verdict,
    operations: Iterable[Operation],
    ledger: Iterable[LedgerLine],
    numbers: Mapping[str, int],
    clock_skew_ms: float,
) -> None:
    """No due time ran that came between an acknowledged pause and the next resume. `numbers`: of jobs in the ledger."""
    pauses: dict[int, list[tuple[float, float]]] = defaultdict(list)
    since: dict[str, float] = {}
    for operation in operations:
        if operation.kind == "pause" and operation.answer is Answer.OK:
            since.setdefault(operation.job, operation.answered_ms)
        elif operation.kind == "resume" and operation.job in since:
            # From the first try on, whatever came of it.
            begin = since.pop(operation.job) + clock_skew_ms
            pauses[numbers[operation.job]].append((begin, operation.sent_ms - clock_skew_ms))
    for line in ledger:
        spans = pauses.get(line.job, [])
        position = bisect.bisect_right(spans, (line.due_ms, float("inf"))) - 1
        if line.outcome == "RAN" and position >= 0 and line.due_ms < spans[position][1]:
            verdict.note(Rule.RAN_WHILE_PAUSED, f"{line}")


def check_leaders(verdict: Verdict, leaderships: Iterable[Leadership]) -> None:
    """No two leaders of one term, as far as anybody asked."""
    leaders: dict[int, set[str]] = defaultdict(set)
    for leadership in leaderships:
        leaders[leadership.term].add(leadership.node)
    for term, nodes in leaders.items():
        if len(nodes) > 1:
            verdict.note(Rule.TWO_LEADERS, f"term {term}: {sorted(nodes)}")
