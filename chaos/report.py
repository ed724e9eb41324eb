"""What came of a chaos run: a summary for people, and the same as data."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

from horologe.chaos.checker import CRITERIA
from horologe.chaos.delays import Delays, delays_by_phase, first_starts
from horologe.chaos.history import Answer
from horologe.chaos.run import Run

REFUSALS_MAX = 10


def struck(run: Run) -> dict[str, int]:
    """How often each fault of the plan struck, those that never did included."""
    counts = Counter(name for strike in run.nemesis.strikes for name in strike.fault.split(" + "))
    return {kind.name: counts[kind.name] for kind in run.plan.faults if kind.name not in run.impossible}


def delays(run: Run) -> dict[str, tuple[int, Delays]]:
    """Start delays by phase: of scheduled jobs, first attempts, by what was wrong when they were due."""
    starts = first_starts(mark for mark in run.history.marks if mark.job in run.history.policies)
    return delays_by_phase(starts, run.history.phases, run.history.wall_minus_monotonic_ms)


def refusals(run: Run) -> dict[str, int]:
    """Why operations failed, as the cluster said; what names one thing only is left out."""
    said = Counter(
        f"{operation.kind}: {re.sub(r'[0-9]+', 'N', operation.detail)}"
        for operation in run.history.operations
        if operation.answer is Answer.FAILED
    )
    return dict(said.most_common(REFUSALS_MAX))


def to_record(run: Run) -> dict[str, object]:
    """Everything as plain data."""
    return {
        "sound": run.is_sound,
        "seed": run.plan.seed,
        "nodes": run.plan.nodes,
        "workers": run.plan.workers,
        "callers": run.plan.callers,
        "rate": run.plan.rate,
        "seconds": round((run.until_ns - run.from_ns) / 1e9, 1),
        "network": run.network,
        "load": run.load,
        "impossible": run.impossible,
        "struck": struck(run),
        "reached": run.reached,
        "digests": run.history.digests,
        "due_times": run.verdict.due,
        "executions": run.verdict.executions,
        "starts": run.verdict.starts,
        "left_out": dict(run.verdict.not_run),
        "frozen_overlaps": run.verdict.frozen_overlaps,
        "criteria": run.verdict.by_criterion(),
        "violations": {rule.name: count for rule, count in run.verdict.violations.items()},
        "details": run.verdict.details,
        "refusals": refusals(run),
        "delays_ms": {name: {"starts": count, **asdict(found)} for name, (count, found) in delays(run).items()},
        "strikes": [
            {
                "fault": strike.fault,
                "what": strike.line,
                "begin_seconds": round((strike.begin_ns - run.from_ns) / 1e9, 2),
                "lasted_seconds": round((strike.end_ns - strike.begin_ns) / 1e9, 2),
                "recovered_seconds": round((strike.steady_ns - strike.end_ns) / 1e9, 2) if strike.steady_ns else None,
            }
            for strike in run.nemesis.strikes
        ],
    }


def operation_lines(run: Run) -> Iterator[str]:
    """What callers asked and were told, one object of JSON to a line, for a look afterwards."""
    for operation in run.history.operations:
        yield json.dumps({**operation._asdict(), "answer": operation.answer.value}) + "\n"


def summary(run: Run) -> str:
    """For people."""
    verdict, plan = run.verdict, run.plan
    seconds = (run.until_ns - run.from_ns) / 1e9
    lines = [
        f"{seconds:.0f} s, {plan.nodes} nodes, {plan.workers} workers, {plan.callers} callers, seed {plan.seed}",
        f"network: {run.network}",
        f"load: {run.load}",
        "",
        f"due times {verdict.due}, executions {verdict.executions}, starts {verdict.starts}",
        f"left out by policy: {', '.join(f'{key} {count}' for key, count in verdict.not_run.items()) or 'none'}",
        *(f"{key}: {count}" for key, count in run.reached.items()),
        f"states of {len(run.history.digests)} members at one revision: {len(set(run.history.digests.values()))} different",
        f"overlaps with a worker that had been stopped (known limit): {verdict.frozen_overlaps}",
        "",
        "faults:",
        *_columns([(name, str(count)) for name, count in struck(run).items()]),
        *(f"  not possible here: {name}: {reason}" for name, reason in run.impossible.items()),
        "",
        "delay from due time to start, ms, by what was wrong at the due time:",
        *_columns([("", "starts", "p50", "p99", "p99.9", "max"), *_delay_rows(run)]),
        "",
        *(
            f"{name} {'holds   ' if not count else f'VIOLATED {count} times'} {CRITERIA[name]}"
            for name, count in verdict.by_criterion().items()
        ),
        *(f"  {rule.name}: {count} {rule.words}" for rule, count in verdict.violations.items()),
        *(f"  {detail}" for detail in verdict.details),
        "",
        "sound" if run.is_sound else "NOT SOUND",
    ]
    return "\n".join(lines)


def _delay_rows(run: Run) -> list[tuple[str, ...]]:
    return [
        (name, str(count), *(f"{value:,.0f}" for value in asdict(found).values()))
        for name, (count, found) in delays(run).items()
    ]


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    """The first column to the left, the others to the right."""
    if not rows:
        return []
    widths = [max(len(row[position]) for row in rows) for position in range(len(rows[0]))]
    return [
        "  "
        + row[0].ljust(widths[0])
        + "".join(cell.rjust(width + 2) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
