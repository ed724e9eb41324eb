"""docs/benchmarks.md and its charts, from what the standard measurements have found."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from horologe.chaos.bench_figures import Figure, Record, figures_of
from horologe.chaos.bench_suite import Goal, Outcome, Plan
from horologe.chaos.svg import GRID, box, document, text

HEAD = """# Benchmarks

What this version does on one machine: cluster, workers and load together on it, fsync on, a run counted only with nothing
missed and nothing doubled. `make bench` measures all of it in up to two hours and writes this page and its charts;
`BENCH_RUNS=1 BENCH_SHORT=1 make bench` tries all commands in a few minutes, with figures that mean nothing. Each row can be
repeated by itself with its command.
"""
UNMEASURED = """
No figures of this version are kept here yet: they are worth something only from a machine that does nothing else.
"""
LIMITS = """
## What limits them

- The highest rate: time of the processor. Each node carries out every entry, and for one execution that is about eleven small
  records with a checksum each, written when it is fired and when it ends. `horologe bench core` measures that alone, with the
  leader's planning. Here it is paid three times on the same cores, beside worker and load. Where each node has a machine, the
  leader is the limit: one process with one interpreter, which plans, applies, and serves its own callers and workers.
- A burst is worked off at about that rate. Who creates a job meanwhile waits behind the entries that are on their way.
- A small rate: entries. Some fifty a second cost each node a step, a commit with its fsync and a few messages of gRPC, however
  little is in them. Longer pulses would cost less, and start later.
- Creating jobs: one by one, a call of gRPC, the check of the definition, and the answer, at the node that is asked; and in any
  case some ten records on each node, four of them encrypted.
- Coming back: a node reads its whole state before it serves, some eleven records for each job, so that nobody builds on a
  damaged one. Doing so also brings the whole file into memory, until the kernel wants that back.
- Waiting: an idle leader's heartbeats, ten a second to each node, and its look at leases, four a second.
- Streams of workers: what gRPC and Python keep for each. When a leader is killed, its workers all come back at once, and where
  nodes share the processor with them, others wait too long for an answer and connect again.
"""
CAVEATS = """
## How to read them

- A figure is the median of the runs; the range is from the lowest to the highest of them. Where there is one run, there is no
  range.
- The highest rate is found by trying: upwards, ten seconds each, until one is too much; then, with the row's own time and all
  its runs, downwards, until each run of a rate is sound and on time. What was too much is told below the table.
- A steady cluster is measured once it has caught up with what came due while its jobs were created, or a minute later.
- Asked is what this version was built to reach, aim what would be good.
- Due times, starts and delays are counted from what handlers wrote down, by the worker's clock, which here is the nodes' clock
  too. Handlers do nothing else: what jobs of yours take comes on top.
- Nodes, worker and load share the cores of one machine. Real clusters have a machine for each node, and a network between them
  that this has not.
- The cluster is an insecure one, without TLS; `--secure` measures one with TLS, certificates and rights. What is written is
  encrypted.
- A virtual machine has neighbours. The reference loop, fixed work for processor and disk, runs before and after each run, and
  is kept with the report. `horologe bench compare OLD NEW` compares two files such as [benchmarks.json](benchmarks.json) by
  ratios: as they are, and relative to that loop.
- Daily jobs of the idle cluster are due outside of the time in which it is measured. Memory is told with the pages of the
  node's file that the kernel can take back.
- Of streams, the memory of a node and of the process that holds the workers' ends is told per stream, beside streams of plain
  gRPC that do nothing, measured in the same run. A hundred streams share a connection.
- In the long run history is kept for as many executions as come in a minute, so that what grows is not history. Growth is the
  last third of the minutes beside the third before.
