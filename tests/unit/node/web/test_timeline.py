"""The picture of an execution's times."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from horologe.node.web.timeline import ATTEMPTS_DRAWN_MAX, LABEL_WIDTH, PLOT_WIDTH, picture_of
from horologe.v1 import execution_pb2

START_MS = 1_800_000_000_000
Try = execution_pb2.Attempt


def at(ms: int) -> Timestamp:
    time = Timestamp()
    time.FromMilliseconds(START_MS + ms)
    return time


def execution(**fields: object) -> execution_pb2.Execution:
    return execution_pb2.Execution(**{"due_time": at(0), "planned_time": at(0), "create_time": at(0), **fields})


def attempt(number: int, assign: int, start: int, end: int | None, state: int = Try.STATE_FAILED) -> Try:
    made = Try(number=number, state=state, worker="w", assign_time=at(assign), start_time=at(start))
    if end is not None:
        made.end_time.CopyFrom(at(end))
    return made


def drawn(found: execution_pb2.Execution, now: int) -> list[tuple[str, float, float]]:
    """Kinds, with where they begin and end in shares of the picture."""
    bars = picture_of(found, START_MS + now).bars
    return [(bar.kind, round((bar.x - LABEL_WIDTH) / PLOT_WIDTH, 2), round(bar.width / PLOT_WIDTH, 2)) for bar in bars]


def test_attempts_are_lanes_with_what_they_waited_for() -> None:
    found = execution(
        planned_time=at(100),
        create_time=at(200),
        attempts=[attempt(1, 300, 400, 500), attempt(2, 800, 800, 1_000, Try.STATE_SUCCEEDED)],
    )
    assert drawn(found, 5_000) == [
        ("jitter", 0.0, 0.1),
        ("late", 0.1, 0.1),
        ("waiting", 0.2, 0.1),
        ("assigned", 0.3, 0.1),
        ("failed", 0.4, 0.1),
        ("backoff", 0.5, 0.3),
        ("assigned", 0.8, 0.0),
        ("succeeded", 0.8, 0.2),
    ]
    assert [lane.text for lane in picture_of(found, 0).lanes] == ["before", "attempt 1", "attempt 2"]


def test_what_goes_on_ends_now() -> None:
    assert drawn(execution(waits_for="a worker"), 400) == [("waiting", 0.0, 1.0)]
    running = execution(attempts=[attempt(1, 0, 100, None, Try.STATE_RUNNING)])
    assert drawn(running, 1_000)[-1] == ("running", 0.1, 0.9)


def test_the_next_attempt_is_drawn_until_it_is_due() -> None:
    waiting = execution(attempts=[attempt(1, 0, 0, 500)], next_attempt_time=at(1_000))
    assert drawn(waiting, 600)[-1] == ("backoff", 0.5, 0.5)


def test_ticks_are_at_round_times() -> None:
    for length, texts in ((1_000, ["0", "+200 ms", "+400 ms", "+600 ms", "+800 ms", "+1 s"]), (0, ["0"])):
        found = execution(attempts=[attempt(1, 0, 0, length)])
        assert [tick.text for tick in picture_of(found, START_MS).ticks] == texts
    year_ms = 366 * 86_400_000
    assert len(picture_of(execution(attempts=[attempt(1, 0, 0, year_ms)]), START_MS).ticks) <= 7


def test_many_attempts_are_cut_to_the_last_ones() -> None:
    attempts = [attempt(number, number, number, number + 1) for number in range(1, ATTEMPTS_DRAWN_MAX + 3)]
    picture = picture_of(execution(attempts=attempts), START_MS)
    assert (picture.omitted_count, picture.lanes[1].text) == (2, "attempt 3")


def test_nothing_is_drawn_outside() -> None:
    """Whatever the clocks of a node and its workers say."""
    odd = execution(attempts=[attempt(1, 300, 200, 100), attempt(2, 50, 40, None)])
    picture = picture_of(odd, START_MS - 10_000)
    for bar in picture.bars:
        assert LABEL_WIDTH <= bar.x <= picture.width
        assert bar.x + bar.width <= picture.width
