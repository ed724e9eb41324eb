"""The figures of a kept report by name, and two kept reports compared: as they are, and by what the machine did by itself."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]
MIB = 1 << 20


class Kind(StrEnum):
    """What a figure depends on, and whether more of it is better."""

    RATE = "rate"
    """So many in a second of the clock: a machine with more to give makes more."""
    TIME = "time"
    """Of the clock: a machine with more to give takes less."""
    CPU = "cpu"
    """Of the processor: a faster core takes less."""
    OTHER = "other"
    """Memory, counts and shares: the same on any machine."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a report."""

    value: float
    kind: Kind


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of two reports."""

    label: str
    figure: str
    old: float
    new: float
    relative: float | None
    """New to old, as if both had been measured on one machine; None if one of the reports does not tell what its machine did, or
    if nothing can be divided by the old figure."""

    @property
    def ratio(self) -> float | None:
        """New to old as they are."""
        return self.new / self.old if self.old else None


def figures_of(record: Record) -> dict[str, Figure]:
    """All that this profile measures."""
    found = dict(_figures(record))
    return {name: Figure(float(value), kind) for name, (value, kind) in found.items() if value is not None}


def _figures(record: Record) -> Iterator[tuple[str, tuple[Any, Kind]]]:
    if "costs" in record:
        for cost in record["costs"]:
            yield f"us per due time, {cost['jobs']:,} jobs", (cost["microseconds_per_fire"], Kind.CPU)
        yield "dearest above cheapest, %", (100 * record["flatness"], Kind.OTHER)
        return
    if record["throughput_per_second"]:
        yield "per second", (record["throughput_per_second"], Kind.RATE)
    for name, words in (("start_delay_ms", "start delay"), ("call_ms", "call")):
        spread = record[name] or {}
        for rank in ("p50", "p99"):
            yield f"{words} {rank}, ms", (spread.get(rank), Kind.TIME)
    yield "drained, s", (record["drained_seconds"], Kind.TIME)
    yield "entries per execution", (record["entries_per_execution"], Kind.OTHER)
    yield "CPU of all nodes, us per execution", (record["nodes_cpu_us_per_execution"], Kind.CPU)
    yield "CPU of all nodes, % of a core", (100 * record["nodes_cores"], Kind.CPU)
    yield (
        "CPU of the busiest node, % of a core",
        (100 * max(record["cpu_cores_per_node"].values(), default=0), Kind.CPU),
    )
    yield "RSS of the largest node, MiB", (max(record["rss_bytes"].values(), default=0) / MIB, Kind.OTHER)
    if record["restart_seconds"]:
        yield "serving again, s", (statistics.median(record["restart_seconds"]), Kind.TIME)
    yield from _of_streams(record["more"])
    if len(record["minutes"]) >= 3:
        yield from _of_minutes(record["minutes"])


def _of_streams(more: Record) -> Iterator[tuple[str, tuple[Any, Kind]]]:
    if "node_kib_per_stream" not in more:
        return
    yield "heartbeat acknowledged p99, ms", (more["heartbeat_acknowledged_p99_ms"], Kind.TIME)
    yield "streams broken while held", (more["streams_broken_while_held"], Kind.OTHER)
    yield "reconnects of others after a failover", (more.get("reconnects_of_others"), Kind.OTHER)
    for side, bare in (("node", "bare_server"), ("worker", "bare_client")):
        of_stream, of_bare = more[f"{side}_kib_per_stream"], more[f"{bare}_kib_per_stream"]
        yield f"{side}, KiB per stream", (of_stream, Kind.OTHER)
        yield f"bare gRPC beside a {side}, KiB per stream", (of_bare, Kind.OTHER)
        yield f"{side} above bare gRPC, KiB per stream", (of_stream - of_bare, Kind.OTHER)


def _of_minutes(minutes: Sequence[Record]) -> Iterator[tuple[str, tuple[Any, Kind]]]:
    """The last third of a long run beside the third before: what grows for ever grows here too."""
    third = len(minutes) // 3
    before, last = minutes[-2 * third : -third], minutes[-third:]

    def growth(of: Any) -> float | None:
        old, new = (statistics.median(map(of, part)) for part in (before, last))
        return 100 * (new / old - 1) if old else None

    yield "growth of RSS in the last third, %", (growth(lambda one: max(one["rss_bytes"].values())), Kind.OTHER)
    yield "growth of the state in the last third, %", (growth(lambda one: max(one["data_bytes"].values())), Kind.OTHER)
    delays = [one["start_delay_ms"]["p99"] for one in minutes if one["start_delay_ms"] is not None]
    yield "lowest p99 of a minute, ms", (min(delays, default=None), Kind.TIME)
    yield "highest p99 of a minute, ms", (max(delays, default=None), Kind.TIME)


def load(path: Path) -> dict[str, list[Record]]:
    """Reports by what they are of. The file is of `--save`, or of `horologe bench all`. Raises ValueError if it is neither."""
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a report: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("rows"), dict):
        return {label: list(records) for label, records in content["rows"].items()}
    if isinstance(content, dict) and "profile" in content:
        return {str(content["profile"]): [content]}
    raise ValueError(f"{path} is no report; make one with `horologe bench PROFILE --save FILE`")


def compare(old: Mapping[str, Sequence[Record]], new: Mapping[str, Sequence[Record]]) -> list[Change]:
    """Every figure that both have, by the medians of their runs."""
    changes = []
    for label in old:
        before, after = medians(old[label]), medians(new.get(label, ()))
        for name, figure in before.items():
            if name in after:
                value = after[name].value
                relative = _relative(figure, value, _speed(old[label], figure.kind), _speed(new[label], figure.kind))
                changes.append(Change(label, name, figure.value, value, relative))
    return changes


def medians(records: Sequence[Record]) -> dict[str, Figure]:
    """Of several runs."""
    found = [figures_of(record) for record in records]
    names = dict.fromkeys(name for each in found for name in each)
    return {
        name: Figure(
            statistics.median(each[name].value for each in found if name in each),
            next(each[name].kind for each in found if name in each),
        )
        for name in names
    }


def _speed(records: Sequence[Record], kind: Kind) -> float | None:
    """What the machine did by itself, in the measure that this kind of figure goes by."""
    name = "rounds_per_cpu_second" if kind is Kind.CPU else "rounds_per_second"
    speeds = [record["reference"][name] for record in records if record.get("reference")]
    return statistics.median(speeds) if speeds else None


def _relative(old: Figure, new: float, old_speed: float | None, new_speed: float | None) -> float | None:
    if not old.value or not old_speed or not new_speed:
        return None
    ratio, speed = new / old.value, new_speed / old_speed
    if old.kind is Kind.OTHER:
        return ratio
    return ratio / speed if old.kind is Kind.RATE else ratio * speed
