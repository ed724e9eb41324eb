"""Dkron's export to jobs: what is carried over, what is listed, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from horologe.client import dkron, jobs
from horologe.client.errors import InvalidFile
from horologe.client.imports import Imported, Options
from horologe.client.robfig import to_seconds_first
from horologe.v1.job_pb2 import Job

EXPORT = r"""
[
 {"name": "job1", "displayname": "Job One", "schedule": "0 */15 2 */2 * 1-5", "timezone": "Europe/Berlin",
  "owner": "Ada", "owner_email": "ada@example.org", "disabled": true, "tags": {"role": "web:1"}, "retries": 2,
  "concurrency": "forbid", "metadata": {"team": "data"}, "executor": "shell",
  "executor_config": {"command": "echo 'hi there' $HOME", "shell": "true", "env": "A=1,B=2", "cwd": "/tmp", "timeout": "10m",
                      "mem_limit_kb": "100"},
  "success_count": 3, "processors": {"log": {}}, "status": "success", "next": "2026-01-01T00:00:00Z"},
 {"name": "child", "schedule": "@every 5m", "parent_job": "job1", "executor": "http", "tags": null,
  "executor_config": {"method": "POST", "url": "http://x/y", "headers": "[\"A: b\"]", "body": "z", "timeout": "5",
                      "expectCode": "200, 204-206"}}
]
"""
SMALL: dict[str, Any] = {
    "name": "x",
    "schedule": "@daily",
    "executor": "shell",
    "executor_config": {"command": "a b"},
    "tags": {"role": "web:1"},
}


def load(text: str, **options: str) -> Imported:
    return dkron.loads(text.encode(), "f.json", Options(**options))


def one(**fields: Any) -> Job:
    return load(json.dumps([{**SMALL, **fields}])).jobs[0]


def problems_of(**fields: Any) -> str:
    with pytest.raises(InvalidFile) as caught:
        one(**fields)
    return str(caught.value)


def test_everything_that_is_carried_over() -> None:
    first, child = load(EXPORT).jobs
    expected = jobs.job(
        "namespaces/default/jobs/job1",
        jobs.cron("0 */15 2 1-31/2 * 1-5", time_zone="Europe/Berlin", dialect="unix-seconds-first"),
        jobs.shell("echo 'hi there' $HOME", env={"A": "1", "B": "2"}, cwd="/tmp"),
        retry=jobs.retry(max_attempts=3, backoff="fixed", base="0s", cap="0s", jitter="none"),
        timeout="10m",
        overlap="skip",
        worker_labels={"role": "web"},
        owner="Ada <ada@example.org>",
        labels={"team": "data"},
        description="Job One",
    )
    expected.state, expected.pause_reason = Job.STATE_PAUSED, "disabled in Dkron"
    assert first == expected
    assert list(child.schedules) == [jobs.after(["job1"])]
    assert child.action == jobs.http("POST", "http://x/y", headers={"A": "b"}, body="z", expect=[200, 204, 205, 206])
    assert child.timeout.seconds == 5


def test_what_is_not_is_listed_by_line() -> None:
    assert [str(notice) for notice in load(EXPORT).notices] == [
        "f.json:7: executor_config: `mem_limit_kb` is not carried over",
        "f.json:8: `processors` is not carried over",
        "f.json:9: ran on every node that fits there, and runs on one worker here",
    ]


def test_other_jobs_are_found_under_their_new_names() -> None:
    parent = {**SMALL, "name": "Parent Job"}
    child = {**SMALL, "name": "child", "parent_job": "Parent Job"}
    imported = load(json.dumps([child, parent]), prefix="d-")
    assert [job.name.rpartition("/")[2] for job in imported.jobs] == ["d-child", "d-parent-job"]
    assert list(imported.jobs[0].schedules[0].after.jobs) == ["d-parent-job"]


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("@every 1h30m", jobs.every("90m")),
        ("@at 2030-01-01T00:00:00Z", jobs.once("2030-01-01T00:00:00Z")),
        ("@manually", jobs.manual()),
        ("@minutely", jobs.cron("* * * * *")),
        ("@weekly", jobs.cron("@weekly")),
        ("0 30 * * * *", jobs.cron("0 30 * * * *", dialect="unix-seconds-first")),
    ],
)
def test_schedules(text: str, schedule: object) -> None:
    assert list(one(schedule=text).schedules) == [schedule]


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("? ? * * * ?", "* * * * * *"),
        ("5/15 0 0 1/10 * *", "5-59/15 0 0 1-31/10 * *"),
        ("0 0 0 */2 * */3", "0 0 0 1-31/2 * 0-6/3"),
        ("0 0 0 */1 * 1-5", "0 0 0 * * 1-5"),
        ("*/10 0-30/2,45 0 ?/2 JAN MON-FRI", "*/10 0-30/2,45 0 1-31/2 JAN MON-FRI"),
    ],
)
def test_expressions_mean_the_same(there: str, here: str) -> None:
    assert to_seconds_first(there) == here


def test_a_command_without_a_shell_is_split_into_words() -> None:
    action = one(executor_config={"command": "echo 'a b' c"}).action
    assert list(action.shell.argv) == ["echo", "a b", "c"]


def test_a_job_that_ends() -> None:
    job = one(schedule="@at 2030-01-01T00:00:00Z", ephemeral=True, expires_at="2031-01-01T00:00:00Z")
    assert job.delete_when_finished
    assert job.end_time.ToJsonString() == "2031-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "f.json:1:2: job: `name` is missing"),
        ({"schedule": "0 2 * * *"}, "schedule: '0 2 * * *' has 5 fields; six are needed, seconds first"),
        ({"schedule": "@every soon"}, "schedule: 'soon' is not a duration"),
        ({"schedule": "@at soon"}, "schedule: 'soon' is not an instant"),
        ({"timezone": "Mars/Base"}, "timezone: 'Mars/Base' is not a time zone"),
        ({"concurrency": "some"}, "concurrency: 'some' is neither allow nor forbid"),
        ({"parent_job": "nobody"}, "parent_job: 'nobody' is not in this file"),
        ({"retries": -1}, "retries must be from 0 to 99"),
        ({"executor": "kafka"}, "executor: kafka has no counterpart here"),
        ({"executor": None}, "executor must be text"),
        ({"executor_config": {}}, "executor_config.command: the command is missing"),
        ({"executor_config": {"command": "echo 'a"}}, "executor_config.command: No closing quotation"),
        ({"executor_config": {"command": "a", "env": "A"}}, "executor_config.env: 'A' is not NAME=value"),
        ({"executor_config": {"command": "a", "timeout": "x"}}, "executor_config.timeout: 'x' is not a duration"),
        ({"ephemeral": True}, "ephemeral: a job ends after its first success here only if it is due once"),
        ({"executor": "http"}, "executor_config.url: the URL is missing"),
        ({"executor": "http", "executor_config": {"url": "http://x", "headers": "A: b"}}, "is not a JSON list"),
        ({"executor": "http", "executor_config": {"url": "http://x", "expectCode": "ok"}}, "'ok' is neither a status"),
        (
            {"executor": "http", "executor_config": {"url": "http://x", "expectBody": "y"}},
            "is judged by its status only",
        ),
        ({"executor": "http", "executor_config": {"url": "http://x", "tlsNoVerifyPeer": "true"}}, "always verified"),
    ],
)
def test_what_stands_in_the_way_is_named(fields: dict[str, Any], said: str) -> None:
    assert said in problems_of(**fields)


def test_text_that_is_no_export() -> None:
    for text in ("", "{", "[1]", "[]", "[" * 5000):
        with pytest.raises(InvalidFile):
            load(text)
