"""What may run at a time: judged by what handlers saw, against the bounds that jobs, limits and overlap policies set.

An attempt runs from its start to the end that it wrote down. One without an end was in a process that was killed, and ended with
it, which nobody could write down: it is left out, as are executions of processes that were stopped from outside.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from horologe.chaos.checker import Rule, Verdict
from horologe.chaos.evidence import Kind, Mark


class Bound(NamedTuple):
    """So many executions of these jobs run at a time, and no more."""

    name: str
    jobs: frozenset[int]
    """The numbers at the end of their ids."""
    running_max: int
    rule: Rule


class _Change(NamedTuple):
    at_ns: int
    step: int
    """-1 for an end, 1 for a start: at one instant, ends come first."""
    mark: Mark


def check_bounds(
    verdict: Verdict, marks: Iterable[Mark], bounds: Sequence[Bound], frozen: frozenset[int] = frozenset()
) -> None:
    """Notes every start beyond a bound."""
    by_job = _changes_by_job([mark for mark in marks if mark.execution not in frozen])
    for bound in bounds:
        running: set[int] = set()
        for change in sorted(change for job in bound.jobs for change in by_job.get(job, ())):
            if change.step < 0:
                running.discard(change.mark.execution)
                continue
            running.add(change.mark.execution)
            if len(running) > bound.running_max:
                others = sorted(running - {change.mark.execution})
                verdict.note(bound.rule, f"{bound.name} allows {bound.running_max}: {change.mark} beside {others}")


def _changes_by_job(marks: Sequence[Mark]) -> Mapping[int, list[_Change]]:
    starts = {(mark.execution, mark.token): mark for mark in marks if mark.kind == Kind.STARTED}
    changes: dict[int, list[_Change]] = defaultdict(list)
    for mark in marks:
        start = starts.get((mark.execution, mark.token))
        # What took no time was beside nobody.
        if mark.kind in (Kind.ENDED, Kind.STOPPED) and start is not None and mark.monotonic_ns > start.monotonic_ns:
            changes[mark.job] += (_Change(start.monotonic_ns, 1, start), _Change(mark.monotonic_ns, -1, mark))
    return changes
