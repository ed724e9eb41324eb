"""The table of routes: every method has one, and what is derived from it is sound."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from google.protobuf.descriptor import FieldDescriptor

from horologe.node.http.endpoints import NO_BODY, Endpoint, Router, methods
from horologe.node.http.problems import Problem
from horologe.node.http.routes import ROUTES, WHOLE, Template

ROUTER = Router()
ENDPOINTS = {f"{endpoint.name} {endpoint.template.text}": endpoint for endpoint in ROUTER.endpoints}
VERBS_OF_NAMES = {
    "Get": "GET",
    "List": "GET",
    "Search": "GET",
    "Watch": "GET",
    "Read": "GET",
    "Update": "PATCH",
    "Delete": "DELETE",
}


def test_every_method_has_a_route_and_every_route_a_method():
    found = set(methods())
    assert len(found) > 85
    assert found - ROUTES.keys() == {"WorkerService.Connect"}
    assert ROUTES.keys() <= found


def test_no_two_are_at_one_place():
    places = Counter(
        (endpoint.verb, re.sub(r"\{\w+\}", "*", endpoint.template.public)) for endpoint in ROUTER.endpoints
    )
    assert max(places.values()) == 1, places.most_common(3)


@pytest.mark.parametrize("name", ROUTES)
def test_a_verb_says_what_a_method_does(name: str):
    method = name.partition(".")[2]
    kind = re.match("[A-Z][a-z]+", method)
    assert kind is not None
    assert ROUTES[name].verb == VERBS_OF_NAMES.get(kind[0], ROUTES[name].verb)


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
def test_every_field_of_a_request_has_one_place(endpoint: Endpoint):
    """In the path, in the body, or in the query; and what is in the query is a text there."""
    bound = {path.partition(".")[0] for path in endpoint.template.fields}
    if endpoint.route.body == WHOLE:
        assert not endpoint.parameters
        return
    queried = {path.partition(".")[0] for path in endpoint.parameters}
    assert bound - {endpoint.route.body} | {endpoint.route.body} - {""} | queried == set(endpoint.input.fields_by_name)
    assert not bound & queried
    for field in endpoint.parameters.values():
        assert field.type != FieldDescriptor.TYPE_BYTES
    assert (endpoint.body is not None) == (endpoint.verb in ("POST", "PATCH", "PUT"))


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
def test_every_route_is_found_at_its_path(endpoint: Endpoint):
    names = {name: f"some-{name}" for name in endpoint.template.parameters}
    if "job_revision" in names:
        names["job_revision"] = "7"
    found, values = ROUTER.find(endpoint.verb, endpoint.template.public.format(**names))
    assert found is endpoint
    request = found.request(values, [], {} if endpoint.body is not None else NO_BODY)
    for path in endpoint.template.fields:
        value = request
        for part in path.split("."):
            value = getattr(value, part)
        assert value


def test_a_path_becomes_fields():
    template = Template("/v1/{name=namespaces/*/jobs/*}/versions/{job_revision=*}")
    assert template.public == "/v1/namespaces/{namespace}/jobs/{job}/versions/{job_revision}"
    assert template.match(["v1", "namespaces", "a", "jobs", "b", "versions", "3"]) == {
        "name": "namespaces/a/jobs/b", "job_revision": "3",
    }  # fmt: skip
    assert template.match(["v1", "namespaces", "a", "jobs", "b", "versions"]) is None


def test_names_may_have_anything_in_them():
    endpoint, values = ROUTER.find("PATCH", "/v1/principals/oidc:https:%2F%2Fid.example.org%23%C3%A4da")
    assert (endpoint.name, values) == ("AccessService.UpdatePrincipal", {"name": "oidc:https://id.example.org#äda"})


@pytest.mark.parametrize(
    ("verb", "path", "status", "reason"),
    [
        ("GET", "/v1/nothing", 404, "PATH_NOT_FOUND"),
        ("GET", "/v1/jobs:plan", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/v1/namespaces/a/jobs/b:fly", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/namespaces/%ff", 400, "INVALID_PATH"),
        ("GET", "/v1/namespaces/", 404, "PATH_NOT_FOUND"),
    ],
)
def test_what_is_not_there(verb: str, path: str, status: int, reason: str):
    with pytest.raises(Problem) as refused:
        ROUTER.find(verb, path)
    assert (refused.value.status, refused.value.reason) == (status, reason)
