"""The times of an execution as a picture: what it waited for and its attempts, as bars in lanes on one scale of time.

Pure: numbers for a template that draws them. What the picture tells stands in tables beside it as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from google.protobuf.timestamp_pb2 import Timestamp

from horologe.v1 import execution_pb2

LABEL_WIDTH, PLOT_WIDTH, MARGIN = 110, 850, 60
LANE_HEIGHT, BAR_HEIGHT, AXIS_HEIGHT = 30, 18, 26
BAR_WIDTH_MIN = 2.0
ATTEMPTS_DRAWN_MAX = 40
TICKS = 5
_STEPS_MS = (
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000,
    900_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000, 43_200_000, 86_400_000,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Span:
    """Some time that passed."""

    start_ms: int
    end_ms: int
    kind: str
    """A class of the style sheet."""
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A span, drawn."""

    x: float
    y: float
    width: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Label:
    """A text beside a lane, or below a tick."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """All of it, in units of the view box."""

    width: float
    height: float
    plot_end: float
    bar_height: float
    bars: list[Bar]
    lanes: list[Label]
    ticks: list[Label]
    start_ms: int
    omitted_count: int
    """Attempts that are not drawn, the oldest ones."""


def picture_of(execution: execution_pb2.Execution, now_ms: int) -> Picture:
    """What is still under way ends now, or when it is due."""
    attempts = execution.attempts[-ATTEMPTS_DRAWN_MAX:]
    lanes = [("before", list(_beginning(execution, now_ms)))]
    lanes += [(f"attempt {attempt.number}", list(_attempt(attempt, now_ms))) for attempt in attempts]
    waits = list(_between(attempts))
    for (_, spans), wait in zip(lanes[2:], waits, strict=True):
        spans.insert(0, wait)
    if execution.HasField("next_attempt_time"):
        since = _ms(attempts[-1].end_time) if attempts else _ms(execution.create_time)
        until = _ms(execution.next_attempt_time)
        lanes.append(("next attempt", [_span(since, until, "backoff", "waits for the next attempt")]))
    spans = [span for _, found in lanes for span in found]
    start_ms = min((span.start_ms for span in spans), default=now_ms)
    end_ms = max((span.end_ms for span in spans), default=now_ms)
    scale = PLOT_WIDTH / max(1, end_ms - start_ms)
    bars = [_bar(span, row, start_ms, scale) for row, (_, found) in enumerate(lanes) for span in found]
    height = len(lanes) * LANE_HEIGHT + AXIS_HEIGHT
    return Picture(
        width=LABEL_WIDTH + PLOT_WIDTH + MARGIN,
        height=height,
        plot_end=height - AXIS_HEIGHT,
        bar_height=BAR_HEIGHT,
        bars=bars,
        lanes=[Label(0, row * LANE_HEIGHT + 20, name) for row, (name, _) in enumerate(lanes)],
        ticks=list(_ticks(end_ms - start_ms, scale, height - 6)),
        start_ms=start_ms,
        omitted_count=len(execution.attempts) - len(attempts),
    )


def duration_text(ms: int) -> str:
    """`12 ms`, `3.4 s`, `5 min 3 s`, `2 h 5 min`, `3 d 4 h`."""
    if ms < 1_000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms / 1_000:.1f}".removesuffix(".0") + " s"
    seconds = ms // 1_000
    for size, name, small, small_name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // small
            return f"{seconds // size} {name}" + (f" {rest} {small_name}" if rest else "")
    return f"{seconds} s"


def _beginning(execution: execution_pb2.Execution, now_ms: int) -> Iterator[Span]:
    """From the due time to the first attempt, or to the end of one that had none."""
    due_ms, made_ms = _ms(execution.due_time), _ms(execution.create_time)
    planned_ms = _ms(execution.planned_time) or due_ms
    if planned_ms > due_ms:
        yield _span(due_ms, planned_ms, "jitter", "planned later than due (jitter)")
    if made_ms > planned_ms:
        yield _span(planned_ms, made_ms, "late", "late: due, and not fired yet")
    if execution.attempts:
        until_ms = _ms(execution.attempts[0].assign_time)
    else:
        until_ms = _ms(execution.end_time) or _ms(execution.next_attempt_time) or now_ms
    yield _span(made_ms, until_ms, "waiting", execution.waits_for or "fired, and waits for a worker")


def _attempt(attempt: execution_pb2.Attempt, now_ms: int) -> Iterator[Span]:
    assign_ms, start_ms = _ms(attempt.assign_time), _ms(attempt.start_time)
    end_ms = _ms(attempt.end_time) or now_ms
    word = execution_pb2.Attempt.State.Name(attempt.state).removeprefix("STATE_").lower()
    if start_ms:
        yield _span(assign_ms, start_ms, "assigned", f"given to {attempt.worker}, not started yet")
    yield _span(start_ms or assign_ms, end_ms, word, f"attempt {attempt.number} {word} on {attempt.worker}")


def _between(attempts: list[execution_pb2.Attempt]) -> Iterator[Span]:
    for before, after in pairwise(attempts):
        yield _span(
            _ms(before.end_time) or _ms(after.assign_time),
            _ms(after.assign_time),
            "backoff",
            f"waits for attempt {after.number}",
        )


def _span(start_ms: int, end_ms: int, kind: str, text: str) -> Span:
    end_ms = max(start_ms, end_ms)
    return Span(start_ms, end_ms, kind, f"{text}, {duration_text(end_ms - start_ms)}")


def _bar(span: Span, row: int, start_ms: int, scale: float) -> Bar:
    x = LABEL_WIDTH + (span.start_ms - start_ms) * scale
    width = max(BAR_WIDTH_MIN, (span.end_ms - span.start_ms) * scale)
    return Bar(round(x, 1), row * LANE_HEIGHT + 6, round(width, 1), span.kind, span.text)


def _ticks(length_ms: int, scale: float, y: float) -> Iterator[Label]:
    """At round times after the beginning."""
    step = next((step for step in _STEPS_MS if length_ms / step <= TICKS), 0)
    if not step:
        step = -(-length_ms // (TICKS * _STEPS_MS[-1])) * _STEPS_MS[-1]
    for at_ms in range(0, length_ms + 1, step):
        yield Label(round(LABEL_WIDTH + at_ms * scale, 1), y, f"+{duration_text(at_ms)}" if at_ms else "0")


def _ms(time: Timestamp) -> int:
    """0 if it is not set."""
    return time.ToMilliseconds()
