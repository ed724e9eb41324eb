"""What the proto says in its comments, for the description of the API: generated code has no comments.

`make proto` writes them into a set of descriptors beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

DESCRIPTORS_FILE = "api.binpb"
_Path = tuple[int, ...]
# Numbers of fields in descriptor.proto, of which the paths of comments are made.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS, _NESTED, _NESTED_ENUMS = 2, 3, 4
_VALUES, _METHODS = 2, 2


@cache
def comments() -> dict[str, str]:
    """By full names, as `horologe.v1.Job.name`; in one paragraph for each of the comment's."""
    raw = resources.files("horologe.v1").joinpath(DESCRIPTORS_FILE).read_bytes()
    found: dict[str, str] = {}
    for file in FileDescriptorSet.FromString(raw).file:
        texts = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
        for path, name in _names(file):
            if texts.get(path):
                found[f"{file.package}.{name}"] = _text(texts[path])
    return found


def _text(comment: str) -> str:
    paragraphs = [" ".join(paragraph.split()) for paragraph in comment.split("\n\n")]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _names(file: FileDescriptorProto) -> Iterator[tuple[_Path, str]]:
    yield from _messages((_MESSAGES,), "", file.message_type)
    yield from _parts((_ENUMS,), "", file.enum_type, "value", _VALUES)
    yield from _parts((_SERVICES,), "", file.service, "method", _METHODS)


def _messages(path: _Path, prefix: str, messages: Iterable[Any]) -> Iterator[tuple[_Path, str]]:
    for position, message in enumerate(messages):
        name = f"{prefix}{message.name}"
        own = (*path, position)
        yield own, name
        for place, field in enumerate(message.field):
            yield (*own, _FIELDS, place), f"{name}.{field.name}"
        yield from _messages((*own, _NESTED), f"{name}.", message.nested_type)
        yield from _parts((*own, _NESTED_ENUMS), f"{name}.", message.enum_type, "value", _VALUES)


def _parts(path: _Path, prefix: str, wholes: Iterable[Any], parts: str, number: int) -> Iterator[tuple[_Path, str]]:
    """Enums with their values, services with their methods."""
    for position, whole in enumerate(wholes):
        name = f"{prefix}{whole.name}"
        yield (*path, position), name
        for place, part in enumerate(getattr(whole, parts)):
            yield (*path, position, number, place), f"{name}.{part.name}"
