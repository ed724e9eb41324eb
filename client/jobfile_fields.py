"""The kinds of values in a job file, each with a reader and a writer; and shapes, which are tables of them.

A field reads a node into the attribute of the same name of a message, and writes the attribute back as plain data.
Which keys there are is in `jobfile.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import timedelta
from math import copysign
from typing import Any, Final

import yaml
from google.protobuf import json_format, struct_pb2

from horologe.client import durations, times, words
from horologe.client.documents import Mapped, Reader
from horologe.client.json_value import NESTING_RULE, is_too_deep

__all__ = [
    "INT32_MAX",
    "NOTHING",
    "Field",
    "Shape",
    "duration",
    "flag",
    "instant",
    "integer",
    "integer_map",
    "integers",
    "listed",
    "number",
    "period",
    "read_instant",
    "read_shape",
    "struct",
    "text",
    "text_map",
    "texts",
    "value",
    "word",
    "write_shape",
]

PERIOD: Final = (timedelta(seconds=1), timedelta(days=366))
"""The shortest and the longest distance between due times."""
INT32_MAX: Final = 2**31 - 1

NOTHING: Final = object()
"""What a writer answers when there is nothing to write; None is a value of its own (`payload: null`)."""


@dataclass(frozen=True, slots=True)
class Field:
    """One kind of value."""

    read: Callable[[Reader, yaml.Node, str, Any, str], None]
    """(reader, node, path for messages, message, attribute): sets the attribute, or notes a problem."""
    write: Callable[[Any, str], object]
    """(message, attribute): plain data, or NOTHING."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The keys of one mapping."""

    fields: Mapping[str, Field]
    required: tuple[str, ...] = ()
    later: Set[str] = frozenset()
    """Keys that have a meaning in Horologe, and none in this release."""


def read_shape(reader: Reader, shape: Shape, node: yaml.Node, entries: Mapped, path: str, message: object) -> None:
    """Reads the entries of a mapping into a message; what is missing is a problem at `node`."""
    for name, (key, source) in entries.items():
        field = shape.fields.get(name)
        if field is not None:
            field.read(reader, source, f"{path}.{name}", message, name)
        elif name in shape.later:
            reader.problem(key, f"{path}: {name!r} is not in this release")
        elif shape.fields:
            reader.unknown(key, path, name, shape.fields)
        else:
            reader.problem(key, f"{path}: unknown key {name!r}")
    for name in shape.required:
        if name not in entries:
            reader.problem(node, f"{path}: `{name}` is missing")


def write_shape(shape: Shape, message: Any) -> dict[str, object]:
    """The fields of a message that say something, in the order of the shape."""
    written = {name: field.write(message, name) for name, field in shape.fields.items()}
    return {name: plain for name, plain in written.items() if plain is not NOTHING}


