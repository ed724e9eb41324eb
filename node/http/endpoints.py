"""The methods of the API as HTTP knows them: each route with the messages of its method, found by reflection.

An Endpoint is one method at one path. It makes the method's request of what came over HTTP; what is bound where follows from
the route and the descriptors alone.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.message import Message

import horologe.v1
from horologe.node.http.json_reader import Reader, TooManyFaultsError, is_map, is_time, value_of_map
from horologe.node.http.problems import Problem
from horologe.node.http.routes import ROUTES, WHOLE, Route, Template
from horologe.node.names import shorten

ETAG = "etag"
NO_BODY = object()
"""Not the same as `null`."""
REQUEST_ID = "request_id"


def files() -> Iterator[FileDescriptor]:
    """All files of the API."""
    for module in pkgutil.iter_modules(horologe.v1.__path__):
        if module.name.endswith("_pb2"):
            yield importlib.import_module(f"horologe.v1.{module.name}").DESCRIPTOR


def methods() -> dict[str, MethodDescriptor]:
    """All methods of the API, as `JobService.GetJob`."""
    return {
        f"{service.name}.{method.name}": method
        for file in files()
        for service in file.services_by_name.values()
        for method in service.methods
    }


@dataclass(frozen=True)
class Endpoint:
    """A method of the API at one path."""

    name: str
    method: MethodDescriptor
    route: Route
    template: Template

    @property
    def verb(self) -> str:
        return self.route.verb

    @property
    def is_read(self) -> bool:
        """Whether it changes nothing by its HTTP method."""
        return self.verb == "GET"

    @property
    def is_stream(self) -> bool:
        return bool(self.method.server_streaming)

    @property
    def path(self) -> str:
        """As gRPC calls it."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    @property
    def input(self) -> Descriptor:
        return self.method.input_type

    @property
    def output(self) -> Descriptor:
        return self.method.output_type

    @cached_property
    def request_class(self) -> type[Message]:
        return message_factory.GetMessageClass(self.input)

    @cached_property
    def body(self) -> Descriptor | None:
        """What the body is; None if there is none."""
        if not self.route.body:
            return None
        return self.input if self.route.body == WHOLE else self.input.fields_by_name[self.route.body].message_type

    @cached_property
    def parameters(self) -> Mapping[str, FieldDescriptor]:
        """What the query may have, by name: what is neither in the path nor in the body."""
        if self.route.body == WHOLE:
            return {}
        bound = {*self.template.fields, self.route.body}
        return {
            path: field
            for path, field in _leaves(self.input)
            if path.partition(".")[0] not in bound and path not in bound
        }

    @cached_property
    def has_request_id(self) -> bool:
        return REQUEST_ID in self.input.fields_by_name

    @cached_property
    def etag_path(self) -> str:
        """The field of the request that says which version is meant; empty if there is none, or nothing to be changed."""
        if self.verb not in ("PATCH", "PUT", "DELETE"):
            return ""
        if ETAG in self.input.fields_by_name:
            return ETAG
        body = self.body if self.route.body != WHOLE else None
        return f"{self.route.body}.{ETAG}" if body is not None and ETAG in body.fields_by_name else ""

    @cached_property
    def etag_owner(self) -> str:
        """The field of the answer that has an etag; empty if there is none, or more than one thing is answered."""
        found = [
            field.name
            for field in self.output.fields
            if field.message_type is not None and not field.is_repeated and ETAG in field.message_type.fields_by_name
        ]
        return found[0] if len(found) == 1 else ""

    def request(self, path: Mapping[str, str], query: Iterable[tuple[str, str]], body: Any) -> Message:
        """The method's request. `body`: a JSON value, or NO_BODY. Raises Problem."""
        request, reader = self.request_class(), Reader()
        if body is NO_BODY and self.route.body not in ("", WHOLE):
            raise Problem.of_http("INVALID_JSON", f"the body is missing: it is the {self.route.body}")
        with suppress(TooManyFaultsError):
            if body is not NO_BODY:
                self._read_body(request, reader, body)
            for name, value in path.items():
                _bind(request, reader, name, value)
            self._read_query(request, reader, query)
        if reader.violations:
            raise Problem.of_fields(reader.violations)
        return request

    def _read_body(self, request: Message, reader: Reader, body: Any) -> None:
        if self.route.body == WHOLE:
            reader.message(request, body)
        else:
            target = getattr(request, self.route.body)
            target.SetInParent()
            reader.message(target, body, self.route.body)

    def _read_query(self, request: Message, reader: Reader, query: Iterable[tuple[str, str]]) -> None:
        given: dict[str, list[str]] = {}
        for name, value in query:
            given.setdefault(name, []).append(value)
        for name, values in given.items():
            path, _, key = name.partition("[")
            field = self.parameters.get(path)
            if field is None or is_map(field) != name.endswith("]") or (key and not is_map(field)):
                reader.wrong("query", f"there is no parameter {shorten(name)} here{self._hint()}")
                continue
            *parents, _ = path.split(".")
            target: Any = request
            for parent in parents:
                target = getattr(target, parent)
            if not is_map(field):
                reader.parameter(target, field, values, path)
            elif len(values) > 1:
                reader.wrong(path, f"{shorten(name)} is given more than once")
            else:
                _put_entry(target, field, key.removesuffix("]"), values[0], reader, path)

    def _hint(self) -> str:
        if not self.parameters:
            return "; what the method takes is in the body" if self.route.body else ", nor any other"
        return f"; there are {', '.join(self.parameters)}"