"""
CHART_WIDTH, CHART_HEIGHT, LEFT, TOP = 720, 240, 70, 50
COLOURS = ("#2e6da4", "#c0392b", "#3b7d4f")


def unmeasured_page() -> str:
    """The page as long as nobody has run the measurements."""
    return HEAD + UNMEASURED + CAVEATS.replace("[benchmarks.json](benchmarks.json)", "`docs/benchmarks.json`")


def page(outcomes: Sequence[Outcome], plan: Plan, at: datetime | None = None) -> str:
    """The page with what was measured."""
    at = at or datetime.now(UTC)
    warning = "\n**These figures mean nothing: they are of a short run, to try the commands.**\n" if plan.short else ""
    lines = [HEAD + warning, f"Measured on {at:%Y-%m-%d}.", "", *_machine(outcomes), "", *_table(outcomes), ""]
    lines += [line for outcome in outcomes for line in _complaints(outcome)]
    for name in charts(outcomes):
        lines.append(f"![{name.removesuffix('.svg').replace('-', ' ')}](images/benchmarks/{name})\n")
    return "\n".join(lines).rstrip() + "\n" + LIMITS + CAVEATS


def write(outcomes: Sequence[Outcome], plan: Plan, out: Path) -> None:
    """The page, and its charts in the folder beside it."""
    folder = out / "images" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in charts(outcomes).items():
        (folder / name).write_text(picture)
    (out / "benchmarks.md").write_text(page(outcomes, plan))


def _machine(outcomes: Sequence[Outcome]) -> Iterator[str]:
    records = [record for outcome in outcomes for record in outcome.records]
    known = next((record for record in records if "machine" in record), None)
    references = [record["reference"] for record in records if record.get("reference")]
    yield "| Machine | |"
    yield "|---|---|"
    if known is not None:
        machine, versions = known["machine"], known["versions"]
        yield f"| Processor | {machine['processor'] or 'unknown'}, {machine['cores']} cores |"
        yield f"| Memory | {machine['memory_bytes'] / 2**30:.0f} GiB |"
        yield f"| System | {machine['system']} |"
        yield f"| Versions | {', '.join(f'{name} {version}' for name, version in versions.items())} |"
    if references:
        rounds, fsync = (sorted(one[name] for one in references) for name in ("rounds_per_cpu_second", "fsync_ms"))
        yield (
            f"| Reference loop | {statistics.median(rounds):,.0f} rounds/s of a core ({rounds[0]:,.0f} to {rounds[-1]:,.0f}); "
            f"fsync {statistics.median(fsync):.2f} ms ({fsync[0]:.2f} to {fsync[-1]:.2f}) |"
        )


def _table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "| What | Figure | Asked | Aim | Median | Range | Command |"
    yield "|---|---|---|---|---|---|---|"
    for outcome in outcomes:
        found = [figures_of(record) for record in outcome.records]
        for position, goal in enumerate(outcome.row.goals):
            what, command = (outcome.row.what, f"`{outcome.row.command}`") if position == 0 else ("", "")
            cells = (what, goal.figure, goal.reach, goal.aim, _median(found, goal), _range(found, goal), command)
            yield f"| {' | '.join(cells)} |"


def _values(found: Sequence[dict[str, Figure]], goal: Goal) -> list[float]:
    return sorted(each[goal.figure].value for each in found if goal.figure in each)


def _median(found: Sequence[dict[str, Figure]], goal: Goal) -> str:
    values = _values(found, goal)
    return number(statistics.median(values)) if values else "not measured"


def _range(found: Sequence[dict[str, Figure]], goal: Goal) -> str:
    values = _values(found, goal)
    return f"{number(values[0])} to {number(values[-1])}" if len(values) > 1 else ""


def number(value: float) -> str:
    """With as many digits as anybody looks at."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _complaints(outcome: Outcome) -> Iterator[str]:
    """What was too much, what was lost or doubled, and what could not be run."""
    for faster in outcome.too_much:
        for record in faster.records:
            delay = (record["start_delay_ms"] or {}).get("p99", 0.0)
            came = f"{number(record['throughput_per_second'])}/s, p99 of the start delay {number(delay)} ms"
            yield f"**Too much:** `{faster.row.command}`: {came}, {_lost(record)}.\n"
        for complaint in faster.failures:
            yield f"**Too much:** `{faster.row.command}`: {complaint.replace('|', '/')}\n"
    for record in outcome.records:
        if not record["is_sound"]:
            yield f"**Not sound:** a run of `{outcome.row.command}` ended with {_lost(record)}.\n"
    for complaint in outcome.failures:
        yield f"**Not carried out:** a run of `{outcome.row.command}`: {complaint.replace('|', '/')}\n"


