"""Templates as the worker renders them, with what the run has handed down."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from google.protobuf import json_format

from horologe.client.attempts import Attempt, Definition
from horologe.client.context import Context
from horologe.client.templates import RenderError, render_action, secret_names, values_of
from horologe.node import templates as checks
from horologe.v1 import execution_pb2, job_pb2, worker_pb2

DUE_MS = 1_798_768_800_000
"""2027-01-01T02:00:00Z"""


def context(**results: Any) -> Context:
    assignment = worker_pb2.Assignment(execution=7, job=3, attempt=2, fencing_token=9, due_time_ms=DUE_MS)
    for job, result in results.items():
        one = assignment.upstream.add(job=job, execution=5, state=execution_pb2.Execution.STATE_COMPLETED)
        json_format.ParseDict(result, one.result)
    message = worker_pb2.Definition(job=3, job_name="namespaces/etl/jobs/load")
    return Context(Attempt(assignment, Definition.from_message(message), 0.0, "cluster"))


def rendered(action: job_pb2.Action, **results: Any) -> job_pb2.Action:
    return render_action(action, values_of(context(**results)))


def shell(*argv: str, **fields: Any) -> job_pb2.Action:
    return job_pb2.Action(shell=job_pb2.ShellAction(argv=argv, **fields))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ due_time }}", "2027-01-01T02:00:00.000Z"),
        ("/data/{{ due_time[:10] }}.csv", "/data/2027-01-01.csv"),
        ("{{ namespace }}/{{ job.name }}", "etl/load"),
        ("{{ execution.id }}.{{ execution.attempt }} {{ execution.idempotency_key }}", "7.2 cluster-7"),
        ("{{ upstream.extract.result.rows }} {{ upstream.extract.state }}", "42 completed"),
        ("{{ upstream['extract'].result.files[1] }}", "b"),
        ("{{ upstream.extract.result.items }}", "3"),
        ("{{ upstream.extract.result.files }}", '["a","b"]'),
        ("{{ upstream.extract.result.done }}", "true"),
        ("{{ upstream.extract.result.none | default('-') }}", "-"),
        ("{{ upstream.extract.result.files | join(',') }}", "a,b"),
        ("{% raw %}{{ .Names }}{% endraw %}", "{{ .Names }}"),
        ("${#name} {# no comment #} {{ execution.id }}", "${#name} {# no comment #} 7"),
        ("${#name} {%d}", "${#name} {%d}"),
        ("line\n{{ execution.id }}\n", "line\n7\n"),
    ],
)
def test_texts(text: str, expected: str) -> None:
    result = {"rows": 42, "files": ["a", "b"], "items": 3, "done": True}
    assert rendered(shell("echo", text), extract=result).shell.argv[1] == expected


def test_everything_of_a_command() -> None:
    action = shell(
        script="echo {{ execution.id }}", env={"A": "{{ job.name }}"}, cwd="/{{ namespace }}", stdin=b"{{ due_time }}"
    )
    found = rendered(action).shell
    assert (found.script, found.env["A"], found.cwd) == ("echo 7", "load", "/etl")
    assert found.stdin == b"2027-01-01T02:00:00.000Z"
    assert action.shell.script == "echo {{ execution.id }}", "the definition stays as it is"


def test_bytes_that_are_no_text_stay() -> None:
    content = b"\xff{{ due_time }}"
    assert rendered(shell("cat", stdin=content)).shell.stdin == content


def test_a_request() -> None:
    http = job_pb2.HttpAction(
        url="http://x/{{ execution.id }}", headers={"A": "{{ job.name }}"}, body=b"[{{ due_time | tojson }}]"
    )
    found = rendered(job_pb2.Action(http=http)).http
    assert (found.url, found.headers["A"]) == ("http://x/7", "load")
    assert found.body == b'["2027-01-01T02:00:00.000Z"]'


def test_parameters_keep_their_type_and_statements_are_left_alone() -> None:
    sql = job_pb2.SqlAction(connection="c", statement="select '{{ execution.id }}'")
    sql.parameters.update({"rows": "{{ upstream.extract.result.rows }}", "text": "n {{ execution.id }}", "plain": 1.5})
    found = rendered(job_pb2.Action(sql=sql), extract={"rows": 42}).sql
    assert dict(found.parameters) == {"rows": 42, "text": "n 7", "plain": 1.5}
    assert found.statement == sql.statement


def test_payloads() -> None:
    action = job_pb2.Action(python=job_pb2.PythonAction(handler="h"))
    given = {"all": "{{ upstream.extract.result }}", "list": ["{{ execution.id }}", "x"], "{{ key }}": None}
    json_format.ParseDict(given, action.python.payload)
    found = json_format.MessageToDict(rendered(action, extract={"rows": [1, 2]}).python.payload)
    assert found == {"all": {"rows": [1, 2]}, "list": [7, "x"], "{{ key }}": None}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "{{ upstream.extract.result.rows }}",
            "argv[0]: the template cannot be rendered: 'dict object' has no attribute 'rows'",
        ),
        ("{{ upstream.other.result }}", "'dict object' has no attribute 'other'"),
        ("{{ due_time.__class__.__mro__ }}", "unsafe"),
        ("{{ upstream.extract.result.x.append(1) }}", "has no attribute 'x'"),
        ("{{ range(10) }}", "'range' is undefined"),
        ("{{ 'a' * 2000000 }}", "more than 1048576 characters"),
    ],
)
def test_what_cannot_be_rendered(text: str, complaint: str) -> None:
    with pytest.raises(RenderError) as error:
        rendered(shell(text), extract={})
    assert complaint in str(error.value)


def test_what_was_omitted_is_told_apart() -> None:
    given = context(extract={"rows": 1})
    assert given.upstream["extract"].result == {"rows": 1}
    assert not given.upstream["extract"].result_omitted
    assert context().upstream == {}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{{ secrets.db }} and {{ secrets.db }}", ["db"]),
        ('{{ secrets["db-password"] | trim | tojson }}{{ secrets.api }}', ["api", "db-password"]),
        ("{% raw %}{{ secrets.db }}{% endraw %}", []),
        ("secrets.db {{ due_time }}", []),
        ("{{ secrets.db", []),
        ("{{ secrets[due_time] }}", []),
        ("{{ upstream.secrets.result.db }}", []),
    ],
)
def test_the_secrets_that_an_action_names_are_those_that_the_cluster_finds(text: str, names: list[str]) -> None:
    parts: list[dict[str, Any]] = [
        {"shell": {"argv": ["x"], "env": {"A": text}}},
        {"shell": {"argv": ["x"], "stdin": base64.b64encode(text.encode()).decode()}},
        {"http": {"url": "https://x.example/", "headers": {"A": text}}},
        {"http": {"url": "https://x.example/", "body": base64.b64encode(text.encode()).decode()}},
        {"sql": {"connection": "c", "parameters": {"a": text}}},
        {"python": {"handler": "h", "payload": {"a": [1, {"b": text}]}}},
    ]
    for part in parts:
        action = json_format.ParseDict(part, job_pb2.Action())
        assert sorted(secret_names(action)) == checks.secret_names(action) == names, part
