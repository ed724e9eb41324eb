"""Calendar files: YAML or JSON to calendars of the API, with every mistake named by line; and back to the same mapping."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from horologe.client import names
from horologe.client.documents import Reader, parse, read_text
from horologe.client.jobfile_fields import NOTHING, Field, Shape, duration, read_shape, text, word, write_shape
from horologe.client.times import render as render_time
from horologe.v1.calendar_pb2 import Calendar, CronSpan
from horologe.v1.job_pb2 import CronSchedule

__all__ = ["load", "loads", "to_mapping"]


def _read_raw(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
    """As written: YAML takes 22:00 for a number and 2026-12-25 for a date, and nobody should have to quote them."""
    given = reader.raw(node, path)
    if given is not None:
        setattr(message, name, given)


def _read_raws(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
    items = [reader.raw(item, f"{path}[{index}]") for index, item in enumerate(reader.sequence(node, path))]
    getattr(message, name).extend(item for item in items if item is not None)


def _read_hours(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
    for index, item in enumerate(reader.sequence(node, path)):
        where = f"{path}[{index}]"
        read_shape(reader, _HOURS, item, reader.mapping(item, where) or {}, where, getattr(message, name).add())


def _read_spans(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
    for index, item in enumerate(reader.sequence(node, path)):
        where = f"{path}[{index}]"
        entries = reader.mapping(item, where) or {}
        span: CronSpan = getattr(message, name).add()
        if "cron" in entries:
            _read_raw(reader, entries.pop("cron")[1], f"{where}.cron", span.cron, "expression")
        else:
            reader.problem(item, f"{where}: `cron` is missing")
        rest = {key: entries.pop(key) for key in list(entries) if key in _CRON.fields}
        read_shape(reader, _CRON, item, rest, where, span.cron)
        read_shape(reader, _SPAN, item, entries, where, span)


def _write_texts(message: Any, name: str) -> object:
    return list(getattr(message, name)) or NOTHING


def _write_hours(message: Any, name: str) -> object:
    return [write_shape(_HOURS, hours) for hours in getattr(message, name)] or NOTHING


def _write_spans(message: Any, name: str) -> object:
    spans = [
        {"cron": span.cron.expression, **write_shape(_CRON, span.cron), **write_shape(_SPAN, span)}
        for span in getattr(message, name)
    ]
    return spans or NOTHING


def _write_text(message: Any, name: str) -> object:
    return getattr(message, name) or NOTHING


_RAW = Field(_read_raw, _write_text)
_RAWS = Field(_read_raws, _write_texts)
_HOURS = Shape({"days": _RAWS, "from": _RAW, "to": _RAW})
_CRON = Shape({"time_zone": text, "dialect": word(CronSchedule.Dialect)})
_SPAN = Shape({"duration": duration}, required=("duration",))
_CALENDAR = Shape(
    {
        "description": text,
        "time_zone": text,
        "dates": _RAWS,
        "hours": Field(_read_hours, _write_hours),
        "spans": Field(_read_spans, _write_spans),
    }
)


def load(path: str | Path, namespace: str = names.DEFAULT_NAMESPACE) -> list[Calendar]:
    """Reads a calendar file. InvalidFile lists everything that is wrong with it."""
    return loads(read_text(path), str(path), namespace)


def loads(content: str, file: str = "<text>", namespace: str = names.DEFAULT_NAMESPACE) -> list[Calendar]:
    """Reads the text of a calendar file: `calendars:` and a list, or a single calendar."""
    reader = Reader(file)
    try:
        found = [
            calendar for document in parse(reader, content) for calendar in _read_document(reader, document, namespace)
        ]
    except RecursionError as error:
        raise reader.fail(1, 0, "is nested too deeply, or an alias contains itself") from error
    if not found and not reader.problems:
        raise reader.fail(1, 0, "holds no calendar: write `calendars:` and a list, or a single calendar")
    reader.finish()
    return found


def to_mapping(calendar: Calendar) -> dict[str, object]:
    """A calendar as the mapping of a calendar file, followed by what the cluster knows about it."""
    namespace, _, bare = calendar.name.removeprefix("namespaces/").partition("/calendars/")
    mapping: dict[str, object] = {"name": bare, "namespace": namespace, **write_shape(_CALENDAR, calendar)}
    if calendar.etag:
        mapping |= {
            "etag": calendar.etag,
            "create_time": render_time(calendar.create_time),
            "update_time": render_time(calendar.update_time),
            "job_count": calendar.job_count,
        }
    return mapping


def _read_document(reader: Reader, document: yaml.Node, namespace: str) -> Iterator[Calendar]:
    if isinstance(document, yaml.MappingNode) and any(key.value == "calendars" for key, _ in document.value):
        for name, (key, source) in (reader.mapping(document, "the file") or {}).items():
            if name == "calendars":
                for item in reader.sequence(source, name):
                    yield _read_calendar(reader, item, namespace)
            else:
                reader.problem(key, f"the file: unknown key {name!r} beside `calendars`")
        return
    for key, _ in document.value if isinstance(document, yaml.MappingNode) else ():
        if key.value in ("jobs", "workflows"):
            said = "are in files of their own, which `horologe job apply --file` takes"
            reader.problem(key, f"the file: {key.value} {said}")
            return
    yield _read_calendar(reader, document, namespace)


_IGNORED = ("etag", "create_time", "update_time", "job_count")
"""What `horologe calendar get -o yaml` adds."""


def _read_calendar(reader: Reader, node: yaml.Node, namespace: str) -> Calendar:
    calendar = Calendar()
    entries = reader.mapping(node, "calendar")
    if entries is None:
        return calendar
    bare = reader.text(entries.pop("name")[1], "name") if "name" in entries else None
    space = reader.text(entries.pop("namespace")[1], "namespace") if "namespace" in entries else namespace
    if bare is None or not names.is_id(bare) or not names.is_id(space or ""):
        reader.problem(node, f"calendar: it needs a `name` (and perhaps a `namespace`): {names.ID_RULE}")
    else:
        calendar.name = names.calendar_name(bare, space or "")
    for key in _IGNORED:
        entries.pop(key, None)
    read_shape(reader, _CALENDAR, node, entries, bare or "calendar", calendar)
    return calendar
