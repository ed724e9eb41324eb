"""Templates as they are checked when a job is created."""

from __future__ import annotations

import pytest

from horologe.node.actions import action_violations
from horologe.node.templates import FILTERS, NAMES, SECRETS_PER_JOB_MAX, secret_names, template_violations
from horologe.v1 import job_pb2


def complaints(action: job_pb2.Action) -> dict[str, str]:
    return dict(template_violations(action, "job.action", lambda: ["extract", "load-data"]))


def complaint(text: str) -> str:
    found = complaints(job_pb2.Action(shell=job_pb2.ShellAction(argv=["echo", text])))
    return found.get("job.action.shell.argv[1]", "")


@pytest.mark.parametrize(
    "text",
    [
        "no template, with ${#name} and {%d}",
        "{{ due_time }}",
        "{{ due_time[:10] }}",
        "{{ execution.id }} {{ execution.attempt }} {{ job.name }} {{ namespace }}",
        "{{ upstream.extract.result.rows }}",
        "{{ upstream.extract.result }} {{ upstream.extract.state }}",
        "{{ upstream['load-data'].result[0].a['b'] | default(0) }}",
        "{{ upstream.extract.result[execution.id] }}",
        "{{ due_time | replace('-', '') }}",
        "{% raw %}{{ .Names }}{% endraw %}",
        "${#name} {{ execution.id }}",
    ],
)
def test_what_is_taken(text: str) -> None:
    assert complaint(text) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ due_tme }}", "there is no 'due_tme'; there are due_time, namespace, job.name"),
        ("{{ execution.name }}", "there is no 'execution.name'"),
        ("{{ execution }}", "there is no 'execution'"),
        ("{{ due_time.year }}", "due_time is a plain value, and has no 'year'"),
        ("{{ due_time.__class__ }}", "due_time is a plain value, and has no '__class__'"),
        (
            "{{ .Names }}",
            "is no template (unexpected '.'); where it is meant literally, write {% raw %}{{ ... }}{% endraw %}",
        ),
        ("{{ due_time", "is no template"),
        ("{% if namespace %}{{ due_time }}{% endif %}", "and no If"),
        ("{% set x = 1 %}{{ due_time }}", "and no Assign"),
        ("{{ 1 + execution.id }}", "and no Add"),
        ("{{ range(9) }}", "and no Call"),
        ("{{ due_time.strip() }}", "and no Call"),
        ("{{ due_time | attr('x') }}", "there is no filter 'attr'; there are default, first"),
        ("{{ upstream.other.result }}", "'other' is not upstream of this job: this job is after extract, load-data"),
        ("{{ upstream[due_time].result }}", "upstream stands for many jobs"),
        ("{{ upstream }}", "upstream stands for many jobs"),
        ("{{ upstream.extract }}", "upstream.extract has result, state, execution"),
        ("{{ upstream.load-data.result }}", 'written as an item: upstream["load-data"].result'),
        ("{{ upstream.extract.result[foo] }}", "there is no 'foo'"),
        ("{{ execution.id | default(foo) }}", "there is no 'foo'"),
        ("{{ due_time }}" + "x" * 70_000, "at most 65536 bytes"),
        ("{{ due_time" + " | upper" * 7_000 + " }}", "is no template (maximum recursion depth"),
        ("{{ " + "9" * 5_000 + " }}", "is no template (Exceeds the limit"),
    ],
)
def test_what_is_refused(text: str, expected: str) -> None:
    assert expected in complaint(text)


def test_places() -> None:
    odd = "{{ odd }}"
    shell = job_pb2.ShellAction(script=odd, env={"A": odd}, cwd=odd, stdin=odd.encode())
    assert list(complaints(job_pb2.Action(shell=shell))) == [
        f"job.action.shell.{field}" for field in ("env[A]", "script", "cwd", "stdin")
    ]
    http = job_pb2.HttpAction(url=odd, headers={"A": odd}, body=odd.encode())
    assert list(complaints(job_pb2.Action(http=http))) == [
        f"job.action.http.{field}" for field in ("headers[A]", "url", "body")
    ]
    sql = job_pb2.SqlAction(statement="select 1")
    sql.parameters.update({"a": [odd], "b": {"c": odd}})
    assert list(complaints(job_pb2.Action(sql=sql))) == [
        "job.action.sql.parameters[a][0]",
        "job.action.sql.parameters[b].c",
    ]
    python = job_pb2.PythonAction(handler="h")
    python.payload.string_value = odd
    assert list(complaints(job_pb2.Action(python=python))) == ["job.action.python.payload"]


def test_statements_are_not_rendered() -> None:
    sql = job_pb2.SqlAction(connection="c", statement="delete from t where d < '{{ due_time }}'")
    assert "write :name in it" in complaints(job_pb2.Action(sql=sql))["job.action.sql.statement"]
    sql.statement = "select '{{1,2},{3,4}}'"
    assert complaints(job_pb2.Action(sql=sql)) == {}, "an array of PostgreSQL's"


@pytest.mark.parametrize("url", ["http://h/{{ due_time | replace(' ', '') }}", "{{ upstream.a.result.url }}/x"])
def test_urls_with_templates_are_urls(url: str) -> None:
    assert action_violations(job_pb2.Action(http=job_pb2.HttpAction(url=url)), "a") == []


def test_the_names_are_told() -> None:
    assert all(name in complaint("{{ x }}") for name in NAMES)
    assert all(name in complaint("{{ namespace | x }}") for name in FILTERS)


# Secrets

DB = "{{ secrets.db }}"


