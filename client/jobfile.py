"""Job files: YAML or JSON text to jobs of the API, with every mistake named by line; and jobs back to the same mapping.

One table per mapping (`JOB`, `SHELL`, ...) serves both directions: a key of the file is the field of the same name in the
message. How single values are read and written is in `jobfile_fields.py`, YAML itself in `documents.py`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from horologe.client import names, words
from horologe.client.documents import Mapped, Reader, parse
from horologe.client.errors import InvalidFile, Problem
from horologe.client.jobfile_fields import (
    Shape,
    duration,
    integer,
    integers,
    number,
    read_instant,
    read_shape,
    struct,
    text,
    text_map,
    texts,
    value,
    word,
    write_shape,
)
from horologe.client.times import render as render_time
from horologe.v1 import job_pb2
from horologe.v1.job_pb2 import Action, CronSchedule, Job, RetryPolicy, Schedule

__all__ = ["SourcedJob", "load", "loads", "to_mapping"]


@dataclass(frozen=True, slots=True)
class SourcedJob:
    """A job, and where it was written."""

    job: Job
    file: str
    line: int


SHELL = Shape(
    {
        "argv": texts,
        "script": text,
        "interpreter": texts,
        "env": text_map,
        "cwd": text,
        "success_codes": integers(0, 255),
    },
    later={"user", "output_cap", "limits", "rlimits"},
)
HTTP = Shape(
    {"method": text, "url": text, "headers": text_map, "expect": integers(100, 599)},
    required=("url",),
    later={"timeout", "timeouts", "redirects"},
)
SQL = Shape({"connection": text, "statement": text, "parameters": struct}, required=("connection", "statement"))
PYTHON = Shape({"handler": text, "payload": value}, required=("handler",))
ACTIONS: Mapping[str, Shape] = {"shell": SHELL, "http": HTTP, "sql": SQL, "python": PYTHON}

RETRY = Shape(
    {
        "max_attempts": integer(1, 1000),
        "backoff": word(RetryPolicy.Backoff),
        "base": duration,
        "factor": number(1.0, 1000.0),
        "cap": duration,
        "jitter": word(RetryPolicy.Jitter),
    },
    later={"retry_on", "do_not_retry_on", "retry_window"},
)

CRON = Shape(
    {
        "time_zone": text,
        "dialect": word(CronSchedule.Dialect),
        "dst_gap": word(CronSchedule.GapPolicy),
        "dst_overlap": word(CronSchedule.OverlapPolicy),
        "day_match": word(CronSchedule.DayMatch),
    }
)
INTERVAL = Shape({"phase": duration}, later={"anchor"})
KINDS = ("cron", "interval", "once", "delay", "manual")
_KINDS_LATER = frozenset({"after", "fixed_delay"})
_SCHEDULE_LATER = frozenset({"start_time", "end_time", "max_executions", "jitter", "exclude"})

JOB = Shape(
    {
        "timeout": duration,
        "grace": duration,
        "overlap": word(job_pb2.OverlapPolicy),
        "catchup": word(job_pb2.CatchupPolicy),
        "catchup_window": duration,
        "on_lease_loss": word(job_pb2.LeaseLossPolicy),
        "queue": text,
        "priority": integer(0, 9),
        "labels": text_map,
        "description": text,
    }
)
_JOB_LATER = frozenset(
    {
        "aging",
        "catchup_max",
        "deadline",
        "delete_when_finished",
        "end_time",
        "exclude",
        "exclusions",
        "execution_timeout",
        "jitter",
        "max_executions",
        "max_running",
        "queue_max",
        "start_time",
        "workflow",
    }
)
# Made by the cluster. Read over, so that the output of `job get -o yaml` can be edited and applied.
OUTPUT_ONLY = (
    "uid",
    "etag",
    "state",
    "pause_reason",
    "create_time",
    "update_time",
    "next_due_time",
    "unfinished_execution_count",
)
JOB_KEYS = ("name", "namespace", "schedule", "action", "retry", *JOB.fields)


def load(path: str | Path, namespace: str = names.DEFAULT_NAMESPACE) -> list[SourcedJob]:
    """Reads a job file. InvalidFile lists everything that is wrong with it."""
    try:
        content = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidFile([Problem(str(path), 1, 0, f"is not UTF-8 text (byte {error.start})")]) from error
    except OSError as error:
        raise InvalidFile([Problem(str(path), 1, 0, f"cannot be read: {error.strerror or error}")]) from error
    return loads(content, str(path), namespace)


def loads(content: str, file: str = "<text>", namespace: str = names.DEFAULT_NAMESPACE) -> list[SourcedJob]:
    """Reads the text of a job file; `file` is what problems call it. Jobs without `namespace` get the given one."""
    reader = Reader(file)
    found: list[SourcedJob] = []
    try:
        for document in parse(reader, content):
            for node in _job_nodes(reader, document):
                job = _read_job(reader, node, namespace)
                if job is not None:
                    found.append(SourcedJob(job, file, node.start_mark.line + 1))
    except RecursionError as error:
        raise reader.fail(1, 0, "is nested too deeply, or an alias contains itself") from error
    if not found and not reader.problems:
        raise reader.fail(1, 0, "holds no job: write `jobs:` and a list, or a single job")
    _check_unique(reader, found)
    reader.finish()
    return found


def to_mapping(job: Job) -> dict[str, object]:
    """A job as the mapping of a job file, followed by what the cluster knows about it."""
    schedules = [_write_schedule(schedule) for schedule in job.schedules]
    mapping: dict[str, object] = {"name": names.job_id(job.name), "namespace": names.namespace_id(job.name)}
    mapping["schedule"] = schedules[0] if len(schedules) == 1 else schedules
    mapping["action"] = _write_action(job.action)
    if job.HasField("retry"):
        mapping["retry"] = write_shape(RETRY, job.retry)
    mapping |= write_shape(JOB, job)
    if job.uid:
        mapping |= {
            "uid": job.uid,
            "etag": job.etag,
            "state": words.render(Job.State, job.state),
            "pause_reason": job.pause_reason,
            "create_time": render_time(job.create_time) if job.HasField("create_time") else None,
            "update_time": render_time(job.update_time) if job.HasField("update_time") else None,
            "next_due_time": render_time(job.next_due_time) if job.HasField("next_due_time") else None,
            "unfinished_execution_count": job.unfinished_execution_count,
        }
    return mapping


def _job_nodes(reader: Reader, document: yaml.Node) -> list[yaml.Node]:
    if isinstance(document, yaml.SequenceNode):
        return reader.sequence(document, "the file")
    is_mapping = isinstance(document, yaml.MappingNode)
    if is_mapping and not any(key.value == "jobs" for key, _ in document.value):
        return [document]
    entries = reader.mapping(document, "the file")
    if entries is None:
        return []
    for name, (key, _) in entries.items():
        if name != "jobs":
            reader.problem(key, f"the file: unknown key {name!r} beside `jobs`; a job's keys go into the list")
    return reader.sequence(entries["jobs"][1], "jobs")


def _read_job(reader: Reader, node: yaml.Node, namespace: str) -> Job | None:
    before = len(reader.problems)
    entries = reader.mapping(node, "job")
    if entries is None:
        return None
    job = Job()
    _read_name(reader, node, entries, namespace, job)
    path = names.job_id(job.name) if job.name else "job"
    for name, (key, _) in entries.items():
        if name in _JOB_LATER:
            reader.problem(key, f"{path}: {name!r} is not in this release")
        elif name not in JOB_KEYS and name not in OUTPUT_ONLY:
            reader.unknown(key, path, name, JOB_KEYS)
    for required in ("schedule", "action"):
        if required not in entries:
            extra = (
                " (for a job that runs on request only: `schedule: {manual: true}`)" if required == "schedule" else ""
            )
            reader.problem(node, f"{path}: `{required}` is missing{extra}")
    if "schedule" in entries:
        _read_schedules(reader, entries["schedule"][1], f"{path}.schedule", job)
    if "action" in entries:
        _read_action(reader, entries["action"][1], f"{path}.action", job.action)
    if "retry" in entries:
        retry = reader.mapping(entries["retry"][1], f"{path}.retry")
        if retry is not None:
            job.retry.SetInParent()
            read_shape(reader, RETRY, entries["retry"][1], retry, f"{path}.retry", job.retry)
    known = {name: entry for name, entry in entries.items() if name in JOB.fields}
    read_shape(reader, JOB, node, known, path, job)
    return job if len(reader.problems) == before else None


def _read_name(reader: Reader, node: yaml.Node, entries: Mapped, namespace: str, job: Job) -> None:
    bare, space = None, namespace
    if "name" in entries:
        key = entries["name"][1]
        bare = reader.text(key, "name")
        if bare is not None and not names.is_id(bare):
            reader.problem(key, f"name: {bare!r} is not a name: {names.ID_RULE}")
            bare = None
    else:
        reader.problem(node, "job: `name` is missing")
    if "namespace" in entries:
        key = entries["namespace"][1]
        space = reader.text(key, "namespace") or ""
        if space and not names.is_id(space):
            reader.problem(key, f"namespace: {space!r} is not a name: {names.ID_RULE}")
            space = ""
    if bare and space:
        job.name = names.job_name(bare, space)


def _read_schedules(reader: Reader, node: yaml.Node, path: str, job: Job) -> None:
    if not isinstance(node, yaml.SequenceNode):
        _read_schedule(reader, node, path, job.schedules.add())
        return
    items = reader.sequence(node, path)
    if not items:
        reader.problem(node, f"{path}: the list is empty")
    for position, item in enumerate(items):
        _read_schedule(reader, item, f"{path}[{position}]", job.schedules.add())


def _read_schedule(reader: Reader, node: yaml.Node, path: str, schedule: Schedule) -> None:
    entries = reader.mapping(node, path)
    if entries is None:
        return
    for name, (key, _) in entries.items():
        if name in _KINDS_LATER:
            reader.problem(
                key, f"{path}: schedules of kind {name!r} are not in this release; use one of {_list(KINDS)}"
            )
            return
    kinds = [name for name in KINDS if name in entries]
    if len(kinds) != 1:
        said = f"both {kinds[0]!r} and {kinds[1]!r}" if kinds else f"only {_list(entries)}" if entries else "nothing"
        reader.problem(node, f"{path}: needs exactly one of {_list(KINDS)}, and has {said}")
        return
    kind = kinds[0]
    source = entries[kind][1]
    rest = {name: entry for name, entry in entries.items() if name != kind}
    where = f"{path}.{kind}"
    match kind:
        case "cron":
            schedule.cron.expression = reader.text(source, where) or ""
            _read_rest(reader, CRON, node, rest, path, schedule.cron)
        case "interval":
            schedule.interval.SetInParent()
            duration.read(reader, source, where, schedule.interval, "every")
            _read_rest(reader, INTERVAL, node, rest, path, schedule.interval)
        case "once":
            read_instant(reader, source, where, schedule.once, rest)
            _read_allow_past(reader, path, rest, schedule)
        case "delay":
            duration.read(reader, source, where, schedule.once, "delay")
            _read_rest(reader, Shape({}), node, rest, path, schedule.once)
        case _:
            schedule.manual.SetInParent()
            if reader.boolean(source, where) is False:
                reader.problem(source, f"{where} must be true")
            _read_rest(reader, Shape({}), node, rest, path, schedule.manual)


def _read_allow_past(reader: Reader, path: str, rest: Mapped, schedule: Schedule) -> None:
    for name, (key, source) in rest.items():
        if name == "allow_past":
            schedule.once.allow_past = reader.boolean(source, f"{path}.allow_past") or False
        elif name != "time_zone":
            reader.unknown(key, path, name, ("once", "time_zone", "allow_past"))


def _read_rest(reader: Reader, shape: Shape, node: yaml.Node, rest: Mapped, path: str, message: object) -> None:
    for name in [name for name in rest if name in _SCHEDULE_LATER]:
        reader.problem(rest.pop(name)[0], f"{path}: {name!r} is not in this release")
    read_shape(reader, shape, node, rest, path, message)


def _read_action(reader: Reader, node: yaml.Node, path: str, action: Action) -> None:
    entries = reader.mapping(node, path)
    if entries is None:
        return
    for name, (key, _) in entries.items():
        if name not in ACTIONS:
            reader.unknown(key, path, name, ACTIONS)
    kinds = [name for name in entries if name in ACTIONS]
    if len(kinds) != 1:
        if kinds or not entries:
            reader.problem(node, f"{path}: needs exactly one of {_list(ACTIONS)}")
        return
    kind = kinds[0]
    source = entries[kind][1]
    where = f"{path}.{kind}"
    inner = reader.mapping(source, where)
    if inner is None:
        return
    message = getattr(action, kind)
    message.SetInParent()
    body: Mapped = {name: inner.pop(name) for name in ("body", "body_base64", "stdin", "stdin_base64") if name in inner}
    read_shape(reader, ACTIONS[kind], source, inner, where, message)
    if kind == "shell":
        _read_shell(reader, source, where, inner, body, action)
    elif kind == "http":
        _read_bytes(reader, where, "body", body, action.http)
        _read_json_body(reader, where, body, action)
    for name, (key, _) in body.items():
        reader.unknown(key, where, name, ACTIONS[kind].fields)


def _read_shell(reader: Reader, node: yaml.Node, path: str, entries: Mapped, rest: Mapped, action: Action) -> None:
    _read_bytes(reader, path, "stdin", rest, action.shell)
    if ("argv" in entries) == ("script" in entries):
        reader.problem(node, f"{path}: needs exactly one of 'argv' (a list) and 'script' (text)")
    elif "argv" in entries and not action.shell.argv and isinstance(entries["argv"][1], yaml.SequenceNode):
        reader.problem(entries["argv"][1], f"{path}.argv is empty; the first item is the program")
    if "interpreter" in entries and "argv" in entries:
        reader.problem(entries["interpreter"][0], f"{path}: 'interpreter' goes with 'script'; argv is run as it is")


def _read_bytes(reader: Reader, path: str, name: str, rest: Mapped, message: object) -> None:
    """`name` as text, or `name`_base64 for bytes that are no text. A mapping is left for `_read_json_body`."""
    encoded = rest.pop(f"{name}_base64", None)
    if encoded is not None:
        given = reader.text(encoded[1], f"{path}.{name}_base64")
        try:
            setattr(message, name, base64.b64decode(given or "", validate=True))
        except (binascii.Error, ValueError):
            reader.problem(encoded[1], f"{path}.{name}_base64 is not base64")
        if name in rest:
            reader.problem(encoded[0], f"{path}: give {name!r} or '{name}_base64', not both")
    if name in rest and not (name == "body" and isinstance(rest[name][1], yaml.MappingNode | yaml.SequenceNode)):
        given = reader.text(rest.pop(name)[1], f"{path}.{name}")
        setattr(message, name, (given or "").encode("utf-8", "replace"))


def _read_json_body(reader: Reader, path: str, rest: Mapped, action: Action) -> None:
    """A body that is a mapping or a list is sent as JSON."""
    if "body" not in rest:
        return
    content = reader.json(rest.pop("body")[1], f"{path}.body")
    action.http.body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    if not any(name.lower() == "content-type" for name in action.http.headers):
        action.http.headers["Content-Type"] = "application/json"


def _check_unique(reader: Reader, found: list[SourcedJob]) -> None:
    lines: dict[str, int] = {}
    for sourced in found:
        first = lines.setdefault(sourced.job.name, sourced.line)
        if first != sourced.line:
            bare = names.job_id(sourced.job.name)
            reader.problems.append(
                Problem(sourced.file, sourced.line, 0, f"job {bare!r} is here twice (first in line {first})")
            )


def _write_schedule(schedule: Schedule) -> dict[str, object]:
    match schedule.WhichOneof("kind"):
        case "cron":
            return {"cron": schedule.cron.expression, **write_shape(CRON, schedule.cron)}
        case "interval":
            period = duration.write(schedule.interval, "every")
            return {"interval": period, **write_shape(INTERVAL, schedule.interval)}
        case "once":
            past: dict[str, object] = {"allow_past": True} if schedule.once.allow_past else {}
            if schedule.once.HasField("delay") and not schedule.once.HasField("time"):
                return {"delay": duration.write(schedule.once, "delay")}
            return {"once": render_time(schedule.once.time), **past}
        case "manual":
            return {"manual": True}
        case _:
            return {}


def _write_action(action: Action) -> dict[str, object]:
    kind = action.WhichOneof("kind")
    if kind is None:
        return {}
    message = getattr(action, kind)
    mapping = write_shape(ACTIONS[kind], message)
    name = {"shell": "stdin", "http": "body"}.get(kind)
    content: bytes = getattr(message, name) if name else b""
    if name and content:
        try:
            mapping[name] = content.decode()
        except UnicodeDecodeError:
            mapping[f"{name}_base64"] = base64.b64encode(content).decode()
    return {kind: mapping}


def _list(items: Mapping[str, object] | tuple[str, ...]) -> str:
    return ", ".join(repr(item) for item in items)
