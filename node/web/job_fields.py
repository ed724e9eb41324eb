"""The fields of the form for a job, both ways: what is common has a field; all else of a definition stays as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from google.protobuf import json_format
from google.rpc import error_details_pb2

from horologe.node.local_calls import LocalCallError
from horologe.node.web import job_text
from horologe.v1 import job_pb2
from horologe.v1.job_pb2 import Action, CronSchedule, Job, Schedule

Given = Mapping[str, str]
"""What was filled in."""
KINDS = {
    "cron": "cron", "every": "interval", "at": "once", "delay": "fixed_delay", "after": "after", "manual": "manual",
}  # fmt: skip
"""Kinds of schedules, as the form and as the API names them."""
ACTIONS = ("shell", "http", "sql", "python")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
DIALECTS = job_text.words_of(CronSchedule.Dialect)
OVERLAPS = job_text.words_of(job_pb2.OverlapPolicy)
CATCHUPS = job_text.words_of(job_pb2.CatchupPolicy)
EMPTY: Given = {"kind": "cron", "dialect": "unix", "action": "shell", "method": "GET"}
"""A form for a new job."""
FIELDS = frozenset(
    {
        "name", "namespace", "description", "owner", "labels", "queue", "priority", "timeout", "attempts", "overlap", "catchup",
        "kind", "cron", "dialect", "time_zone", "every", "at", "delay", "after",
        "action", "argv", "script", "url", "method", "headers", "body", "connection", "statement", "parameters",
        "handler", "payload",
    }
)  # fmt: skip
_PATHS = (
    (r"schedules\[0\]\.cron\.(time_zone|dialect)", r"\1"),
    (r"schedules\[0\]\.cron", "cron"),
    (r"schedules\[0\]\.interval", "every"),
    (r"schedules\[0\]\.once", "at"),
    (r"schedules\[0\]\.fixed_delay", "delay"),
    (r"schedules\[0\]\.after", "after"),
    (r"schedules", "kind"),
    (r"action\.\w+\.(\w+)", r"\1"),
    (r"action\.shell", "argv"),
    (r"retry\.max_attempts", "attempts"),
    (r"job_id", "name"),
    (r"(\w+)", r"\1"),
)
"""Which field of the form a field of the API is about; the first one that fits the beginning."""


@dataclass(slots=True)
class Mistakes:
    """What is wrong with a form: at its fields, and what no field shows."""

    fields: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.fields or self.others)

    def add(self, name: str, text: str) -> None:
        """At a field of the form, or beside all of them if there is none."""
        if name in FIELDS:
            self.fields[name] = f"{self.fields[name]}; {text}" if name in self.fields else text
        else:
            self.others.append(f"{name}: {text}" if name else text)


def violations_of(error: LocalCallError) -> list[tuple[str, str]]:
    """Fields of the API and what is wrong with them, without the name of what they are fields of."""
    found = error_details_pb2.BadRequest()
    return [
        (re.sub(r"^(job|definition)\.", "", each.field), each.description)
        for detail in error.status.details
        if detail.Unpack(found)
        for each in found.field_violations
    ]


def mistakes_of(error: LocalCallError) -> Mistakes:
    """What the API refused, at the fields of the form."""
    mistakes = Mistakes()
    for path, text in violations_of(error):
        pattern, name = next((each for each in _PATHS if re.match(each[0], path)), ("", ""))
        found = re.match(pattern, path)
        assert found is not None
        target = found.expand(name)
        mistakes.add(target if target in FIELDS else path, text)
    if error.reason == "JOB_EXISTS":
        mistakes.add("name", str(error))
    elif not mistakes:
        mistakes.add("", str(error))
    return mistakes


# From a job to the form


def to_fields(job: Job) -> dict[str, str] | None:
    """The form filled in; None if it has no fields for when this job is due or what it does."""
    if len(job.schedules) != 1 or job.action.WhichOneof("kind") not in ACTIONS:
        return None
    fields = {
        "name": job.name.rpartition("/")[2],
        "namespace": job.name.split("/")[1],
        "queue": job.queue,
        "priority": str(job.priority) if job.HasField("priority") else "",
        "owner": job.owner,
        "labels": "\n".join(f"{key}={value}" for key, value in sorted(job.labels.items())),
        "description": job.description,
        "timeout": job_text.span_text(job.timeout) if job.HasField("timeout") else "",
        "attempts": str(job.retry.max_attempts or ""),
        "overlap": job_text.word_of(job_pb2.OverlapPolicy, job.overlap),
        "catchup": job_text.word_of(job_pb2.CatchupPolicy, job.catchup),
    }
    try:
        return {**EMPTY, **fields, **_schedule_fields(job.schedules[0]), **_action_fields(job.action)}
    except UnicodeDecodeError:
        return None  # A body of bytes that are no text.


def _schedule_fields(schedule: Schedule) -> dict[str, str]:
    match schedule.WhichOneof("kind"):
        case "cron":
            dialect = job_text.word_of(CronSchedule.Dialect, schedule.cron.dialect)
            zone = schedule.cron.time_zone
            return {"kind": "cron", "cron": schedule.cron.expression, "dialect": dialect or "unix", "time_zone": zone}
        case "interval":
            return {"kind": "every", "every": job_text.span_text(schedule.interval.every)}
        case "once":
            return {"kind": "at", "at": job_text.instant_text(schedule.once.time)}
        case "fixed_delay":
            return {"kind": "delay", "delay": job_text.span_text(schedule.fixed_delay.delay)}
        case "after":
            return {"kind": "after", "after": ", ".join(schedule.after.jobs)}
        case _:
            return {"kind": "manual"}


def _action_fields(action: Action) -> dict[str, str]:
    match action.WhichOneof("kind"):
        case "http":
            headers = "\n".join(f"{key}: {value}" for key, value in sorted(action.http.headers.items()))
            body, method = action.http.body.decode(), action.http.method or "GET"
            return {"action": "http", "url": action.http.url, "method": method, "headers": headers, "body": body}
        case "sql":
            parameters = job_text.json_text(action.sql.parameters) if action.sql.HasField("parameters") else ""
            connection, statement = action.sql.connection, action.sql.statement
            return {"action": "sql", "connection": connection, "statement": statement, "parameters": parameters}
        case "python":
            payload = job_text.json_text(action.python.payload) if action.python.HasField("payload") else ""
            return {"action": "python", "handler": action.python.handler, "payload": payload}
        case _:
            return {"action": "shell", "argv": "\n".join(action.shell.argv), "script": action.shell.script}


# From the form to a job


def read_fields(given: Given, base: Job | None = None) -> tuple[Job, Mistakes]:
    """The job that the form describes: the one that it was filled with, where the form has no field."""
    job, mistakes = Job(), Mistakes()
    if base is not None:
        job.CopyFrom(base)
    _read_schedule(given, job, mistakes)
    _read_action(given, job.action, mistakes)
    for name in ("queue", "owner", "description"):
        setattr(job, name, _text(given, name))
    job.labels.clear()
    for key, value in _pairs(given, "labels", "=", mistakes):
        job.labels[key] = value
    job.ClearField("priority")
    _try(given, "priority", mistakes, lambda text: setattr(job, "priority", int(text)))
    job.ClearField("timeout")
    _try(given, "timeout", mistakes, lambda text: job.timeout.CopyFrom(job_text.span(text)))
    if _text(given, "attempts") != str(job.retry.max_attempts or ""):
        job.retry.max_attempts = 0
    _try(given, "attempts", mistakes, lambda text: setattr(job.retry, "max_attempts", int(text)))
    for name, enumeration in (("overlap", job_pb2.OverlapPolicy), ("catchup", job_pb2.CatchupPolicy)):
        job.ClearField(name)  # type: ignore[arg-type]
        _try(given, name, mistakes, _word_into(job, name, enumeration))
    return job, mistakes


def _word_into(message: Job | CronSchedule, name: str, enumeration: object) -> Callable[[str], None]:
    return lambda text: setattr(message, name, job_text.number_of(enumeration, text))


def _read_schedule(given: Given, job: Job, mistakes: Mistakes) -> None:
    kind = KINDS.get(_text(given, "kind"), "")
    if not kind:
        mistakes.add("kind", f"choose one of: {', '.join(KINDS)}")
        return
    if len(job.schedules) != 1 or job.schedules[0].WhichOneof("kind") != kind:
        job.ClearField("schedules")
        job.schedules.add()
    schedule = job.schedules[0]
    getattr(schedule, kind).SetInParent()
    match kind:
        case "cron":
            schedule.cron.expression, schedule.cron.time_zone = _text(given, "cron"), _text(given, "time_zone")
            _try(given, "dialect", mistakes, _word_into(schedule.cron, "dialect", CronSchedule.Dialect))
        case "interval":
            _try(given, "every", mistakes, lambda text: schedule.interval.every.CopyFrom(job_text.span(text)))
        case "once":
            zone = _text(given, "time_zone")
            schedule.once.ClearField("delay")
            _try(given, "at", mistakes, lambda text: schedule.once.time.CopyFrom(job_text.moment(text, zone)))
        case "fixed_delay":
            _try(given, "delay", mistakes, lambda text: schedule.fixed_delay.delay.CopyFrom(job_text.span(text)))
        case "after":
            schedule.after.jobs[:] = re.split(r"[\s,]+", _text(given, "after")) if _text(given, "after") else []


def _read_action(given: Given, action: Action, mistakes: Mistakes) -> None:
    kind = _text(given, "action")
    if kind not in ACTIONS:
        mistakes.add("action", f"choose one of: {', '.join(ACTIONS)}")
        return
    getattr(action, kind).SetInParent()
    match kind:
        case "shell":
            action.shell.argv[:] = [line for line in _lines(given.get("argv", "")) if line.strip()]
            action.shell.script = _unix(given.get("script", ""))
        case "http":
            action.http.method, action.http.url = _text(given, "method"), _text(given, "url")
            action.http.body = _unix(given.get("body", "")).encode()
            action.http.headers.clear()
            for key, value in _pairs(given, "headers", ":", mistakes):
                action.http.headers[key] = value
        case "sql":
            action.sql.connection = _text(given, "connection")
            action.sql.statement = _unix(given.get("statement", ""))
            action.sql.ClearField("parameters")
            _try(given, "parameters", mistakes, lambda text: json_format.ParseDict(_json(text), action.sql.parameters))
        case "python":
            action.python.handler = _text(given, "handler")
            action.python.ClearField("payload")
            _try(given, "payload", mistakes, lambda text: json_format.ParseDict(_json(text), action.python.payload))


def _text(given: Given, name: str) -> str:
    return given.get(name, "").strip()


def _unix(text: str) -> str:
    """Browsers end lines with CR LF, and a shell takes the CR for a part of the word before it."""
    return text.replace("\r\n", "\n")


def _lines(text: str) -> list[str]:
    return _unix(text).split("\n")


def _pairs(given: Given, name: str, separator: str, mistakes: Mistakes) -> list[tuple[str, str]]:
    """One pair in a line."""
    pairs = []
    for line in filter(None, map(str.strip, _lines(given.get(name, "")))):
        key, found, value = line.partition(separator)
        if found:
            pairs.append((key.strip(), value.strip()))
        else:
            mistakes.add(name, f"{line!r} has no {separator!r}: write one pair in each line")
    return pairs


def _json(text: str) -> dict[str, object]:
    try:
        found: dict[str, object] = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return found


def _try(given: Given, name: str, mistakes: Mistakes, take: Callable[[str], object]) -> None:
    """Takes what a field says, if it says anything."""
    text = _text(given, name)
    if not text:
        return
    try:
        take(text)
    except (ValueError, TypeError, AttributeError, OverflowError, json_format.ParseError, RecursionError) as error:
        mistakes.add(name, str(error))
