"""What callers were promised: each way of breaking a promise is found, and an honest history is not accused."""

from __future__ import annotations

import pytest

from horologe.chaos.checker import Rule, Verdict
from horologe.chaos.checker_operations import check_leaders, check_operations, check_pauses, count_answers
from horologe.chaos.evidence import Kind, Mark
from horologe.chaos.history import Answer, JobView, Leadership, LedgerLine, Operation, Outcome

OK, FAILED, UNKNOWN = Answer.OK, Answer.FAILED, Answer.UNKNOWN


def _asked(
    kind: str, job: str, answer: Answer, detail: str = "", argument: str = "", *, request: str = "", at_ms: int = 1_000
) -> Operation:
    sent_ns = at_ms * 1_000_000
    request = request or f"{kind}-{job}-{argument}-{at_ms}"
    return Operation(kind, job, request, "n1", sent_ns, sent_ns + 1_000_000, at_ms, at_ms + 1, answer, detail, argument)


def _judged(operations: list[Operation], jobs: list[JobView], outcomes: list[Outcome], marks: list[Mark]) -> Verdict:
    verdict = Verdict()
    check_operations(verdict, operations, jobs, outcomes, marks)
    return verdict


A, B = JobView("a", paused=False, description=""), JobView("b", paused=False, description="")
RUN, CANCEL = _asked("run", "a", OK, "7"), _asked("cancel", "a", OK, "RUNNING:40", "7")


def _start(token: int, at_ms: int) -> Mark:
    return Mark(Kind.STARTED, 7, 1, token, 1, 1_000, at_ms * 1_000, at_ms * 1_000_000)


@pytest.mark.parametrize(
    ("operations", "jobs", "outcomes", "marks"),
    [
        ([_asked("create", "a", OK), RUN], [A], [Outcome(7, "COMPLETED", job="a")], []),
        ([_asked("create", "a,b", UNKNOWN)], [], [], []),
        ([_asked("create", "a,b", UNKNOWN)], [A, B], [], []),
        # Unknown at first, and known when it was asked again under the same id.
        (
            [_asked("run", "a", UNKNOWN, request="r"), _asked("run", "a", OK, "7", request="r", at_ms=2_000)],
            [A],
            [Outcome(7, "COMPLETED", job="a")],
            [],
        ),
        ([_asked("run", "a", UNKNOWN)], [A], [], []),
        ([_asked("pause", "a", OK), _asked("resume", "a", UNKNOWN, at_ms=2_000)], [A], [], []),
        ([_asked("update", "a", OK, argument="x"), _asked("update", "a", FAILED, argument="y")],
         [JobView("a", paused=False, description="x")], [], []),
        ([RUN, CANCEL], [A], [Outcome(7, "CANCELLED", job="a")], [_start(40, 900), _start(40, 1_500)]),
    ],
)  # fmt: skip
def test_an_honest_history_is_sound(
    operations: list[Operation], jobs: list[JobView], outcomes: list[Outcome], marks: list[Mark]
) -> None:
    assert _judged(operations, jobs, outcomes, marks).violations == {}


@pytest.mark.parametrize(
    ("rule", "operations", "jobs", "outcomes", "marks"),
    [
        (Rule.ACKNOWLEDGED_LOST, [_asked("create", "a", OK)], [], [], []),
        (Rule.HALF_DONE, [_asked("create", "a,b", UNKNOWN)], [A], [], []),
        (Rule.ACKNOWLEDGED_LOST, [_asked("pause", "a", OK)], [A], [], []),
        (Rule.ACKNOWLEDGED_LOST, [_asked("update", "a", OK, argument="x")], [A], [], []),
        (Rule.ACKNOWLEDGED_LOST, [RUN], [A], [], []),
        (Rule.DONE_TWICE, [RUN], [A], [Outcome(7, "COMPLETED", job="a"), Outcome(8, "COMPLETED", job="a")], []),
        (
            Rule.DONE_TWICE,
            [_asked("run", "a", OK, "7", request="r"), _asked("run", "a", OK, "8", request="r")],
            [A],
            [Outcome(7, "COMPLETED", job="a")],
            [],
        ),
        (Rule.ACKNOWLEDGED_LOST, [RUN, CANCEL], [A], [Outcome(7, "COMPLETED", job="a")], []),
        (Rule.STARTED_AFTER_CANCEL, [RUN, CANCEL], [A], [Outcome(7, "CANCELLED", job="a")], [_start(41, 1_500)]),
    ],
)
def test_each_broken_promise_is_found(
    rule: Rule, operations: list[Operation], jobs: list[JobView], outcomes: list[Outcome], marks: list[Mark]
) -> None:
    assert _judged(operations, jobs, outcomes, marks).violations[rule] == 1


def test_nothing_runs_while_it_is_paused() -> None:
    operations = [_asked("pause", "a", OK), _asked("resume", "a", OK, at_ms=5_000)]
    for due_ms, broken in ((900, 0), (3_000, 1), (6_000, 0)):
        verdict = Verdict()
        check_pauses(verdict, operations, [LedgerLine(1, due_ms, "RAN", 7)], {"a": 1}, clock_skew_ms=1)
        assert verdict.violations[Rule.RAN_WHILE_PAUSED] == broken, due_ms


def test_one_leader_to_a_term() -> None:
    verdict = Verdict()
    check_leaders(verdict, [Leadership(1, "n1", 1), Leadership(2, "n2", 2), Leadership(3, "n1", 1)])
    assert verdict.violations == {}
    check_leaders(verdict, [Leadership(1, "n1", 1), Leadership(2, "n2", 1)])
    assert verdict.violations == {Rule.TWO_LEADERS: 1}


def test_answers_are_counted_as_they_came() -> None:
    operations = [_asked("run", "a", OK), _asked("run", "a", UNKNOWN), _asked("run", "a", UNKNOWN)]
    assert count_answers(operations) == {"ok": 1, "failed": 0, "unknown": 2}
