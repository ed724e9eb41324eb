"""Messages of the proto as JSON: proto3's mapping, with the names of the proto and every field that has a default.

So has it `-o json` of the command line. Whole numbers of 64 bits are numbers as long as every reader of JSON can hold them, and
texts beyond.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

LARGE_BYTES = 64 << 10
"""What is larger is written in a thread, so that the node goes on meanwhile."""


async def write(message: Message) -> bytes:
    """The text in UTF-8."""
    if message.ByteSize() <= LARGE_BYTES:
        return _written(message)
    return await asyncio.to_thread(_written, message)


def dump(value: Any) -> bytes:
    """Any JSON value as text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _written(message: Message) -> bytes:
    return dump(
        json_format.MessageToDict(
            message,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
            unquote_int64_if_possible=True,
        )
    )