def places_of_secrets() -> list[job_pb2.Action]:
    sql = job_pb2.SqlAction(connection="c", statement="select :a")
    sql.parameters.update({"a": ["x", {"b": DB}]})
    python = job_pb2.PythonAction(handler="h")
    python.payload.struct_value.update({"token": DB})
    return [
        job_pb2.Action(shell=job_pb2.ShellAction(argv=["psql"], env={"PASSWORD": DB})),
        job_pb2.Action(shell=job_pb2.ShellAction(argv=["psql"], stdin=DB.encode())),
        job_pb2.Action(http=job_pb2.HttpAction(url=f"https://h/?key={DB}")),
        job_pb2.Action(http=job_pb2.HttpAction(url="https://h/", headers={"Authorization": f"Bearer {DB}"})),
        job_pb2.Action(http=job_pb2.HttpAction(url="https://h/", body=b'{"key": {{ secrets.db | tojson }}}')),
        job_pb2.Action(sql=sql),
        job_pb2.Action(python=python),
    ]


@pytest.mark.parametrize("action", places_of_secrets(), ids=lambda action: action.WhichOneof("kind"))
def test_where_secrets_may_stand(action: job_pb2.Action) -> None:
    assert complaints(action) == {}
    assert action_violations(action, "a") == []
    assert secret_names(action) == ["db"]


@pytest.mark.parametrize(
    ("shell", "field", "advice"),
    [
        ({"argv": ["psql", DB]}, "argv[1]", "arguments are visible to every user of the worker's machine; use env"),
        ({"script": f"psql {DB}"}, "script", "written to a file on the worker's machine; put the secret into env"),
        ({"argv": ["ls"], "cwd": f"/tmp/{DB}"}, "cwd", "a folder's name is visible to every user"),
        ({"script": "x", "interpreter": ["bash", DB]}, "interpreter[1]", "templates are not rendered there; use env"),
    ],
)
def test_where_secrets_would_be_seen(shell: dict, field: str, advice: str) -> None:
    found = complaints(job_pb2.Action(shell=job_pb2.ShellAction(**shell)))
    assert list(found) == [f"job.action.shell.{field}"]
    assert advice in found[f"job.action.shell.{field}"]


@pytest.mark.parametrize("field", ["method", "connection", "handler", "user"])
def test_what_is_a_name_cannot_be_a_secret(field: str) -> None:
    actions = {
        "method": job_pb2.Action(http=job_pb2.HttpAction(url="https://h/", method=DB)),
        "connection": job_pb2.Action(sql=job_pb2.SqlAction(statement="select 1", connection=DB)),
        "handler": job_pb2.Action(python=job_pb2.PythonAction(handler=DB)),
        "user": job_pb2.Action(shell=job_pb2.ShellAction(argv=["ls"], user=DB)),
    }
    assert [found.field.rpartition(".")[2] for found in action_violations(actions[field], "a")] == [field]


def in_env(text: str) -> str:
    found = complaints(job_pb2.Action(shell=job_pb2.ShellAction(argv=["x"], env={"A": text})))
    return found.get("job.action.shell.env[A]", "")


@pytest.mark.parametrize(
    "text",
    [
        "postgres://app:{{ secrets.db }}@host/app",
        "{{ secrets['db-password'] | trim | tojson }}",
        "{{ secrets.db }}{{ secrets.api }} at {{ due_time | replace('-', '') }}",
    ],
)
def test_secrets_that_are_taken(text: str) -> None:
    assert in_env(text) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ secrets }}", "secrets stands for many values; name one: secrets.NAME"),
        ("{{ secrets | tojson }}", "secrets stands for many values"),
        ("{{ secrets[due_time] }}", "secrets stands for many values"),
        ("{{ secrets.DB }}", "'DB' is no secret's name; use 1 to 63 lower-case letters"),
        ("{{ secrets.db_password }}", "'db_password' is no secret's name"),
        ("{{ secrets.db-password }}", 'secrets["db-password"]'),
        ("{{ secrets.db[0] }}", "secrets.db goes as a whole; it has no parts"),
        ("{{ secrets.db[:4] }}", "secrets.db goes as a whole"),
        ("{{ secrets.db.upper }}", "secrets.db goes as a whole"),
        ("{{ secrets.db | upper }}", "would not be recognised in what the job prints; with secrets go string, tojson, trim"),
        ("{{ secrets.db | trim | first }}", "that went through first would not be recognised"),
        ("{{ 'abc' | replace('b', secrets.db) }}", "that went through replace would not be recognised"),
        ("{{ upstream.extract.result[secrets.db] }}", "a secret in brackets would be told by the error"),
    ],
)  # fmt: skip
def test_secrets_that_are_refused(text: str, expected: str) -> None:
    assert expected in in_env(text)


def test_names_come_from_what_is_parsed() -> None:
    shell = job_pb2.ShellAction(
        argv=["echo", "secrets.argv", "{% raw %}{{ secrets.raw }}{% endraw %}"],
        env={"A": "{{ secrets.zoo }} {{ secrets [ 'a' ~ '' ] }}", "B": "{{ secrets  . ant | trim }} secrets.text", "C": DB},
        stdin=b"{{# {{ secrets.comment }} #}}{{ 'secrets.const' }}{{ secrets.db }}",
    )  # fmt: skip
    assert secret_names(job_pb2.Action(shell=shell)) == ["ant", "db", "zoo"]


def test_so_many_secrets_go_with_one_job() -> None:
    def with_secrets(count: int) -> job_pb2.Action:
        text = "".join(f"{{{{ secrets.s{number} }}}}" for number in range(count))
        return job_pb2.Action(shell=job_pb2.ShellAction(argv=["x"], env={"A": text}))

    assert complaints(with_secrets(SECRETS_PER_JOB_MAX)) == {}
    assert complaints(with_secrets(SECRETS_PER_JOB_MAX + 1)) == {
        "job.action": "it names 21 secrets; at most 20 go with one job"
    }
