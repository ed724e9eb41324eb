"""The standard measurements: every row of docs/benchmarks.md, the command that makes its figures, and all of them in a row.

Each run is a process of its own, with the command that the page names, so that anybody can repeat one row. A run that lost or
doubled something, or that could not be carried out, is told as such and never left out.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from horologe.chaos.bench_figures import Record
from horologe.client import own_program

RATES = (
    2_000,
    2_500,
    3_000,
    3_500,
    4_000,
    5_000,
    6_000,
    7_000,
    8_500,
    10_000,
    12_000,
    14_000,
    20_000,
    28_000,
    33_000,
    40_000,
    50_000,
)
"""Executions per second that are tried for a moment, until one is too much. What is too much for longer is left for the next
lower one."""
RATES_SHORT = (100, 200)
TRIAL_SECONDS = 10
TRIAL_SECONDS_MAX = 240.0
"""With all that goes before: beyond what a cluster can do, creating the rest of the jobs does not come to an end."""
P99_MS_MAX = 1_000.0
ERROR_LINES = 3


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure of a row, as bench_figures.py names it."""

    figure: str
    reach: str = ""
    aim: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One command, and what is told of it."""

    label: str
    what: str
    arguments: tuple[str, ...]
    goals: tuple[Goal, ...]
    runs: int = 0
    """So many, whatever was asked for; 0: as asked for."""
    rate: int = 0
    """Executions per second that each run has to keep up with; 0: what comes of it is told."""

    @property
    def command(self) -> str:
        """As people type it."""
        return shlex.join(("horologe", "bench", *self.arguments))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run, and how long."""

    runs: int = 3
    short: bool = False
    """To see that everything works: the figures mean nothing."""
    folder: Path | None = None
    """Where the scratch folders are made."""

    def trial(self, rate: int, nodes: int) -> tuple[str, ...]:
        """A moment at a rate."""
        return steady(rate, nodes, 3 if self.short else TRIAL_SECONDS)

    @property
    def rates(self) -> Sequence[int]:
        return RATES_SHORT if self.short else RATES


def steady(rate: int, nodes: int, seconds: int) -> tuple[str, ...]:
    return ("steady", "--rate", str(rate), "--nodes", str(nodes), "--seconds", str(seconds))


def rows(plan: Plan, three_nodes: int, one_node: int) -> list[Row]:
    """All of them, given the rates that were reached."""
    return [_three_nodes(plan, three_nodes), _one_node(plan, one_node), *_others(plan, three_nodes)]


