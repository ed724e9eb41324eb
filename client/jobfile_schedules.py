"""The `schedule` of a job file: one mapping or a list of them, each with exactly one kind of schedule and its settings.

One table, `KINDS`, serves both directions: how a kind's own value and the keys beside it are read and written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from horologe.client.documents import Mapped, Reader
from horologe.client.jobfile_fields import (
    NOTHING,
    Field,
    Shape,
    duration,
    flag,
    instant,
    listed,
    period,
    read_instant,
    read_shape,
    text,
    texts,
    word,
    write_shape,
)
from horologe.v1.job_pb2 import AfterSchedule, CronSchedule, Job, Schedule

__all__ = ["KINDS", "read_schedules", "write_schedules"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of schedule: `{interval: 5m, phase: 0s}` has its value under its own name, and settings beside it."""

    message: str
    """The field of Schedule."""
    attribute: str
    """Where the value goes."""
    value: Field
    rest: Shape


_EXAMPLE = '{cron: "0 2 * * *"} or {interval: 5m}'
_NOTHING_MORE = Shape({})
_ZONE_OF_LOCAL_TIME = Field(lambda *_: None, lambda *_: NOTHING)
"""Read together with the time, whose instant is all that is stored."""
KINDS: Mapping[str, Kind] = {
    "cron": Kind(
        "cron",
        "expression",
        text,
        Shape(
            {
                "time_zone": text,
                "dialect": word(CronSchedule.Dialect),
                "dst_gap": word(CronSchedule.GapPolicy),
                "dst_overlap": word(CronSchedule.OverlapPolicy),
                "day_match": word(CronSchedule.DayMatch),
            }
        ),
    ),
    "interval": Kind("interval", "every", period, Shape({"phase": duration, "anchor": instant})),
    "fixed_delay": Kind("fixed_delay", "delay", period, _NOTHING_MORE),
    "once": Kind("once", "time", instant, Shape({"time_zone": _ZONE_OF_LOCAL_TIME, "allow_past": flag})),
    "delay": Kind("once", "delay", duration, _NOTHING_MORE),
    "after": Kind("after", "jobs", texts, Shape({"condition": word(AfterSchedule.Condition)})),
    "manual": Kind("manual", "", flag, _NOTHING_MORE),
}


def read_schedules(reader: Reader, node: yaml.Node, path: str, job: Job, job_keys: tuple[str, ...]) -> None:
    """One schedule or a list of them into the job. `job_keys` are told apart from keys that mean nothing anywhere."""
    if not isinstance(node, yaml.SequenceNode):
        _read_schedule(reader, node, path, job.schedules.add(), job_keys)
        return
    items = reader.sequence(node, path)
    if not items:
        reader.problem(node, f"{path}: the list is empty")
    for position, item in enumerate(items):
        _read_schedule(reader, item, f"{path}[{position}]", job.schedules.add(), job_keys)


def write_schedules(job: Job) -> object:
    """The job's schedules as `read_schedules` takes them."""
    schedules = [_write_schedule(schedule) for schedule in job.schedules]
    return schedules[0] if len(schedules) == 1 else schedules


def _read_schedule(reader: Reader, node: yaml.Node, path: str, schedule: Schedule, job_keys: tuple[str, ...]) -> None:
    entries = reader.mapping(node, path, _EXAMPLE)
    if entries is None:
        return
    kinds = [name for name in KINDS if name in entries]
    if len(kinds) != 1:
        said = f"both {kinds[0]!r} and {kinds[1]!r}" if kinds else f"only {listed(entries)}" if entries else "nothing"
        reader.problem(node, f"{path}: needs exactly one of {listed(KINDS)}, and has {said}")
        return
    name = kinds[0]
    kind = KINDS[name]
    _, source = entries.pop(name)
    for misplaced in [key for key in entries if key in job_keys and key not in kind.rest.fields]:
        key, _ = entries.pop(misplaced)
        reader.problem(key, f"{path}: {misplaced!r} belongs to the job, beside `schedule`")
    message = getattr(schedule, kind.message)
    message.SetInParent()
    _read_value(reader, name, source, f"{path}.{name}", message, entries)
    read_shape(reader, kind.rest, node, entries, path, message)


def _read_value(reader: Reader, name: str, node: yaml.Node, path: str, message: object, rest: Mapped) -> None:
    if name == "manual":
        if reader.boolean(node, path) is False:
            reader.problem(node, f"{path} must be true")
    elif name == "once":
        read_instant(reader, node, path, message, rest.get("time_zone"))
    else:
        kind = KINDS[name]
        kind.value.read(reader, node, path, message, kind.attribute)


def _write_schedule(schedule: Schedule) -> dict[str, object]:
    field = schedule.WhichOneof("kind")
    if field == "manual":
        return {"manual": True}
    for name, kind in KINDS.items():
        if kind.message == field:
            message = getattr(schedule, kind.message)
            value = write_shape(Shape({kind.attribute: kind.value}), message)
            if value:
                return {name: value[kind.attribute], **write_shape(kind.rest, message)}
    return {}
