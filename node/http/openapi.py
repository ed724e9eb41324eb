"""The description of the API as OpenAPI 3.1 has it, derived from the routes, the descriptors and the comments of the proto."""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from horologe.node.errors import REASONS
from horologe.node.http.comments import comments
from horologe.node.http.endpoints import ETAG, Endpoint, Router
from horologe.node.http.examples import EXAMPLES
from horologe.node.http.json_reader import RANGES, is_map
from horologe.node.http.json_writer import dump
from horologe.node.http.problems import HTTP_REASONS, MEDIA_TYPE, STATUSES
from horologe.node.http.routes import WHOLE
from horologe.node.http.schemas import Schema, Schemas
from horologe.node.http.streams import EVENTS, LINES, RESUMPTIONS
from horologe.node.web.view import CSRF_HEADER, SECURE_COOKIE

JSON = "application/json"
ALL_REASONS = frozenset({*REASONS, *HTTP_REASONS, "DEADLINE_EXCEEDED", "UNIMPLEMENTED"})
"""The last ones are of a call that took too long, and of one that this node does not have."""
DESCRIPTION = f"""\
The API of Horologe, the same as over gRPC: names, rights, limits and errors are one. Every node answers.

Names of fields are those of the proto. What a request has that is not known is refused, never passed over.
An answer has every field, but for those that are absent. Errors are problem documents (RFC 9457); `reason` is what programs
compare.

A browser that is signed in to the dashboard may read with its session; to write it also sends the header `{CSRF_HEADER}` of its
page.
"""
_MEANINGS = {
    304: "The caller has this version already, as `If-None-Match` says.",
    400: "Something in the request cannot be read, or breaks a rule; `violations` says which fields.",
    401: "The node does not know who asks.",
    403: "The caller may not.",
    404: "It does not exist, or not any more.",
    406: "A stream is answered as nothing that `Accept` names.",
    408: "The body did not come in time.",
    409: "It does not fit how things stand; `reason` says why.",
    412: "It was changed since the version in `If-Match`.",
    413: "The body is too large.",
    415: "The body is not JSON, or does not say so.",
    429: "Too often, or too much; `Retry-After` says when it may work.",
    500: "The node failed; its log says why.",
    503: "The cluster or another node cannot answer now; `Retry-After` says when it may.",
    504: "It took too long.",
}
_HEADERS: dict[str, tuple[str, Schema, str]] = {
    "MinRevision": (
        "Horologe-Min-Revision",
        {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
        "Wait until the node has applied this revision, which an answer has named.",
    ),
    "Read": (
        "Horologe-Read",
        {"type": "string", "enum": ["linearizable"]},
        "See everything that was acknowledged before this request began, by whatever node.",
    ),
    "IdempotencyKey": (
        "Idempotency-Key",
        {"type": "string", "format": "uuid"},
        "Makes the call repeatable: a repetition gets the first answer. The same as `request_id`.",
    ),
    "IfMatch": (
        "If-Match",
        {"type": "string", "examples": ['W/"7"']},
        "Only if this is still the version: the same as `etag`, but that a mismatch is 412.",
    ),
    "IfNoneMatch": (
        "If-None-Match",
        {"type": "string", "examples": ['W/"7"']},
        "Only if this is not the version. It changes with the definition; counters and due times change without it.",
    ),
    "LastEventId": ("Last-Event-ID", {"type": "string"}, "Go on behind the event with this id."),
}
_RETRY_AFTER = {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds, where waiting helps."}
_ERROR_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}, "description": "How to prove who one is."}},
    429: {"Retry-After": _RETRY_AFTER},
    503: {"Retry-After": _RETRY_AFTER},
}
_PROBLEM: Schema = {
    "type": "object",
    "description": "What went wrong, as RFC 9457 has it.",
    "properties": {
        "type": {"type": "string", "description": "Where the reason is explained."},
        "title": {"type": "string", "description": "The reason in words."},
        "status": {"type": "integer", "description": "The status of the answer."},
        "detail": {"type": "string", "description": "What was wrong, and what to do, in one line."},
        "reason": {
            "type": "string",
            "description": "What programs compare.",
            "enum": sorted(ALL_REASONS),
        },
        "metadata": {
            "type": "object",
            "description": "The values that the text mentions.",
            "additionalProperties": {"type": "string"},
        },
        "violations": {
            "type": "array",
            "description": "What is wrong with the fields of the request.",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string", "description": "As `job.schedules[0].cron.expression`."},
                    "description": {"type": "string", "description": "The value, the rule, and what to do."},
                },
                "required": ["field", "description"],
                "additionalProperties": False,
            },
        },
        "retry_after_seconds": {"type": "number", "description": "As `Retry-After`, more exactly."},
    },
    "required": ["type", "title", "status", "detail", "reason"],
    "additionalProperties": False,
}


@cache
def text() -> bytes:
    """The whole description."""
    return dump(document())