def _others(plan: Plan, three_nodes: int) -> list[Row]:
    """Those whose rate is not looked for."""
    return [*_busy(plan), *_waiting(plan), _long(plan, max(1, three_nodes // 2))]


def _three_nodes(plan: Plan, rate: int) -> Row:
    return Row(
        "steady", "Recurring jobs, three nodes, the highest rate with a p99 start delay below 1 s",
        steady(rate, 3, 5 if plan.short else 120),
        (
            Goal("per second", "10,000", "33,000"), Goal("start delay p99, ms", "1,000"),
            Goal("entries per execution", "0.1"), Goal("CPU of all nodes, us per execution"),
        ),
        rate=rate,
    )  # fmt: skip


def _one_node(plan: Plan, rate: int) -> Row:
    return Row(
        "steady, one node", "The same with one node",
        steady(rate, 1, 5 if plan.short else 60),
        (Goal("per second", "15,000", "50,000"), Goal("start delay p99, ms", "1,000")),
        rate=rate,
    )  # fmt: skip


def _busy(plan: Plan) -> list[Row]:
    """Other clusters that work."""
    short = plan.short
    burst = 800 if short else 100_000
    submit = ("submit", "--in-flight", "64", "--seconds", "3" if short else "10")
    return [
        Row(
            "steady at 612/s", "612 executions a second, three nodes",
            steady(100 if short else 612, 3, 5 if short else 60),
            (
                Goal("CPU of all nodes, % of a core", "25", "10"), Goal("start delay p50, ms", "15", "8"),
                Goal("start delay p99, ms", "60", "30"),
            ),
        ),
        Row(
            "burst", f"{burst:,} jobs due at one instant, and somebody who creates jobs meanwhile",
            ("burst", "--count", str(burst)),
            (Goal("drained, s", "10", "4"), Goal("call p99, ms", "250"), Goal("entries per execution", "0.1")),
        ),
        Row(
            "submit", "Creating jobs one by one, 64 in flight", submit,
            (Goal("per second", "3,000", "5,000"), Goal("call p99, ms")),
        ),
        Row(
            "submit in batches", "Creating jobs by the hundred, 64 in flight", (*submit, "--batch", "100"),
            (Goal("per second", "20,000", "40,000"), Goal("call p99, ms")),
        ),
    ]  # fmt: skip


def _waiting(plan: Plan) -> list[Row]:
    """Jobs and workers that wait, and what their number costs."""
    short = plan.short
    idle, streams, idle_streams = (4_000, 60, 60) if short else (1_000_000, 10_000, 30_000)
    costs = ("1000", "2000") if short else ("1000", "10000", "100000", "1000000")
    seconds = "3" if short else "10"
    workers = ("workers", "--seconds", "3" if short else "30", "--streams")
    return [
        Row(
            "idle", f"{idle:,} daily jobs that are not due, and a node that is killed and comes back",
            ("idle", "--jobs", str(idle), "--seconds", seconds, "--restarts", "1" if short else "3"),
            (
                Goal("CPU of the busiest node, % of a core", "2", "1"), Goal("RSS of the largest node, MiB", "400", "250"),
                Goal("serving again, s", "5", "2"),
            ),
            runs=1,
        ),
        Row(
            "workers", f"{10 * streams:,} slots on {streams:,} streams of workers, and the leader is killed",
            (*workers, str(streams), "--slots", str(10 * streams)),
            (
                Goal("streams broken while held", "0"), Goal("heartbeat acknowledged p99, ms"),
                Goal("reconnects of others after a failover", "0"),
            ),
        ),
        Row(
            "idle workers", f"{idle_streams:,} streams of workers that have nothing to do",
            (*workers, str(idle_streams), "--slots", "0", "--lease-term", "10m", "--no-failover"),
            (
                Goal("node above bare gRPC, KiB per stream", "10"), Goal("node, KiB per stream"),
                Goal("worker above bare gRPC, KiB per stream", "10"), Goal("worker, KiB per stream"),
            ),
        ),
        Row(
            "core", "What a due time costs the core, with few jobs and with many",
            ("core", "--fires", "4000" if short else "100000", *(word for count in costs for word in ("--jobs", count))),
            (Goal("dearest above cheapest, %", "20", "10"),),
        ),
    ]  # fmt: skip


def _long(plan: Plan, rate: int) -> Row:
    """A cluster that works for long."""
    return Row(
        "long", "Half of the rate that was reached, for half an hour",
        ("steady", "--rate", str(rate), "--minutes", "3" if plan.short else "30"),
        (
            Goal("growth of RSS in the last third, %", "flat"), Goal("growth of the state in the last third, %", "flat"),
            Goal("lowest p99 of a minute, ms"), Goal("highest p99 of a minute, ms"),
        ),
        runs=1,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a row."""

    row: Row
    records: tuple[Record, ...]
    failures: tuple[str, ...] = ()
    """What was said by runs that came to nothing."""
    too_much: tuple[Outcome, ...] = ()
    """What came of higher rates."""

    @property
    def keeps_up(self) -> bool:
        """Whether all runs kept up with the rate of the row, if it has one."""
        return not self.failures and all(keeps_up(record, self.row.rate) for record in self.records if self.row.rate)

    @property
    def is_sound(self) -> bool:
        """Whether nothing was doubled, and nothing lost or left out that was not too much."""
        doubled = any(record["duplicated"] for each in self.too_much for record in each.records)
        return not doubled and not self.failures and all(record["is_sound"] for record in self.records)


def run_all(plan: Plan, say: Callable[[str], None]) -> Iterator[Outcome]:
    """Row by row."""
    three_nodes = _fastest(plan, 3, _three_nodes, say)
    yield three_nodes
    yield _fastest(plan, 1, _one_node, say)
    for row in _others(plan, three_nodes.row.rate):
        yield _run_row(row, plan, say)


def _fastest(plan: Plan, nodes: int, row_of: Callable[[Plan, int], Row], say: Callable[[str], None]) -> Outcome:
    """The highest rate that all runs keep up with; the lowest of all, whatever came of it, if there is none."""
    tried, *too_much = reached(plan, nodes, say)
    for rate in sorted((rate for rate in plan.rates if rate <= tried.row.rate), reverse=True):
        outcome = _run_row(row_of(plan, rate), plan, say)
        if outcome.keeps_up or rate == plan.rates[0]:
            break
        say(f"{nodes} nodes do not keep up with {rate:,}/s for long")
        too_much.append(outcome)
    return replace(outcome, too_much=tuple(too_much))


def reached(plan: Plan, nodes: int, say: Callable[[str], None]) -> list[Outcome]:
    """The highest rate that is no trouble for a moment, or the lowest of all; behind it the first that is too much."""
    trials: list[Outcome] = []
    for rate in plan.rates:
        row = Row("trial", "A moment at a rate", plan.trial(rate, nodes), (), rate=rate)
        record, complaint = run_once(row.arguments, plan.folder, TRIAL_SECONDS_MAX)
        trial = Outcome(row, (), (complaint,)) if record is None else Outcome(row, (record,))
        if not trial.keeps_up:
            say(f"{nodes} nodes do not keep up with {rate:,}/s")
            return [trials[-1] if trials else trial, trial]
        trials.append(trial)
        say(f"{nodes} nodes keep up with {rate:,}/s")
    return [trials[-1]]


def keeps_up(record: Record, rate: float) -> bool:
    """Whether nothing was lost or doubled, or late by more than is allowed."""
    delay: Mapping[str, Any] | None = record["start_delay_ms"]
    on_time = delay is not None and delay["p99"] < P99_MS_MAX
    return bool(record["is_sound"]) and on_time and record["throughput_per_second"] > 0.95 * rate


def _run_row(row: Row, plan: Plan, say: Callable[[str], None]) -> Outcome:
    """As many runs as the row is worth; none after one that does not keep up with what it has to."""
    outcome = Outcome(row, ())
    runs = min(plan.runs, row.runs or plan.runs)
    for number in range(1, runs + 1):
        say(f"{row.command}  ({number} of {runs})")
        record, complaint = run_once(row.arguments, plan.folder)
        if record is None:
            outcome = replace(outcome, failures=(*outcome.failures, complaint))
        else:
            outcome = replace(outcome, records=(*outcome.records, record))
        if row.rate and not outcome.keeps_up:
            break
    return outcome


def run_once(
    arguments: Sequence[str], folder: Path | None, seconds_max: float | None = None
) -> tuple[Record | None, str]:
    """The report of one run; or none, and what the command said. It is ended after `seconds_max`."""
    with tempfile.TemporaryDirectory(prefix="horologe-bench-", dir=folder) as scratch:
        kept = Path(scratch) / "report.json"
        command = [*own_program.command(), "bench", *arguments, "--dir", scratch, "--save", str(kept), "-o", "json"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            try:
                _, said = process.communicate(timeout=seconds_max)
            except subprocess.TimeoutExpired:
                # It stops what it has started.
                process.terminate()
                _, said = process.communicate()
        if not kept.exists():
            lines = said.strip().splitlines()[-ERROR_LINES:]
            return None, " ".join(lines) or f"it ended with {process.returncode}"
        record: Record = json.loads(kept.read_text())
        return record, ""
