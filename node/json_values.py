"""JSON values from outside: how deeply they may be nested."""

from __future__ import annotations

from google.protobuf.struct_pb2 import Value

NESTING_MAX = 20
"""Lists and objects inside each other. protobuf reads messages of at most 100 levels, of which an object takes three, and the log
has more levels around a value than any request: what is read from a request must be readable from the log, by every node."""
NESTING_RULE = f"it has more than {NESTING_MAX} lists and objects inside each other"


def is_too_deep(value: Value, levels: int = NESTING_MAX) -> bool:
    """Whether there are more than so many lists and objects inside each other."""
    match value.WhichOneof("kind"):
        case "list_value":
            return levels == 0 or any(is_too_deep(item, levels - 1) for item in value.list_value.values)
        case "struct_value":
            return levels == 0 or any(is_too_deep(item, levels - 1) for item in value.struct_value.fields.values())
        case _:
            return False
