"""JSON values between Python and protobuf's `Value`.

Not for whole messages: those are `google.protobuf.json_format`'s.
"""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format, struct_pb2

# The API keeps no more of a handler's result.
RESULT_BYTES_MAX = 64 * 1024
NESTING_MAX = 20
"""Lists and objects inside each other: a node cannot read messages that are nested much deeper."""
NESTING_RULE = f"more than {NESTING_MAX} lists and objects inside each other"


def to_python(value: struct_pb2.Value) -> Any:
    """The Python value; JSON knows one kind of number, so whole ones become int."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return value.bool_value
    if kind == "struct_value":
        return struct_to_python(value.struct_value)
    if kind == "list_value":
        return [to_python(item) for item in value.list_value.values]
    return None


def struct_to_python(struct: struct_pb2.Struct) -> dict[str, Any]:
    """The fields of an object as Python values."""
    return {name: to_python(item) for name, item in struct.fields.items()}


def from_python(value: Any) -> struct_pb2.Value:
    """The message for a JSON-able value.

    ValueError or TypeError when it is none, or when its JSON is larger, or nested deeper, than the API keeps.
    """
    if is_too_deep(value):
        raise ValueError(f"it has {NESTING_RULE}")
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    size_bytes = len(text.encode("utf-8"))
    if size_bytes > RESULT_BYTES_MAX:
        raise ValueError(f"it has {size_bytes} bytes as JSON; at most {RESULT_BYTES_MAX} are kept")
    return json_format.Parse(text, struct_pb2.Value())


def is_too_deep(value: object, levels: int = NESTING_MAX) -> bool:
    """Whether a JSON value has more than so many lists and objects inside each other."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, dict | list | tuple) and (
        levels == 0 or any(is_too_deep(item, levels - 1) for item in inside)
    )
