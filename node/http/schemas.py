"""JSON schemas of the messages of the proto, as json_reader.py reads them and json_writer.py writes them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from horologe.node.http.comments import comments
from horologe.node.http.json_reader import DURATION, LONG_TYPES, RANGES, is_map, value_of_map

Schema = dict[str, Any]
PACKAGE = "horologe.v1."
_F = FieldDescriptor
_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": f"^{DURATION}$", "examples": ["90s"]},
    "google.protobuf.FieldMask": {"type": "string", "description": "Names of fields, with commas between them."},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {"description": "Any JSON value, with at most 20 lists and objects inside each other."},
}


class Schemas:
    """The schemas that a document needs, by name."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def message(self, descriptor: Descriptor) -> Schema:
        """A reference to a message's schema, or what stands for it."""
        if descriptor.full_name in _KNOWN:
            return dict(_KNOWN[descriptor.full_name])
        name = descriptor.full_name.removeprefix(PACKAGE)
        if name not in self.components:
            self.components[name] = {}
            self.components[name] = self.object(descriptor)
        return {"$ref": f"#/components/schemas/{name}"}

    def object(self, descriptor: Descriptor, without: Collection[str] = ()) -> Schema:
        """The schema of a message; fields that are given otherwise are left out."""
        fields = {field.name: self.field(field) for field in descriptor.fields if field.name not in without}
        found: Schema = {"type": "object", "properties": fields, "additionalProperties": False}
        return _described(found, descriptor.full_name)

    def field(self, field: FieldDescriptor, *, is_parameter: bool = False) -> Schema:
        """The schema of a field. A parameter of a query is a text anyway."""
        if is_map(field):
            found: Schema = {"type": "object", "additionalProperties": self._one(value_of_map(field), is_parameter)}
        elif field.is_repeated:
            found = {"type": "array", "items": self._one(field, is_parameter)}
        else:
            found = self._one(field, is_parameter)
        return _described(found, field.full_name)

    def _one(self, field: FieldDescriptor, is_parameter: bool) -> Schema:
        kind = field.cpp_type
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        if kind in RANGES:
            low, high = RANGES[kind]
            is_long = kind in LONG_TYPES
            found: Schema = {
                "type": "integer",
                "format": "int64" if is_long else "int32",
                "minimum": low,
                "maximum": high,
            }
            if is_long and not is_parameter:
                found |= {"type": ["integer", "string"], "pattern": "^-?[0-9]{1,19}$"}
            return found
        if kind == _F.CPPTYPE_BOOL:
            return {"type": "boolean"}
        if kind in (_F.CPPTYPE_DOUBLE, _F.CPPTYPE_FLOAT):
            return {"type": "number", "format": "double"}
        return {"type": "string", "contentEncoding": "base64"} if field.type == _F.TYPE_BYTES else {"type": "string"}

    def _enum(self, descriptor: EnumDescriptor) -> Schema:
        name = descriptor.full_name.removeprefix(PACKAGE)
        if name not in self.components:
            texts = comments()
            scope = descriptor.full_name
            lines = [f"- `{value.name}`: {texts.get(f'{scope}.{value.name}', '')}" for value in descriptor.values]
            found: Schema = {"type": "string", "enum": [value.name for value in descriptor.values]}
            found["description"] = "\n".join([texts.get(scope, ""), "", *lines])
            self.components[name] = found
        return {"$ref": f"#/components/schemas/{name}"}


def _described(schema: Schema, name: str) -> Schema:
    text = comments().get(name)
    return {**schema, "description": text} if text else schema
