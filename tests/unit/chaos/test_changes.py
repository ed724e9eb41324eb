"""Which starts count to which change."""

from __future__ import annotations

from horologe.chaos.changes import Change, latest_starts_ms, lines_of
from horologe.chaos.evidence import Kind, Mark


def started(execution: int, due_ms: int, delay_ms: int, attempt: int = 1) -> Mark:
    return Mark(Kind.STARTED, execution, attempt, execution, 1, due_ms, (due_ms + delay_ms) * 1000, 0)


def test_a_start_counts_to_the_change_during_which_it_was_due() -> None:
    changes = [
        Change("one", 1_000, 2_000, 3_000),
        Change("two", 3_000, 3_500, 4_000),
        Change("three", 4_000, 4_100, 4_200),
    ]
    marks = [
        started(1, 999, 9_000),
        started(2, 1_000, 20),
        started(3, 2_999, 700),
        started(4, 3_000, 30),
        # The second attempt of the same execution says nothing about how late the first one was.
        started(4, 3_000, 5_000, attempt=2),
        # Asked for by a caller: it has no due time.
        started(5, 0, 3_100),
    ]
    latest_ms = latest_starts_ms(marks, changes)
    assert latest_ms == {"one": 700.0, "two": 30.0, "three": 0.0}
    lines = lines_of(changes, latest_ms)
    assert lines[1:] == [
        "  one      1.00 s     700.0 ms",
        "  two      0.50 s      30.0 ms",
        "  three    0.10 s       0.0 ms",
    ]