def _leaves(descriptor: Descriptor, prefix: str = "") -> Iterator[tuple[str, FieldDescriptor]]:
    """The fields that one parameter can hold: those of messages inside by their paths."""
    for field in descriptor.fields:
        path = f"{prefix}{field.name}"
        if field.message_type is None or is_map(field) or is_time(field):
            yield path, field
        elif not field.is_repeated:
            yield from _leaves(field.message_type, f"{path}.")


def _put_entry(target: Message, field: FieldDescriptor, key: str, value: str, reader: Reader, path: str) -> None:
    assert value_of_map(field).cpp_type == FieldDescriptor.CPPTYPE_STRING, "queries have mappings of texts only"
    try:
        getattr(target, field.name)[key] = value
    except UnicodeEncodeError:
        reader.wrong(path, "it is no Unicode text")


def _bind(request: Message, reader: Reader, path: str, value: str) -> None:
    """A field by its part of the URL's path; a body may say the same, and nothing else."""
    *parents, name = path.split(".")
    target: Any = request
    for parent in parents:
        target = getattr(target, parent)
    field = target.DESCRIPTOR.fields_by_name[name]
    before = getattr(target, name)
    reader.parameter(target, field, [value], path)
    if before and before != getattr(target, name):
        reader.wrong(path, f"{shorten(str(before))} in the body is not {shorten(value)} in the path; leave it out")


class Router:
    """All endpoints, found by method and path."""

    def __init__(self, routes: Mapping[str, Route] = ROUTES) -> None:
        known = methods()
        self.endpoints = tuple(
            Endpoint(name, known[name], route, template)
            for name, route in routes.items()
            for template in route.templates
        )
        self._by_shape: dict[tuple[int, str], list[Endpoint]] = {}
        # What is literal is looked at before what fits anything.
        for endpoint in sorted(self.endpoints, key=lambda each: len(each.template.parameters)):
            template = endpoint.template
            self._by_shape.setdefault((len(template.segments), template.verb), []).append(endpoint)

    def find(self, verb: str, raw_path: str) -> tuple[Endpoint, dict[str, str]]:
        """The endpoint, and the fields in its path. Raises Problem."""
        allowed: set[str] = set()
        for custom_verb, segments in _readings(raw_path):
            for endpoint in self._by_shape.get((len(segments), custom_verb), ()):
                values = endpoint.template.match(segments)
                if values is None:
                    continue
                if endpoint.verb == verb:
                    return endpoint, values
                allowed.add(endpoint.verb)
        if allowed:
            allow = ", ".join(sorted(allowed))
            raise Problem.of_http("METHOD_NOT_ALLOWED", f"{verb} is not for this path; use {allow}", {"Allow": allow})
        raise Problem.of_http("PATH_NOT_FOUND", "there is nothing at this path; /openapi.json says what there is")


def _readings(raw_path: str) -> Iterator[tuple[str, Sequence[str]]]:
    """The path as custom verb and segments, and then as segments alone: a name may have a colon in it."""
    raw = raw_path.removeprefix("/").split("/")
    last, colon, custom_verb = raw[-1].rpartition(":")
    if colon:
        yield custom_verb, _decoded([*raw[:-1], last])
    yield "", _decoded(raw)


def _decoded(segments: Sequence[str]) -> list[str]:
    try:
        return [unquote(segment, errors="strict") for segment in segments]
    except UnicodeDecodeError:
        raise Problem.of_http("INVALID_PATH", "the path is not UTF-8") from None
