"""A picture of a chaos run: faults, leaders, starts per second and delays over one time axis, as an SVG or a page around it.

Self-contained and light: whatever is counted is drawn per slice of time, so a long run is no larger than a short one. What
the marks mean is written beside them; the name of each fault is in the title of its bar, and in the page in a table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from horologe.chaos.checker import CRITERIA
from horologe.chaos.delays import first_starts
from horologe.chaos.report import summary
from horologe.chaos.run import Run
from horologe.chaos.svg import GRID, INK, box, document, text

WIDTH, LEFT, RIGHT = 1280, 120, 24
PLOT = WIDTH - LEFT - RIGHT
LANE = 22
SLICES_MAX = 640
DELAY_MS = (1.0, 100_000.0)
DELAY_LINES = ((1, "1 ms"), (10, "10 ms"), (100, "100 ms"), (1_000, "1 s"), (10_000, "10 s"), (100_000, "100 s"))
LABELS_MAX = 45
"""With more faults than this their names would lie over each other."""
LEADER_SILENCE_NS = 1_500_000_000
"""A leader that was not heard of for so long is drawn as two stretches."""
COLOURS = {
    "process": "#c0392b",
    "worker": "#b9770e",
    "network": "#2e6da4",
    "disk": "#6c4a8f",
    "clock": "#3b7d4f",
    "membership": "#8a8a2d",
}
UPPER, WORST = "#d98c3f", "#c0392b"


@dataclass(frozen=True, slots=True)
class _Axis:
    """Time from left to right."""

    from_ns: int
    until_ns: int

    def x(self, instant_ns: float) -> float:
        share = (instant_ns - self.from_ns) / (self.until_ns - self.from_ns)
        return round(LEFT + PLOT * min(1.0, max(0.0, share)), 1)

    @property
    def seconds(self) -> float:
        return (self.until_ns - self.from_ns) / 1e9

    @property
    def slices(self) -> int:
        """None shorter than a second."""
        return max(1, min(SLICES_MAX, int(self.seconds)))

    def slice_of(self, instant_ns: float) -> int:
        return int((instant_ns - self.from_ns) / (self.until_ns - self.from_ns) * self.slices)

    def slice_x(self, number: int) -> float:
        return round(LEFT + PLOT * number / self.slices, 1)


def draw(run: Run, *, as_page: bool) -> str:
    """The picture as SVG, or in an HTML page with the summary and a table of the faults."""
    axis = _Axis(run.from_ns, run.until_ns)
    parts: list[str] = []
    y = _title(parts, run)
    top = y
    y = _faults(parts, run, axis, y)
    y = _leaders(parts, run, axis, y)
    y = _starts(parts, run, axis, y)
    y = _delays(parts, run, axis, y)
    height = y + 40
    svg = document(WIDTH, height, _ticks(axis, top, y), *parts)
    return _page(run, svg) if as_page else svg


def _title(parts: list[str], run: Run) -> int:
    plan, verdict = run.plan, run.verdict
    broken = [name for name, count in verdict.by_criterion().items() if count]
    result = f"{', '.join(broken)} violated" if broken else f"C1 to {list(CRITERIA)[-1]} hold"
    parts.append(
        text(LEFT, 30, f"Chaos: {plan.nodes} nodes, {(run.until_ns - run.from_ns) / 6e10:.1f} minutes", "title")
    )
    parts.append(
        text(
            LEFT, 50, f"{result}. {verdict.due:,} due times, {verdict.starts:,} starts, {len(run.nemesis.strikes)} faults, "
            f"{run.reached['operations ok']:,} operations acknowledged; seed {plan.seed}.", "faint",
        )
    )  # fmt: skip
    return 70


def _faults(parts: list[str], run: Run, axis: _Axis, y: int) -> int:
    """A lane for each family: dark while the fault lasts, pale until work is steady again."""
    kinds = {kind.name: kind.family for kind in run.plan.faults}
    families = [family for family in COLOURS if family in kinds.values()]
    parts.append(text(LEFT, y + 12, "Faults (pale: until work is steady again)", "head"))
    y += 20
    for position, family in enumerate(families):
        lane = y + position * LANE
        parts.append(text(LEFT - 8, lane + 14, family, "faint", "end"))
        for strike in run.nemesis.strikes:
            names = [name for name in strike.fault.split(" + ") if kinds[name] == family]
            if not names:
                continue
            end_ns = strike.end_ns or axis.until_ns
            x, x_end, x_steady = (axis.x(at) for at in (strike.begin_ns, end_ns, strike.steady_ns or axis.until_ns))
            bar = box(x, lane + 2, max(1.5, x_end - x), LANE - 6, COLOURS[family])
            tail = box(x_end, lane + 2, max(0.0, x_steady - x_end), LANE - 6, COLOURS[family], 0.25)
            parts.append(f"<g><title>{escape(f'{strike.fault}: {strike.line}')}</title>{tail}{bar}</g>")
    y += len(families) * LANE + 4
    if len(run.nemesis.strikes) <= LABELS_MAX:
        for strike in run.nemesis.strikes:
            x = axis.x(strike.begin_ns)
            parts.append(f'<g transform="translate({x},{y + 6}) rotate(35)">{text(0, 0, strike.fault, "small")}</g>')
        y += 110
    return y + 14


def _leaders(parts: list[str], run: Run, axis: _Axis, y: int) -> int:
    """A lane for each node that ever led, filled while it says that it does."""
    parts.append(text(LEFT, y + 12, "Leader", "head"))
    y += 20
    names = sorted({one.node for one in run.history.leaderships}, key=lambda name: (len(name), name))
    for position, name in enumerate(names):
        lane = y + position * LANE
        parts.append(text(LEFT - 8, lane + 14, name, "faint", "end"))
        own = [one for one in run.history.leaderships if one.node == name]
        for from_ns, until_ns, term in _stretches([(one.at_ns, one.term) for one in own]):
            x = axis.x(from_ns)
            bar = box(x, lane + 2, max(1.5, axis.x(until_ns) - x), LANE - 6, "#445", 0.8)
            parts.append(f"<g><title>term {term}</title>{bar}</g>")
    return y + len(names) * LANE + 18


def _stretches(heard: Sequence[tuple[int, int]]) -> Iterable[tuple[int, int, int]]:
    """(from, until, term) of what was heard at short intervals in one term."""
    for term, group in groupby(heard, key=lambda one: one[1]):
        begin = last = None
        for at_ns, _ in group:
            if last is not None and begin is not None and at_ns - last > LEADER_SILENCE_NS:
                yield begin, last, term
                begin = at_ns
            begin, last = begin if begin is not None else at_ns, at_ns
        if begin is not None and last is not None:
            yield begin, last, term


def _starts(parts: list[str], run: Run, axis: _Axis, y: int) -> int:
    """How many attempts started each second."""
    counts = [0] * axis.slices
    for mark in run.history.marks:
        position = axis.slice_of(mark.monotonic_ns)
        if mark.kind == 1 and 0 <= position < axis.slices:
            counts[position] += 1
    rates = [count * axis.slices / axis.seconds for count in counts]
    top, height = max([1.0, *rates]), 110
    parts.append(text(LEFT, y + 12, "Starts per second", "head"))
    y += 20
    parts += [
        text(LEFT - 8, y + height - height * value / top + 4, f"{value:.0f}", "faint", "end") for value in (0.0, top)
    ]
    points = "".join(
        f"L{axis.slice_x(position)},{y + height - height * rate / top:.1f}H{axis.slice_x(position + 1)}"
        for position, rate in enumerate(rates)
    )
    parts.append(f'<path d="M{LEFT},{y + height}{points}V{y + height}Z" fill="#2e6da4" fill-opacity="0.55"/>')
    return y + height + 24


def _delays(parts: list[str], run: Run, axis: _Axis, y: int) -> int:
    """From the due time to the first start, by due time, on a logarithmic axis: median, 99 of 100, and the worst."""
    found: list[list[float]] = [[] for _ in range(axis.slices)]
    for mark in first_starts(one for one in run.history.marks if one.job in run.history.policies):
        position = axis.slice_of((mark.due_ms - run.history.wall_minus_monotonic_ms) * 1e6)
        if 0 <= position < axis.slices:
            found[position].append(mark.delay_ms)
    height = 230
    low, high = (math.log10(value) for value in DELAY_MS)

    def level(value: float) -> float:
        share = (math.log10(min(DELAY_MS[1], max(DELAY_MS[0], value))) - low) / (high - low)
        return round(y + height - height * share, 1)

    parts.append(text(LEFT, y + 12, "Delay from due time to start", "head"))
    _legend(parts, LEFT + 210, y + 12)
    y += 20
    for value, words in DELAY_LINES:
        parts.append(f'<path d="M{LEFT},{level(value)}H{LEFT + PLOT}" stroke="{GRID}"/>')
        parts.append(text(LEFT - 8, level(value) + 4, words, "faint", "end"))
    dots, upper, middle = [], [], []
    for position, values in enumerate(found):
        if not values:
            continue
        values.sort()
        x, x_end = axis.slice_x(position), axis.slice_x(position + 1)
        upper.append(f"M{x},{level(values[math.ceil(0.99 * len(values)) - 1])}H{x_end}")
        middle.append(f"M{x},{level(values[len(values) // 2])}H{x_end}")
        dots.append(f"M{(x + x_end) / 2:.1f},{level(values[-1])}h0")
    for marks, colour, width in ((dots, WORST, 3.5), (upper, UPPER, 1.5), (middle, INK, 1.5)):
        parts.append(f'<path d="{"".join(marks)}" stroke="{colour}" stroke-width="{width}" stroke-linecap="round"/>')
    return y + height


def _legend(parts: list[str], x: int, y: int) -> None:
    entries = (
        ("median", INK),
        ("99 of 100 are below", UPPER),
        ("the worst of each slice (at the bottom: early)", WORST),
    )
    for words, colour in entries:
        parts.append(box(x, y - 5, 14, 3, colour))
        parts.append(text(x + 20, y, words, "faint"))
        x += 50 + 7 * len(words)


def _ticks(axis: _Axis, top: int, bottom: int) -> str:
    """The time axis, with a line through all rows at each tick."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600)
    step = next((one for one in steps if axis.seconds / one <= 14), steps[-1])
    found = []
    for second in range(0, int(axis.seconds) + 1, step):
        x = axis.x(axis.from_ns + second * 1e9)
        found.append(f'<path d="M{x},{top}V{bottom}" stroke="{GRID}"/>')
        words = f"{second // 60}:{second % 60:02d}"
        found.append(text(x, bottom + 18, words, "faint", "middle"))
    return "".join(found)


def _page(run: Run, svg: str) -> str:
    rows = "".join(
        f"<tr><td>{(strike.begin_ns - run.from_ns) / 1e9:.1f}<td>{escape(strike.fault)}<td>{escape(strike.line)}"
        f"<td>{(strike.end_ns - strike.begin_ns) / 1e9:.1f}"
        f"<td>{f'{(strike.steady_ns - strike.end_ns) / 1e9:.1f}' if strike.steady_ns else 'never'}"
        for strike in run.nemesis.strikes
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Chaos run</title><style>'
        "body{font:14px system-ui,sans-serif;margin:16px;color:#222;background:#fff}svg{max-width:100%;height:auto}"
        "pre{overflow:auto}table{border-collapse:collapse}td,th{padding:2px 10px;text-align:left;border-bottom:1px solid #e3e3e3}"
        f"</style>{svg}<h2>Summary</h2><pre>{escape(summary(run))}</pre><h2>Faults</h2>"
        f"<table><tr><th>second<th>fault<th>what<th>lasted, s<th>steady after, s{rows}</table></html>\n"
    )