def _lost(record: Record) -> str:
    return f"{record['missed']} missed, {record['duplicated']} doubled, {record['failed_calls']} calls failed"


# Charts


def charts(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """By the name of the file; those for which there are figures."""
    found: dict[str, str] = {}
    for outcome in outcomes:
        for record in outcome.records[:1]:
            if "costs" in record:
                found["cost-of-a-due-time.svg"] = _costs(outcome.records)
            elif len(record["minutes"]) > 1:
                found |= _minutes(record)
    return found


def _costs(records: Sequence[Record]) -> str:
    """The medians of the runs."""
    turns = zip(*(record["costs"] for record in records), strict=True)
    bars = [
        (f"{turn[0]['jobs']:,} jobs", statistics.median(cost["microseconds_per_fire"] for cost in turn))
        for turn in turns
    ]
    top = max(value for _, value in bars)
    width = (CHART_WIDTH - LEFT) // len(bars)
    parts = [text(LEFT, 24, "Processor time of the core for one due time, microseconds", "head")]
    for position, (words, value) in enumerate(bars):
        height = (CHART_HEIGHT - TOP - 40) * value / top
        x, y = LEFT + position * width, CHART_HEIGHT - 30 - height
        parts += [box(x, y, width - 20, height, COLOURS[0]), text(x, y - 6, number(value))]
        parts.append(text(x, CHART_HEIGHT - 12, words, "faint"))
    return document(CHART_WIDTH, CHART_HEIGHT, *parts)


def _minutes(record: Record) -> dict[str, str]:
    minutes = record["minutes"]

    def of_nodes(name: str) -> dict[str, list[float]]:
        return {node: [minute[name][node] / 2**20 for minute in minutes] for node in minutes[0][name]}

    delays = [(minute["start_delay_ms"] or {}).get("p99", 0.0) for minute in minutes]
    return {
        "memory-by-the-minute.svg": _lines("RSS of each node by the minute, MiB", of_nodes("rss_bytes")),
        "state-by-the-minute.svg": _lines("State of each node on its disk by the minute, MiB", of_nodes("data_bytes")),
        "delays-by-the-minute.svg": _lines("Start delay by the minute, p99, ms", {"p99": delays}),
    }


def _lines(title: str, series: dict[str, list[float]]) -> str:
    """From zero, so that what looks flat is flat."""
    top = max((value for values in series.values() for value in values), default=0.0) or 1.0
    count = max(len(values) for values in series.values())
    plot_width, plot_height = CHART_WIDTH - LEFT - 20, CHART_HEIGHT - TOP - 30
    parts = [text(LEFT, 24, title, "head")]
    for share in (0.0, 0.5, 1.0):
        y = TOP + plot_height * (1 - share)
        parts.append(f'<path d="M{LEFT},{y:g}H{LEFT + plot_width}" stroke="{GRID}"/>')
        parts.append(text(LEFT - 8, y + 4, number(top * share), "faint", "end"))
    for position, (name, values) in enumerate(series.items()):
        points = " ".join(
            f"{LEFT + plot_width * (place + 0.5) / count:.1f},{TOP + plot_height * (1 - value / top):.1f}"
            for place, value in enumerate(values)
        )
        colour = COLOURS[position % len(COLOURS)]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x = LEFT + position * 70
        parts += [box(x, 34, 14, 3, colour), text(x + 20, 39, name, "faint")]
    parts.append(text(LEFT + plot_width, CHART_HEIGHT - 10, f"{count} minutes", "faint", "end"))
    return document(CHART_WIDTH, CHART_HEIGHT, *parts)
