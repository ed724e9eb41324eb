"""The `action` of a job file: exactly one kind, each with its table of keys, read and written.

Bytes (standard input, a request's body) are text in a file, or base64 under a key of their own where they are no text.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping

import yaml

from horologe.client.documents import Mapped, Reader, is_sound
from horologe.client.jobfile_fields import (
    Shape,
    duration,
    flag,
    integer_map,
    integers,
    listed,
    read_shape,
    struct,
    text,
    text_map,
    texts,
    value,
    write_shape,
)
from horologe.v1.job_pb2 import Action

INT64_MAX = (1 << 63) - 1

__all__ = ["ACTIONS", "read_action", "write_action"]

SHELL = Shape(
    {
        "argv": texts,
        "script": text,
        "interpreter": texts,
        "env": text_map,
        "cwd": text,
        "success_codes": integers(0, 255),
        "user": text,
        "rlimits": integer_map(0, INT64_MAX),
    },
)
HTTP = Shape(
    {
        "method": text,
        "url": text,
        "headers": text_map,
        "expect": integers(100, 599),
        "follow_redirects": flag,
        "connect_timeout": duration,
        "read_timeout": duration,
    },
    required=("url",),
)
SQL = Shape({"connection": text, "statement": text, "parameters": struct}, required=("connection", "statement"))
PYTHON = Shape({"handler": text, "payload": value}, required=("handler",))
WORKFLOW = Shape({})
ACTIONS: Mapping[str, Shape] = {"shell": SHELL, "http": HTTP, "sql": SQL, "python": PYTHON, "workflow": WORKFLOW}
_EXAMPLES: Mapping[str, str] = {
    "shell": '{script: "echo hi"} or {argv: [echo, hi]}',
    "http": '{url: "https://example.org/"}',
    "sql": '{connection: NAME, statement: "SELECT 1"}',
    "python": "{handler: NAME}",
    "workflow": "{}",
}
_BYTES: Mapping[str, str] = {"shell": "stdin", "http": "body"}
_BYTES_KEYS = tuple(f"{name}{suffix}" for name in _BYTES.values() for suffix in ("", "_base64"))


def read_action(reader: Reader, node: yaml.Node, path: str, action: Action) -> None:
    """Reads the mapping of an action."""
    entries = reader.mapping(node, path, '{shell: {script: "echo hi"}}')
    if entries is None:
        return
    for name, (key, _) in entries.items():
        if name not in ACTIONS:
            reader.unknown(key, path, name, ACTIONS)
    kinds = [name for name in entries if name in ACTIONS]
    if len(kinds) != 1:
        if kinds or not entries:
            reader.problem(node, f"{path}: needs exactly one of {listed(ACTIONS)}")
        return
    kind = kinds[0]
    source = entries[kind][1]
    where = f"{path}.{kind}"
    inner = reader.mapping(source, where, _EXAMPLES[kind])
    if inner is None:
        return
    message = getattr(action, kind)
    message.SetInParent()
    body: Mapped = {name: inner.pop(name) for name in _BYTES_KEYS if name in inner}
    read_shape(reader, ACTIONS[kind], source, inner, where, message)
    if kind == "shell":
        _read_shell(reader, source, where, inner, body, action)
    elif kind == "http":
        _read_bytes(reader, where, "body", body, action.http)
        _read_json_body(reader, where, body, action)
    for name, (key, _) in body.items():
        reader.unknown(key, where, name, ACTIONS[kind].fields)


def write_action(action: Action) -> dict[str, object]:
    """The mapping of an action, as `read_action` takes it."""
    kind = action.WhichOneof("kind")
    if kind is None:
        return {}
    message = getattr(action, kind)
    mapping = write_shape(ACTIONS[kind], message)
    name = _BYTES.get(kind)
    content: bytes = getattr(message, name) if name else b""
    if name and content:
        text_of_content = _text_of(content)
        if text_of_content is None:
            mapping[f"{name}_base64"] = base64.b64encode(content).decode()
        else:
            mapping[name] = text_of_content
    return {kind: mapping}


def _text_of(content: bytes) -> str | None:
    """The content as a text that a file can hold; None if it is no such text."""
    try:
        decoded = content.decode()
    except UnicodeDecodeError:
        return None
    return decoded if is_sound(decoded) else None


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