def _read_text(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
    given = reader.text(node, path)
    if given is not None:
        setattr(message, name, given)


def _write_truthy(message: Any, name: str) -> object:
    return getattr(message, name) or NOTHING


text = Field(_read_text, _write_truthy)


def _read_texts(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
    items = [reader.text(item, f"{path}[{index}]") for index, item in enumerate(reader.sequence(node, path))]
    getattr(message, name).extend(item for item in items if item is not None)


def _write_list(message: Any, name: str) -> object:
    return list(getattr(message, name)) or NOTHING


texts = Field(_read_texts, _write_list)


def _read_text_map(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
    for key, (_, source) in (reader.mapping(node, path) or {}).items():
        given = reader.text(source, f"{path}.{key}")
        if given is not None:
            getattr(message, name)[key] = given


def _write_map(message: Any, name: str) -> object:
    # Maps have no order on the wire; sorted, so that the same job is always written the same way.
    return dict(sorted(getattr(message, name).items())) or NOTHING


text_map = Field(_read_text_map, _write_map)


def integer(low: int, high: int) -> Field:
    """A whole number within bounds."""

    def read(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
        given = reader.integer(node, path, low, high)
        if given is not None:
            setattr(message, name, given)

    def write(message: Any, name: str) -> object:
        descriptor = message.DESCRIPTOR.fields_by_name[name]
        if descriptor.has_presence:
            return getattr(message, name) if message.HasField(name) else NOTHING
        return getattr(message, name) or NOTHING

    return Field(read, write)


def integers(low: int, high: int) -> Field:
    """A list of whole numbers within bounds."""

    def read(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
        for position, item in enumerate(reader.sequence(node, path)):
            given = reader.integer(item, f"{path}[{position}]", low, high)
            if given is not None:
                getattr(message, name).append(given)

    return Field(read, _write_list)


def integer_map(low: int, high: int) -> Field:
    """A mapping of names to whole numbers within bounds."""

    def read(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
        for key, (_, source) in (reader.mapping(node, path) or {}).items():
            given = reader.integer(source, f"{path}.{key}", low, high)
            if given is not None:
                getattr(message, name)[key] = given

    return Field(read, _write_map)


def number(low: float, high: float) -> Field:
    """A number within bounds."""

    def read(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
        given = reader.number(node, path, low, high)
        if given is not None:
            setattr(message, name, given)

    def write(message: Any, name: str) -> object:
        stored: float = getattr(message, name)
        return (int(stored) if stored.is_integer() else stored) if stored else NOTHING

    return Field(read, write)


def word(enumeration: words.Enumeration[int]) -> Field:
    """One of the words of an enumeration."""

    def read(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
        # Taken as written: `skip` is text, and nobody should have to quote it.
        given = reader.converted(node, path, reader.raw(node, path), lambda raw: words.parse(enumeration, raw))
        if given is not None:
            setattr(message, name, given)

    def write(message: Any, name: str) -> object:
        return words.render(enumeration, getattr(message, name)) or NOTHING

    return Field(read, write)


def _read_duration(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
    given = reader.converted(node, path, reader.raw(node, path), durations.parse)
    if given is not None:
        getattr(message, name).CopyFrom(durations.to_proto(given))


def _write_duration(message: Any, name: str) -> object:
    return durations.render(durations.from_proto(getattr(message, name))) if message.HasField(name) else NOTHING


duration = Field(_read_duration, _write_duration)


def _read_period(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
    _read_duration(reader, node, path, message, name)
    if message.HasField(name):
        given = durations.from_proto(getattr(message, name))
        if not PERIOD[0] <= given <= PERIOD[1]:
            reader.problem(node, f"{path} must be from 1s to 366d, not {durations.render(given)}")


period = Field(_read_period, _write_duration)


def _read_flag(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
    given = reader.boolean(node, path)
    if given is not None:
        setattr(message, name, given)


flag = Field(_read_flag, _write_truthy)


def read_instant(
    reader: Reader,
    node: yaml.Node,
    path: str,
    message: Any,
    zone: tuple[yaml.Node, yaml.Node] | None,
    name: str = "time",
) -> None:
    """An instant, with the zone of the entry beside it if it is a local time."""
    named = "" if zone is None else reader.text(zone[1], f"{path.rpartition('.')[0]}.time_zone") or ""
    given = reader.converted(node, path, reader.raw(node, path), lambda raw: times.parse(raw, named))
    if given is not None:
        getattr(message, name).CopyFrom(times.to_proto(given))


def _read_lone_instant(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
    read_instant(reader, node, path, message, None, name)


def _write_instant(message: Any, name: str) -> object:
    return times.render(getattr(message, name)) if message.HasField(name) else NOTHING


instant = Field(_read_lone_instant, _write_instant)


def _read_value(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
    plain = reader.json(node, path)
    _copy_json(reader, node, path, plain, getattr(message, name))


def _write_value(message: Any, name: str) -> object:
    return plain_json(getattr(message, name)) if message.HasField(name) else NOTHING


value = Field(_read_value, _write_value)


def _read_struct(reader: Reader, node: yaml.Node, path: str, message: Any, name: str) -> None:
    if not isinstance(node, yaml.MappingNode):
        reader.mapping(node, path)
        return
    _copy_json(reader, node, path, reader.json(node, path), getattr(message, name))


def _write_struct(message: Any, name: str) -> object:
    return plain_json(getattr(message, name)) if message.HasField(name) else NOTHING


struct = Field(_read_struct, _write_struct)


def _copy_json(reader: Reader, node: yaml.Node, path: str, plain: object, message: Any) -> None:
    values = plain.values() if isinstance(message, struct_pb2.Struct) and isinstance(plain, dict) else [plain]
    if any(map(is_too_deep, values)):
        reader.problem(node, f"{path} has {NESTING_RULE}")
        return
    try:
        json_format.ParseDict(plain, message)  # type: ignore[arg-type]
    except (json_format.ParseError, OverflowError, UnicodeEncodeError) as error:
        reader.problem(node, f"{path}: {error}")


def plain_json(message: struct_pb2.Value | struct_pb2.Struct) -> object:
    """A JSON value as plain data, whole numbers as whole numbers."""
    return _whole(json_format.MessageToDict(message))


def _whole(plain: object) -> object:
    if isinstance(plain, float) and plain.is_integer() and abs(plain) < 2**53:
        return int(plain) if plain or copysign(1.0, plain) > 0 else plain
    if isinstance(plain, dict):
        return {name: _whole(item) for name, item in plain.items()}
    if isinstance(plain, list):
        return [_whole(item) for item in plain]
    return plain


def listed(items: Iterable[str]) -> str:
    """Names in quotes, as problems list them."""
    return ", ".join(repr(item) for item in items)
