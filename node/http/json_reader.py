"""JSON and query parameters as messages of the proto, strictly: whatever is not understood is said, with its place.

The mapping is the one of proto3 JSON with the names of the proto (`job_id`), which google.protobuf.json_format writes. It would
also read: it takes much that is surely a mistake (texts as numbers, any garbage as base64), and stops at the first fault.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from horologe.node.names import shorten
from horologe.node.schedule import Violation

VIOLATIONS_MAX = 50
DEPTH_MAX = 64
"""Lists and objects inside each other; definitions need about ten, and a payload has a limit of its own."""
_F = FieldDescriptor
RANGES = {
    _F.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    _F.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    _F.CPPTYPE_UINT32: (0, 2**32 - 1),
    _F.CPPTYPE_UINT64: (0, 2**64 - 1),
}
LONG_TYPES = frozenset({_F.CPPTYPE_INT64, _F.CPPTYPE_UINT64})
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
DURATION = r"-?[0-9]{1,12}(\.[0-9]{1,9})?s"
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[-+][0-9]{2}:[0-9]{2})"
)
_TIMES: dict[str, tuple[re.Pattern[str], str]] = {
    "google.protobuf.Timestamp": (_TIMESTAMP, "a time as 2026-11-26T21:00:00Z"),
    "google.protobuf.Duration": (re.compile(DURATION), "a duration in seconds as 90s or 0.5s"),
}
_FREE = frozenset({"google.protobuf.Value", "google.protobuf.Struct", "google.protobuf.ListValue"})


class _WrongError(Exception):
    """A value that is not what it should be."""


class TooManyFaultsError(Exception):
    """A body that is wrong all over: the reader has as many violations as are told."""


def parse(body: bytes) -> Any:
    """The value that a JSON text stands for. Raises ValueError with a text for the caller."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the body is not UTF-8 at byte {error.start}") from None
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer, parse_float=_finite
        )
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"the body is not JSON: {error.msg} at {place}") from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if _is_too_deep(value):
        raise ValueError(_TOO_DEEP)
    return value


_TOO_DEEP = f"the body has more than {DEPTH_MAX} lists and objects inside each other"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the body has the key {shorten(name)} twice in one object")
        found[name] = value
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"the body has {text}, which is no JSON")


def _integer(text: str) -> int | float:
    # Longer ones are no integers of ours, and take time to read.
    return int(text) if len(text) <= 40 else _finite(text)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the body has the number {shorten(text, 20)}, which is larger than any that can be kept")
    return number


def _is_too_deep(value: Any) -> bool:
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX + 1):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


class Reader:
    """Reads values into one message, and keeps what is wrong."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def wrong(self, path: str, text: str) -> None:
        """Something cannot be read. Raises TooManyFaultsError where it is not worth going on."""
        self.violations.append(Violation(path, text))
        if len(self.violations) >= VIOLATIONS_MAX:
            raise TooManyFaultsError

    def message(self, message: Message, value: Any, path: str = "") -> None:
        """The fields of an object."""
        if not isinstance(value, dict):
            self.wrong(path or "body", f"{_kind(value)} where an object is expected")
            return
        descriptor = cast(Descriptor, message.DESCRIPTOR)
        fields = _fields(descriptor)
        given: dict[str, str] = {}
        for name, item in value.items():
            field = fields.get(name)
            where = f"{path}.{name}" if path else name
            if field is None:
                self.wrong(path or "body", _unknown(name, descriptor))
                continue
            group = field.containing_oneof.name if field.containing_oneof is not None else ""
            if group and given.setdefault(group, name) != name:
                self.wrong(where, f"{given[group]} is given too, and only one of them may be")
                continue
            self._field(message, field, item, where)

    def _field(self, message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
        if is_map(field):
            self._map(message, field, value, path)
        elif field.is_repeated:
            if not isinstance(value, list):
                self.wrong(path, f"{_kind(value)} where a list is expected")
                return
            items = getattr(message, field.name)
            for position, item in enumerate(value):
                where = f"{path}[{position}]"
                if field.message_type is not None:
                    self._message_value(items.add(), item, where)
                else:
                    self._try(where, items.append, field, item)
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            self._message_value(inner, value, path)
        else:
            self._try(path, lambda found: setattr(message, field.name, found), field, value)

    def _map(self, message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            self.wrong(path, f"{_kind(value)} where an object is expected")
            return
        entries = getattr(message, field.name)
        for key, item in value.items():
            self._try(f"{path}.{shorten(key)}", partial(entries.__setitem__, key), value_of_map(field), item)

    def _message_value(self, message: Message, value: Any, path: str) -> None:
        name = message.DESCRIPTOR.full_name
        if name in _TIMES:
            pattern, what = _TIMES[name]
            if not isinstance(value, str) or not pattern.fullmatch(value):
                self.wrong(path, f"{_shown(value)} is not {what}")
                return
            self._free(message, value, path)
        elif name in _FREE:
            self._free(message, value, path)
        elif isinstance(message, FieldMask):
            self._mask(message, value, path)
        else:
            self.message(message, value, path)

    def _free(self, message: Message, value: Any, path: str) -> None:
        try:
            json_format.ParseDict(value, message)
        except (json_format.ParseError, ValueError, TypeError, OverflowError, AttributeError) as error:
            text = str(error).partition("\n")[0]
            self.wrong(path, f"{_shown(value)} cannot be taken: {shorten(text)}")

    def _mask(self, message: FieldMask, value: Any, path: str) -> None:
        if not isinstance(value, str):
            self.wrong(path, f"{_kind(value)} where names of fields with commas between them are expected")
            return
        try:
            message.paths.extend(each.strip() for each in value.split(",") if each.strip())
        except UnicodeEncodeError:
            self.wrong(path, "it is no Unicode text")

    def _try(self, path: str, put: Callable[[Any], Any], field: FieldDescriptor, value: Any) -> None:
        try:
            put(_scalar(field, value))
        except _WrongError as error:
            self.wrong(path, str(error))
        except UnicodeEncodeError:
            self.wrong(path, "it is no Unicode text: half of a character")

    def parameter(self, message: Message, field: FieldDescriptor, values: list[str], path: str) -> None:
        """A field by its query parameter, which may come once, or often if it is a list."""
        if field.is_repeated:
            self._field(message, field, [_plain(field, value) for value in values], path)
        elif len(values) > 1:
            self.wrong(path, "it is given more than once")
        else:
            self._field(message, field, _plain(field, values[0]), path)


@cache
def _fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    # The mappings of descriptors fail on texts that are no Unicode.
    return {field.name: field for field in descriptor.fields}


@cache
def _numbers(descriptor: EnumDescriptor) -> dict[str, int]:
    return {value.name: value.number for value in descriptor.values}


def is_map(field: FieldDescriptor) -> bool:
    """Whether it is a mapping of texts."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def value_of_map(field: FieldDescriptor) -> FieldDescriptor:
    """What its values are."""
    assert field.message_type is not None
    return field.message_type.fields_by_name["value"]


