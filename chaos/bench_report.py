"""What a benchmark answers: one record, and a table of it for people."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from horologe.chaos.bench_evidence import Account, Distribution
from horologe.chaos.bench_fleet import Usage
from horologe.chaos.bench_reference import Reference
from horologe.chaos.bench_stage import Ledger, Sample

PACKAGES = ("horologe", "pysyncobj", "lmdb", "grpcio", "protobuf", "uvloop")


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of a long run."""

    nodes_cores: float
    rss_bytes: dict[str, int]
    data_bytes: dict[str, int]
    """What the state of each node takes on its disk."""
    start_delay_ms: Distribution | None = None


@dataclass(slots=True)
class Report:
    """One run. What a profile does not measure is None or empty."""

    profile: str
    parameters: dict[str, Any]
    seconds: float = 0.0
    """How long was measured."""
    start_delay_ms: Distribution | None = None
    """From the due time to the handler's first line, by the worker's clock, of all measured executions."""
    call_ms: Distribution | None = None
    """Of the calls the profile made while it measured."""
    executions: int = 0
    calls: int = 0
    failed_calls: int = 0
    throughput_per_second: float = 0.0
    starts_per_second: tuple[int, float, int] | None = None
    """Fewest, mean and most in a whole second."""
    entries_per_execution: float | None = None
    drained_seconds: float | None = None
    """From the due time until the last completion was recorded."""
    missed: int = 0
    duplicated: int = 0
    lost_details: list[dict[str, object]] = field(default_factory=list)
    ledger: Ledger | None = None
    """The cluster's own account of the whole run; None when it is not ours alone."""
    ledger_agrees: bool = True
    leader: str = ""
    leader_changed: bool = False
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    cpu_cores_per_node: dict[str, float] = field(default_factory=dict)
    nodes_cores: float = 0.0
    """Of all nodes together."""
    nodes_cpu_us_per_execution: float | None = None
    worker_cpu_seconds: float = 0.0
    rss_bytes: dict[str, int] = field(default_factory=dict)
    rss_file_backed_bytes: dict[str, int] = field(default_factory=dict)
    """The part of rss_bytes that is pages of the node's data file, which the kernel takes back when it needs them."""
    data_bytes: dict[str, int] = field(default_factory=dict)
    minutes: list[Minute] = field(default_factory=list)
    """Of a run that is told by the minute."""
    restart_seconds: list[float] = field(default_factory=list)
    """From the start of a killed node's process until it serves."""
    more: dict[str, Any] = field(default_factory=dict)
    """Figures that only this profile has."""
    reference: Reference | None = None
    """What the machine did by itself, before and after."""
    load_average_before: float = 0.0
    load_cores: float = 0.0
    """What the load generator itself used."""
    other_cores: float = 0.0
    """What everything else on this machine used meanwhile: a figure far from 0 spoils all others."""
    stolen_cores: float = 0.0
    """What the host of this virtual machine gave to others meanwhile."""

    @property
    def is_sound(self) -> bool:
        """Nothing missing, nothing double, and the cluster says the same."""
        return not (self.missed or self.duplicated or self.failed_calls) and self.ledger_agrees

    def take_account(self, account: Account, ledger: Ledger | None, executions_in_all: int) -> None:
        """What the handlers wrote down, and the cluster's own counters beside it."""
        self.executions = account.executions
        self.start_delay_ms = account.start_delay
        self.missed, self.duplicated, self.lost_details = account.missed, account.duplicated, account.details
        self.ledger = ledger
        self.ledger_agrees = ledger is None or ledger.agrees(executions_in_all)

    def take_usage(self, before: Sample, after: Sample) -> None:
        """What was used between two samples."""
        self.seconds = round(after.at - before.at, 3)
        self.leader = after.status.leader
        self.leader_changed = before.status.term != after.status.term
        executions = after.status.completed_count - before.status.completed_count
        entries = after.status.entry_count - before.status.entry_count
        self.entries_per_execution = round(entries / executions, 4) if executions else None
        for node, used in after.nodes.items():
            cpu_seconds = used.cpu_seconds - _cpu_of(before.nodes, node)
            self.cpu_seconds[node] = round(cpu_seconds, 2)
            self.cpu_cores_per_node[node] = round(cpu_seconds / self.seconds, 3)
            self.rss_bytes[node] = used.rss_bytes
            self.rss_file_backed_bytes[node] = used.file_backed_bytes
            self.data_bytes[node] = used.data_bytes
        nodes_seconds = sum(self.cpu_seconds.values())
        self.nodes_cores = round(nodes_seconds / self.seconds, 3)
        self.nodes_cpu_us_per_execution = round(nodes_seconds * 1e6 / executions, 1) if executions else None
        worker = after.worker_cpu_seconds - before.worker_cpu_seconds
        load = after.load_cpu_seconds - before.load_cpu_seconds
        others = after.machine.busy - before.machine.busy - worker - load - nodes_seconds
        self.worker_cpu_seconds = round(worker, 2)
        self.load_cores = round(load / self.seconds, 3)
        self.other_cores = round(max(0.0, others) / self.seconds, 3)
        self.stolen_cores = round((after.machine.stolen - before.machine.stolen) / self.seconds, 3)

    def to_record(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        record = asdict(self)
        return {
            "profile": record.pop("profile"),
            "parameters": record.pop("parameters"),
            "versions": versions(),
            "machine": machine(),
            **record,
            "is_sound": self.is_sound,
        }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def print_report(report: Report) -> None:
    """The figures that people ask for first."""
    table = Table("Figure", "Value", title=f"horologe bench {report.profile}", title_justify="left")
    for name, value in _rows(report):
        table.add_row(name, value)
    console = Console()
    console.print(table)
    for detail in report.lost_details:
        console.print("  ".join(f"{key}={value}" for key, value in detail.items()))


def _rows(report: Report) -> list[tuple[str, str]]:
    rows = [(name.replace("_", " "), str(value)) for name, value in report.parameters.items() if value is not None]
    rows.append(("measured seconds", f"{report.seconds:g}"))
    rows.append(("load average before", f"{report.load_average_before:.2f}"))
    for name, distribution in (("start delay", report.start_delay_ms), ("call", report.call_ms)):
        if distribution is not None:
            rows.append((f"{name} p50 / p99 / p99.9 / max", _spread(distribution)))
    rows.append(("throughput", f"{report.throughput_per_second:,.1f}/s"))
    if report.starts_per_second is not None:
        fewest, mean, most = report.starts_per_second
        rows.append(("starts in a second, fewest / mean / most", f"{fewest:,} / {mean:,} / {most:,}"))
    if report.drained_seconds is not None:
        rows.append(("drained", f"{report.drained_seconds:.3f} s"))
    if report.calls:
        rows.append(("calls", f"{report.calls:,}, {report.failed_calls:,} failed"))
    if report.executions:
        rows.append(("executions", f"{report.executions:,}"))
        rows.append(("entries per execution", f"{report.entries_per_execution}"))
    rows.append(("missed / duplicated", f"{report.missed:,} / {report.duplicated:,}"))
    if report.ledger is not None:
        rows.append(("the cluster's ledger", "agrees" if report.ledger_agrees else f"DIFFERS: {report.ledger}"))
    rows.append(("leader", report.leader + (" (changed while measured)" if report.leader_changed else "")))
    for node in report.rss_bytes:
        used = f"{report.cpu_cores_per_node[node]:.3f} cores, {report.rss_bytes[node] / 2**20:,.0f} MiB RSS"
        rows.append((f"node {node}", f"{used}, of that {report.rss_file_backed_bytes[node] / 2**20:,.0f} MiB of files"))
    rows.append(("all nodes together", f"{report.nodes_cores:.3f} cores{_each(report.nodes_cpu_us_per_execution)}"))
    if report.restart_seconds:
        rows.append(("serving again after", ", ".join(f"{one:.2f}" for one in report.restart_seconds) + " s"))
    rows += [
        (name.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value}")
        for name, value in report.more.items()
    ]
    rows += [(f"minute {number}", _minute(one)) for number, one in enumerate(report.minutes, 1)]
    rows.append(("workers", f"{report.worker_cpu_seconds / (report.seconds or 1):.3f} cores"))
    rows.append(("load generator", f"{report.load_cores:.3f} cores"))
    if report.reference is not None:
        one = report.reference
        rounds = (
            f"{one.rounds_per_cpu_second:,.0f} rounds/s of processor time, {one.rounds_per_second:,.0f}/s of the clock"
        )
        rows.append(("reference loop", f"{rounds}; fsync {one.fsync_ms:.2f} ms"))
    rows.append(
        ("everything else here", f"{report.other_cores:.3f} cores, {report.stolen_cores:.3f} stolen by the host")
    )
    return rows


def _each(cpu_us: float | None) -> str:
    return "" if cpu_us is None else f", {cpu_us:.0f} us per execution"


def _minute(one: Minute) -> str:
    rss, data = max(one.rss_bytes.values(), default=0), max(one.data_bytes.values(), default=0)
    delay = f", p99 {one.start_delay_ms.p99:.0f} ms" if one.start_delay_ms is not None else ""
    return f"{one.nodes_cores:.2f} cores, RSS {rss / 2**20:,.0f} MiB, data {data / 2**20:,.0f} MiB{delay}"


def _spread(one: Distribution) -> str:
    return f"{one.p50:.1f} / {one.p99:.1f} / {one.p99_9:.1f} / {one.max:.1f} ms"


def _cpu_of(nodes: dict[str, Usage], node: str) -> float:
    return nodes[node].cpu_seconds if node in nodes else 0.0


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
