"""Whatever is in a file, an importer answers with jobs or with our own error, and in bounded time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from horologe.client import crontab, dkron, imports, kubernetes, quartz, systemd
from horologe.client.errors import InvalidFile
from horologe.client.imports import Imported, Options
from horologe.client.systemd_calendar import read_calendar

Read = Callable[[bytes], object]
OPTIONS = Options(time_zone="UTC")
READERS: dict[str, Read] = {
    "kubernetes": lambda content: kubernetes.loads(content, "f", OPTIONS),
    "dkron": lambda content: dkron.loads(content, "f", OPTIONS),
    "quartz": lambda content: quartz.loads(content, "f", OPTIONS),
    "timer": lambda content: systemd.loads(content, "f.timer", b"[Service]\nExecStart=/bin/true\n", OPTIONS),
    "service": lambda content: systemd.loads(b"[Timer]\nOnCalendar=daily\n", "f.timer", content, OPTIONS),
    "crontab": lambda content: crontab.loads(content, "f"),
}
# Words that the readers know, to get past their doors.
WORDS = st.sampled_from(
    [
        "kind",
        "CronJob",
        "metadata",
        "spec",
        "schedule",
        "jobTemplate",
        "template",
        "containers",
        "command",
        "env",
        "name",
        "value",
        "valueFrom",
        "timeZone",
        "suspend",
        "backoffLimit",
        "executor",
        "shell",
        "http",
        "executor_config",
        "tags",
        "parent_job",
        "retries",
        "timeout",
        "expectCode",
        "headers",
        "[Timer]",
        "[Service]",
        "OnCalendar",
        "ExecStart",
        "OnUnitActiveSec",
        "Environment",
        "Persistent",
        "Mon..Fri",
        "*-*-*",
        "02:30",
        "$(A)",
        "${A}",
        "@every",
        "@at",
        "-1",
        "0",
        "1e9",
        "99999999999999999999",
        "true",
        "null",
        "%n",
        "'",
        '"',
        "\\",
        "=",
        ":",
        "/",
        "~",
        "{",
        "}",
        "<job-scheduling-data>",
        "<schedule>",
        "<trigger>",
        "<cron>",
        "<job>",
        "</job>",
        "<simple>",
        "<start-time>",
        "&amp;",
        "\n",
        " ",
        "0 2 * * *",
    ]
)
TEXTS = st.lists(WORDS | st.text(max_size=8), max_size=40).map("".join)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | WORDS | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=5),
    max_leaves=20,
)
TAGS = [
    "job-scheduling-data",
    "schedule",
    "job",
    "trigger",
    "cron",
    "simple",
    "calendar-interval",
    "name",
    "group",
    "job-name",
    "job-class",
    "job-data-map",
    "entry",
    "key",
    "value",
    "start-time",
    "end-time",
    "priority",
    "repeat-count",
    "repeat-interval",
    "misfire-instruction",
    "cron-expression",
    "time-zone",
]
ELEMENTS = st.recursive(
    st.text("abc 0123456789-:TZ_", max_size=12),
    lambda inner: st.lists(
        st.tuples(
            st.sampled_from(TAGS),
            inner,
        ),
        max_size=5,
    ).map(lambda parts: "".join(f"<{name}>{inside}</{name}>" for name, inside in parts)),
    max_leaves=25,
)
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SECONDS_MAX = 1.0
"""Of the processor, for inputs of a few hundred bytes; far above what they take, far below what grows without bounds."""


def attempt(name: str, content: bytes) -> None:
    begin = time.thread_time()
    try:
        found = READERS[name](content)
    except InvalidFile as error:
        assert error.problems
        assert all(problem.line >= 1 for problem in error.problems)
    else:
        assert not isinstance(found, Imported) or all(job.name for job in found.jobs)
    assert time.thread_time() - begin < SECONDS_MAX


@pytest.mark.parametrize("name", READERS)
@SETTINGS
@given(content=st.binary(max_size=200) | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_text(name: str, content: bytes) -> None:
    attempt(name, content)


@pytest.mark.parametrize("name", ["kubernetes", "dkron"])
@SETTINGS
@given(plain=PLAIN)
def test_any_document(name: str, plain: object) -> None:
    attempt(name, json.dumps(plain).encode())


@SETTINGS
@given(
    fields=st.dictionaries(WORDS, PLAIN, max_size=6), config=st.dictionaries(WORDS, TEXTS | st.integers(), max_size=5)
)
def test_almost_jobs_of_dkron(fields: dict[str, object], config: dict[str, object]) -> None:
    job = {
        "name": "x",
        "executor": "http",
        "executor_config": {"url": "http://x", **config},
        "schedule": "@daily",
        **fields,
    }
    attempt("dkron", json.dumps([job]).encode())


@SETTINGS
@given(spec=st.dictionaries(WORDS, PLAIN, max_size=5), container=st.dictionaries(WORDS, PLAIN, max_size=5))
def test_almost_cron_jobs(spec: dict[str, object], container: dict[str, object]) -> None:
    pod = {"spec": {"template": {"spec": {"containers": [{"command": ["a"], **container}]}}}}
    manifest = {
        "kind": "CronJob",
        "metadata": {"name": "x"},
        "spec": {"schedule": "@daily", "jobTemplate": pod, **spec},
    }
    attempt("kubernetes", json.dumps(manifest).encode())


@SETTINGS
@given(inside=ELEMENTS)
def test_almost_quartz(inside: str) -> None:
    job = "<job><name>x</name><job-class>C</job-class></job>"
    attempt("quartz", f"<job-scheduling-data><schedule>{job}{inside}</schedule></job-scheduling-data>".encode())
    trigger = f"<trigger><simple><job-name>x</job-name>{inside}</simple></trigger>"
    attempt("quartz", f"<job-scheduling-data><schedule>{job}{trigger}</schedule></job-scheduling-data>".encode())


@SETTINGS
@given(
    event=st.lists(
        st.sampled_from(["*", "-", ":", "/", "..", ",", "~", " ", "Mon", "2030", "UTC", "1", "07", "31"])
    ).map("".join)
)
def test_any_calendar_event(event: str) -> None:
    try:
        read_calendar(event, "UTC")
    except ValueError as error:
        assert str(error)


@SETTINGS
@given(
    value=TEXTS,
    key=st.sampled_from(["ExecStart", "Environment", "WorkingDirectory", "SuccessExitStatus", "TimeoutStopSec"]),
)
def test_almost_services(value: str, key: str) -> None:
    lines = f"[Service]\nType=oneshot\nEnvironment=A=b\nExecStart=/bin/a\n{key}={value}\n"
    attempt("service", lines.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("name", [name for name in READERS if name != "crontab"])
def test_large_files_are_refused_before_they_are_read(name: str) -> None:
    with pytest.raises(InvalidFile, match="at most"):
        READERS[name](b"x" * (imports.FILE_BYTES_MAX + 1))


def test_more_jobs_than_the_cluster_takes_at_once() -> None:
    jobs = [
        {"name": f"j{n}", "schedule": "@daily", "executor": "shell", "executor_config": {"command": "a"}}
        for n in range(1001)
    ]
    with pytest.raises(InvalidFile, match="more than 1,000 jobs in one file"):
        dkron.loads(json.dumps(jobs).encode(), "f", OPTIONS)


def test_problems_are_told_up_to_a_number() -> None:
    text = "[Timer]\n" + "nonsense\n" * 5000
    with pytest.raises(InvalidFile) as caught:
        READERS["timer"](text.encode())
    assert len(caught.value.problems) == imports.PROBLEMS_MAX
