"""The checkers of bounds and of runs, each with evidence that must pass and evidence that must not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from horologe.chaos.checker import Rule, Verdict
from horologe.chaos.checker_bounds import Bound, check_bounds
from horologe.chaos.checker_runs import Node, Run, check_runs
from horologe.chaos.evidence import Kind, Mark


def _mark(kind: Kind, execution: int, at_ms: int, job: int = 1, token: int = 0) -> Mark:
    return Mark(kind, execution, 1, token or execution, job, 0, at_ms * 1000, at_ms * 1_000_000)


def _ran(execution: int, from_ms: int, until_ms: int, job: int = 1) -> list[Mark]:
    return [_mark(Kind.STARTED, execution, from_ms, job), _mark(Kind.ENDED, execution, until_ms, job)]


@pytest.mark.parametrize(
    ("marks", "broken"),
    [
        ([*_ran(1, 0, 10), *_ran(2, 10, 20)], 0),
        ([*_ran(1, 0, 10), *_ran(2, 9, 20)], 1),
        ([*_ran(1, 0, 10), *_ran(2, 5, 6, job=2), *_ran(3, 7, 9, job=2)], 2),
        # Another job, an attempt that took no time, and one whose process was killed.
        ([*_ran(1, 0, 10), *_ran(2, 5, 6, job=3)], 0),
        ([*_ran(1, 0, 10), *_ran(2, 5, 5)], 0),
        ([_mark(Kind.STARTED, 1, 0), *_ran(2, 5, 6)], 0),
    ],
)
def test_so_many_at_a_time(marks: Sequence[Mark], broken: int) -> None:
    verdict = Verdict()
    check_bounds(verdict, marks, [Bound("one", frozenset({1, 2}), 1, Rule.LIMIT_EXCEEDED)])
    assert verdict.violations[Rule.LIMIT_EXCEEDED] == broken, verdict.details


def test_attempts_of_one_execution_are_not_beside_each_other_and_frozen_ones_are_not_judged() -> None:
    bound = Bound("one", frozenset({1}), 1, Rule.RAN_BESIDE)
    again = [_mark(Kind.STARTED, 1, 5, token=9), _mark(Kind.ENDED, 1, 12, token=9)]
    verdict = Verdict()
    check_bounds(verdict, [*_ran(1, 0, 10), *again], [bound])
    check_bounds(verdict, [*_ran(1, 0, 10), *_ran(2, 5, 6)], [bound], frozenset({1}))
    assert not verdict.violations


A, B = "a", "b"
MARKS = [*_ran(11, 0, 10), *_ran(12, 10, 20)]


@pytest.mark.parametrize(
    ("run", "marks", "rule"),
    [
        (Run(1, "COMPLETED", 0, {A: Node(11, "COMPLETED"), B: Node(12, "COMPLETED", upstream=(A,))}), MARKS, None),
        (Run(1, "FAILED", 0, {A: Node(11, "DEAD"), B: Node(12, "SKIPPED", upstream=(A,), reason="upstream")}), [], None),
        (Run(1, "FAILED", 0, {A: Node(11, "DEAD"), B: Node(12, "COMPLETED", "ANY_FAILED", (A,))}), MARKS, None),
        (Run(1, "COMPLETED", 0, {A: Node(11, "COMPLETED"), B: Node(12, "SKIPPED", "ALL_DONE", (A,), "paused")}), [], None),
        (Run(1, "RUNNING", 1, {A: Node(11, "RUNNING")}), [], Rule.RUN_NOT_OVER),
        (Run(1, "COMPLETED", 0, {A: Node(11, "DEAD")}), [], Rule.RUN_ENDED_OTHERWISE),
        (Run(1, "FAILED", 0, {A: Node(11, "COMPLETED")}), [], Rule.RUN_ENDED_OTHERWISE),
        (
            Run(1, "COMPLETED", 0, {A: Node(11, "COMPLETED"), B: Node(12, "SKIPPED", upstream=(A,), reason="upstream")}),
            [],
            Rule.RUN_ENDED_OTHERWISE,
        ),
        (
            Run(1, "COMPLETED", 0, {A: Node(11, "COMPLETED"), B: Node(12, "COMPLETED", upstream=(A,))}),
            [*_ran(11, 0, 10), *_ran(12, 9, 20)],
            Rule.RUN_OUT_OF_ORDER,
        ),
        (Run(1, "FAILED", 0, {A: Node(11, "DEAD"), B: Node(12, "FAILED", upstream=(A,))}), MARKS, Rule.RUN_OUT_OF_ORDER),
    ],
)  # fmt: skip
def test_runs_keep_their_order_and_end_as_their_nodes(run: Run, marks: Sequence[Mark], rule: Rule | None) -> None:
    verdict = Verdict()
    check_runs(verdict, [run], marks)
    assert verdict.runs == 1
    assert (rule in verdict.violations) if rule else not verdict.violations, verdict.details