def is_time(field: FieldDescriptor) -> bool:
    """Whether it is a message that is a text in JSON."""
    name = field.message_type.full_name if field.message_type is not None else ""
    return name in _TIMES or name == FieldMask.DESCRIPTOR.full_name


def _plain(field: FieldDescriptor, text: str) -> Any:
    """The JSON value that a text of the query stands for; the text itself if it is not what it should be."""
    kind = field.cpp_type
    if kind == _F.CPPTYPE_BOOL:
        return {"true": True, "false": False}.get(text, text)
    if kind in RANGES:
        return int(text) if _INTEGER.fullmatch(text) else text
    if kind in (_F.CPPTYPE_DOUBLE, _F.CPPTYPE_FLOAT):
        return float(text) if _NUMBER.fullmatch(text) else text
    return text


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    kind = field.cpp_type
    if kind == _F.CPPTYPE_BOOL:
        if isinstance(value, bool):
            return value
        raise _WrongError(f"{_shown(value)} is not true or false")
    if kind in RANGES:
        return _whole_number(value, *RANGES[kind], is_long=kind in LONG_TYPES)
    if kind in (_F.CPPTYPE_DOUBLE, _F.CPPTYPE_FLOAT):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        raise _WrongError(f"{_shown(value)} is no number")
    if kind == _F.CPPTYPE_ENUM:
        assert field.enum_type is not None
        known = _numbers(field.enum_type)
        if isinstance(value, str) and value in known:
            return known[value]
        raise _WrongError(f"{_shown(value)} is none of {', '.join(known)}")
    if not isinstance(value, str):
        raise _WrongError(f"{_kind(value)} where a text is expected")
    return _bytes(value) if field.type == _F.TYPE_BYTES else value


def _whole_number(value: Any, low: int, high: int, *, is_long: bool) -> int:
    if is_long and isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _WrongError(f"{_shown(value)} is no whole number")
    if not low <= value <= high:
        raise _WrongError(f"{_shown(value)} is outside {low} to {high}")
    return value


def _bytes(text: str) -> bytes:
    """Of either alphabet of base64, with or without its padding."""
    try:
        plain = text.rstrip("=").replace("-", "+").replace("_", "/").encode("ascii")
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise _WrongError("it is not base64") from None


def _unknown(name: str, descriptor: Descriptor) -> str:
    folded = name.replace("_", "").lower()
    near: Iterable[str] = (known for known in _fields(descriptor) if known.replace("_", "") == folded)
    hint = next((f"; did you mean {known}?" for known in near), "")
    return f"{descriptor.name} has no field {shorten(name)}{hint}"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "a text" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return shorten(value)
    return _kind(value) if isinstance(value, dict | list) else json.dumps(value)[:60]