@cache
def document() -> dict[str, Any]:
    """The same as a value, which nobody may change."""
    router = Router()
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in router.endpoints:
        paths.setdefault(endpoint.template.public, {})[endpoint.verb.lower()] = _operation(endpoint, schemas)
    texts = comments()
    services = {endpoint.method.containing_service for endpoint in router.endpoints}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Horologe", "version": metadata.version("horologe"), "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"session": []}],
        "tags": [
            {"name": service.name, "description": texts.get(service.full_name, "")}
            for service in sorted(services, key=lambda each: str(each.name))
        ],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {"Problem": _PROBLEM, **dict(sorted(schemas.components.items()))},
            "responses": {f"Problem{status}": _problem(status) for status in _MEANINGS if status != 304},
            "parameters": {key: _header(*header) for key, header in _HEADERS.items()},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of the cluster (`hlg_...`), or a JWT of its identity provider.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": SECURE_COOKIE,
                    "description": f"Of a browser that is signed in; to write, with the header `{CSRF_HEADER}`.",
                },
            },
        },
    }


def _operation(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": endpoint.name.replace(".", "_")
        + ("_2" if endpoint.template.text == endpoint.route.also else ""),
        "tags": [endpoint.method.containing_service.name],
        "description": comments().get(endpoint.method.full_name, ""),
        "parameters": [
            *_path_parameters(endpoint),
            *_query_parameters(endpoint, schemas),
            *_header_parameters(endpoint),
        ],
        "responses": _responses(endpoint, schemas),
    }
    found["summary"] = found["description"].partition(". ")[0].rstrip(".")
    if endpoint.body is not None:
        found["requestBody"] = _body(endpoint, schemas)
    return found


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    found = []
    for name, path in endpoint.template.named:
        field = _field_at(endpoint.input, path)
        schema: Schema = {"type": "string", "minLength": 1}
        if field.cpp_type in RANGES:
            schema = Schemas().field(field, is_parameter=True)
            schema.pop("description", None)
        text = comments().get(field.full_name, "")
        description = text if name == field.name else f"Part of `{path}`: {text}"
        found.append({"name": name, "in": "path", "required": True, "description": description, "schema": schema})
    return found


def _field_at(descriptor: Descriptor, path: str) -> FieldDescriptor:
    *parents, name = path.split(".")
    for parent in parents:
        inner = descriptor.fields_by_name[parent].message_type
        assert inner is not None
        descriptor = inner
    return descriptor.fields_by_name[name]


def _query_parameters(endpoint: Endpoint, schemas: Schemas) -> list[dict[str, Any]]:
    found = []
    for path, field in endpoint.parameters.items():
        schema = schemas.field(field, is_parameter=True)
        parameter = {"name": path, "in": "query", "description": schema.pop("description", ""), "schema": schema}
        if is_map(field):
            parameter |= {"style": "deepObject", "explode": True}
        found.append(parameter)
    return found


def _header_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    keys = ["MinRevision", "Read"]
    keys += ["IdempotencyKey"] if endpoint.has_request_id else []
    keys += ["IfMatch"] if endpoint.etag_path and not endpoint.is_read else []
    keys += ["IfNoneMatch"] if endpoint.etag_owner and endpoint.is_read else []
    keys += ["LastEventId"] if endpoint.name in RESUMPTIONS else []
    return [{"$ref": f"#/components/parameters/{key}"} for key in keys]


def _body(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    assert endpoint.body is not None
    is_whole = endpoint.route.body == WHOLE
    if is_whole:
        bound = {field for template in endpoint.route.templates for field in template.fields}
        schema = schemas.object(endpoint.body, without=bound)
    else:
        schema = schemas.message(endpoint.body)
    content: dict[str, Any] = {"schema": schema}
    if endpoint.name in EXAMPLES:
        content["example"] = EXAMPLES[endpoint.name]
    return {"required": not is_whole, "content": {JSON: content}}


def _responses(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {"200": _answer(endpoint, schemas)}
    if endpoint.is_read and endpoint.etag_owner:
        found["304"] = {"description": _MEANINGS[304]}
    for status in statuses(endpoint):
        found[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    return found


def statuses(endpoint: Endpoint) -> list[int]:
    """Of all errors that can come."""
    found = {*STATUSES.values(), 500}
    if endpoint.is_read:
        found -= {409}
    if endpoint.is_stream:
        found |= {406}
    if endpoint.body is not None:
        found |= {408, 413, 415}
    if endpoint.etag_path and not endpoint.is_read:
        found |= {412}
    return sorted(found)


def _answer(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    message = schemas.message(endpoint.output)
    headers: dict[str, Any] = {
        "Horologe-Node": {"schema": {"type": "string"}, "description": "The node that answers."},
    }
    if endpoint.etag_owner and not endpoint.is_stream:
        text = f"The version of the definition, as in `{endpoint.etag_owner}.{ETAG}`."
        headers["ETag"] = {"schema": {"type": "string"}, "description": text}
    if not endpoint.is_stream:
        return {"description": "Done.", "headers": headers, "content": {JSON: {"schema": message}}}
    line: Schema = {"type": "string", "contentMediaType": JSON, "contentSchema": message}
    lines = {**line, "description": "A message in each line; after a failure one more, with a `problem`."}
    events = {
        **line,
        "description": "A message in each event; at last one of the type `end`, or `error` with a problem.",
    }
    content = {LINES: {"schema": lines}, EVENTS: {"schema": events}}
    return {
        "description": "A stream, for as long as there is something to tell.",
        "headers": headers,
        "content": content,
    }


def _problem(status: int) -> dict[str, Any]:
    found: dict[str, Any] = {"description": _MEANINGS[status]}
    if status in _ERROR_HEADERS:
        found["headers"] = _ERROR_HEADERS[status]
    found["content"] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return found


def _header(name: str, schema: Schema, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": schema, "description": text}
