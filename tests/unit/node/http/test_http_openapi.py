"""The description of the API: it is sound JSON Schema, it tells of every method, field and status, its examples are taken."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
from http_harness import create, http_client
from service_harness import FakeNode

from horologe.node.http import openapi
from horologe.node.http.comments import comments
from horologe.node.http.endpoints import Endpoint, Router, files
from horologe.node.http.examples import EXAMPLES
from horologe.node.http.problems import HTTP_REASONS, STATUSES

DOCUMENT = json.loads(openapi.text())
ENDPOINTS = {f"{endpoint.verb} {endpoint.template.public}": endpoint for endpoint in Router().endpoints}

NAMES = {"namespace": "default", "job": "a", "calendar": "c", "limit": "l", "queue": "default"}
"""Of what there is; numbers are 1."""


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, found in DOCUMENT["paths"].items():
        for verb, operation in found.items():
            yield f"{verb.upper()} {path}", operation


def validator(reference: str) -> Any:
    return jsonschema_rs.validator_for({"$ref": reference, "components": DOCUMENT["components"]})


async def test_every_endpoint_is_described(node: FakeNode):
    assert DOCUMENT["openapi"] == "3.1.0"
    assert {name for name, _ in operations()} == ENDPOINTS.keys()
    ids = [operation["operationId"] for _, operation in operations()]
    assert len(ids) == len(set(ids))
    async with http_client(node) as http:
        answer = await http.get("/openapi.json")
    assert answer.json() == DOCUMENT


def test_everything_has_its_comment():
    texts = comments()
    for file in files():
        for message in file.message_types_by_name.values():
            assert texts.get(message.full_name), message.full_name
            for field in message.fields:
                assert texts.get(field.full_name), field.full_name
    for name, operation in operations():
        assert operation["description"] and operation["summary"], name
        for parameter in operation["parameters"]:
            assert "$ref" in parameter or parameter["description"], (name, parameter["name"])
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert schema.get("description"), name


def test_every_reference_leads_somewhere():
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    used = set(references(DOCUMENT))
    for reference in used:
        target: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        assert target
    for kind in ("schemas", "responses", "parameters"):
        assert {f"#/components/{kind}/{name}" for name in DOCUMENT["components"][kind]} == {
            reference for reference in used if reference.startswith(f"#/components/{kind}/")
        }
    for name in DOCUMENT["components"]["schemas"]:
        validator(f"#/components/schemas/{name}")


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
def test_every_status_that_can_come_is_described(endpoint: Endpoint):
    described = {
        int(status) for status in DOCUMENT["paths"][endpoint.template.public][endpoint.verb.lower()]["responses"]
    }
    expected = {*STATUSES.values(), 500, 200}
    if endpoint.verb == "GET":
        expected -= {409}
    assert expected <= described
    # 405 is of methods that are no operation.
    others = {400, 403, 404, *(HTTP_REASONS.values() if endpoint.body is not None else (406,)), 304, 412}
    assert described - expected <= others - {405}


async def test_the_examples_are_taken(node: FakeNode):
    """By a reader that refuses what it does not know; and they fit their schemas."""
    for endpoint in ENDPOINTS.values():
        if endpoint.name in EXAMPLES:
            endpoint.request({}, [], EXAMPLES[endpoint.name])
            operation = DOCUMENT["paths"][endpoint.template.public][endpoint.verb.lower()]
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]}).validate(
                EXAMPLES[endpoint.name]
            )
    assert EXAMPLES.keys() <= {endpoint.name for endpoint in ENDPOINTS.values()}
    async with http_client(node) as http:
        answer = await http.post("/v1/namespaces/default/jobs?job_id=nightly", json=EXAMPLES["JobService.CreateJob"])
        assert answer.status_code == 200, answer.text


async def test_answers_fit_their_schemas(node: FakeNode):
    async with http_client(node) as http:
        await create(http, "a")
        await http.post("/v1/namespaces/default/jobs/a:run")
        await http.put("/v1/namespaces/default/calendars/c", json={"dates": ["*-12-24"]})
        await http.put("/v1/namespaces/default/limits/l", json={"max_running": 1})
        checked = 0
        for path, found in DOCUMENT["paths"].items():
            if "get" in found and "406" not in found["get"]["responses"]:
                filled = re.sub(r"\{(\w+)\}", lambda part: NAMES.get(part[1], "1"), path)
                answer = await http.get(filled)
                content = found["get"]["responses"]["200"]["content"]["application/json"]
                if answer.status_code == 200:
                    checked += 1
                    validator(content["schema"]["$ref"]).validate(answer.json())
                else:
                    _is_a_problem(answer)
    assert checked > 20


def _is_a_problem(answer: httpx.Response) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    validator("#/components/schemas/Problem").validate(answer.json())
